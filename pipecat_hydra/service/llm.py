"""Hydra as a Pipecat service: Pipecat's frames and hooks on one side, a conversation on the other.

The service decides nothing about the protocol. Frames become steps of the
`Conversation`; the effects that come back become frames. They come back through one
task, in order, so frames of a reply are pushed from one place only.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from loguru import logger
from pipecat.adapters.llm.schemas.direct_function import DirectFunction
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    ClientConnectedFrame,
    EndFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMContextUserTurnFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    LLMServiceMetadataFrame,
    LLMSetToolsFrame,
    LLMUpdateSettingsFrame,
    ServiceSwitcherRequestMetadataFrame,
    UserMuteStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.types import assert_given, is_given
from pydantic import SecretStr
from typing_extensions import override

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Connected,
    ConnectionEffect,
    Disconnected,
    Effect,
    FailureKind,
    Flush,
    GivenUp,
    Lost,
    PipelineEffect,
    Ready,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    Rested,
    Retrying,
    SessionStarted,
    Severity,
    TextChunk,
    ToolArguments,
    ToolCall,
    ToolCalls,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.briefing import Brief, Briefing, HistoryStyle
from pipecat_hydra.service.briefing.context import text_of, waits_for_answer
from pipecat_hydra.service.functions import FunctionAnswers, parse_arguments, result_text
from pipecat_hydra.service.pipeline import (
    Switcher,
    has_turn_strategies,
    is_active,
    shared_context,
    switchers_around,
    wait_for_user,
)
from pipecat_hydra.service.settings import (
    HydraLLMSettings,
    complete_settings,
    default_voice,
    voice_warning,
)
from pipecat_hydra.service.speaker import Speaker
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.turns import TurnProposals
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import AuthStyle, Endpoint
from pipecat_hydra.session.keys import Keyring, KeySource
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.wire.audio import MicrophoneAudio
from pipecat_hydra.wire.events import MessageRole
from pipecat_hydra.wire.protocol import (
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    MODELS,
    ErrorCode,
)

__all__ = ["HydraLLMService", "TurnFrames"]

TurnFrames = Literal["auto", "propose", "broadcast"]
"""How the service tells the pipeline of user turns; see `HydraLLMService`."""

_CATEGORIES = {
    FailureKind.AUTHENTICATION: ErrorCategory.AUTHENTICATION,
    FailureKind.CONFIGURATION: ErrorCategory.INVALID_REQUEST,
    FailureKind.CAPACITY: ErrorCategory.RATE_LIMIT,
    FailureKind.CONNECTIVITY: ErrorCategory.CONNECTIVITY,
    FailureKind.TIMEOUT: ErrorCategory.CONNECTIVITY,
    FailureKind.SERVER: ErrorCategory.SERVER,
    FailureKind.ENDED: ErrorCategory.CONNECTIVITY,
}

# An `error` event rejects one request and never the session, so none of these may be
# a category that Pipecat takes for permanent.
_REPORT_CATEGORIES = {
    ErrorCode.INTERNAL: ErrorCategory.SERVER,
    ErrorCode.TOOL_RESPONSE_TIMEOUT: ErrorCategory.APPLICATION,
}

_CONNECTION_EVENTS = (
    "on_connected",
    "on_session_started",
    "on_disconnected",
    "on_reconnecting",
    "on_reconnected",
    "on_capacity",
    "on_given_up",
)

_HANDLED_SETTINGS = {"model", "voice", "system_instruction", "generate_initial_response"}
_STALL_SECS = 5.0
_POLL_SECS = 0.1
_SETTLE_SECS = 0.05


class HydraLLMService(LLMService[HydraLLMAdapter]):
    """Smallest AI's Hydra, a realtime speech-to-speech model, as a Pipecat service.

    Takes `InputAudioRawFrame`s of any rate and channel count; gives the model's
    speech as `TTSAudioRawFrame`s at the rate that the server negotiates, the turn
    and interruption frames of the server's voice activity detection, text frames
    where Hydra sends transcripts, and function calls.

    It works in pipelines with context aggregators and without::

        [transport.input(), user_aggregator, llm, transport.output(), assistant_aggregator]
        [transport.input(), llm, transport.output()]

    With aggregators it proposes user turns, and the application's turn strategies
    decide whether to interrupt; the strategies it recommends are
    `ExternalUserTurnStrategies`. Without, it announces the turns and interrupts by
    itself. It finds out which of the two applies by looking at the pipeline;
    `turn_frames` forces it.

    The socket is opened when the pipeline is set up. The session is configured, which
    can be done only once, when it is first used: by an `LLMRunFrame`, after which the
    model speaks first, or by the user's audio. What the user says until then is kept
    and sent.

    A connection that is lost is reported by one error frame, which leaves the service
    usable, and is opened again; the new session is told what was said, and hears again
    what it had not answered. A key that is refused, a configuration that is rejected, and
    attempts that are used up leave the service unusable, with one permanent error.

    Event handlers, besides those of `LLMService`:

    - `on_connected(service)`: a connection is open.
    - `on_session_started(service, session_id)`: Hydra has opened a session.
    - `on_disconnected(service, reason)`: the connection is closed, whoever closed it.
    - `on_reconnecting(service, attempt, delay_secs)`: a lost connection, or one that could
      not be had, is tried again after a delay.
    - `on_capacity(service, attempt, delay_secs)`: the same, for Hydra is full.
    - `on_reconnected(service, state_restored)`: there is a session again. `state_restored`
      tells whether it knows all that was said; Hydra gives no transcript of the user, so
      it can only be true if an STT service does, or nobody has spoken yet.
    - `on_given_up(service, reason)`: there is no session and will be none.
    - `on_function_call_arguments_delta(service, call_id, name, fragment)`: the model
      writes the arguments of a call.

    Example::

        llm = HydraLLMService(
            api_key=os.environ["SMALLEST_API_KEY"],
            settings=HydraLLMService.Settings(
                voice="aria",
                system_instruction="You are a warm, concise voice assistant.",
            ),
        )
    """

    Settings = HydraLLMSettings
    # Pipecat's services all narrow the type of their settings.
    _settings: HydraLLMSettings  # pyright: ignore[reportIncompatibleVariableOverride]

    adapter_class = HydraLLMAdapter

    def __init__(
        self,
        *,
        api_key: str | KeySource,
        base_url: str = DEFAULT_BASE_URL,
        settings: HydraLLMSettings | None = None,
        tools: ToolsSchema | Sequence[FunctionSchema | DirectFunction] | None = None,
        auth: AuthStyle = "query",
        turn_frames: TurnFrames = "auto",
        history: HistoryStyle = "instructions",
        vad_frames: bool = False,
        resume_after_noise: bool = True,
        start_audio_paused: bool = False,
        open_timeout_secs: float = 10.0,
        handshake_timeout_secs: float = 10.0,
        kickoff_timeout_secs: float = 1.0,
        end_timeout_secs: float = 30.0,
        preroll_secs: float = 10.0,
        unused_timeout_secs: float | None = 20.0,
        idle_timeout_secs: float | None = 300.0,
        retry: RetryPolicy | None = None,
        **kwargs: Any,
    ):
        """Initialize the Hydra service.

        Args:
            api_key: The Smallest AI key or a short-lived `wat_…` token; or a coroutine
                function that gives one, called each time that the service connects.
            base_url: The endpoint, `wss://` or `ws://`, without query.
            settings: Model, voice, instructions; what is not given has a default.
            tools: Functions the model may call, for pipelines without a context; the
                tools of a context win.
            auth: Where the key goes: `"query"`, as the vendor documents, or
                `"header"`, an `Authorization` header.
            turn_frames: How the pipeline is told of user turns. `"propose"`: by
                proposed-turn frames, which the turn strategies of a user aggregator
                or `UserTurnProcessor` resolve. `"broadcast"`: the service announces
                the turns and interrupts by itself. `"auto"`: the first if the
                pipeline has such a processor, else the second.
            history: How a session is told what was said before it: in its instructions,
                as the vendor documents, where the newest turns are kept that the limit on
                their size has room for; or as message `"items"`, which is unproven.
            vad_frames: Whether the pipeline is told of Hydra's voice activity detection by
                `VADUserStartedSpeakingFrame`s and `VADUserStoppedSpeakingFrame`s too, as of
                a VAD of its own. Pipecat's `UserBotLatencyObserver` measures from them, an
                STT service beside Hydra ends its transcript by them, and `pipecat eval` and
                RTVI clients may ask for them. Not to be used with a VAD in the pipeline.
            resume_after_noise: Whether a reply that noise interrupted is heard to its
                end, from a little before where it stopped.
            start_audio_paused: Whether to start with the user's audio paused.
            open_timeout_secs: How long connecting may take, in seconds.
            handshake_timeout_secs: How long the server may take to create and again
                to configure the session, in seconds.
            kickoff_timeout_secs: How long to wait, in seconds from the user's first
                audio, for an `LLMRunFrame` before the session is configured without
                a greeting. Audio is kept meanwhile. Not waited for when the settings
                say whether the model speaks first.
            end_timeout_secs: How long an `EndFrame` may wait, in seconds, for the
                reply in flight to be received whole.
            preroll_secs: How much of what the user says is kept, in seconds, while
                it cannot be sent, or might have to be sent again; beyond it the newest
                is kept.
            unused_timeout_secs: How long a session that nobody uses yet is kept open, in
                seconds. It is opened again when somebody does. None for ever.
            idle_timeout_secs: How long a session is kept open, in seconds, in which nobody
                says anything: no user audio comes, as while the user is muted, and no
                reply. It is opened again, and told what was said, when somebody does.
                None for ever.
            retry: How often, how fast and how long a session that is lost, or cannot be
                had, is tried to get; see `RetryPolicy` for the defaults.
            **kwargs: Arguments of `LLMService`.

        Raises:
            ValueError: If the key is empty, `base_url` is no WebSocket URL, or a time
                limit is not greater than 0.
        """
        keyring = Keyring(api_key)
        # Of what fails below, a traceback that shows local variables must show no key.
        del api_key
        for name, secs in {
            "open_timeout_secs": open_timeout_secs,
            "handshake_timeout_secs": handshake_timeout_secs,
            "unused_timeout_secs": unused_timeout_secs,
            "idle_timeout_secs": idle_timeout_secs,
        }.items():
            if secs is not None and secs <= 0:
                raise ValueError(f"{name} must be greater than 0, not {secs}")
        complete = complete_settings(settings)
        model = assert_given(complete.model) or DEFAULT_MODEL
        # What is wrong with the URL shows here, not in the background.
        endpoint = Endpoint(base_url, model, SecretStr("none yet"), auth)
        super().__init__(settings=complete, **kwargs)

        self._endpoint = endpoint
        self._keyring = keyring
        self._open_timeout = open_timeout_secs
        self._tools = tools if tools is None or isinstance(tools, ToolsSchema) else list(tools)
        self._turn_frames: TurnFrames = turn_frames
        self._decided_turn_frames: TurnFrames | None = None
        self._vad_frames = vad_frames
        self._audio_paused = start_audio_paused
        self._kickoff_timeout = kickoff_timeout_secs
        self._end_timeout = end_timeout_secs
        self._microphone = MicrophoneAudio()
        self._conversation = Conversation(
            model=model,
            uplink=Uplink(preroll_secs=preroll_secs),
            handshake_timeout_secs=handshake_timeout_secs,
            unused_timeout_secs=unused_timeout_secs,
            idle_timeout_secs=idle_timeout_secs,
            resume_after_noise=resume_after_noise,
        )
        self._connection = HydraConnection(
            self._dial,
            self._conversation,
            on_effect=self._on_effect,
            on_connected=self._on_connected,
            retry=retry,
            open_timeout_secs=open_timeout_secs,
        )
        self._switchers: list[Switcher] | None = None
        self._last_run_id: int | None = None
        self._context: LLMContext | None = None
        self._briefing = Briefing(self.name, self.get_llm_adapter(), history)
        self._answers = FunctionAnswers(
            self.name,
            answer=self._answer,
            tell=lambda text, respond: self._send_message(text, respond=respond),
        )
        # Whether the service is in use: whatever session there is gets configured.
        self._begun = False
        self._greets = False
        # How many turns the user had spoken when a reply was asked of the session that is
        # to follow; None if none was.
        self._asked_anew_at: int | None = None
        self._told: tuple[str, str | None] | None = None
        # Whether another service has had the call since the session was told what was said.
        self._missed_some = False
        # Calls whose results Hydra was asked to speak about, until the context has them.
        self._narrated: set[str] = set()
        self._replacer: asyncio.Task[None] | None = None
        self._speaker = Speaker(self, on_said=self._on_said)
        self._tracing = Tracing()
        # Replies, and those of them whose words are known.
        self._replies = self._replies_known = 0
        self._knows_all = True
        self._is_resumed = False
        self._is_connected = self._is_lost = False
        self._user_was_heard = False
        self._proposals = TurnProposals(self)
        self._kickoff_timer: asyncio.TimerHandle | None = None
        self._reply_progress = asyncio.Event()
        self._register_event_handler("on_function_call_arguments_delta")
        for event in _CONNECTION_EVENTS:
            self._register_event_handler(event)
        self._warn_about_settings()

    def can_generate_metrics(self) -> bool:
        """Whether the service can generate metrics: it can."""
        return True

    def set_audio_input_paused(self, paused: bool) -> None:
        """Pause or resume the user's audio; Hydra hears silence while it is paused.

        Args:
            paused: Whether to pause.
        """
        self._audio_paused = paused

    def service_metadata_frame(self) -> LLMServiceMetadataFrame:
        """Describe this service to the rest of the pipeline."""
        return LLMServiceMetadataFrame(
            service_name=self.name,
            is_realtime_service=True,
            user_turn_strategies=ExternalUserTurnStrategies(),
        )

    async def send_text(
        self,
        text: str,
        *,
        role: MessageRole = "user",
        respond: bool = True,
        interrupt: bool = False,
    ) -> None:
        """Put typed text into the conversation.

        That Hydra takes text messages is unproven (protocol §4).

        Args:
            text: The text.
            role: Whose it is.
            respond: Whether the model shall answer it. A reply in flight is finished
                first; if the user is speaking, the answer to that answers both.
            interrupt: Whether to interrupt the bot first.
        """
        if interrupt:
            await self.cancel_response()
        self._put_in(text, role)
        if respond:
            self._ask()

    async def request_response(self) -> None:
        """Have the model speak now, or when the reply in flight is done."""
        self._ask()

    async def cancel_response(self) -> None:
        """Stop the reply in flight, at Hydra and in what is being played."""
        async with self._connection.between_effects():
            self._perform(self._conversation.cancel_response(self._now))
            await self._interrupt()

    #
    # Lifecycle
    #

    async def setup(self, setup: FrameProcessorSetup):
        """Set up the service and begin to connect, in the background.

        Args:
            setup: The pipeline's configuration.
        """
        await super().setup(setup)
        if setup.enable_tracing:
            self._tracing.begin(setup.tracing_context)
        self._connection.prewarm()

    async def stop(self, frame: EndFrame):
        """Let the reply in flight be received whole, then close the session.

        Args:
            frame: The end frame.
        """
        await super().stop(frame)
        await self._wait_for_reply()
        await self._teardown()

    async def cancel(self, frame: CancelFrame):
        """Close the session at once.

        Args:
            frame: The cancel frame.
        """
        await super().cancel(frame)
        await self._teardown(drain=False)

    async def cleanup(self):
        """Release everything, however the pipeline ended."""
        await self._teardown(drain=False)
        await super().cleanup()

    async def _teardown(self, *, drain: bool = True) -> None:
        self._cancel_kickoff_timer()
        self._answers.close()
        replacer, self._replacer = self._replacer, None
        if replacer is not None:
            await self.cancel_task(replacer)
        await self._connection.close(drain=drain)
        self._tracing.close()
        if self._is_connected:
            # Nobody hands on what the connection has told last.
            await self._on_disconnected("the pipeline has ended")

    async def _wait_for_reply(self) -> None:
        """Wait until no reply is in flight, but not for one that has stalled."""
        deadline = self._now + self._end_timeout
        stalled_at = self._now + _STALL_SECS
        while self._connection.is_open and self._reply_pending:
            if self._now >= min(deadline, stalled_at):
                logger.warning(f"{self}: ended before Hydra's reply was received whole")
                return
            self._reply_progress.clear()
            try:
                # Not all that ends a reply tells the pipeline so.
                await asyncio.wait_for(self._reply_progress.wait(), _POLL_SECS)
                stalled_at = self._now + _STALL_SECS
            except TimeoutError:
                pass

    @property
    def _reply_pending(self) -> bool:
        """Whether there is a reply to wait for, be it one of a session not yet begun."""
        greeting = self._begun and self._greets and not self._conversation.sessions
        return self._conversation.reply_pending or self._asks_anew or greeting

    @property
    def _now(self) -> float:
        return self._connection.now

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._connection.perform(effects)

    #
    # Frames in
    #

    @override
    def _service_tools(self) -> ToolsSchema | list[Any] | None:
        return self._tools

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Process a frame, and pass it on.

        Args:
            frame: The frame.
            direction: Where it is going.
        """
        if isinstance(frame, InterruptionFrame):
            self._proposals.see(frame)
            await self._on_interruption(frame, direction)
            # After it is on its way: the base class waits for tools that it cancels.
            await super().process_frame(frame, direction)
            return
        await super().process_frame(frame, direction)
        self._proposals.see(frame)
        match frame:
            case LLMRunFrame() | LLMMessagesAppendFrame() if self._goes_to_aggregator(direction):
                # Which makes a context of it, that comes here.
                pass
            case InputAudioRawFrame():
                self._on_user_audio(frame)
            case BotStartedSpeakingFrame():
                self._conversation.bot_started(self._now)
            case BotStoppedSpeakingFrame():
                self._conversation.bot_stopped()
                self._briefing.heard()
            case LLMContextFrame():
                self._on_context(frame, direction)
            case LLMContextUserTurnFrame():
                self._briefing.hear(frame.text)
            case LLMRunFrame():
                self._last_run_id = frame.id
                self._run()
            case LLMMessagesAppendFrame():
                self._on_messages(frame)
            case InputTextRawFrame():
                # An assistant aggregator takes any text that comes down for the bot's.
                frame.append_to_context = False
                self._put_in(frame.text)
                self._ask()
            case ClientConnectedFrame():
                self._prewarm()
            case LLMSetToolsFrame():
                self._on_tools(frame)
            case UserMuteStoppedFrame():
                await self._proposals.unmuted()
            case ServiceSwitcherRequestMetadataFrame(service=service) if service is self:
                # What becomes of what was said the pipeline tells the active service only.
                self._conversation.forget_playback()
                self._briefing.interrupted(self._known_context())
                self._missed_some = self._begun
                self._replace_if_outdated()
            case LLMUpdateSettingsFrame(service=service) if service not in (None, self):
                # The base class has passed it on.
                return
            case _:
                pass
        await self.push_frame(frame, direction)

    def _on_user_audio(self, frame: InputAudioRawFrame) -> None:
        if self._audio_paused:
            return
        if not self._begun:
            self._first_used()
        elif not (self._connection.is_wanted and self._connection.is_open):
            self._open()
        for chunk in self._microphone.push(frame.audio, frame.sample_rate, frame.num_channels):
            self._perform(self._conversation.microphone(chunk, self._now))

    async def _on_interruption(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Tell the conversation, and pass the frame on with nothing old behind it."""
        self._briefing.interrupted(self._known_context())
        async with self._connection.between_effects():
            self._perform(self._conversation.interrupted(self._now))
            await _let_neighbours_run()
            await self.push_frame(frame, direction)

    @override
    async def _handle_interruptions(self, _: InterruptionFrame) -> None:
        # The base class waits until they have cleaned up, one function after the other. The user
        # is to be heard meanwhile, and what is called meanwhile is not to be cancelled.
        cancelling = self._cancel_function_call_tasks(
            lambda call: call.registry_item.cancel_on_interruption, reason="interruption"
        )
        self.create_task(cancelling, "interruption")

    def _goes_to_aggregator(self, direction: FrameDirection) -> bool:
        """Whether a frame is on its way up to a user aggregator."""
        above = direction is FrameDirection.UPSTREAM
        return above and shared_context(self.pipeline_worker.pipeline) is not None

    def _on_context(self, frame: LLMContextFrame, direction: FrameDirection) -> None:
        """Answer what is new in a context; whoever wrote the rest, Hydra knows it."""
        if frame.speculation:
            return
        self._context = frame.context
        if not self._begun:
            if waits_for_answer(frame.context.get_messages()):
                self._ask()
            else:
                self._run()
            return
        self._update_tools()
        new = self._briefing.news(frame.context)
        for role, text in new.typed:
            self._tell(text, role)
        narrated = self._narrated & new.results
        self._narrated -= narrated
        if new.spoken or (narrated and direction is FrameDirection.UPSTREAM):
            # Hydra has heard it, or was asked to speak about it, and answers by itself.
            return
        if new.typed:
            self._ask()
        elif direction is FrameDirection.DOWNSTREAM:
            self._run()

    def _on_messages(self, frame: LLMMessagesAppendFrame) -> None:
        """Take messages that no user aggregator has taken before us."""
        messages: list[Any] = [m for m in frame.messages if isinstance(m, dict)]
        self._briefing.told(messages, lasting=not frame.interruptible)
        for message in messages:
            if text := text_of(message):
                self._tell(text, "user" if message.get("role") == "user" else "system")
        if frame.run_llm:
            self._ask()

    def _put_in(self, text: str, role: MessageRole = "user") -> None:
        """Put text into the conversation that no context keeps."""
        self._briefing.note(role, text)
        self._tell(text, role)

    def _tell(self, text: str, role: MessageRole) -> None:
        """Tell the session what is kept; one that is still to begin is told of it all."""
        if self._begun and self._connection.is_connected:
            self._send_message(text, role)

    def _on_tools(self, frame: LLMSetToolsFrame) -> None:
        """Put other tools in force; an aggregator puts them in its context, before or after."""
        if self._known_context() is None:
            self._tools = frame.tools if is_given(frame.tools) else None
        self._sync_registered_tool_handlers(frame.tools)
        in_force = frame.tools if is_given(frame.tools) else self._tools
        params = self.get_llm_adapter().session_params(None, service_tools=_schema(in_force))
        self._perform(self._conversation.update_tools(params["tools"], self._now))

    #
    # Configuring
    #

    def _prewarm(self) -> None:
        if self.is_usable:
            self._connection.prewarm()

    def _open(self) -> None:
        """Have a session, unless it is known that none can be had."""
        if self.is_usable:
            self._connection.open()

    async def _dial(self) -> Endpoint:
        """Say where to connect to, with what is in force by now."""
        self._tracing.connecting(self._model)
        key = await self._keyring.key(timeout_secs=self._open_timeout)
        self._endpoint = replace(self._endpoint, model=self._model, api_key=key)
        self._conversation.model = self._model
        return self._endpoint

    def _first_used(self) -> None:
        """The user's audio flows: configure now, or soon if a greeting may be asked for."""
        self._open()
        if self._speaks_first is not None:
            self._configure()
        elif self._kickoff_timer is None:
            loop = asyncio.get_running_loop()
            self._kickoff_timer = loop.call_later(self._kickoff_timeout, self._configure)

    def _run(self) -> None:
        """The pipeline wants the model to speak, about nothing new."""
        if self._speaks_first is None or self._user_was_heard:
            self._ask()
            return
        # The settings say who speaks first.
        self._open()
        self._configure()

    def _ask(self) -> None:
        """Have the model speak; in a session to be configured, it does so by itself."""
        self._open()
        if not self._begun:
            self._configure(asked=True)
        elif self._outdated:
            # Of the session that is about to begin, not of the one that ends.
            conversation = self._conversation
            # A turn that is over does not answer what is asked for after it.
            over = conversation.uplink.keeping and not conversation.user_speaking
            self._asked_anew_at = conversation.user_turns + over
            self._replace_if_outdated()
        else:
            self._perform(self._conversation.request_response(self._now))

    def _configure(self, *, asked: bool = False) -> None:
        """Have the session configured, now or as soon as there is one.

        Args:
            asked: Whether the model has something to answer.
        """
        self._cancel_kickoff_timer()
        if self._begun:
            return
        self._greets = asked or bool(self._speaks_first)
        self._begun = True
        if self._outdated:
            # The model has changed: what is open is not what is to be configured.
            self._replace_if_outdated()
        elif self._connection.is_connected:
            self._begin_session()

    def _on_connected(self) -> None:
        if self._begun:
            self._begin_session()

    def _begin_session(self) -> None:
        """Say what the session shall be, with all that is known by now."""
        conversation, briefing = self._conversation, self._briefing
        for role, text in conversation.take_unsent():
            if not briefing.holds(text, self._known_context()):
                briefing.note(role, text)
        if self._asks_anew:
            self._asked_anew_at = None
            self._perform(conversation.request_response(self._now))
        greets = conversation.owes_reply
        if not conversation.sessions:
            greets = greets or self._greets
        brief = self._brief(greet=greets, under_way=conversation.under_way)
        self._knows_all = (
            brief.complete
            and briefing.spoken >= conversation.user_turns
            and self._replies_known >= self._replies
        )
        self._tracing.configuring(brief.configuration, self._wanted[1])
        self._perform(conversation.configure(brief.configuration, self._now, opening=brief.items))
        if brief.respond:
            self._perform(conversation.request_response(self._now))

    def _brief(self, *, greet: bool, under_way: bool) -> Brief:
        context = self._known_context()
        # A context that came by a frame has been synced; one that was looked up has not.
        self._sync_registered_tool_handlers(context.tools if context is not None else None)
        self._told = self._wanted
        self._missed_some = False
        voice, composed = self._wanted
        # Pipecat puts what it adds for functions, and what others have had it append, behind the
        # application's instruction in the settings. If there is none, the context may have one.
        is_base_there = bool(self._base_system_instruction)
        return self._briefing.brief(
            context,
            instruction=composed if is_base_there else None,
            added_instruction=None if is_base_there else composed,
            voice=voice,
            service_tools=_schema(self._tools),
            greet=greet,
            under_way=under_way,
            hears_again=self._conversation.uplink.keeping,
        )

    def _update_tools(self) -> None:
        params = self.get_llm_adapter().session_params(
            self._known_context(), service_tools=_schema(self._tools)
        )
        self._perform(self._conversation.update_tools(params["tools"], self._now))

    @override
    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:
        changed = await super()._update_settings(delta)
        if changed.keys() & {"model", "voice"}:
            self._warn_about_settings()
        self._warn_unhandled_updated_settings(changed.keys() - _HANDLED_SETTINGS)
        self._replace_if_outdated()
        return changed

    @override
    def _compose_system_instruction(self):
        super()._compose_system_instruction()
        self._replace_if_outdated()

    @property
    def _wanted(self) -> tuple[str, str | None]:
        """Voice and instruction that the application asks for."""
        return self._voice, assert_given(self._settings.system_instruction)

    @property
    def _outdated(self) -> bool:
        """Whether the session is not what the application asks for any more (S1)."""
        if not self._connection.is_connected:
            return False
        other = self._endpoint.model != self._model or self._missed_some
        return other or (self._told is not None and self._told != self._wanted)

    @property
    def _asks_anew(self) -> bool:
        """Whether a reply was asked of the session that is to follow, and not given since."""
        # An answer to the user says that too. Noise gets none.
        asked_at = self._asked_anew_at
        return asked_at is not None and self._conversation.user_turns <= asked_at

    def _replace_if_outdated(self) -> None:
        if self._replacer is None and self._outdated:
            self._replacer = self.create_task(self._replace_session())

    async def _replace_session(self) -> None:
        """Hydra freezes a session, so begin another, where no reply and no word is cut."""
        try:
            while self._outdated:
                # Changes come by one frame each; several of them cost one new session.
                await asyncio.sleep(_SETTLE_SECS)
                if self._outdated and self._conversation.at_turn_boundary:
                    logger.debug(f"{self}: beginning a session with the settings that are new")
                    await self._connection.replace()
            if self._connection.is_connected and self._asks_anew:
                # The session is again what the application asks for.
                self._asked_anew_at = None
                self._ask()
        finally:
            self._replacer = None

    def _known_context(self) -> LLMContext | None:
        return self._context or shared_context(self.pipeline_worker.pipeline)

    def _cancel_kickoff_timer(self) -> None:
        if self._kickoff_timer is not None:
            self._kickoff_timer.cancel()
            self._kickoff_timer = None

    @property
    def _speaks_first(self) -> bool | None:
        return assert_given(self._settings.generate_initial_response)

    @property
    def _voice(self) -> str:
        return assert_given(self._settings.voice) or default_voice(self._model)

    @property
    def _model(self) -> str:
        return assert_given(self._settings.model) or DEFAULT_MODEL

    def _warn_about_settings(self) -> None:
        known = MODELS.get(self._model)
        if known is not None and known.deprecated:
            logger.warning(f"{self}: model {known.name!r} is deprecated; use {DEFAULT_MODEL!r}")
        if warning := voice_warning(self._model, self._voice):
            logger.warning(f"{self}: {warning}")

    #
    # Effects out
    #

    async def _on_effect(self, effect: PipelineEffect) -> None:
        """Do what the conversation asks of the pipeline."""
        if isinstance(effect, AudioChunk | TextChunk) and self._is_switched_away:
            # It would be heard all the same, beside the other, and no interruption would end it.
            self._perform(self._conversation.cancel_response(self._now))
            return
        self._tracing.see(effect)
        match effect:
            case ReplyStarted(_, resumed):
                self._is_resumed = resumed
                await self._speaker.say(effect)
            case VoiceStarted():
                self._replies += not self._is_resumed
                await self._speaker.say(effect)
            case AudioChunk() | TextChunk() | VoiceEnded() | ReplyEnded() | ResponseFinished():
                await self._speaker.say(effect)
            case UserStarted():
                await self._announce_user_started()
            case UserStopped():
                await self._announce_user_stopped(effect.silence_secs)
            case TurnDiscarded():
                await self._proposals.settled()
                if not self._conversation.reply_pending:
                    await wait_for_user(self.pipeline_worker.pipeline)
            case Flush():
                await self._interrupt()
            case ToolCalls():
                await self._run_functions(effect.calls)
            case ToolArguments(call_id, name, fragment):
                await self._call_event_handler(
                    "on_function_call_arguments_delta", call_id, name, fragment
                )
            case Report():
                await self._report(effect)
            case _:
                await self._on_connection(effect)
                return
        self._reply_progress.set()

    async def _on_connection(self, effect: ConnectionEffect) -> None:
        """Tell what becomes of the connection."""
        match effect:
            case Connected():
                self._is_connected = True
                await self._call_event_handler("on_connected")
                self._replace_if_outdated()
            case SessionStarted(session_id):
                logger.debug(f"{self}: Hydra session {session_id!r} opened")
                await self._call_event_handler("on_session_started", session_id)
            case Ready():
                await self._on_ready(effect)
            case Disconnected(reason):
                await self._on_disconnected(reason)
            case Rested(message, failed):
                level = "WARNING" if failed else "DEBUG"
                logger.log(level, "{}: no session is open until it is used: {}", self, message)
            case Lost():
                self._is_lost = True
                self._push_error_soon(effect.message, _CATEGORIES[effect.kind])
            case Retrying():
                await self._on_retrying(effect)
            case GivenUp():
                self._cancel_kickoff_timer()
                category = _CATEGORIES[effect.kind]
                # First, so that whoever is told finds it so.
                await self.set_usable(False)
                # Whoever makes us usable again has a reason to.
                self._connection.renew()
                self._push_error_soon(effect.message, category, permanent=True)
                await self._call_event_handler("on_given_up", effect.message)

    async def _on_ready(self, ready: Ready) -> None:
        rate = ready.output_sample_rate
        logger.debug(f"{self}: Hydra is ready: {self._model}, {self._voice}, {rate} Hz")
        if self._is_lost:
            self._is_lost = False
            restored = self._knows_all and not ready.lost_secs
            await self._call_event_handler("on_reconnected", restored)

    async def _on_disconnected(self, reason: str) -> None:
        self._is_connected = False
        logger.debug(f"{self}: disconnected: {reason}")
        await self._call_event_handler("on_disconnected", reason)

    async def _on_retrying(self, retrying: Retrying) -> None:
        attempt, delay_secs = retrying.attempt, retrying.delay_secs
        logger.debug(f"{self}: attempt {attempt} in {delay_secs:.2f} s: {retrying.message}")
        await self._call_event_handler("on_reconnecting", attempt, delay_secs)
        if retrying.kind is FailureKind.CAPACITY:
            await self._call_event_handler("on_capacity", attempt, delay_secs)

    def _on_said(self, text: str) -> None:
        self._replies_known += not self._is_resumed
        if self._known_context() is None:
            self._briefing.note_reply(text, resumed=self._is_resumed)
        else:
            self._briefing.say(text)

    async def _announce_user_started(self) -> None:
        self._user_was_heard = True
        if self._vad_frames:
            await self.broadcast_frame(VADUserStartedSpeakingFrame)
        if self._proposes_turns:
            await self._proposals.start()
            return
        await self.broadcast_frame(UserStartedSpeakingFrame)
        await self._interrupt()
        # The echo of what was announced, which a broadcast does not bring back here.
        self._perform(self._conversation.interrupted(self._now))

    async def _announce_user_stopped(self, silence_secs: float) -> None:
        if self._vad_frames:
            await self.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=silence_secs)
        if self._proposes_turns:
            await self._proposals.stop()
        else:
            await self.broadcast_frame(UserStoppedSpeakingFrame)

    async def _interrupt(self) -> None:
        """Interrupt the pipeline ourselves."""
        await _let_neighbours_run()
        self._briefing.interrupted(self._known_context())
        await self.broadcast_interruption()
        # The broadcast goes to the neighbours only, so the base class does not see it.
        await self._handle_interruptions(InterruptionFrame())

    @property
    def _is_switched_away(self) -> bool:
        """Whether a service switcher has given the call to another service."""
        if self._switchers is None:
            self._switchers = switchers_around(self.pipeline_worker.pipeline, self)
        return not all(is_active(switcher, self) for switcher in self._switchers)

    @property
    def _proposes_turns(self) -> bool:
        if self._turn_frames != "auto":
            return self._turn_frames == "propose"
        if self._decided_turn_frames is None:
            resolved = has_turn_strategies(self.pipeline_worker.pipeline)
            self._decided_turn_frames = "propose" if resolved else "broadcast"
        return self._decided_turn_frames == "propose"

    #
    # Tools
    #

    async def _run_functions(self, calls: Sequence[ToolCall]) -> None:
        """Run the calls of one response, as one group."""
        runnable: list[FunctionCallFromLLM] = []
        for call in calls:
            arguments = parse_arguments(call.arguments)
            if arguments is None:
                self._tracing.refuse(call.call_id)
                self._answers.refuse_arguments(call.call_id, call.name)
                continue
            registered = self._functions.get(call.name) or self._functions.get(None)
            if registered is not None and not registered.cancel_on_interruption:
                self._answers.begin_running(call.call_id)
            runnable.append(
                FunctionCallFromLLM(
                    function_name=call.name,
                    tool_call_id=call.call_id,
                    arguments=arguments,
                    context=self._known_context(),
                )
            )
        await self.run_function_calls(runnable)

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM):
        """Push a frame; what a function call came to is told to Hydra on the way.

        Args:
            frame: The frame.
            direction: Where it is going.
        """
        if direction == FrameDirection.DOWNSTREAM:
            if isinstance(frame, LLMRunFrame) and frame.id != self._last_run_id:
                # From a function, say, by `params.llm.push_frame`.
                self._last_run_id = frame.id
                self._run()
            elif isinstance(frame, FunctionCallResultFrame):
                self._tracing.settle(frame)
                self._answers.on_result(frame)
                if self._known_context() is None:
                    result = result_text(frame.result)
                    self._briefing.note_call(
                        frame.tool_call_id, frame.function_name, frame.arguments, result
                    )
                elif _is_narrated(frame):
                    self._narrated.add(frame.tool_call_id)
            elif isinstance(frame, FunctionCallCancelFrame):
                self._tracing.settle(frame)
                self._answers.on_cancel(frame)
                if frame.run_llm:
                    self._narrated.add(frame.tool_call_id)
        await super().push_frame(frame, direction)

    def _answer(self, call_id: str, output: str, respond: bool, cancelled: bool) -> None:
        self._tracing.hold(call_id)
        # It may be the function that has switched the service.
        respond = respond and not self._is_switched_away
        self._perform(
            self._conversation.answer_call(
                call_id, output, self._now, respond=respond, cancelled=cancelled
            )
        )
        if respond:
            # Its session may be gone, and none open since.
            self._open()

    def _send_message(self, text: str, role: MessageRole = "system", respond: bool = False) -> None:
        if respond:
            # It may have gone to rest meanwhile.
            self._open()
        self._perform(self._conversation.send_message(text, self._now, role=role, respond=respond))

    #
    # Reports
    #

    async def _report(self, report: Report) -> None:
        match report.severity:
            case Severity.INFO:
                logger.debug(f"{self}: {report.message}")
            case Severity.WARNING:
                logger.warning(f"{self}: {report.message}")
            case Severity.ERROR:
                category = _REPORT_CATEGORIES.get(report.code or "", ErrorCategory.UNKNOWN)
                self._push_error_soon(report.message, category)

    def _push_error_soon(
        self, message: str, category: ErrorCategory, *, permanent: bool = False
    ) -> None:
        """Push an error; the application's `on_error` handlers are nobody else's business."""
        pushing = self.push_error(message, category=category, force_treat_as_permanent=permanent)
        self.create_task(pushing, "error")


async def _let_neighbours_run() -> None:
    """Have them take what was pushed before an interruption, which would overtake it."""
    await asyncio.sleep(0)


def _schema(tools: ToolsSchema | list[Any] | None) -> ToolsSchema | None:
    return ToolsSchema(tools) if isinstance(tools, list) else tools


def _is_narrated(frame: FunctionCallResultFrame) -> bool:
    """Whether the application wants Hydra to speak about a result."""
    run_llm = frame.properties.run_llm if frame.properties is not None else None
    return (frame.run_llm if run_llm is None else run_llm) is not False
