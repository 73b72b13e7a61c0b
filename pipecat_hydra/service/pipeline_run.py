"""The parts of the service that have the state of one run of a pipeline, and how they are joined.

A service may be used for one pipeline after another, and nothing of a run is left in the next
but the settings. So the service makes one `PipelineRun` for each run, and throws it away.

The parts stand above one another: the conversation and its connection; `WantedSession`, which
decides which session there is to be; `Contexts`, which reads what the pipeline writes into the
conversation; the `EffectDispatcher`, which makes frames of what comes back; and the
`FrameRouter`, which takes the frames. `Phrases`, `Keypad` and `TurnCompletion` take what is meant
for others than a speech-to-speech model. Each part is given those below it. What the connection
and the session ask of a part above them, they ask by the functions that they are given here.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

from loguru import logger
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.services.llm_service import LLMService

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import PipelineEffect
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.arguments import Arguments
from pipecat_hydra.service.briefing.briefing import Briefing
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.call_recorder import CallRecorder
from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.dispatcher import EffectDispatcher
from pipecat_hydra.service.frame_router import FrameRouter
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.keypad import Keypad
from pipecat_hydra.service.meters import Meters
from pipecat_hydra.service.phrases import Phrases
from pipecat_hydra.service.pipecat_private import has_function_of_name
from pipecat_hydra.service.reply_wait import ReplyWait
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.turn_completion import TurnCompletion
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.effect_queue import Pause
from pipecat_hydra.session.endpoint import Endpoint

__all__ = ["PipelineRun"]


class PipelineRun:
    """Has the parts of a service for one run of a pipeline. You must `end` it once it is used."""

    def __init__(self, service: LLMService[HydraLLMAdapter], arguments: Arguments):
        """Make the parts, and join them.

        Args:
            service: The service.
            arguments: What its constructor was given.
        """
        self._service = service
        self._stage: Literal["new", "running", "ended"] = "new"
        self._early: list[Callable[[], Awaitable[None]]] = []
        self._arguments = arguments
        self.recording: CallRecorder | None = None
        self.tracing: Tracing = Tracing()
        self.conversation: Conversation = Conversation(
            model=arguments.endpoint.model,
            uplink=Uplink(preroll_secs=arguments.preroll_secs),
            handshake_timeout_secs=arguments.handshake_timeout_secs,
            unused_timeout_secs=arguments.unused_timeout_secs,
            idle_timeout_secs=arguments.idle_timeout_secs,
            max_session_secs=arguments.max_session_secs,
            max_call_secs=arguments.max_call_secs,
            longest_turn_secs=arguments.longest_turn_secs,
            resume_after_noise=arguments.resume_after_noise,
            joined_audio_secs=arguments.joined_audio_secs,
        )
        self.connection: HydraConnection = HydraConnection(
            self._dial,
            self.conversation,
            on_effect=self._record_and_dispatch,
            on_handshake=lambda: self.session.on_handshake(),
            on_sent=lambda event: self.session.on_sent(event),
            on_voice_rejected=lambda message: self.session.on_voice_rejected(message),
            retry=arguments.retry,
            open_timeout_secs=arguments.open_timeout_secs,
            capacity=arguments.capacity,
        )
        self.meters: Meters = Meters(
            model=lambda: self.conversation.model,
            clock=lambda: self.connection.now,
            traffic=self.connection.traffic,
            knows_function=lambda name: has_function_of_name(service, name),
        )
        adapter = service.get_llm_adapter()
        self.surroundings: Surroundings = Surroundings(service)
        self.turn_completion: TurnCompletion = TurnCompletion(service, self.surroundings)
        self.in_force: InForce = InForce(adapter, self.surroundings, arguments.tools)
        budget = SessionBudget(
            arguments.context_limit_bytes, warning_bytes=arguments.context_warning_bytes
        )
        briefing = Briefing(service.name, adapter, arguments.history, budget)
        self.session: WantedSession = WantedSession(
            service,
            self.connection,
            self.conversation,
            settings=arguments.settings,
            dialer=Dialer(
                arguments.endpoint,
                arguments.keyring,
                arguments.settings,
                self.tracing,
                open_timeout_secs=arguments.open_timeout_secs,
            ),
            briefing=briefing,
            budget=budget,
            in_force=self.in_force,
            tracing=self.tracing,
            are_replies_known=lambda: self.dispatcher.are_replies_known,
            kickoff_timeout_secs=arguments.kickoff_timeout_secs,
        )
        self.contexts: Contexts = Contexts(briefing, self.in_force, self.session)
        self.replies: ReplyWait = ReplyWait(service, self.connection, self.conversation)
        self.dispatcher: EffectDispatcher = EffectDispatcher(
            service,
            self.connection,
            self.conversation,
            self.session,
            self.replies,
            contexts=self.contexts,
            in_force=self.in_force,
            meters=self.meters,
            surroundings=self.surroundings,
            tracing=self.tracing,
            turn_completion=self.turn_completion,
            turn_frames=arguments.turn_frames,
            vad_frames=arguments.vad_frames,
            no_result_timeout_secs=arguments.no_result_timeout_secs,
            max_tool_rounds=arguments.max_tool_rounds,
        )
        self.connection.hand_on_to(self.dispatcher.dispatch)
        self.phrases: Phrases = Phrases(
            service, self.contexts, self.session, self.surroundings, arguments.fixed_phrases
        )
        self.keypad: Keypad = Keypad(
            self.contexts,
            self.session,
            self.surroundings,
            arguments.keypad,
            interrupt=self.dispatcher.cancel_response,
        )
        self.router: FrameRouter = FrameRouter(
            service,
            self.connection,
            self.conversation,
            self.session,
            self.replies,
            contexts=self.contexts,
            dispatcher=self.dispatcher,
            keypad=self.keypad,
            meters=self.meters,
            surroundings=self.surroundings,
            speakers=arguments.speakers,
            is_audio_paused=arguments.start_audio_paused,
            audio_passthrough=arguments.audio_passthrough,
            end_timeout_secs=arguments.end_timeout_secs,
        )

    @property
    def is_running(self) -> bool:
        """Whether the pipeline has started, and has not ended."""
        return self._stage == "running"

    @property
    def has_ended(self) -> bool:
        """Whether the pipeline has ended."""
        return self._stage == "ended"

    def observe(self, setup: FrameProcessorSetup) -> None:
        """Begin to trace, to measure and to record, as far as the application asks for it.

        Args:
            setup: The pipeline's configuration.
        """
        if setup.enable_tracing:
            self.tracing.begin(setup.tracing_context)
        self.meters.begin()
        self._record()

    def postpone(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Keep what asks something of Hydra until the pipeline starts; warn if it has ended.

        Args:
            ask: Called when the pipeline has started.
        """
        if self.has_ended:
            message = "the pipeline has ended, so there is no conversation any more"
            logger.warning(f"{self._service}: {message}")
        else:
            self._early.append(ask)

    def when_running(self, ask: Callable[[], None]) -> None:
        """Ask something of Hydra now, or once the pipeline has started; warn if it has ended.

        Args:
            ask: Called then.
        """

        async def ask_later() -> None:
            ask()

        if self.is_running:
            ask()
        else:
            self.postpone(ask_later)

    async def begin(self) -> None:
        """Do what was postponed: the pipeline has started."""
        self._stage = "running"
        if self.recording is not None:
            self.recording.listen()
        self.turn_completion.started()
        early, self._early = self._early, []
        for ask in early:
            await ask()

    async def end(self, *, drain: bool) -> None:
        """Close the session and release everything. Idempotent.

        Args:
            drain: Whether to close politely, and to hand on what the pipeline has yet to be told.
        """
        if self.recording is not None and not self.has_ended:
            self.recording.ends(f"the pipeline {'has ended' if drain else 'was cancelled'}")
        self._stage = "ended"
        self.dispatcher.stop_answering()
        self.keypad.close()
        await self.session.close()
        await self.connection.close(drain=drain)
        self.tracing.close()
        await self.dispatcher.close()
        self.meters.close()

    async def release(self) -> None:
        """End the recording: nothing is played any more. Idempotent."""
        recording, self.recording = self.recording, None
        if recording is not None:
            await recording.close()

    def _record(self) -> None:
        arguments = self._arguments
        if arguments.recorder is not None:
            self.connection.hand_on_to(self._record_and_dispatch)
            self.recording = CallRecorder(
                self._service,
                arguments.recorder,
                self.surroundings,
                arguments.settings,
                arguments.endpoint,
                self.session,
            )
            self.connection.show_messages(
                sent=self.recording.sent, received=self.recording.received
            )

    async def _dial(self) -> Endpoint:
        endpoint = await self.session.dial()
        if self.recording is not None:
            self.recording.dialled(endpoint)
        return endpoint

    def _record_and_dispatch(self, effect: PipelineEffect) -> Awaitable[Pause | None]:
        if self.recording is not None:
            self.recording.see_effect(effect)
        return self.dispatcher.dispatch(effect)
