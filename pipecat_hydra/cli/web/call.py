"""One call with a pipeline of its own, from the connection of the page to the hang-up."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pipecat.frames.frames import ErrorFrame, LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frameworks.rtvi import (
    RTVIFunctionCallReportLevel,
    RTVIObserverParams,
    RTVIProcessor,
)
from pipecat.processors.frameworks.rtvi.models import ClientMessage
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.cli.talk.errors import from_category, without_key
from pipecat_hydra.cli.web.disturbances import DISTURBANCES, Disturbances
from pipecat_hydra.cli.web.generated import GeneratedObserver
from pipecat_hydra.cli.web.recordings import RecordedCall
from pipecat_hydra.cli.web.service import Service
from pipecat_hydra.cli.web.tools import TOOLS
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["TEXT_LIMIT", "Call"]

TEXT_LIMIT: Final = 2_000
"""How many characters a text may have that the user types into the call."""

_IDLE_LIMIT_SECS: Final = 300.0
"""Time without speech after which the call ends, so that a forgotten page holds no session."""

_READY_LIMIT_SECS: Final = 15.0
"""How long the page may take to say that it is ready, once it has connected."""

_FAREWELL_SECS: Final = 2.0
"""How long the page may take to hang up after it was told that the call ends."""


class Call:
    """One call. The page receives RTVI messages about it over the data channel.

    Pipecat's own messages report turns, replies, function calls and metrics. A call adds kinds of
    `server-message`:

    - `{"type": "problem", "text": ..., "ended": ...}` reports a problem; the page hangs up if
      `ended` is true. `{"type": "note", "text": ...}` reports that it is over, and
      `{"type": "disturbance", "what": ..., "text": ...}` one that the page has asked for.
    - `{"type": "generated", "reply": n, "secs": ...}` tells how much of the nth reply the model has
      generated so far.
    - `{"type": "discarded"}` tells that the user's last turn was noise.
    - `{"type": "recording", "id": ..., "secs": ...}` tells the id of the recording, and how long it
      has run.

    The page may send two kinds of `client-message`: `say` with a `text` that the user has typed,
    and `disturb` with `what` is to be done to a call with the emulator.
    """

    def __init__(
        self,
        connection: SmallWebRTCConnection,
        service: Service,
        *,
        recorded: RecordedCall | None = None,
        disturbances: Disturbances | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ):
        """Create a call, which does nothing before `run`.

        Args:
            connection: The connection to the page.
            service: The service to talk to.
            recorded: The recording of the call, if it is recorded.
            disturbances: What the page may do to the call, if anything.
            announce: Called with a line for each problem of the call.
        """
        self._service = service
        self._connection = connection
        self._disturbances = disturbances
        self._announce = announce
        self._recorded = recorded
        self._llm = service.create(recorder=recorded.recorder if recorded else None)
        self._transport = SmallWebRTCTransport(
            connection,
            TransportParams(audio_in_enabled=True, audio_out_enabled=True),
        )
        self._worker = self._build_worker()
        self._ready = asyncio.Event()
        self._farewell: asyncio.Task[None] | None = None
        self._follow_page()
        self._follow_service()

    def _build_worker(self) -> PipelineWorker:
        pair = LLMContextAggregatorPair(
            LLMContext(tools=list(TOOLS)),
            # Hydra decides the turns; without these the aggregator would load a turn model.
            user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
        )
        microphone = [self._disturbances.microphone] if self._disturbances else []
        return PipelineWorker(
            Pipeline(
                [
                    self._transport.input(),
                    *microphone,
                    pair.user(),
                    self._llm,
                    self._transport.output(),
                    pair.assistant(),
                ]
            ),
            params=PipelineParams(
                audio_in_sample_rate=INPUT_SAMPLE_RATE,
                audio_out_sample_rate=self._service.output_sample_rate,
                enable_metrics=True,
                enable_usage_metrics=True,
                send_initial_empty_metrics=False,
            ),
            observers=[GeneratedObserver(self._llm, self._tell_generated)],
            rtvi_observer_params=RTVIObserverParams(
                function_call_report_level={"*": RTVIFunctionCallReportLevel.FULL}
            ),
            idle_timeout_secs=_IDLE_LIMIT_SECS,
            cancel_on_idle_timeout=False,
        )

    def _follow_page(self) -> None:
        worker = self._worker

        @worker.rtvi.event_handler("on_client_ready")
        async def on_client_ready(rtvi: RTVIProcessor) -> None:
            self._ready.set()
            if recorded := self._recorded:
                await self._tell({"type": "recording", "id": recorded.id, "secs": recorded.secs})
            await worker.queue_frame(LLMRunFrame())  # the bot speaks first

        @worker.rtvi.event_handler("on_client_message")
        async def on_client_message(rtvi: RTVIProcessor, message: ClientMessage) -> None:
            data = message.data if isinstance(message.data, dict) else {}
            match message.type:
                case "say":
                    await self._say(data.get("text"))
                case "disturb":
                    await self._disturb(data.get("what"))
                case _:
                    pass

        @self._transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport: BaseTransport, client: Any) -> None:
            await worker.cancel(reason="the page hung up")

        @worker.event_handler("on_idle_timeout")
        async def on_idle_timeout(worker: PipelineWorker) -> None:
            minutes = _IDLE_LIMIT_SECS / 60
            await self._tell_problem(f"nobody spoke for {minutes:g} minutes", ended=True)

    def _follow_service(self) -> None:
        @self._worker.event_handler("on_pipeline_error")
        async def on_pipeline_error(worker: PipelineWorker, frame: ErrorFrame) -> None:
            message = without_key(frame.error, self._service.api_key)
            error = from_category(frame.category, message, "Hydra")
            ended = frame.processor is not None and not frame.processor.is_usable
            await self._tell_problem(str(error), ended=ended)

        @self._llm.event_handler("on_reconnected")
        async def on_reconnected(llm: HydraLLMService, state_restored: bool) -> None:
            await self._tell({"type": "note", "text": "The session is back."})

        @self._llm.event_handler("on_turn_discarded")
        async def on_turn_discarded(llm: HydraLLMService) -> None:
            await self._tell({"type": "discarded"})

    async def run(self) -> None:
        """Run the call until the page hangs up or `end` is called."""
        runner = WorkerRunner(handle_sigint=False)
        waiting = asyncio.create_task(self._end_unless_ready())
        try:
            await runner.add_workers(self._worker)
            await runner.run()
        finally:
            waiting.cancel()
            if self._farewell:
                self._farewell.cancel()
            # The transport closes it only if it believes that it is connected.
            await self._connection.disconnect()

    async def end(self) -> None:
        """End the call; `run` returns once all is closed."""
        await self._worker.cancel(reason="the server ends")

    async def _end_unless_ready(self) -> None:
        try:
            await asyncio.wait_for(self._ready.wait(), _READY_LIMIT_SECS)
        except TimeoutError:
            await self._worker.cancel(reason="the page was never ready")

    async def _say(self, text: object) -> None:
        """Put what the user has typed into the conversation; the bot stops and answers it."""
        if isinstance(text, str) and text.strip():
            await self._llm.send_text(text.strip()[:TEXT_LIMIT], interrupt=True)

    async def _disturb(self, what: object) -> None:
        if self._disturbances and isinstance(what, str) and what in DISTURBANCES:
            self._disturbances.cause(what)
            await self._tell({"type": "disturbance", "what": what, "text": DISTURBANCES[what]})

    async def _tell(self, message: dict[str, str | bool | int | float]) -> None:
        await self._worker.rtvi.send_server_message(message)

    async def _tell_generated(self, reply: int, secs: float) -> None:
        await self._tell({"type": "generated", "reply": reply, "secs": secs})

    async def _tell_problem(self, text: str, *, ended: bool) -> None:
        """Report a problem to the page and the terminal, and whether it ends the call."""
        if self._farewell:
            return
        self._announce(text)
        await self._tell({"type": "problem", "text": text, "ended": ended})
        if ended:
            # The page hangs up when it has read the message. If it does not, the call ends here
            # after a while: closing at once could overtake the message.
            self._farewell = asyncio.create_task(self._end_after_farewell())

    async def _end_after_farewell(self) -> None:
        await asyncio.sleep(_FAREWELL_SECS)
        await self._worker.cancel(reason="it cannot go on")
