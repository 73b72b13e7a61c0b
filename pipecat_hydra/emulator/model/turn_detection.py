"""Detects the user's turns by voice activity detection (Silero) on the audio as it arrives.

All times are positions in the received audio, in milliseconds from its start. So the turns depend
on the audio alone: a stream that is sent at twice real time gives the same turns.
"""

import asyncio
import os
from dataclasses import dataclass, field

# The detector runs in onnxruntime, which sends telemetry from its import on unless this is set.
# A local emulator calls nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams, VADState

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

_LEAD_MS = 300
"""How much audio before the detected start belongs to a turn, for soft first sounds."""
_TAIL_MS = 100
"""How much audio after the detected end belongs to a turn."""
_LONGEST_TURN_MS = 60_000
"""How much audio of one turn is kept; the turn itself may be longer."""
_IN_SPEECH = (VADState.SPEAKING, VADState.STOPPING)
_BYTES_PER_MS = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE // 1000


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user began to speak.

    Parameters:
        at_ms: Position of the start.
    """

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechConfirmed:
    """The user has spoken long enough that the turn is not noise."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The user stopped speaking, and has been silent for as long as the VAD waits.

    Parameters:
        at_ms: Position of the end of speech.
        confirmed: Whether the turn was long enough not to be noise.
        audio: Audio of the turn, from a little before its start: mono PCM16 LE, 16 kHz.
    """

    at_ms: int
    confirmed: bool
    audio: bytes = field(repr=False)


TurnEvent = SpeechStarted | SpeechConfirmed | SpeechStopped


class TurnDetector:
    """Detects the turns in one stream of user audio.

    Args:
        analyzer: A new VAD analyzer at 16 kHz; `close` releases it.
        min_turn_ms: Milliseconds of voiced audio from which on a turn is not noise.
    """

    def __init__(self, analyzer: SileroVADAnalyzer, *, min_turn_ms: int) -> None:
        self._analyzer = analyzer
        self._min_turn_ms = min_turn_ms
        self._window_bytes = analyzer.num_frames_required() * BYTES_PER_SAMPLE
        self._window_ms = self._window_bytes // _BYTES_PER_MS
        self._unread = bytearray()
        self._kept = bytearray()  # the turn so far; in silence, the lead of the next turn
        self._position_ms = 0
        self._state = VADState.QUIET
        self._started_ms = 0
        self._ended_ms = 0
        self._voiced_ms = 0
        self._confirmed = False

    @classmethod
    async def load(cls, params: VADParams, *, min_turn_ms: int) -> "TurnDetector":
        """Create a detector; loads the model, some 60 ms of work, in a thread."""

        def build() -> SileroVADAnalyzer:
            analyzer = SileroVADAnalyzer(sample_rate=INPUT_SAMPLE_RATE, params=params)
            analyzer.set_sample_rate(INPUT_SAMPLE_RATE)
            return analyzer

        return cls(await asyncio.to_thread(build), min_turn_ms=min_turn_ms)

    @property
    def in_speech(self) -> bool:
        """Whether a turn has started and not stopped."""
        return self._state in _IN_SPEECH

    async def feed(self, pcm: bytes) -> list[TurnEvent]:
        """Process user audio and return the events that it causes; the model runs in a thread."""
        self._unread += pcm
        events: list[TurnEvent] = []
        while len(self._unread) >= self._window_bytes:
            # One window at a time, so that each change of state has its exact position.
            window = bytes(self._unread[: self._window_bytes])
            del self._unread[: self._window_bytes]
            state = await self._analyzer.analyze_audio(window)
            events += self._step(window, state)
        return events

    async def close(self) -> None:
        """Release the thread of the VAD."""
        await self._analyzer.cleanup()

    def _step(self, window: bytes, state: VADState) -> list[TurnEvent]:
        before, self._state = self._state, state
        start_ms, self._position_ms = self._position_ms, self._position_ms + self._window_ms
        self._keep(window, quiet=before is VADState.QUIET)
        in_speech = before in _IN_SPEECH
        events: list[TurnEvent] = []
        if before is VADState.QUIET and state is not VADState.QUIET:
            self._started_ms, self._voiced_ms, self._confirmed = start_ms, 0, False
        if state in (VADState.STARTING, VADState.SPEAKING):
            self._voiced_ms += self._window_ms
        elif before is VADState.SPEAKING:
            self._ended_ms = start_ms
        if state is VADState.SPEAKING and not in_speech:
            events.append(SpeechStarted(self._started_ms))
        if (
            state is VADState.SPEAKING
            and not self._confirmed
            and self._voiced_ms >= self._min_turn_ms
        ):
            self._confirmed = True
            events.append(SpeechConfirmed())
        if state is VADState.QUIET and in_speech:
            events.append(SpeechStopped(self._ended_ms, self._confirmed, self._turn_audio()))
        return events

    def _keep(self, window: bytes, *, quiet: bool) -> None:
        if quiet:
            del self._kept[: max(0, len(self._kept) - _LEAD_MS * _BYTES_PER_MS)]
        if len(self._kept) < _LONGEST_TURN_MS * _BYTES_PER_MS:
            self._kept += window

    def _turn_audio(self) -> bytes:
        silence = (self._position_ms - self._ended_ms - _TAIL_MS) * _BYTES_PER_MS
        return bytes(self._kept[: len(self._kept) - max(0, silence)])
