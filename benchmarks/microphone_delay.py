"""How much delay the way of microphone audio to 16 kHz adds, and what it lets through.

Run as `python -m benchmarks.microphone_delay`. Feeds 20 ms frames of noise and of tones to each
quality of `soxr.ResampleStream` and to `pipecat_hydra.wire.audio.MicrophoneAudio`, and prints:

- held: audio pushed in minus audio given out, right after each push, in ms of audio time.
  For soxr that is the resampler alone, for `MicrophoneAudio` resampler and chunks.
- alias: the loudest that a full-scale tone above 8 kHz comes out (for 8 kHz audio: the
  loudest image above 4 kHz of a tone below 3.4 kHz), in dB.
- 3.4 and 6.8 kHz: what a tone there loses, in dB.
- CPU: share of one core at real time.
"""

import time
from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipecat_hydra.wire.audio import MicrophoneAudio
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

Samples = NDArray[np.int16]
Push = Callable[[Samples], Samples]

RATES = (8_000, 24_000, 44_100, 48_000)
CANDIDATES = ("soxr VHQ", "soxr HQ", "soxr MQ", "soxr LQ", "soxr QQ", "MicrophoneAudio")
AMPLITUDE = 0.9 * 32767


def opened(candidate: str, rate: int) -> Push:
    """Make a fresh resampler as a function from samples to samples."""
    if candidate == "MicrophoneAudio":
        microphone = MicrophoneAudio()

        def push(samples: Samples) -> Samples:
            chunks = microphone.push(samples.tobytes(), rate, 1)
            return np.frombuffer(b"".join(chunks), np.int16)

        return push
    quality = candidate.removeprefix("soxr ")
    return soxr.ResampleStream(
        rate, INPUT_SAMPLE_RATE, 1, dtype="int16", quality=quality
    ).resample_chunk


def frames(samples: Samples, rate: int) -> list[Samples]:
    """Cut into frames of 20 ms."""
    size = rate // 50
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def held_ms(candidate: str, rate: int) -> tuple[float, float]:
    """Return the mean and the maximum of what is held back, in ms."""
    push = opened(candidate, rate)
    noise = np.random.default_rng(0).integers(-9000, 9000, 10 * rate).astype(np.int16)
    pushed = given = 0
    held: list[float] = []
    for frame in frames(noise, rate):
        pushed += len(frame)
        given += len(push(frame))
        held.append(1000 * (pushed / rate - given / INPUT_SAMPLE_RATE))
    return float(np.mean(held)), max(held)


def response(candidate: str, rate: int, hz: float) -> NDArray[np.float64]:
    """Return the spectrum, in dB of the tone put in, one bin for each Hz up to 8 kHz."""
    push = opened(candidate, rate)
    time_secs = np.arange(2 * rate) / rate
    tone = (AMPLITUDE * np.sin(2 * np.pi * hz * time_secs)).astype(np.int16)
    out = np.concatenate([push(frame) for frame in frames(tone, rate)])
    second = out[8_000 : 8_000 + INPUT_SAMPLE_RATE] * np.blackman(INPUT_SAMPLE_RATE)
    amplitude = 2 * np.abs(np.fft.rfft(second)) / (0.42 * INPUT_SAMPLE_RATE)
    return 20 * np.log10(np.maximum(amplitude, 1e-3) / AMPLITUDE)


def alias_db(candidate: str, rate: int) -> float:
    """Return how loud the worst alias (or image) is, in dB."""
    if rate < INPUT_SAMPLE_RATE:
        return max(
            float(response(candidate, rate, hz)[4_000:].max()) for hz in range(400, 3_401, 500)
        )
    tones = range(8_100, rate // 2, 700)
    return max(float(response(candidate, rate, hz).max()) for hz in tones)


def loss_db(candidate: str, rate: int, hz: int) -> str:
    """Return what a tone loses, in dB."""
    if hz >= rate / 2:
        return "-"
    return f"{response(candidate, rate, hz)[hz]:.1f}"


def cpu_percent(candidate: str, rate: int) -> float:
    """Return the share of a core that real time takes."""
    push = opened(candidate, rate)
    noise = np.random.default_rng(0).integers(-9000, 9000, 20 * rate).astype(np.int16)
    pieces = frames(noise, rate)
    start = time.perf_counter()
    for piece in pieces:
        push(piece)
    return 100 * (time.perf_counter() - start) / 20


def main() -> None:
    """Print the table."""
    table = Table(
        "Hz in", "resampler", "held mean", "held max", "alias", "3.4 kHz", "6.8 kHz", "CPU"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for rate in RATES:
        for candidate in CANDIDATES:
            mean, worst = held_ms(candidate, rate)
            table.add_row(
                f"{rate}",
                candidate,
                f"{mean:.1f} ms",
                f"{worst:.1f} ms",
                f"{alias_db(candidate, rate):.0f} dB",
                loss_db(candidate, rate, 3_400),
                loss_db(candidate, rate, 6_800),
                f"{cpu_percent(candidate, rate):.2f} %",
                end_section=candidate == CANDIDATES[-1],
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
