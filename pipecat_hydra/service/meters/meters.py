"""Measures a service: records what happens in it with the instruments of the application."""

from collections.abc import Callable
from typing import Final

from pipecat_hydra.conversation.effects import (
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Queued,
    Ready,
    ResponseFinished,
    Retrying,
    SessionStarted,
    ToolCalls,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceStarted,
)
from pipecat_hydra.service.harmless import harmless
from pipecat_hydra.service.meters.instruments import Instruments, instruments_of_application
from pipecat_hydra.service.meters.turn_times import TurnTimes
from pipecat_hydra.service.outcomes import Settling, outcome_of
from pipecat_hydra.session.websocket import Traffic
from pipecat_hydra.wire.events import Usage

__all__ = ["Meters"]

# The same as in the spans.
_PROVIDER: Final = "smallest"
# The conventions' name for a value that is none of the known ones.
_OTHER: Final = "_OTHER"

_Attributes = dict[str, str]


class Meters:
    """Measures one run of a pipeline. After `begin`, `close` must be called."""

    def __init__(
        self,
        *,
        model: Callable[[], str],
        clock: Callable[[], float],
        traffic: Traffic,
        knows_function: Callable[[str], bool],
    ):
        """Create meters that do nothing until `begin`.

        Args:
            model: Returns the model that is asked for.
            clock: Returns the time, in seconds.
            traffic: The bytes that were sent and received so far.
            knows_function: Returns whether the application has a function of this name. The model
                may call others, by any name.
        """
        self._model = model
        self._clock = clock
        self._traffic = traffic
        self._knows_function = knows_function
        self._instruments: Instruments | None = None
        self._times = TurnTimes()
        # The function and the time of each call that is open.
        self._calls: dict[str, tuple[str, float]] = {}
        # What is said of all measurements of the session that is open; None if none is.
        self._session: _Attributes | None = None
        self._lost_by: FailureKind | None = None
        self._bytes_told = (0, 0)

    @property
    def enabled(self) -> bool:
        """Whether anything is measured."""
        return self._instruments is not None

    def begin(self) -> None:
        """Measure from now on, if the application has set a `MeterProvider`."""
        self._instruments = instruments_of_application()
        self._show_counters()

    @harmless
    def close(self) -> None:
        """Measure nothing any more. Idempotent."""
        self._tell_bytes()
        self._end_session()
        self._instruments = None

    @harmless
    def see(self, effect: PipelineEffect) -> None:
        """Record an effect; those that come with each piece of audio or text need not be shown."""
        match effect:
            case SessionStarted():
                self._begin_session()
            case Ready():
                self._end_loss()
            case Lost(kind):
                self._lost_by = kind
            case Queued(_, begins=True) | Retrying(_, _, FailureKind.CAPACITY):
                self._made.capacity_waits.add(1, self._about())
            case GivenUp(kind):
                self._lost_by = None
                self._made.given_up.add(1, self._about({"error.type": kind.value}))
            case UserStarted():
                self._times.user_started(self._clock())
            case UserStopped(discarded, silence_secs) if not discarded:
                self._tell_answer(self._times.user_stopped(self._clock(), silence_secs))
            case TurnDiscarded():
                self._times.turn_discarded()
                self._made.discarded_turns.add(1, self._about())
            case VoiceStarted(_, waited) if waited is not None:
                self._made.first_audio.record(waited, self._about())
            case ToolCalls(_, calls):
                now = self._clock()
                self._calls |= {call.call_id: (call.name, now) for call in calls}
            case ResponseFinished(_, _, usage):
                self._tell_tokens(usage)
                self._tell_bytes()
            case _:
                pass

    @harmless
    def session_ended(self, secs: float) -> None:
        """Record how long a session was open, in seconds."""
        self._tell_bytes()
        self._made.session_duration.record(secs, self._about())
        self._end_session()

    @harmless
    def bot_started(self) -> None:
        """Record that the bot begins to be heard."""
        self._tell_answer(self._times.bot_started(self._clock()))

    @harmless
    def bot_stopped(self) -> None:
        """Record that the bot is not heard any more."""
        silence = self._times.bot_stopped(self._clock())
        if silence is not None:
            self._made.barge_in_silence.record(silence, self._about())

    @harmless
    def refuse(self, call_id: str, kind: str) -> None:
        """Record that a function is not called.

        Args:
            call_id: The call.
            kind: The class of error.
        """
        self._end_call(call_id, kind)

    @harmless
    def settle(self, frame: Settling) -> None:
        """Record that a function returned a result, failed, timed out or was cancelled."""
        outcome = outcome_of(frame)
        if outcome is not None:
            # The type of an error may be any text of the application's.
            error = None if outcome.status == "completed" else outcome.status
            self._end_call(frame.tool_call_id, error)

    @property
    def _made(self) -> Instruments:
        assert self._instruments is not None, "measures nothing"
        return self._instruments

    def _about(self, more: _Attributes | None = None) -> _Attributes:
        """Return the attributes of a measurement."""
        session = {"gen_ai.provider.name": _PROVIDER, "gen_ai.request.model": self._model()}
        return (self._session or session) | (more or {})

    @harmless
    def _show_counters(self) -> None:
        """Begin the counters at 0: a counter that begins at 1 has risen by nothing."""
        for counter in (self._made.discarded_turns, self._made.capacity_waits):
            counter.add(0, self._about())
        for kind in FailureKind:
            about = self._about({"error.type": kind.value})
            self._made.given_up.add(0, about)
            if not kind.final:
                self._made.reconnects.add(0, about)

    def _begin_session(self) -> None:
        if self._session is None:
            # The next session may be for another model, which is asked for before this one ends.
            self._session = self._about()
            self._made.active_sessions.add(1, self._session)

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._made.active_sessions.add(-1, session)

    def _end_loss(self) -> None:
        lost_by, self._lost_by = self._lost_by, None
        if lost_by is not None:
            self._made.reconnects.add(1, self._about({"error.type": lost_by.value}))

    def _tell_answer(self, secs: float | None) -> None:
        if secs is not None:
            self._made.turn_latency.record(secs, self._about())

    def _end_call(self, call_id: str, error: str | None) -> None:
        name, began_at = self._calls.pop(call_id, ("", None))
        if began_at is None:
            return
        about = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name if self._knows_function(name) else _OTHER,
        }
        if error is not None:
            about["error.type"] = error
        self._made.tool_duration.record(self._clock() - began_at, self._about(about))

    def _tell_tokens(self, usage: Usage | None) -> None:
        if usage is None:
            return
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count is not None:
                about = {"gen_ai.operation.name": "chat", "gen_ai.token.type": kind}
                self._made.tokens.record(count, self._about(about))

    def _tell_bytes(self) -> None:
        """Count the bytes that were sent and received since this was last done."""
        (sent, received), traffic = self._bytes_told, self._traffic
        self._bytes_told = (traffic.sent_bytes, traffic.received_bytes)
        for direction, count in (
            ("transmit", traffic.sent_bytes - sent),
            ("receive", traffic.received_bytes - received),
        ):
            self._made.network_io.add(count, self._about({"network.io.direction": direction}))
