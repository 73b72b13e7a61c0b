"""Hydra as a Pipecat service: Pipecat's frames and hooks on one side, a conversation on the other.

The service decides nothing about the protocol. Frames become steps of the
`Conversation`; the effects that come back become frames. They come back through one
task, in order, so frames of a reply are pushed from one place only.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, Literal

from loguru import logger
from pipecat.adapters.llm.schemas.direct_function import DirectFunction
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    CancelFrame,
    ClientConnectedFrame,
    EndFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMServiceMetadataFrame,
    LLMSetToolsFrame,
    LLMTextFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.text.base_text_aggregator import TextType
from pipecat.utils.types import assert_given, is_given
from pydantic import SecretStr
from typing_extensions import override

from pipecat_hydra.adapter import HydraLLMAdapter
from pipecat_hydra.audio import MicrophoneAudio
from pipecat_hydra.connection import HydraConnection
from pipecat_hydra.conversation import Conversation
from pipecat_hydra.effects import (
    AudioChunk,
    FailureKind,
    Flush,
    Lost,
    PipelineEffect,
    Ready,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    SessionStarted,
    Severity,
    TextChunk,
    ToolCall,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.events import SessionConfiguration, Usage
from pipecat_hydra.pipeline import has_turn_strategies, shared_context
from pipecat_hydra.protocol import (
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    MODELS,
    UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE,
    ErrorCode,
)
from pipecat_hydra.settings import (
    HydraLLMSettings,
    complete_settings,
    default_voice,
    voice_warning,
)
from pipecat_hydra.uplink import Uplink
from pipecat_hydra.websocket import AuthStyle, Endpoint

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

_STALL_SECS = 5.0


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
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        settings: HydraLLMSettings | None = None,
        tools: ToolsSchema | Sequence[FunctionSchema | DirectFunction] | None = None,
        auth: AuthStyle = "query",
        turn_frames: TurnFrames = "auto",
        start_audio_paused: bool = False,
        open_timeout_secs: float = 10.0,
        handshake_timeout_secs: float = 10.0,
        kickoff_timeout_secs: float = 1.0,
        end_timeout_secs: float = 30.0,
        preroll_secs: float = 10.0,
        **kwargs: Any,
    ):
        """Initialize the Hydra service.

        Args:
            api_key: The Smallest AI key, or a short-lived `wat_…` token.
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
                it cannot be sent; beyond it the newest is kept.
            **kwargs: Arguments of `LLMService`.

        Raises:
            ValueError: If the key is empty or `base_url` is no WebSocket URL.
        """
        if not api_key:
            raise ValueError("api_key is empty: set SMALLEST_API_KEY, or use HydraEmulator")
        complete = complete_settings(settings)
        model = assert_given(complete.model) or DEFAULT_MODEL
        endpoint = Endpoint(base_url, model, SecretStr(api_key), auth)
        super().__init__(settings=complete, **kwargs)

        self._tools = tools if tools is None or isinstance(tools, ToolsSchema) else list(tools)
        self._turn_frames: TurnFrames = turn_frames
        self._decided_turn_frames: TurnFrames | None = None
        self._audio_paused = start_audio_paused
        self._kickoff_timeout = kickoff_timeout_secs
        self._end_timeout = end_timeout_secs
        self._microphone = MicrophoneAudio()
        self._conversation = Conversation(
            model=model,
            uplink=Uplink(preroll_secs=preroll_secs),
            handshake_timeout_secs=handshake_timeout_secs,
        )
        self._connection = HydraConnection(
            endpoint,
            self._conversation,
            on_effect=self._on_effect,
            open_timeout_secs=open_timeout_secs,
        )
        self._context: LLMContext | None = None
        self._configured = False
        self._given_up = False
        self._user_was_heard = False
        self._kickoff_timer: asyncio.TimerHandle | None = None
        self._reply_progress = asyncio.Event()
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

    #
    # Lifecycle
    #

    async def setup(self, setup: FrameProcessorSetup):
        """Set up the service and begin to connect, in the background.

        Args:
            setup: The pipeline's configuration.
        """
        await super().setup(setup)
        self._connection.open()

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
        await self._connection.close(drain=drain)

    async def _wait_for_reply(self) -> None:
        """Wait until no reply is in flight, but not for one that has stalled."""
        deadline = self._connection.now + self._end_timeout
        while self._connection.is_open and self._conversation.reply_pending:
            remaining = min(deadline - self._connection.now, _STALL_SECS)
            self._reply_progress.clear()
            try:
                await asyncio.wait_for(self._reply_progress.wait(), remaining)
            except TimeoutError:
                logger.warning(f"{self}: ended before Hydra's reply was received whole")
                return

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
            await super().process_frame(frame, direction)
            await self._on_interruption(frame, direction)
            return
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._on_user_audio(frame)
        elif isinstance(frame, LLMContextFrame):
            self._on_context(frame.context)
        elif isinstance(frame, LLMRunFrame):
            self._run(first=True)
        elif isinstance(frame, ClientConnectedFrame):
            self._open()
        elif isinstance(frame, LLMSetToolsFrame):
            self._on_tools(frame)
        await self.push_frame(frame, direction)

    def _on_user_audio(self, frame: InputAudioRawFrame) -> None:
        if self._audio_paused:
            return
        if not self._configured:
            self._first_used()
        for chunk in self._microphone.push(frame.audio, frame.sample_rate, frame.num_channels):
            self._connection.perform(self._conversation.microphone(chunk, self._connection.now))

    async def _on_interruption(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Tell the conversation, and pass the frame on with nothing old behind it."""
        async with self._connection.between_effects():
            self._connection.perform(self._conversation.interrupted(self._connection.now))
            await self.push_frame(frame, direction)

    def _on_context(self, context: LLMContext) -> None:
        first = self._context is None
        self._context = context
        self._run(first=first)

    def _on_tools(self, frame: LLMSetToolsFrame) -> None:
        """Put other tools in force; an aggregator has put them in its context before."""
        self._sync_registered_tool_handlers(frame.tools)
        if self._known_context() is None:
            self._tools = frame.tools if is_given(frame.tools) else None
        self._update_tools()

    #
    # Configuring
    #

    def _open(self) -> None:
        """Have a connection, unless it is known that none can be had."""
        if not self._given_up:
            self._connection.open()

    def _first_used(self) -> None:
        """The user's audio flows: configure now, or soon if a greeting may be asked for."""
        self._open()
        if assert_given(self._settings.generate_initial_response) is not None:
            self._configure(greet=False)
        elif self._kickoff_timer is None:
            loop = asyncio.get_running_loop()
            self._kickoff_timer = loop.call_later(self._kickoff_timeout, self._configure)

    def _run(self, *, first: bool) -> None:
        """The pipeline wants the model to speak."""
        self._open()
        if not self._configured:
            self._configure(greet=True)
        elif first and not self._user_was_heard:
            # It was configured before the greeting was asked for. Whether Hydra honours
            # this is open (protocol §4); once the user has spoken, it answers anyway.
            self._update_tools()
            now = self._connection.now
            self._connection.perform(self._conversation.request_response(now))

    def _configure(self, *, greet: bool = False) -> None:
        """Say what the session shall be, with all that is known by now."""
        self._cancel_kickoff_timer()
        if self._configured:
            return
        self._configured = True
        always = assert_given(self._settings.generate_initial_response)
        context = self._known_context()
        # A context that came by a frame has been synced; one that was looked up has not.
        self._sync_registered_tool_handlers(context.tools if context is not None else None)
        params = self.get_llm_adapter().session_params(
            context,
            system_instruction=assert_given(self._settings.system_instruction),
            service_tools=self._tool_schema(),
        )
        configuration = SessionConfiguration(
            instructions=params["system_instruction"],
            voice=self._voice,
            tools=params["tools"] or None,
            generate_initial_response=greet if always is None else always,
        )
        self._connection.perform(self._conversation.configure(configuration, self._connection.now))

    def _update_tools(self) -> None:
        params = self.get_llm_adapter().session_params(
            self._known_context(), service_tools=self._tool_schema()
        )
        self._connection.perform(
            self._conversation.update_tools(params["tools"], self._connection.now)
        )

    @override
    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:
        changed = await super()._update_settings(delta)
        # Hydra takes instructions and voice once, the model with the connection.
        frozen = changed.keys() if self._configured else changed.keys() & {"model"}
        self._warn_unhandled_updated_settings(frozen)
        return changed

    def _known_context(self) -> LLMContext | None:
        return self._context or shared_context(self.pipeline_worker.pipeline)

    def _tool_schema(self) -> ToolsSchema | None:
        return ToolsSchema(self._tools) if isinstance(self._tools, list) else self._tools

    def _cancel_kickoff_timer(self) -> None:
        if self._kickoff_timer is not None:
            self._kickoff_timer.cancel()
            self._kickoff_timer = None

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
        match effect:
            case AudioChunk(pcm):
                await self._push_audio(pcm)
            case TextChunk(text):
                await self._push_text(text)
            case UserStarted():
                await self._announce_user_started()
            case UserStopped():
                await self._announce_user_stopped()
            case Flush():
                await self._interrupt()
            case ReplyStarted():
                await self.push_frame(LLMFullResponseStartFrame())
            case VoiceStarted():
                await self._report_ttfb(effect.waited)
                await self.push_frame(TTSStartedFrame())
            case VoiceEnded():
                await self.push_frame(TTSStoppedFrame())
            case ReplyEnded():
                await self.push_frame(LLMFullResponseEndFrame())
            case ResponseFinished():
                await self._report_finished(effect)
            case ToolCall():
                await self._run_tool(effect)
            case SessionStarted(session_id):
                logger.debug(f"{self}: Hydra session {session_id} opened")
            case Ready(_, rate):
                logger.debug(f"{self}: Hydra is ready: {self._model}, {self._voice}, {rate} Hz")
            case Report():
                await self._report(effect)
            case Lost():
                await self._report_loss(effect)
        self._reply_progress.set()

    async def _push_audio(self, pcm: bytes) -> None:
        rate = self._conversation.output_sample_rate or UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE
        frame = TTSAudioRawFrame(audio=pcm, sample_rate=rate, num_channels=1)
        await self.process_ttfa_metrics(frame)
        await self.push_frame(frame)

    async def _push_text(self, text: str) -> None:
        # For RTVI's bot-llm-text; the aggregator records the TTSTextFrame.
        llm_text = LLMTextFrame(text)
        llm_text.append_to_context = False
        await self.push_frame(llm_text)
        spoken = TTSTextFrame(text, text_type=TextType.SENTENCE)
        spoken.includes_inter_frame_spaces = True
        await self.push_frame(spoken)

    async def _announce_user_started(self) -> None:
        self._user_was_heard = True
        if self._proposes_turns:
            await self.broadcast_frame(ProposedUserStartedSpeakingFrame)
            return
        await self.broadcast_frame(UserStartedSpeakingFrame)
        await self._interrupt()
        # The echo of what was announced, which a broadcast does not bring back here.
        self._connection.perform(self._conversation.interrupted(self._connection.now))

    async def _announce_user_stopped(self) -> None:
        if self._proposes_turns:
            await self.broadcast_frame(ProposedUserStoppedSpeakingFrame)
        else:
            await self.broadcast_frame(UserStoppedSpeakingFrame)

    async def _interrupt(self) -> None:
        """Interrupt the pipeline ourselves."""
        # A neighbour that has not run since the last audio was pushed would take the
        # interruption first and that audio after it.
        await asyncio.sleep(0)
        frame = InterruptionFrame()
        # The broadcast goes to the neighbours only, so the base class does not see it.
        await self._handle_interruptions(frame)
        await self.broadcast_interruption()

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

    async def _run_tool(self, call: ToolCall) -> None:
        try:
            arguments: Any = json.loads(call.arguments or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            logger.warning(f"{self}: the arguments of {call.name!r} are no JSON object")
            self._answer(call.call_id, "The arguments are not a JSON object.")
            return
        await self.run_function_calls(
            [
                FunctionCallFromLLM(
                    function_name=call.name,
                    tool_call_id=call.call_id,
                    arguments=arguments,
                    context=self._context,
                )
            ]
        )

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM):
        """Push a frame; what a function call came to is told to Hydra on the way.

        Args:
            frame: The frame.
            direction: Where it is going.
        """
        if direction == FrameDirection.DOWNSTREAM:
            if isinstance(frame, FunctionCallResultFrame):
                self._answer(frame.tool_call_id, _result_text(frame.result))
            elif isinstance(frame, FunctionCallCancelFrame):
                self._answer(frame.tool_call_id, "CANCELLED", respond=frame.run_llm)
        await super().push_frame(frame, direction)

    def _answer(self, call_id: str, output: str, *, respond: bool = True) -> None:
        now = self._connection.now
        self._connection.perform(
            self._conversation.answer_call(call_id, output, now, respond=respond)
        )

    #
    # Metrics and reports
    #

    async def _report_ttfb(self, waited: float | None) -> None:
        # Started and stopped in one go: a measurement that runs would be reported,
        # wrongly, by whatever interrupts it.
        if waited is not None:
            await self.start_ttfb_metrics(start_time=time.time() - waited)
            await self.stop_ttfb_metrics()

    async def _report_finished(self, finished: ResponseFinished) -> None:
        if finished.took is not None:
            await self.start_processing_metrics(start_time=time.time() - finished.took)
            await self.stop_processing_metrics()
        if finished.usage is not None:
            await self.start_llm_usage_metrics(_token_usage(finished.usage))

    async def _report(self, report: Report) -> None:
        match report.severity:
            case Severity.INFO:
                logger.debug(f"{self}: {report.message}")
            case Severity.WARNING:
                logger.warning(f"{self}: {report.message}")
            case Severity.ERROR:
                category = _REPORT_CATEGORIES.get(report.code or "", ErrorCategory.UNKNOWN)
                await self.push_error(report.message, category=category)

    async def _report_loss(self, lost: Lost) -> None:
        self._cancel_kickoff_timer()
        if lost.kind is FailureKind.ENDED and not lost.configured:
            # Nobody has used it yet; it is opened again when somebody does.
            logger.debug(f"{self}: {lost.message}, unused")
            return
        self._given_up = True
        await self.push_error(
            lost.message, category=_CATEGORIES[lost.kind], force_treat_as_permanent=True
        )


def _result_text(result: Any) -> str:
    if result is None:
        return "COMPLETED"
    return json.dumps(result, ensure_ascii=False, default=str)


def _token_usage(usage: Usage) -> LLMTokenUsage:
    read, generated = usage.input_tokens or 0, usage.output_tokens or 0
    return LLMTokenUsage(
        prompt_tokens=read,
        completion_tokens=generated,
        total_tokens=usage.total_tokens or read + generated,
    )
