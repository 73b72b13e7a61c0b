"""Sample arithmetic: microphone audio into Hydra's chunks, and Hydra's bytes into whole samples.

Pure: no I/O and no Pipecat, and time is a parameter. All audio is PCM16
little-endian.

Theory of the microphone path. Hydra takes 16 kHz mono in chunks of 20-40 ms
(protocol §4), and whatever is held back on the way adds to the delay of
every end of turn and every barge-in. So there is one rule for chunks: as soon as 20 ms are
pending, all that is pending goes out, cut into equal pieces of 20-40 ms. Nothing ever
waits for a boundary, thus less than 20 ms waits at all, and a frame that has the right
size already passes as the object it is.
"""

from functools import lru_cache
from itertools import pairwise
from math import ceil, gcd
from typing import Final

import numpy as np
import soxr  # pyright: ignore[reportMissingTypeStubs]
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE, MIN_APPEND_BYTES

__all__ = ["CHUNK_SIZES", "MicrophoneAudio", "StreamResampler", "WholeSamples", "downmix"]

MIN_CHUNK_BYTES: Final = 640
"""Smallest chunk while audio flows: 20 ms of 16 kHz mono."""

MAX_CHUNK_BYTES: Final = 1280
"""Largest chunk: 40 ms of 16 kHz mono."""

CHUNK_SIZES: Final = range(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, BYTES_PER_SAMPLE)
"""Sizes of chunks of whole samples."""

_CHUNK_FORMAT: Final = (INPUT_SAMPLE_RATE, 1)

_STOPBAND_DB: Final = 80.0
_PASSBAND: Final = 0.85
"""Upper edge of what passes untouched, as a share of the lower Nyquist frequency: 3400 Hz
of 8 kHz audio, which is the whole telephone band, and 6800 Hz of everything wider."""

_PAUSE_SECS: Final = 0.4
"""When a frame comes so much later than the one before it ends, silence was sent in its place
(`conversation/uplink.py`). No shorter: a network may keep audio back for a while, and cuts nothing
by that."""

_FEW_PHASES: Final = 8
"""Up to here one pass for each phase is faster than gathering the taps for each sample."""


def downmix(pcm: bytes, num_channels: int) -> NDArray[np.float32]:
    """Average the channels of interleaved audio, which cannot overflow as their sum could.

    Args:
        pcm: Interleaved PCM16 LE, a whole number of frames.
        num_channels: Number of interleaved channels.

    Returns:
        Mono samples, shape `(frames,)`, in the range of PCM16 but not rounded.

    Raises:
        ValueError: `pcm` is not a whole number of frames.
    """
    samples = np.frombuffer(pcm, dtype="<i2")
    if num_channels == 1:
        return samples.astype(np.float32)
    return samples.reshape(-1, num_channels).mean(axis=1, dtype=np.float32)


def _to_pcm16(samples: NDArray[np.float32]) -> bytes:
    return np.rint(samples).clip(-32768, 32767).astype("<i2").tobytes()


class WholeSamples:
    """Whole 16-bit samples out of a byte stream that was split anywhere.

    Hydra's audio deltas may have an odd byte count (protocol §3). The odd
    byte is the first half of a sample whose second half comes with the next delta; to drop
    or pad it would turn all that follows into noise.
    """

    def __init__(self):
        """Create an empty stream."""
        self.is_split: bool = False
        """Whether the first half of a sample has come."""
        self._carried = b""

    def push(self, pcm: bytes) -> bytes:
        """Take the next bytes of the stream and return the samples that are complete.

        Args:
            pcm: The next bytes, any number of them.

        Returns:
            An even number of bytes, possibly none. The argument itself, not a copy, when
            it is whole and nothing was pending.
        """
        if self._carried:
            pcm = self._carried + pcm
            self._carried = b""
        if len(pcm) % BYTES_PER_SAMPLE:
            self._carried = pcm[-1:]
            pcm = pcm[:-1]
        self.is_split = bool(self._carried)
        return pcm


class StreamResampler:
    """Reply audio at another rate; made for one reply, whose end is drained."""

    def __init__(self, sample_rate: int, new_sample_rate: int):
        """Begin a stream.

        Args:
            sample_rate: Rate in Hz of the audio that is pushed.
            new_sample_rate: Rate in Hz of the audio that is returned.
        """
        self._stream = soxr.ResampleStream(sample_rate, new_sample_rate, 1, dtype="int16")

    def push(self, pcm: bytes) -> bytes:
        """Take whole samples of PCM16 LE mono and return the output so far, possibly nothing."""
        return self._stream.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes()

    def drain(self) -> bytes:
        """Return the output that is held back; nothing can be pushed after that."""
        return self._stream.resample_chunk(np.zeros(0, np.int16), last=True).tobytes()


class MicrophoneAudio:
    """Microphone audio of any rate and channel count as 16 kHz mono chunks for Hydra.

    Adds less than 30 ms of delay whatever the rate and the size of what is pushed: up to
    4.2 ms in the resampler, up to 20 ms until a chunk is full, and 0 ms for 16 kHz mono in
    frames of 20-40 ms, which pass through unchanged (`benchmarks/microphone_delay.py`).
    """

    def __init__(self):
        """Create a stream whose format is that of the first push."""
        self.passes_chunks: bool = True
        """Whether the next audio passes as it is, if it is 16 kHz mono and of a chunk's size."""
        self._format = _CHUNK_FORMAT
        self._resampler: _Resampler | None = None
        self._partial_frame = b""
        self._pending = b""
        self._pushed_at: float | None = None

    def push(
        self, pcm: bytes, sample_rate: int, num_channels: int, *, now: float | None = None
    ) -> list[bytes]:
        """Take the next microphone audio and return the chunks that are due.

        When the format changes in mid-stream, all audio of the old format comes out before
        the first of the new one; only a sample that was cut in two is lost.

        After a pause, what was held back of the audio before it (less than 30 ms) is dropped:
        silence was sent in its place, and it does not belong to what follows.

        Args:
            pcm: Interleaved PCM16 LE of any length. A frame (one sample of each channel)
                that is cut off at the end waits for its rest.
            sample_rate: Its rate in Hz.
            num_channels: Its number of interleaved channels.
            now: The time, in seconds of any monotonic clock, by which a pause is known; None for
                a stream without pauses.

        Returns:
            Chunks of 16 kHz mono PCM16 LE of 640 to 1280 bytes (20-40 ms) each, often none.

        Raises:
            ValueError: The rate or the channel count is not positive.
        """
        if now is not None:
            if self._pushed_at is not None and now - self._pushed_at > _PAUSE_SECS:
                # A long frame takes as long to come as it lasts, and there is no pause before it.
                pause_secs = now - self._pushed_at - _PAUSE_SECS
                if pause_secs * BYTES_PER_SAMPLE * sample_rate * num_channels > len(pcm):
                    self.flush()
            self._pushed_at = now
        if (sample_rate, num_channels) != self._format:
            self._change_format(sample_rate, num_channels)
        pcm = self._whole_frames(pcm)
        if self._resampler:
            pcm = _to_pcm16(self._resampler.push(downmix(pcm, num_channels)))
        elif num_channels > 1:
            pcm = _to_pcm16(downmix(pcm, num_channels))
        chunks = self._chunks(pcm)
        is_clear = not (self._pending or self._partial_frame)
        self.passes_chunks = is_clear and self._format == _CHUNK_FORMAT
        return chunks

    def flush(self) -> list[bytes]:
        """Return the audio that is still held back, and start afresh.

        Returns:
            The rest of the audio, at most one chunk, padded with silence to the 320 bytes
            (10 ms) that Hydra takes as a minimum; nothing when nothing was held back.
        """
        self._drain_resampler()
        self._partial_frame = b""
        rest, self._pending = self._pending, b""
        return [rest.ljust(MIN_APPEND_BYTES, b"\0")] if rest else []

    def _change_format(self, sample_rate: int, num_channels: int) -> None:
        if sample_rate <= 0 or num_channels <= 0:
            raise ValueError(f"no such audio: {num_channels} channels at {sample_rate} Hz")
        self._drain_resampler()
        self._partial_frame = b""
        self._format = (sample_rate, num_channels)
        self._resampler = _Resampler(sample_rate) if sample_rate != INPUT_SAMPLE_RATE else None

    def _drain_resampler(self) -> None:
        if self._resampler:
            self._pending += _to_pcm16(self._resampler.drain())

    def _whole_frames(self, pcm: bytes) -> bytes:
        if self._partial_frame:
            pcm = self._partial_frame + pcm
            self._partial_frame = b""
        if excess := len(pcm) % (BYTES_PER_SAMPLE * self._format[1]):
            self._partial_frame = pcm[-excess:]
            pcm = pcm[:-excess]
        return pcm

    def _chunks(self, pcm: bytes) -> list[bytes]:
        if self._pending:
            pcm = self._pending + pcm
        if len(pcm) < MIN_CHUNK_BYTES:
            self._pending = pcm
            return []
        self._pending = b""
        if len(pcm) <= MAX_CHUNK_BYTES:
            return [pcm]
        samples = len(pcm) // BYTES_PER_SAMPLE
        pieces = ceil(len(pcm) / MAX_CHUNK_BYTES)
        edges = [BYTES_PER_SAMPLE * (samples * n // pieces) for n in range(pieces + 1)]
        return [pcm[start:end] for start, end in pairwise(edges)]


class _Resampler:
    """A stateful polyphase FIR from any rate to 16 kHz.

    Own code, because no quality of soxr serves here. `benchmarks/microphone_delay.py`, with
    20 ms frames, sees HQ and MQ hold back up to 37 ms at 24 and 48 kHz and 115 ms at
    8 kHz. LQ holds 20 and 61 ms, and takes 8 dB off at 6.8 kHz and, for a telephone, at
    3.4 kHz. QQ holds nothing and lets aliases through at 0 dB. All of them also give their
    output in lumps, to which the wait for a full chunk adds. This filter holds 2.1 ms, or
    4.2 ms at 8 kHz, keeps aliases 80 dB down and takes 0.3 % of a core at 48 kHz.
    """

    def __init__(self, sample_rate: int):
        divisor = gcd(sample_rate, INPUT_SAMPLE_RATE)
        # One output sample for every `step / phases` input samples.
        self._phases = INPUT_SAMPLE_RATE // divisor
        self._step = sample_rate // divisor
        self._bank = _filter_bank(sample_rate, self._phases)
        self._taps: int = self._bank.shape[1]
        self._restart()

    def _restart(self) -> None:
        # Silence before the first sample lets the filter be centred on it: the output is not
        # shifted in time, it is only that its last `taps / 2` samples wait for what follows.
        self._samples = np.zeros(self._taps // 2 - 1, np.float32)
        self._position = 0
        """Where the next output sample lies, in `phases` per input sample from the first kept."""

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        held = np.concatenate((self._samples, samples))
        starts = len(held) - self._taps + 1
        count = max(0, ceil((starts * self._phases - self._position) / self._step))
        output = np.zeros(count, np.float32)
        if count:
            windows = as_strided(held, (starts, self._taps), held.strides * 2, writeable=False)
            if self._phases <= _FEW_PHASES:
                # Every `phases`-th output sample uses the same taps: nothing is copied.
                for first in range(min(self._phases, count)):
                    row, phase = divmod(self._position + first * self._step, self._phases)
                    share = output[first :: self._phases]
                    rows = windows[row :: self._step][: len(share)]
                    np.einsum("ij,j->i", rows, self._bank[phase], out=share)
            else:
                positions = self._position + self._step * np.arange(count)
                rows = windows[positions // self._phases]
                np.einsum("ij,ij->i", rows, self._bank[positions % self._phases], out=output)
        consumed, self._position = divmod(self._position + self._step * count, self._phases)
        self._samples = held[consumed:]
        return output

    def drain(self) -> NDArray[np.float32]:
        """Return the output that waits for input, as if silence followed; start afresh."""
        output = self.push(np.zeros(self._taps // 2, np.float32))
        self._restart()
        return output


@lru_cache(maxsize=8)
def _filter_bank(sample_rate: int, phases: int) -> NDArray[np.float32]:
    """Design the filter: a Kaiser-windowed sinc, one row of taps for each phase.

    Args:
        sample_rate: Rate of the input in Hz.
        phases: Number of places between two input samples where an output sample can lie.

    Returns:
        Coefficients, shape `(phases, taps)`, each row with a gain of one at 0 Hz.
    """
    nyquist = min(sample_rate, INPUT_SAMPLE_RATE) / 2
    passband = _PASSBAND * nyquist
    # Kaiser's formulas for the length that a transition band needs, and the window's shape.
    seconds = (_STOPBAND_DB - 7.95) / (2.285 * 2 * np.pi * (nyquist - passband))
    beta = 0.1102 * (_STOPBAND_DB - 8.7)
    half = ceil(seconds * sample_rate / 2)
    # Distance in input samples between each output phase and each tap.
    distance = np.arange(phases)[:, None] / phases - np.arange(1 - half, half + 1)[None, :]
    cutoff = (passband + nyquist) / sample_rate
    window = np.i0(beta * np.sqrt(np.maximum(0.0, 1 - (distance / half) ** 2)))
    bank = np.sinc(cutoff * distance) * window
    return (bank / bank.sum(axis=1, keepdims=True)).astype(np.float32)
