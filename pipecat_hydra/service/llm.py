"""Hydra as a Pipecat service: Pipecat's frames and hooks on one side, a conversation on the other.

The service hands on and decides nothing. The `FrameRouter` gives each frame to the part that it
concerns. What the conversation asks for comes back through one task, in order, to the
`EffectDispatcher`, which makes frames of it. The `PipelineRun` has these parts and joins them.
"""

from ssl import SSLContext
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMConfigureOutputFrame,
    LLMContextFrame,
    LLMServiceMetadataFrame,
    LLMUpdateSettingsFrame,
    StartFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.llm_service import FunctionCallRunnerItem, LLMService
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from typing_extensions import override

from pipecat_hydra.recording.recorder import HydraRecorder
from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.arguments import Arguments, keyring_for
from pipecat_hydra.service.briefing.briefing import HistoryStyle
from pipecat_hydra.service.dispatcher import EVENTS
from pipecat_hydra.service.frame_router import FrameOfFunction
from pipecat_hydra.service.in_force import ServiceTools
from pipecat_hydra.service.keypad import KeypadUse
from pipecat_hydra.service.phrases import FixedPhrases
from pipecat_hydra.service.pipecat_versions import ToolsSchema
from pipecat_hydra.service.pipeline_run import PipelineRun
from pipecat_hydra.service.results import as_json
from pipecat_hydra.service.settings import HydraLLMSettings, settings_warnings, useless_settings
from pipecat_hydra.service.turns import TurnFrames
from pipecat_hydra.service.user_audio import SpeakerPolicy
from pipecat_hydra.session.capacity import Capacity
from pipecat_hydra.session.endpoint import PROXY_OF_ENVIRONMENT, AuthStyle
from pipecat_hydra.session.keys import KeySource
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.wire.events import MessageRole
from pipecat_hydra.wire.protocol import CONFIGURATION_WARNING_BYTES

__all__ = ["HydraLLMService", "TurnFrames"]

_HANDLED_SETTINGS = {"model", "voice", "system_instruction", "generate_initial_response"}


class HydraLLMService(LLMService[HydraLLMAdapter]):
    """Smallest AI's Hydra, a realtime speech-to-speech model, as a Pipecat service.

    Takes `InputAudioRawFrame`s of any rate and channel count. Gives the model's speech as
    `TTSAudioRawFrame`s at the rate that the server negotiates, the turn and interruption frames of
    the server's VAD, text frames where Hydra sends transcripts, and function calls.

    It works in pipelines with context aggregators and without::

        [transport.input(), user_aggregator, llm, transport.output(), assistant_aggregator]
        [transport.input(), llm, transport.output()]

    With aggregators it proposes user turns, and the application's turn strategies decide whether to
    interrupt; it recommends `ExternalUserTurnStrategies`. Without, it announces the turns and
    interrupts by itself. It looks at the pipeline to see which applies; `turn_frames` forces it.

    The socket is opened when the pipeline is set up. The session is configured, which can be done
    only once, when it is first used: by an `LLMRunFrame`, after which the model speaks first, or by
    the user's audio. What the user says until then is kept and sent.

    A connection that is lost is reported by one error frame, which leaves the service usable, and
    is opened again; the new session is told what was said, and hears again what it had not
    answered. A key that is refused, a configuration that is rejected, and attempts that are used up
    leave the service unusable, with one permanent error.

    Event handlers, besides those of `LLMService`:

    - `on_connected(service)`: a connection is open.
    - `on_session_started(service, session_id)`: Hydra has opened a session.
    - `on_session_ended(service, seconds)`: a session is over, after so long, however it ended.
    - `on_disconnected(service, reason)`: the connection is closed, whoever closed it.
    - `on_reconnecting(service, attempt, delay_secs)`: a connection that was lost, or could not be
      had, is tried again after a delay.
    - `on_capacity(service, attempt, delay_secs)`: the same, for Hydra is full.
    - `on_capacity_position(service, position)`: the call waits for a place of its `capacity`, and
      is so far from the head of the queue, where the position is 1; with each change.
    - `on_reconnected(service, state_restored)`: there is a session again. `state_restored` tells
      whether it knows all that was said; Hydra gives no transcript of the user, so it can only be
      true if an STT service does, or nobody has spoken yet.
    - `on_given_up(service, reason)`: there is no session and will be none.
    - `on_call_limit(service, secs_left)`: the call ends by `max_call_secs` in so many seconds, 10
      or half of a shorter limit; time to say goodbye. What the bot says then is heard to its end.
    - `on_turn_discarded(service)`: the user's last turn was noise; what it interrupted goes on.
    - `on_function_call_arguments_delta(service, call_id, name, fragment)`: of a call in progress.
    - `on_tool_loop(service, rounds, functions)`: the model has called functions so many times in a
      row with nothing said, the last time these.

    Example::

        llm = HydraLLMService(voice="aria", instructions="You are a concise voice assistant.")
    """

    Settings = HydraLLMSettings
    # Pipecat's services all narrow these types.
    _settings: HydraLLMSettings  # pyright: ignore[reportIncompatibleVariableOverride]
    adapter_class: type[HydraLLMAdapter] = HydraLLMAdapter  # pyright: ignore

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
        context_limit_bytes: int | None = CONFIGURATION_WARNING_BYTES,
        context_warning_bytes: int | None = 12_000,
        vad_frames: bool = False,
        fixed_phrases: FixedPhrases = "model",
        keypad: KeypadUse = "text",
        resume_after_noise: bool = True,
        joined_audio_secs: float = 0.2,
        speakers: SpeakerPolicy = "mix",
        start_audio_paused: bool = False,
        audio_passthrough: bool | None = None,
        open_timeout_secs: float = 10.0,
        handshake_timeout_secs: float = 10.0,
        kickoff_timeout_secs: float = 1.0,
        end_timeout_secs: float = 30.0,
        preroll_secs: float = 10.0,
        unused_timeout_secs: float | None = 20.0,
        idle_timeout_secs: float | None = 300.0,
        max_session_secs: float | None = None,
        max_call_secs: float | None = None,
        no_result_timeout_secs: float | None = 5.0,
        max_tool_rounds: int | None = None,
        longest_turn_secs: float = 60.0,
        retry: RetryPolicy | None = None,
        capacity: Capacity | None = None,
        recorder: HydraRecorder | None = None,
        **kwargs: Any,
    ):
        """Initialize the Hydra service.

        Args:
            api_key: The Smallest AI key or a short-lived `wat_…` token; or a coroutine function
                that gives one for each connection. By default the environment's `SMALLEST_API_KEY`.
            base_url: The endpoint, `wss://` or `ws://`, without query. By default the environment's
                `HYDRA_BASE_URL`, else the public endpoint.
            settings: Model, voice, instructions; what is not given has a default.
            model: The same as `Settings(model=...)`.
            voice: The same as `Settings(voice=...)`.
            system_instruction: The same as `Settings(system_instruction=...)`.
            instructions: Another name of `system_instruction`.
            tools: Functions that the model may call. The tools of a context, if there is one, win.
            auth: Where the key goes: `"query"`, as documented, or `"header"` (`Authorization`).
            ssl: Which certificates are trusted; Python's default if None.
            proxy: URL of the proxy to go through, None for none. By default `"environment"`: the
                one that `HTTPS_PROXY` and the like name, but none to this machine.
            turn_frames: How the pipeline is told of user turns. `"propose"`: by proposed-turn
                frames, which the turn strategies of a user aggregator or `UserTurnProcessor`
                resolve. `"broadcast"`: the service announces the turns and interrupts by itself.
                `"auto"`: the first if the pipeline has such a processor, else the second.
            history: How a session is told what was said before it: in its `"instructions"`, as the
                vendor documents, where the newest turns are kept that the limit on their size has
                room for; or as message `"items"`, which is unproven.
            context_limit_bytes: How much a session may be told in all, in bytes: instructions,
                functions, history, messages, results of functions, and an estimate of what is said
                aloud, as far as its words are known. When it is near, a new session begins at a
                turn boundary, with the newest turns in half of the room that instructions and
                functions leave. None for no limit.
            context_warning_bytes: How much a session was told when one warning is logged, in bytes,
                which names the largest parts. None for no warning.
            vad_frames: Whether `VADUserStartedSpeakingFrame`s and `VADUserStoppedSpeakingFrame`s
                tell the pipeline of Hydra's VAD too: `UserBotLatencyObserver` measures from them,
                STT services end transcripts by them, RTVI clients and `pipecat eval` may ask for
                them. Not with a VAD in the pipeline.
            fixed_phrases: What becomes of a text to be spoken as it stands (`TTSSpeakFrame`, Flows'
                `tts_say` and `end_conversation`) where no TTS service in the pipeline speaks it.
                `"model"`: the model is asked to say it, perhaps not word for word, with one
                warning. `"warn"`: it is dropped, with one warning; `"ignore"`: without.
            keypad: What becomes of the keys that the user presses on a telephone or in an RTVI
                client. `"text"`: the first one interrupts the bot, and Hydra is told all of them as
                a text of the user, "DTMF: 123#", and answers; they are complete at `#`, or 2 s
                after the last one, unless a `DTMFAggregator` in the pipeline has other rules.
                `"ignore"`: nothing, and the bot is not interrupted either.
            resume_after_noise: Whether a reply that noise interrupted is heard to its end, from a
                little before where it stopped.
            joined_audio_secs: How long the frames of reply audio become, in seconds, by joining,
                while the listener has 0.15 s or more still to hear; 0 for a frame for each delta.
            speakers: Whom Hydra hears of several people at a time: `"mix"`, all of them; `"first"`,
                the one that was heard first, until no audio has come of that one for five seconds.
            start_audio_paused: Whether to start with the user's audio paused.
            audio_passthrough: Whether the user's audio is passed on down. None: unless only output
                transports and assistant aggregators of Pipecat get it, which do not use it.
            open_timeout_secs: How many seconds connecting may take.
            handshake_timeout_secs: How many seconds creating, and configuring, a session may take.
            kickoff_timeout_secs: How long to wait, in seconds from the user's first audio, for an
                `LLMRunFrame` before the session is configured without a greeting; not when the user
                speaks, or the settings say who speaks first. Audio is kept meanwhile.
            end_timeout_secs: How many seconds an `EndFrame` or a flush may wait for a reply's rest.
            preroll_secs: How many seconds of the user's audio are kept that cannot be sent, or may
                have to be sent again; the newest are kept.
            unused_timeout_secs: How many seconds a session is kept open that nobody uses yet; the
                first use opens another. None for ever.
            idle_timeout_secs: How long a session is kept open, in seconds, in which nobody says
                anything: the microphone hears silence or is muted, and no reply comes. It is
                opened again, and told what was said, when somebody does. None for ever.
            max_session_secs: How long a session may be open, in seconds. A while before, a fifth
                of it or a minute, another one that is told what was said follows at a turn
                boundary, which nobody hears; at the limit at once, as after a loss. None for ever.
            max_call_secs: How long the call may last, in seconds from the first use of the service
                on. `on_call_limit` comes before, and then the pipeline is ended. None for ever.
            no_result_timeout_secs: How many seconds a call waits for a result once its function has
                returned without one. Then Hydra is told there is none, and a later result as text.
                None until the user speaks, for clients that answer late by RTVI.
            max_tool_rounds: How many rounds of calls the model may make in a row while nothing is
                said. The functions of the next round are not run: each call is answered with an
                error that asks the model to speak. If it calls all the same, it is asked to go on
                no more until the user speaks. None for any number.
            longest_turn_secs: How long the user may speak without a pause, in seconds. Who is
                heard for longer, as music on hold is, counts as stopped: the model can be asked.
            retry: How often, how fast and how long a lost session is tried again: `RetryPolicy`.
            capacity: Gives each session a place under a cap that many calls share, or lets it wait,
                as a `RedisCapacity`. By default Hydra alone says when it is full.
            recorder: Records each call; by default to the folder that the environment's
                `HYDRA_RECORD` names, if it does.
            **kwargs: Arguments of `LLMService`.

        Raises:
            TypeError: If an argument is unknown, or of the wrong type.
            ValueError: If there is no key, `base_url` is no WebSocket URL, an argument is none of
                its choices or out of its bounds, or says other than the settings.
        """
        keyring = keyring_for(api_key)
        # Of what fails below, a traceback that shows local variables must show no key.
        del api_key
        arguments = Arguments.checked(type(self), HydraLLMService.__init__, locals())
        super().__init__(settings=arguments.settings, **kwargs)
        self._arguments = arguments
        self._run = PipelineRun(self, arguments)
        for event in EVENTS:
            self._register_event_handler(event)
        self._warn_about_settings()
        if useless := useless_settings(arguments.settings):
            logger.warning(f"{self}: Hydra has no {', '.join(useless)}: no effect")

    def can_generate_metrics(self) -> bool:
        """Whether the service can generate metrics: it can."""
        return True

    def set_audio_input_paused(self, paused: bool) -> None:
        """Pause or resume the user's audio; Hydra hears silence while it is paused."""
        self._run.router.is_audio_paused = paused

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
        """Put typed text into the conversation; before the pipeline has started it is kept.

        That Hydra takes text messages is unproven (protocol §4).

        Args:
            text: The text.
            role: Whose it is.
            respond: Whether the model shall answer it. A reply in flight is finished
                first; if the user is speaking, the answer to that answers both.
            interrupt: Whether to interrupt the bot first.
        """
        run = self._run
        if not run.is_running:
            run.postpone(lambda: self.send_text(text, role=role, respond=respond))
            return
        if interrupt:
            # One request, which follows the text, answers what waited too.
            await run.dispatcher.cancel_response(ask=not respond)
        if run.contexts.put_in(text, role) and respond:
            run.session.ask()

    async def request_response(self) -> None:
        """Have the model speak: once the pipeline has started, and no reply is in flight."""
        self._run.when_running(self._run.session.ask)

    async def cancel_response(self) -> None:
        """Stop the reply in flight, at Hydra and in what is being played."""
        await self._run.dispatcher.cancel_response()

    async def reset_conversation(self) -> None:
        """Begin a new session that knows nothing of the conversation but what the context has now.

        It begins at the next turn boundary, where nobody speaks and no function runs; call
        `cancel_response` before to stop a reply in flight. This does not wait for it, so a function
        may await it. It gives a reply that is asked for afterwards.
        """
        self._run.when_running(self._run.session.reset_conversation)

    async def renew_session(self) -> None:
        """Begin a new session that is told the conversation so far.

        Hydra gives no transcript of the user, so the new session knows the user's words only if an
        STT service puts them into the context. It begins at the next turn boundary.
        """
        self._run.when_running(self._run.session.renew_session)

    # Lifecycle

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Set up the service; nothing is left of an earlier run of a pipeline but the settings."""
        is_used = self._run.has_ended
        if is_used:
            self._run = PipelineRun(self, self._arguments)
            self._cancelling = False
        await super().setup(setup)
        if is_used:
            # What has made it unusable may have been of the last run only.
            await self.set_usable(True)
        self._run.observe(setup)
        self._run.connection.prewarm()

    async def start(self, frame: StartFrame) -> None:
        """Do what was asked for before there was a pipeline."""
        await super().start(frame)
        await self._run.begin()

    async def stop(self, frame: EndFrame) -> None:
        """Let the reply in flight be received whole, then close the session."""
        await super().stop(frame)
        if not await self._run.replies.until_replied(self._arguments.end_timeout_secs):
            logger.warning(f"{self}: ended before Hydra's reply was received whole")
        await self._run.end(drain=True)

    async def cancel(self, frame: CancelFrame) -> None:
        """Close the session at once."""
        await super().cancel(frame)
        await self._run.end(drain=False)

    async def cleanup(self) -> None:
        """Release everything, however the pipeline ended."""
        await self._run.end(drain=False)
        await super().cleanup()
        await self._run.release()

    # Frames

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Hand a frame to the part of the service that it concerns, and pass it on."""
        run = self._run
        if isinstance(frame, InputAudioRawFrame):
            # First, because it comes fifty times a second.
            await super().process_frame(frame, direction)
            if run.router.hear(frame):
                await self.push_frame(frame, direction)
            return
        if isinstance(frame, InterruptionFrame):
            if run.keypad.stops_interruption(direction):
                return
            # Which passes it on.
            await run.router.interrupt(frame, direction)
            await super().process_frame(frame, direction)
            return
        if isinstance(frame, LLMConfigureOutputFrame):
            # The base class would mark each text frame by it, whoever is to speak the text.
            run.dispatcher.turn_speech(off=frame.skip_tts)
        elif not (
            isinstance(frame, LLMContextFrame) and run.surroundings.is_foreign(frame.context)
        ):
            # The base class would put the functions of a foreign context in the place of ours.
            await super().process_frame(frame, direction)
            await run.router.take(frame, direction)
        if isinstance(frame, LLMUpdateSettingsFrame) and frame.service not in (None, self):
            # The base class has passed it on.
            return
        await self.push_frame(frame, direction)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Push a frame; on the way Hydra is told what a function call came to, and phrases."""
        if isinstance(frame, TTSSpeakFrame) and self._run.phrases.take(frame, direction):
            return
        if isinstance(frame, FunctionCallResultFrame):
            # A context can write nothing else.
            frame.result = as_json(frame.result)
        if (recording := self._run.recording) is not None:
            recording.see_frame(frame)
        if isinstance(frame, FrameOfFunction) and direction is FrameDirection.DOWNSTREAM:
            self._run.router.see_pushed(frame)
        await super().push_frame(frame, direction)

    @override
    def _service_tools(self) -> ToolsSchema | list[Any] | None:
        return self._run.in_force.own_tools

    @override
    async def _run_function_call(self, runner_item: FunctionCallRunnerItem):
        running = super()._run_function_call(runner_item)
        await self._run.dispatcher.run_function(runner_item, running)

    @override
    async def _handle_interruptions(self, _: InterruptionFrame) -> None:
        """Do nothing: the dispatcher knows which functions to cancel, and when."""

    @override
    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:
        changed = await super()._update_settings(self._run.turn_completion.without(delta))
        if changed.keys() & {"model", "voice"}:
            self._warn_about_settings()
        self._warn_unhandled_updated_settings(changed.keys() - _HANDLED_SETTINGS)
        if self._run.recording is not None:
            self._run.recording.settings_changed(changed)
        self._run.session.replace_if_outdated()
        return changed

    @override
    def _compose_system_instruction(self):
        super()._compose_system_instruction()
        self._run.session.replace_if_outdated()

    def _warn_about_settings(self) -> None:
        for warning in settings_warnings(self._settings):
            logger.warning(f"{self}: {warning}")
