"""Records a run of a pipeline: shows the recorder what the service sees and pushes.

All that a recording needs comes by the service. The connection shows each message of the wire. The
effects of the conversation say what becomes of the connection. Every frame that passes the service
or that it makes goes through its `push_frame`: turns, interruptions and replies come down or are
its own, and the output transport sends upstream when the bot is heard. What the listener hears is
taken where the output transport gives it away, for a frame tells neither when that was nor
whether an interruption came before.

Nothing here waits. A frame of a kind that is not recorded costs one look into a table.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    OutputAudioRawFrame,
    TranscriptionFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import MetricsData
from pipecat.processors.frame_processor import FrameProcessor
from pydantic import BaseModel

from pipecat_hydra.conversation.effects import (
    Connected,
    Disconnected,
    GivenUp,
    Lost,
    PipelineEffect,
    Queued,
    Ready,
    Retrying,
    SessionStarted,
    TurnDiscarded,
)
from pipecat_hydra.recording.recorder import HydraRecorder
from pipecat_hydra.service.settings import HydraLLMSettings, wanted
from pipecat_hydra.service.surroundings import OutputTransport, Surroundings
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.session.endpoint import Endpoint

__all__ = ["CallRecorder"]

_Fields: TypeAlias = dict[str, Any]

# Frames of which is recorded that they came.
_HAPPENINGS: Final[Mapping[type[Frame], str]] = {
    UserStartedSpeakingFrame: "user_started",
    UserStoppedSpeakingFrame: "user_stopped",
    InterruptionFrame: "interruption",
    LLMFullResponseStartFrame: "response_started",
    LLMFullResponseEndFrame: "response_ended",
    TTSStartedFrame: "tts_started",
    TTSStoppedFrame: "tts_stopped",
    BotStartedSpeakingFrame: "bot_started",
    BotStoppedSpeakingFrame: "bot_stopped",
}
_REMEMBERED_FRAMES: Final = 16


class CallRecorder:
    """Shows a recorder one run of a pipeline. You must `close` it."""

    def __init__(
        self,
        service: FrameProcessor,
        recorder: HydraRecorder,
        surroundings: Surroundings,
        settings: HydraLLMSettings,
        endpoint: Endpoint,
        session: WantedSession,
    ):
        """Begin to record.

        Args:
            service: The service, whose `push_frame` must call `see_frame` with each frame.
            recorder: What records.
            surroundings: Knows the output transport.
            settings: Those of the service, which change in the call.
            endpoint: Where the service connects to.
            session: Knows whether a session was told the conversation before it.
        """
        self._service = service
        self._surroundings = surroundings
        self._settings = settings
        self._session = session
        asked = wanted(settings)
        # A query may hold anything.
        url = urlunsplit(urlsplit(endpoint.base_url)._replace(query="", fragment=""))
        self._writer = recorder.begin(model=asked.model, voice=asked.voice, url=url)
        self.sent: Callable[[bytes, bytes], None] = self._writer.sent
        self.received: Callable[[bytes | bytearray, bytes], None] = self._writer.received
        # A frame that is broadcast comes by twice, if the service itself broadcasts it.
        self._seen: deque[int] = deque(maxlen=_REMEMBERED_FRAMES)
        self._connected_at: float | None = None
        self._is_lost = False
        self._reason = "the pipeline was never run to its end"
        self._stop_listening: Callable[[], None] = lambda: None
        self._makers: Final[Mapping[type[Frame], Callable[[Any], None]]] = {
            **dict.fromkeys(_HAPPENINGS, self._on_happening),
            ErrorFrame: self._on_error,
            FunctionCallInProgressFrame: self._on_function,
            FunctionCallResultFrame: self._on_result,
            FunctionCallCancelFrame: self._on_cancelled,
            LLMContextUserTurnFrame: self._on_user_turn,
            LLMTextFrame: self._on_text,
            MetricsFrame: self._on_metrics,
            TranscriptionFrame: self._on_transcription,
        }

    def dialled(self, endpoint: Endpoint) -> None:
        """Record that a session is about to be opened; the key is never written from now on."""
        self._writer.hide(endpoint.api_key.get_secret_value())
        self._note("session_opening", model=endpoint.model, voice=wanted(self._settings).voice)

    def see_effect(self, effect: PipelineEffect) -> None:
        """Record what an effect says of the connection."""
        match effect:
            case Queued(position):
                self._note("queued", position=position)
            case Connected():
                self._connected_at = time.monotonic()
            case SessionStarted(session_id):
                self._note("session_open", session_id=session_id)
            case Ready():
                self._on_ready(effect)
            case Disconnected(reason):
                self._disconnected(reason)
            case Lost():
                self._is_lost = True
            case Retrying(attempt, delay_secs, kind, message):
                self._note(
                    "reconnecting",
                    attempt=attempt,
                    delay_secs=round(delay_secs, 3),
                    kind=kind.name.lower(),
                    message=message,
                )
            case GivenUp(kind, message):
                self._note("given_up", kind=kind.name.lower(), message=message)
            case TurnDiscarded():
                self._writer.note("pipeline", "turn_discarded")
            case _:
                pass

    def see_frame(self, frame: Frame) -> None:
        """Record what a frame says, if it is of a kind that is recorded."""
        make = self._makers.get(type(frame))
        if make is None:
            return
        if frame.broadcast_sibling_id in self._seen or frame.id in self._seen:
            return
        self._seen.append(frame.id)
        make(frame)

    def settings_changed(self, names: Mapping[str, Any]) -> None:
        """Record the new values of settings that have changed."""
        if names:
            self._note("settings", **{name: getattr(self._settings, name) for name in names})

    def listen(self) -> None:
        """Record from now on what the output transport takes to play, if the service sees one."""
        output = self._surroundings.output
        if output is None:
            return
        write, heard = output.write_audio_frame, self._writer.heard

        async def write_and_record(frame: OutputAudioRawFrame) -> bool:
            began = time.monotonic()
            taken = await write(frame)
            if taken:
                heard(began, frame.audio, frame.sample_rate, frame.num_channels)
            return taken

        self._stop_listening = _replaced(output, write_and_record)

    def ends(self, reason: str) -> None:
        """Note why the pipeline ends; what is still played is recorded."""
        self._reason = reason

    async def close(self) -> None:
        """End the recording, and wait until it is written."""
        self._stop_listening()
        self._disconnected(self._reason)
        self._writer.end(self._reason)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.close)

    def _note(self, kind: str, /, **fields: Any) -> None:
        self._writer.note("call", kind, **fields)

    def _on_ready(self, ready: Ready) -> None:
        self._note(
            "session_configured", voice=ready.session.voice, output_rate=ready.output_sample_rate
        )
        if ready.lost_secs:
            why = "it took longer to get a session than the user's audio is kept"
            self._note("dropped", secs=round(ready.lost_secs, 3), why=why)
        if self._is_lost:
            self._is_lost = False
            self._note("reconnected", state_restored=self._session.is_restored(ready))

    def _disconnected(self, reason: str) -> None:
        connected_at, self._connected_at = self._connected_at, None
        if connected_at is not None:
            secs = time.monotonic() - connected_at
            self._note("session_closed", reason=reason, secs=round(secs, 3))

    # What frames say

    def _on_happening(self, frame: Frame) -> None:
        self._writer.note("pipeline", _HAPPENINGS[type(frame)])

    def _on_function(self, frame: FunctionCallInProgressFrame) -> None:
        self._writer.note(
            "pipeline",
            "function_started",
            name=frame.function_name,
            call_id=frame.tool_call_id,
            arguments=frame.arguments,
        )

    def _on_result(self, frame: FunctionCallResultFrame) -> None:
        fields: _Fields = {"call_id": frame.tool_call_id, "result": frame.result}
        if frame.error is not None:
            fields["error"] = str(frame.error)
        self._writer.note("pipeline", "function_ended", **fields)

    def _on_cancelled(self, frame: FunctionCallCancelFrame) -> None:
        self._writer.note("pipeline", "function_ended", call_id=frame.tool_call_id, cancelled=True)

    def _on_transcription(self, frame: TranscriptionFrame) -> None:
        self._writer.note("pipeline", "user_words", text=frame.text)

    def _on_user_turn(self, frame: LLMContextUserTurnFrame) -> None:
        # Where an STT service gives the words, the aggregator above has taken them.
        if self._surroundings.has_transcriber:
            self._writer.note("pipeline", "user_words", text=frame.text)

    def _on_text(self, frame: LLMTextFrame) -> None:
        self._writer.note("pipeline", "bot_words", text=frame.text)

    def _on_metrics(self, frame: MetricsFrame) -> None:
        for data in frame.data:
            for name, value, unit in _measured(data):
                self._writer.note(
                    "pipeline",
                    "metrics",
                    name=name,
                    value=value,
                    unit=unit,
                    processor=data.processor,
                )

    def _on_error(self, frame: ErrorFrame) -> None:
        whose = frame.processor
        self._writer.note(
            "call" if whose is self._service else "pipeline",
            "error",
            message=frame.error,
            processor=whose.name if whose is not None else None,
            is_permanent=whose is not None and not whose.is_usable,
        )


def _measured(data: MetricsData) -> Iterator[tuple[str, float, str]]:
    """Yield what a metric of Pipecat measures: names, values and units."""
    metric = type(data).__name__.removesuffix("MetricsData")
    for field, value in data:
        # Tokens and the like are a model of their own.
        parts = dict(value) if isinstance(value, BaseModel) else {field: value}
        for part, number in parts.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                name = metric if part == "value" else f"{metric}.{part}"
                yield name, number, "s" if isinstance(number, float) else "count"


def _replaced(
    output: OutputTransport, write: Callable[[OutputAudioRawFrame], Any]
) -> Callable[[], None]:
    """Have a transport write audio by another function; return what ends that."""
    own = vars(output)
    before = own.get("write_audio_frame")
    own["write_audio_frame"] = write

    def restore() -> None:
        # Another service's recorder may have come after, and be taken away later.
        if own.get("write_audio_frame") is write:
            del own["write_audio_frame"]
            if before is not None:
                own["write_audio_frame"] = before

    return restore
