"""Hydra as a Pipecat service: Pipecat's frames and hooks on one side, a conversation on the other.

The service hands on and decides nothing. What reaches it goes to the object that it
concerns: the user's audio to the conversation, contexts and messages to `Contexts`, what
asks for a session or a reply to `WantedSession`. What the conversation asks for comes back
through one task, in order, to the `EffectDispatcher`, which makes frames of it, runs the
functions that the model calls, and answers them by the frames that tell what they gave.
"""

from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Any, Literal

from loguru import logger
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    ClientConnectedFrame,
    EndFrame,
    Frame,
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
    PipelineFlushFrame,
    ServiceSwitcherRequestMetadataFrame,
    StartFrame,
    UserMuteStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pydantic import SecretStr
from typing_extensions import override

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.arguments import base_url_or_default, check_arguments, key_for
from pipecat_hydra.service.briefing.briefing import Briefing, HistoryStyle
from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.dispatcher import EVENTS, EffectDispatcher, let_neighbours_run
from pipecat_hydra.service.in_force import InForce, ServiceTools
from pipecat_hydra.service.settings import (
    HydraLLMSettings,
    complete_settings,
    settings_warnings,
    useless_settings,
    wanted,
)
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.turns import TurnFrames
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import PROXY_OF_ENVIRONMENT, AuthStyle, Endpoint
from pipecat_hydra.session.keys import Keyring, KeySource
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.wire.audio import MicrophoneAudio
from pipecat_hydra.wire.events import MessageRole

__all__ = ["HydraLLMService", "TurnFrames"]

_HANDLED_SETTINGS = {"model", "voice", "system_instruction", "generate_initial_response"}


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
            voice="aria", instructions="You are a warm, concise voice assistant."
        )

    The class has more than 350 lines because a third of it documents the arguments and the
    events, for which users look here.
    """

    Settings = HydraLLMSettings
    # Pipecat's services all narrow the type of their settings.
    _settings: HydraLLMSettings  # pyright: ignore[reportIncompatibleVariableOverride]

    adapter_class = HydraLLMAdapter

    # Made anew for each run of a pipeline.
    _stage: Literal["new", "running", "ended"]
    _early: list[Callable[[], Awaitable[None]]]
    _audio_paused: bool
    _last_run_id: int | None
    _microphone: MicrophoneAudio
    _tracing: Tracing
    _conversation: Conversation
    _connection: HydraConnection
    _surroundings: Surroundings
    _in_force: InForce
    _session: WantedSession
    _contexts: Contexts
    _dispatcher: EffectDispatcher

    def __init__(
        self,
        *,
        api_key: str | KeySource | None = None,
        base_url: str | None = None,
        settings: HydraLLMSettings | None = None,
        model: str | None = None,
        voice: str | None = None,
        system_instruction: str | None = None,
        instructions: str | None = None,
        tools: ServiceTools | None = None,
        auth: AuthStyle = "query",
        ssl: SSLContext | None = None,
        proxy: str | None = PROXY_OF_ENVIRONMENT,
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
        longest_turn_secs: float = 60.0,
        retry: RetryPolicy | None = None,
        **kwargs: Any,
    ):
        """Initialize the Hydra service.

        Args:
            api_key: The Smallest AI key or a short-lived `wat_…` token; or a coroutine
                function that gives one, called each time that the service connects. By
                default the environment's `SMALLEST_API_KEY`.
            base_url: The endpoint, `wss://` or `ws://`, without query. By default the
                environment's `HYDRA_BASE_URL`, else the public endpoint.
            settings: Model, voice, instructions; what is not given has a default.
            model: The same as `Settings(model=...)`.
            voice: The same as `Settings(voice=...)`.
            system_instruction: The same as `Settings(system_instruction=...)`.
            instructions: Another name of `system_instruction`.
            tools: Functions the model may call, for pipelines without a context; the
                tools of a context win.
            auth: Where the key goes: `"query"`, as the vendor documents, or
                `"header"`, an `Authorization` header.
            ssl: Which certificates are trusted; Python's default if None.
            proxy: URL of the proxy to go through, None for none. By default
                `"environment"`: the one that `HTTPS_PROXY` and the like name, but none to
                this machine.
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
            longest_turn_secs: How long the user may speak without a pause, in seconds. Whoever
                is heard for longer, as music on hold is, is taken to have stopped, so that the
                model can be asked to speak.
            retry: How often, how fast and how long a session that is lost, or cannot be
                had, is tried to get; see `RetryPolicy` for the defaults.
            **kwargs: Arguments of `LLMService`.

        Raises:
            TypeError: If an argument is unknown, or of the wrong type.
            ValueError: If there is no key, `base_url` is no WebSocket URL, an argument is
                none of its choices or out of its bounds, or says other than the settings.
        """
        keyring = Keyring(key_for(api_key))
        # Of what fails below, a traceback that shows local variables must show no key.
        del api_key
        check_arguments(type(self), HydraLLMService.__init__, locals())
        complete = complete_settings(
            settings,
            model=model,
            voice=voice,
            system_instruction=system_instruction,
            instructions=instructions,
        )
        model = wanted(complete).model
        # What is wrong with the URL shows here, not in the background.
        endpoint = Endpoint(
            base_url_or_default(base_url), model, SecretStr("none yet"), auth, ssl, proxy
        )
        super().__init__(settings=complete, **kwargs)

        self._end_timeout = end_timeout_secs

        def assemble() -> None:
            """Make all that has the state of one run of a pipeline."""
            self._stage = "new"
            self._early = []
            self._audio_paused = start_audio_paused
            self._last_run_id = None
            self._microphone = MicrophoneAudio()
            self._tracing = Tracing()
            self._conversation = Conversation(
                model=model,
                uplink=Uplink(preroll_secs=preroll_secs),
                handshake_timeout_secs=handshake_timeout_secs,
                unused_timeout_secs=unused_timeout_secs,
                idle_timeout_secs=idle_timeout_secs,
                longest_turn_secs=longest_turn_secs,
                resume_after_noise=resume_after_noise,
            )
            self._connection = HydraConnection(
                lambda: self._session.dial(),
                self._conversation,
                on_effect=lambda effect: self._dispatcher.dispatch(effect),
                on_connected=lambda: self._session.on_connected(),
                on_voice_rejected=lambda message: self._session.on_voice_rejected(message),
                retry=retry,
                open_timeout_secs=open_timeout_secs,
            )
            self._surroundings = Surroundings(self)
            self._in_force = InForce(self.get_llm_adapter(), self._surroundings, tools)
            briefing = Briefing(self.name, self.get_llm_adapter(), history)
            self._session = WantedSession(
                self,
                self._connection,
                self._conversation,
                settings=complete,
                dialer=Dialer(
                    endpoint, keyring, complete, self._tracing, open_timeout_secs=open_timeout_secs
                ),
                briefing=briefing,
                in_force=self._in_force,
                tracing=self._tracing,
                are_replies_known=lambda: self._dispatcher.are_replies_known,
                kickoff_timeout_secs=kickoff_timeout_secs,
            )
            self._contexts = Contexts(briefing, self._in_force, self._session)
            self._dispatcher = EffectDispatcher(
                self,
                self._connection,
                self._conversation,
                self._session,
                contexts=self._contexts,
                in_force=self._in_force,
                surroundings=self._surroundings,
                tracing=self._tracing,
                turn_frames=turn_frames,
                vad_frames=vad_frames,
            )

        self._assemble = assemble
        assemble()
        for event in EVENTS:
            self._register_event_handler(event)
        self._warn_about_settings()
        if useless := useless_settings(complete):
            logger.warning(f"{self}: Hydra has no {', '.join(useless)}: no effect")

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

        Text that comes before the pipeline has started is kept until it has. That Hydra takes
        text messages is unproven (protocol §4).

        Args:
            text: The text.
            role: Whose it is.
            respond: Whether the model shall answer it. A reply in flight is finished
                first; if the user is speaking, the answer to that answers both.
            interrupt: Whether to interrupt the bot first.
        """
        if not self._is_running(lambda: self.send_text(text, role=role, respond=respond)):
            return
        if interrupt:
            await self.cancel_response()
        self._contexts.put_in(text, role)
        if respond:
            self._session.ask()

    async def request_response(self) -> None:
        """Have the model speak: once the pipeline has started, and no reply is in flight."""
        if self._is_running(self.request_response):
            self._session.ask()

    async def cancel_response(self) -> None:
        """Stop the reply in flight, at Hydra and in what is being played."""
        async with self._connection.between_effects():
            self._connection.perform(self._conversation.cancel_response(self._connection.now))
            await self._dispatcher.interrupt()

    def _is_running(self, ask: Callable[[], Awaitable[None]]) -> bool:
        """Whether the pipeline runs; what is asked before it does is asked again once it has."""
        if self._stage == "new":
            self._early.append(ask)
        elif self._stage == "ended":
            logger.warning(f"{self}: the pipeline has ended, so nothing can be said any more")
        return self._stage == "running"

    #
    # Lifecycle
    #

    async def setup(self, setup: FrameProcessorSetup):
        """Set up the service and begin to connect, in the background.

        A service may be used for one pipeline after another: nothing of a run is left in the next
        but the settings.

        Args:
            setup: The pipeline's configuration.
        """
        is_used = self._stage == "ended"
        if is_used:
            self._assemble()
            self._cancelling = False
        await super().setup(setup)
        if is_used:
            # What has made it unusable may have been of the last run only.
            await self.set_usable(True)
        if setup.enable_tracing:
            self._tracing.begin(setup.tracing_context)
        self._connection.prewarm()

    async def start(self, frame: StartFrame):
        """Do what was asked for before there was a pipeline.

        Args:
            frame: The start frame.
        """
        await super().start(frame)
        self._stage = "running"
        early, self._early = self._early, []
        for ask in early:
            await ask()

    async def stop(self, frame: EndFrame):
        """Let the reply in flight be received whole, then close the session.

        Args:
            frame: The end frame.
        """
        await super().stop(frame)
        if not await self._session.until_replied(self._end_timeout):
            logger.warning(f"{self}: ended before Hydra's reply was received whole")
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
        self._stage = "ended"
        self._dispatcher.stop_answering()
        await self._session.close()
        await self._connection.close(drain=drain)
        self._tracing.close()
        await self._dispatcher.close()

    #
    # Frames in
    #

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Process a frame, and pass it on.

        Args:
            frame: The frame.
            direction: Where it is going.
        """
        if isinstance(frame, InterruptionFrame):
            self._dispatcher.see(frame)
            await self._on_interruption(frame, direction)
            await super().process_frame(frame, direction)
            return
        if isinstance(frame, LLMContextFrame) and self._surroundings.is_foreign(frame.context):
            # The base class would put its functions in the place of ours.
            await self.push_frame(frame, direction)
            return
        await super().process_frame(frame, direction)
        self._dispatcher.see(frame)
        match frame:
            case LLMRunFrame() | LLMMessagesAppendFrame() if self._goes_to_aggregator(direction):
                # Which makes a context of it, that comes here.
                pass
            case InputAudioRawFrame():
                self._on_user_audio(frame)
            case BotStartedSpeakingFrame():
                self._conversation.bot_started(self._connection.now)
            case BotStoppedSpeakingFrame():
                self._conversation.bot_stopped()
                self._contexts.on_heard()
            case LLMContextFrame():
                self._contexts.on_context(frame, direction)
            case LLMContextUserTurnFrame():
                self._contexts.on_user_text(frame.text)
            case LLMRunFrame():
                self._last_run_id = frame.id
                self._session.run()
            case LLMMessagesAppendFrame():
                self._contexts.on_messages(frame)
                # Taken, as an aggregator takes it. One that cannot be seen from here, as of the
                # worker that this one is bridged to, would have it answered once more.
                return
            case InputTextRawFrame():
                # An assistant aggregator takes any text that comes down for the bot's.
                frame.append_to_context = False
                self._contexts.put_in(frame.text)
                self._session.ask()
            case ClientConnectedFrame():
                self._session.prewarm()
            case PipelineFlushFrame() if direction is FrameDirection.DOWNSTREAM:
                await self._session.until_replied(self._end_timeout, spare_functions=False)
            case LLMSetToolsFrame():
                self._session.set_tools(frame.tools)
            case UserMuteStoppedFrame():
                await self._dispatcher.unmuted()
            case ServiceSwitcherRequestMetadataFrame(service=service) if service is self:
                # What becomes of what was said the pipeline tells the active service only.
                self._conversation.forget_playback()
                self._contexts.on_interruption()
                self._session.miss_some()
            case LLMUpdateSettingsFrame(service=service) if service not in (None, self):
                # The base class has passed it on.
                return
            case _:
                pass
        await self.push_frame(frame, direction)

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
                self._session.run()
            self._dispatcher.see_pushed(frame)
        await super().push_frame(frame, direction)

    def _goes_to_aggregator(self, direction: FrameDirection) -> bool:
        """Whether a frame is on its way up to the service's own user aggregator."""
        return direction is FrameDirection.UPSTREAM and self._surroundings.is_below_aggregator

    def _on_user_audio(self, frame: InputAudioRawFrame) -> None:
        if self._audio_paused:
            return
        self._session.on_user_audio()
        now = self._connection.now
        chunks = self._microphone.push(frame.audio, frame.sample_rate, frame.num_channels, now=now)
        for chunk in chunks:
            self._connection.perform(self._conversation.microphone(chunk, now))

    async def _on_interruption(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Tell the conversation, and pass the frame on with nothing old behind it."""
        self._contexts.on_interruption()
        async with self._connection.between_effects():
            self._dispatcher.on_interruption()
            await let_neighbours_run()
            await self.push_frame(frame, direction)

    #
    # Hooks of the base class
    #

    @override
    def _service_tools(self) -> ToolsSchema | list[Any] | None:
        return self._in_force.own_tools

    @override
    async def _handle_interruptions(self, _: InterruptionFrame) -> None:
        """Do nothing: the dispatcher knows which functions to cancel, and when."""

    @override
    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:
        changed = await super()._update_settings(delta)
        if changed.keys() & {"model", "voice"}:
            self._warn_about_settings()
        self._warn_unhandled_updated_settings(changed.keys() - _HANDLED_SETTINGS)
        self._session.replace_if_outdated()
        return changed

    @override
    def _compose_system_instruction(self):
        super()._compose_system_instruction()
        self._session.replace_if_outdated()

    def _warn_about_settings(self) -> None:
        for warning in settings_warnings(self._settings):
            logger.warning(f"{self}: {warning}")
