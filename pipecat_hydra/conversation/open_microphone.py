"""Whether somebody is heard on an open microphone, and what becomes of its silence during a rest.

Theory of operation. A microphone that is open sends audio all the time, and nobody speaks for most
of it. Silence is no use of a session: a session that hears nothing else is closed, and must not be
opened again by the next chunk of silence. Hydra's voice activity detection tells nothing by then.
So the sound is measured here.

**Somebody is heard** when the audio is well above the background for longer than a click. The power
is averaged over about 100 ms. The background is the lowest average of late: it falls at once, and
rises by 6 dB in four seconds, so a fan that is turned on is part of it soon. This errs towards
sound: a session that is opened for a noise costs one more wait, and a word that is missed is lost.

**Somebody speaks for sure** when the audio is as loud as speech on any line for a tenth of a
second. At the beginning of a call nobody knows what is a background, so any noise is above it.

**During a rest** the newest half second is kept back here. When somebody is heard, it goes out
before the sound: the beginning of the first word is in it. Older silence is dropped, because a new
session would have to hear it before the word, which would delay the answer.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from operator import mul
from typing import Final

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["OpenMicrophone"]

# A quiet background, -62 dBFS; whatever is not 6 dB above it is silence on any line.
_QUIETEST_POWER: Final = 625.0
# 6 dB, as a ratio of powers.
_ABOVE_BACKGROUND: Final = 4.0
# One chunk of 20 ms counts no more than this many times the background, so a click is too little.
_MOST_OF_A_CHUNK: Final = 16.0
# -40 dBFS, as a power; and so many chunks of 20 ms.
_POWER_OF_SPEECH: Final = 107_374.0
_CHUNKS_OF_SPEECH: Final = 5
_SMOOTHING: Final = 0.2
_RISE_PER_CHUNK: Final = 1.007
# One sample in so many is looked at, which tells the power as well, and takes a tenth of the time
# that numpy takes to begin. A prime, for a tone may have a period of eight samples.
_STEP: Final = 7
_LEAD_IN_BYTES: Final = int(0.5 * INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE)


class OpenMicrophone:
    """Tells sound from silence, and keeps back silence while the session rests."""

    def __init__(self) -> None:
        """Start with no session at rest, and a quiet background."""
        self._background = _QUIETEST_POWER
        self._power = 0.0
        self.hears_somebody: bool = False
        """Whether the latest audio was sound, not silence."""
        self._loud_chunks = 0
        self._rests = False
        self._lead_in: deque[bytes] = deque()
        self._lead_in_bytes = 0

    @property
    def rests(self) -> bool:
        """Whether the session rests, and nobody was heard since."""
        return self._rests

    @property
    def hears_speech(self) -> bool:
        """Whether the latest audio was as loud as speech, for a tenth of a second."""
        return self._loud_chunks >= _CHUNKS_OF_SPEECH

    def push(self, chunk: bytes) -> list[bytes]:
        """Take a chunk of user audio.

        Args:
            chunk: 20 to 40 ms of 16 kHz mono PCM16.

        Returns:
            The chunks that are to be sent, oldest first: none of silence while the session rests.
        """
        samples = memoryview(chunk).cast("h")[::_STEP].tolist()
        # The variance, because a microphone may have a constant offset.
        mean = sum(samples) / len(samples)
        power = max(0.0, sum(map(mul, samples, samples)) / len(samples) - mean * mean)
        self._loud_chunks = self._loud_chunks + 1 if power > _POWER_OF_SPEECH else 0
        power = min(power, _MOST_OF_A_CHUNK * self._background)
        self._power += _SMOOTHING * (power - self._power)
        risen = self._background * _RISE_PER_CHUNK
        self._background = max(_QUIETEST_POWER, min(self._power, risen))
        self.hears_somebody = self._power > _ABOVE_BACKGROUND * self._background
        if not self._rests:
            return [chunk]
        self._lead_in.append(chunk)
        self._lead_in_bytes += len(chunk)
        if self.hears_somebody:
            return self.wake()
        while self._lead_in_bytes > _LEAD_IN_BYTES:
            self._lead_in_bytes -= len(self._lead_in.popleft())
        return []

    def rest(self) -> None:
        """Begin to keep back silence: the session is closed, because nobody uses it."""
        self._rests = True

    def wake(self) -> list[bytes]:
        """Stop keeping back silence, because there is to be a session. Returns what was kept."""
        self._rests = False
        kept = list(self._lead_in)
        self._lead_in.clear()
        self._lead_in_bytes = 0
        return kept
