"""One stream of user audio for Hydra, out of those of several people.

Theory of operation. Hydra hears one microphone. Some transports (Daily, LiveKit, Vonage) give a
stream of frames for each person, and several at a time: two people, or one person's microphone
and screen. Their frames one behind the other would be speech cut to pieces, at twice real time.
So each stream has a resampler of its own, and `UserAudio` makes one stream of them:

- While there is one stream, its chunks pass as they are, at once.
- `"mix"`: while there are several, their samples are added. Each stream has a place on a common
  time line, where its next chunk goes. What lies before the place of the last stream is complete,
  and goes out. A stream that has given nothing for a while is not waited for, so a person who is
  muted, or whose line sends nothing in silence, holds up nobody.
- `"first"`: the stream that was heard first is taken, until nothing has come of it for some
  seconds. Then the next one that is heard takes its place.

No timer is needed: what is held back goes out with the next frame of any stream, and nothing is
held back of one stream alone. Time is a parameter, in seconds of any monotonic clock.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import InputAudioRawFrame

from pipecat_hydra.wire.audio import CHUNK_SIZES, MicrophoneAudio
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["SpeakerPolicy", "UserAudio"]

SpeakerPolicy = Literal["mix", "first"]

_WAIT_SECS: Final = 0.2
"""How long a stream that gives nothing is waited for. Longer than the jitter of a good line."""

_GONE_SECS: Final = 5.0
"""A stream that has given nothing for so long is over."""


class UserAudio:
    """Makes Hydra's chunks of the audio frames of one person or several."""

    def __init__(
        self, policy: SpeakerPolicy = "mix", *, on_several: Callable[[], None] = lambda: None
    ):
        """Begin without a stream.

        Args:
            policy: What to do with several streams at a time: mix them, or take the first.
            on_several: Called once, when there are several streams at a time.
        """
        self._policy = policy
        self._on_several = on_several
        self._were_several = False
        self._streams: dict[Hashable, _Stream] = {}
        self._mix = _Mix()

    def push(self, frame: InputAudioRawFrame, *, now: float) -> list[bytes]:
        """Take a frame of one stream and return the chunks that are due.

        Args:
            frame: Audio of any rate, channel count and length. Its `user_id`, if it has one, and
                its `transport_source` say which stream it belongs to.
            now: The time.

        Returns:
            Chunks of 16 kHz mono PCM16 LE of 640 to 1280 bytes (20-40 ms) each, often none.

        Raises:
            ValueError: The rate or the channel count is not positive.
        """
        key = (getattr(frame, "user_id", None), frame.transport_source)
        stream = self._streams.get(key)
        chunks: list[bytes] = []
        if stream is None or len(self._streams) > 1:
            chunks += self._forget_gone(now)
            if stream is None:
                stream = self._admit(key, now)
        if stream is None:
            return chunks
        stream.heard_at = now
        audio, rate, channels = frame.audio, frame.sample_rate, frame.num_channels
        is_chunk = rate == INPUT_SAMPLE_RATE and channels == 1 and len(audio) in CHUNK_SIZES
        if is_chunk and stream.microphone.passes_chunks:
            heard = [audio]
        else:
            heard = stream.microphone.push(audio, rate, channels, now=now)
        if len(self._streams) == 1:
            return chunks + heard if chunks else heard
        for chunk in heard:
            chunks += self._mix.add(stream, chunk, self._streams.values(), now)
        return chunks

    def _forget_gone(self, now: float) -> list[bytes]:
        """Forget the streams that are over; returns what was held back if one is left, or none."""
        gone = [key for key, each in self._streams.items() if now - each.heard_at > _GONE_SECS]
        for key in gone:
            del self._streams[key]
        return self._mix.flush() if gone and len(self._streams) < 2 else []

    def _admit(self, key: Hashable, now: float) -> "_Stream | None":
        """Begin a stream; None if it is not to be heard beside the one that there is."""
        if self._streams:
            if not self._were_several:
                self._were_several = True
                self._on_several()
            if self._policy == "first":
                return None
        if len(self._streams) == 1:
            # What came of it has been given out.
            (only,) = self._streams.values()
            only.end = self._mix.begin(only.heard_at)
        stream = self._streams[key] = _Stream(now)
        return stream


class _Stream:
    """One person's audio, and its place in the mix.

    Attributes:
        heard_at: When its last frame came.
        microphone: Its resampler.
        end: Where its next chunk goes, in samples on the common time line.
    """

    def __init__(self, now: float):
        self.heard_at = now
        self.microphone = MicrophoneAudio()
        self.end = 0

    def is_awaited(self, now: float) -> bool:
        """Whether the mix waits for audio of the stream."""
        return now - self.heard_at <= _WAIT_SECS


def _place(now: float) -> int:
    """Where a time lies on the time line, in samples."""
    return int(now * INPUT_SAMPLE_RATE)


class _Mix:
    """Adds the samples of several streams on a common time line.

    The time line is the clock's, in samples. A chunk goes behind the one before it of its stream.
    After a gap in its stream it goes to where the clock says that it was spoken, so that streams
    which begin or go on at different times do not wait for each other.
    """

    def __init__(self):
        # Samples that are not complete: from `_given` on, up to the end of the foremost stream.
        self._samples = np.zeros(0, np.int32)
        self._given = 0
        self._last_at = float("-inf")
        self._chunks = MicrophoneAudio()

    def begin(self, now: float) -> int:
        """Begin a mix; returns the place on the time line up to which all is given out."""
        self._given = max(self._given, _place(now))
        self._last_at = now
        return self._given

    def add(
        self, stream: _Stream, chunk: bytes, streams: Iterable[_Stream], now: float
    ) -> list[bytes]:
        """Add a chunk of a stream; returns what is complete by now.

        Args:
            stream: The stream.
            chunk: 16 kHz mono PCM16 LE.
            streams: All streams, with this one.
            now: The time.
        """
        samples = np.frombuffer(chunk, "<i2")
        spoken_at = _place(now) - len(samples)
        before: list[bytes] = []
        if now - self._last_at > _WAIT_SECS:
            # Nobody was heard meanwhile: no silence is owed for that.
            before = self.flush()
            self._given = max(self._given, spoken_at)
        self._last_at = now
        is_after_gap = spoken_at - stream.end > _place(_WAIT_SECS)
        start = max(spoken_at if is_after_gap else stream.end, self._given)
        stream.end = start + len(samples)
        self._write(start - self._given, samples)
        return before + self._give(min(each.end for each in streams if each.is_awaited(now)))

    def flush(self) -> list[bytes]:
        """Give out all that is held back, whether it is complete or not."""
        return self._give(self._given + len(self._samples)) + self._chunks.flush()

    def _write(self, at: int, samples: NDArray[np.int16]) -> None:
        if (missing := at + len(samples) - len(self._samples)) > 0:
            self._samples = np.concatenate((self._samples, np.zeros(missing, np.int32)))
        self._samples[at : at + len(samples)] += samples

    def _give(self, end: int) -> list[bytes]:
        count = end - self._given
        if count <= 0:
            return []
        complete, self._samples = self._samples[:count], self._samples[count:]
        self._given = end
        pcm = complete.clip(-32768, 32767).astype("<i2").tobytes()
        return self._chunks.push(pcm, INPUT_SAMPLE_RATE, 1)
