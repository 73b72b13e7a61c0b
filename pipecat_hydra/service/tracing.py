"""OpenTelemetry spans of a call, in Pipecat's tree of conversation and turns.

Three kinds, named as those of Pipecat's realtime services are
(`utils/tracing/service_decorators.py`):

    llm_setup      from the first attempt to connect until the session is configured, with
                   all attempts between; again for each session that follows
    llm_response   from when a response was asked for until `response.done`, or until it was
                   interrupted, whichever is first
    llm_tool_call  from the call until its function gave its result, failed, ran out of time
                   or was cancelled

Each hangs under the turn that was open when it began, else under the conversation. A session
that is lost ends with an error what of it was open.

`Tracing` is shown what happens, by the effects that the pipeline is told and by a few calls,
and changes nothing. When a response was asked for is known for certain only once it speaks, and
how it came out once it is over. So a span is kept as a record, and made when it has ended, with
the times that it had: none can be left open. Nobody waits for that, as long as the exporter is
behind a batch processor, as Pipecat's `setup_tracing` puts it.

Attributes are those that Pipecat's helpers write, by the same names
(`utils/tracing/service_attributes.py`), those of OpenTelemetry's conventions for generative
AI, and `hydra.…` for the rest. As in Pipecat's own services, tracing at all is what an
application opts in to: then the first 500 characters of its instruction, what the bot said and
what functions took and gave are on the spans. What users say is not, for Hydra gives no
transcript of it; nor is what a session was told of the conversation before it.

OpenTelemetry is imported only if the pipeline traces.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from loguru import logger
from pipecat.frames.frames import FunctionCallCancelFrame, FunctionCallResultFrame

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Connected,
    Disconnected,
    GivenUp,
    Lost,
    PipelineEffect,
    Ready,
    ReplyEnded,
    ReplyStarted,
    ResponseFinished,
    Rested,
    Retrying,
    SessionStarted,
    TextChunk,
    ToolArguments,
    ToolCall,
    ToolCalls,
    UserStarted,
    UserStopped,
    VoiceStarted,
)
from pipecat_hydra.service.functions import result_text
from pipecat_hydra.wire.events import SessionConfiguration
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer
    from pipecat.utils.tracing.tracing_context import TracingContext

__all__ = ["Tracing"]

# The same as Pipecat's services for the vendor's other models.
_PROVIDER: Final = "smallest"
_SCOPE: Final = "pipecat_hydra"
_ENDED: Final = "the pipeline has ended"
# Pipecat cuts at these too.
_MAX_INSTRUCTIONS: Final = 500
_MAX_ARGUMENTS: Final = 1_000
_MAX_RESULT: Final = 2_000
_MAX_OPEN: Final = 64

_P = ParamSpec("_P")
_Attributes = dict[str, str | bool | int | float]


@dataclass(slots=True)
class _Span:
    """What is known of a span that is not made yet; times in nanoseconds since the epoch."""

    name: str
    operation: str
    began: int
    parent: "Context | None"
    attributes: _Attributes
    events: list[tuple[str, int, _Attributes]] = field(default_factory=list)
    ended: int | None = None


@dataclass(slots=True)
class _Response(_Span):
    id: str | None = None
    finished: int | None = None
    interrupted: bool = False
    resumed: bool = False
    audio_secs: float = 0.0
    words: list[str] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Call(_Span):
    # Whether it has been answered for now, so that it outlives its session.
    held: bool = False


def _harmless(
    method: "Callable[Concatenate[Tracing, _P], None]",
) -> "Callable[Concatenate[Tracing, _P], None]":
    """Do nothing unless the pipeline traces, and harm no call whatever goes wrong."""

    @functools.wraps(method)
    def guarded(self: "Tracing", *args: _P.args, **kwargs: _P.kwargs) -> None:
        if not self.enabled:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            logger.error(f"Hydra: tracing failed: {type(error).__name__}")
            logger.opt(exception=error).trace("Hydra: tracing failed")

    return guarded


class Tracing:
    """Makes the spans of one service. After `begin` you must `close` it."""

    def __init__(self, *, now: Callable[[], int] = time.time_ns) -> None:
        """Make one that traces nothing.

        Args:
            now: Gives the time, in nanoseconds since the epoch.
        """
        self._now = now
        self._tracer: Tracer | None = None
        self._context: TracingContext | None = None
        # Of the conversation, which may have ended when the last spans do.
        self._conversation: Context | None = None
        self._conversation_id: str | None = None
        # What is the same in all spans of a session.
        self._session: _Attributes = {}
        self._sessions = 0
        self._attempts = 0
        self._setup: _Span | None = None
        self._responses: list[_Response] = []
        self._speaking: _Response | None = None
        self._calls: dict[str, _Call] = {}
        # What was open when the session ended, until it is known whether that is an error.
        self._cut: list[_Span] = []
        self._asked_at: int | None = None
        # Spans that ended before the conversation began, with their errors.
        self._waiting: list[tuple[_Span, tuple[str, str] | None]] = []

    @property
    def enabled(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None

    def begin(self, context: "TracingContext | None") -> None:
        """Trace from now on, if OpenTelemetry is installed.

        Args:
            context: Where Pipecat tells of its conversation and turns; None if it does not.
        """
        try:
            from opentelemetry import trace
        except ImportError:
            return
        self._tracer = trace.get_tracer(_SCOPE)
        self._context = context

    @_harmless
    def close(self) -> None:
        """End all spans; nothing is traced any more. Idempotent."""
        self._cut_short(_ENDED, held_too=True)
        self._finish_cut()
        self._finish_setup(reason=_ENDED)
        self._make_waiting()
        self._tracer = None

    #
    # What the service does
    #

    @_harmless
    def connecting(self, model: str) -> None:
        """An attempt to get a session begins.

        Args:
            model: The model asked for.
        """
        self._session = {"gen_ai.request.model": model}
        self._begin_setup()
        self._attempts += 1

    @_harmless
    def configuring(self, configuration: SessionConfiguration, instruction: str | None) -> None:
        """A session is told what it shall be.

        Args:
            configuration: What it is told.
            instruction: The application's part of its instructions.
        """
        setup = self._begin_setup()
        tools = configuration.tools or ()
        setup.attributes |= {
            "tools.count": len(tools),
            "tools.available": bool(tools),
            "hydra.instructions.bytes": len((configuration.instructions or "").encode()),
            "hydra.generate_initial_response": bool(configuration.generate_initial_response),
        }
        if tools:
            setup.attributes["tools.names"] = ",".join(tool.name for tool in tools)
        if instruction:
            setup.attributes["gen_ai.system_instructions"] = instruction[:_MAX_INSTRUCTIONS]
        if configuration.voice is not None:
            self._session["voice_id"] = configuration.voice
        setup.events.append(("session.configure", self._now(), {}))

    @_harmless
    def refuse(self, call_id: str) -> None:
        """The arguments of a call are no JSON object, so its function is not called."""
        self._finish_call(call_id, "refused", error=("invalid_arguments", "not a JSON object"))

    @_harmless
    def hold(self, call_id: str) -> None:
        """A call is answered; if its function is still at work, then only for now."""
        if (call := self._calls.get(call_id)) is not None and not call.held:
            call.held = True
            call.events.append(("answered_for_now", self._now(), {}))

    @_harmless
    def settle(self, frame: FunctionCallResultFrame | FunctionCallCancelFrame) -> None:
        """A function gave its result or failed, ran out of time, or was cancelled."""
        if isinstance(frame, FunctionCallCancelFrame):
            # Only of a time limit does Pipecat have the model told.
            late = ("timeout", "the function took too long") if frame.run_llm else None
            self._finish_call(frame.tool_call_id, "timeout" if late else "cancelled", error=late)
            return
        if frame.properties is not None and not frame.properties.is_final:
            return
        if (call := self._calls.get(frame.tool_call_id)) is not None:
            call.attributes["tool.result"] = _cut_to(_MAX_RESULT, result_text(frame.result))
        # "TypeError: ..."
        failed = (frame.error.partition(":")[0], frame.error) if frame.error else None
        self._finish_call(frame.tool_call_id, "error" if failed else "completed", error=failed)

    #
    # What the pipeline is told
    #

    @_harmless
    def see(self, effect: PipelineEffect) -> None:
        """Take note of an effect, in order."""
        match effect:
            case AudioChunk(pcm, rate):
                if self._speaking is not None:
                    self._speaking.audio_secs += len(pcm) / BYTES_PER_SAMPLE / rate
            case TextChunk(text):
                if self._speaking is not None:
                    self._speaking.words.append(text)
            case UserStarted():
                self._asked_at = None
                self._finish_decided()
            case UserStopped(discarded):
                # A response that is there already was quicker than the word of this.
                quick = self._speaking is not None
                self._asked_at = None if discarded or quick else self._now()
            case ReplyStarted():
                self._begin_reply(effect)
            case VoiceStarted(_, waited) if waited is not None:
                self._begin_voice(waited)
            case ReplyEnded():
                self._end_reply(effect)
            case ResponseFinished():
                self._finish_response(effect)
            case ToolArguments(call_id, name):
                self._note_call(call_id, name)
            case ToolCalls(response_id, calls):
                for call in calls:
                    self._begin_call(response_id, call)
            case _:
                self._see_connection(effect)

    def _see_connection(self, effect: PipelineEffect) -> None:
        match effect:
            case Connected():
                self._finish_cut()
                self._note_in_setup("connected")
            case SessionStarted(session_id):
                if session_id is not None:
                    self._session["hydra.session.id"] = session_id
                self._note_in_setup("session.created")
            case Ready():
                self._finish_ready(effect)
            case Disconnected(reason):
                self._cut_short(reason)
            case Lost(kind, message):
                self._finish_cut((kind.value, message))
                setup = self._begin_setup()
                setup.attributes["hydra.reconnect"] = effect.configured
                setup.attributes["hydra.lost_by"] = message
            case Retrying(attempt, delay_secs, kind, message):
                self._finish_cut()
                about = {"error.type": kind.value, "message": message, "delay_secs": delay_secs}
                self._note_in_setup("retry", {"attempt": attempt, **about})
            case GivenUp(kind, message):
                self._finish_cut((kind.value, message))
                self._finish_setup((kind.value, message))
            case Rested(message, failed):
                self._finish_cut()
                self._finish_setup(("_OTHER", message) if failed else None, reason=message)
            case _:
                pass

    # Sessions

    def _begin_setup(self) -> _Span:
        if self._setup is None:
            self._attempts = 0
            self._setup = _Span("llm_setup", "llm_setup", self._now(), self._parent(), {})
            self._setup.attributes["hydra.reconnect"] = False
        return self._setup

    def _note_in_setup(self, event: str, about: _Attributes | None = None) -> None:
        if self._setup is not None:
            self._setup.events.append((event, self._now(), about or {}))

    def _finish_ready(self, ready: Ready) -> None:
        if ready.session.voice is not None:
            self._session["voice_id"] = ready.session.voice
        self._sessions += 1
        if self._setup is not None:
            self._setup.attributes |= {
                "hydra.session.number": self._sessions,
                "hydra.output_sample_rate": ready.output_sample_rate,
            }
            if ready.lost_secs:
                self._setup.attributes["hydra.lost_secs"] = ready.lost_secs
        self._finish_setup()

    def _finish_setup(self, error: tuple[str, str] | None = None, *, reason: str = "") -> None:
        setup, self._setup = self._setup, None
        if setup is None:
            return
        setup.attributes |= {"hydra.attempts": self._attempts, **self._session}
        if reason:
            setup.attributes["hydra.ended_by"] = reason
        self._make(setup, error)

    def _cut_short(self, reason: str, *, held_too: bool = False) -> None:
        """The session has ended; what was open in it ends now."""
        self._finish_decided()
        calls = [(i, call) for i, call in self._calls.items() if held_too or not call.held]
        for call_id, _ in calls:
            del self._calls[call_id]
        cut: list[_Span] = [*self._responses, *(call for _, call in calls)]
        self._responses, self._speaking, self._asked_at = [], None, None
        for span in cut:
            span.attributes["hydra.ended_by"] = reason
            span.ended = span.ended or self._now()
        self._cut += cut

    def _finish_cut(self, error: tuple[str, str] | None = None) -> None:
        """It is known whether the end of the session is an error."""
        cut, self._cut = self._cut, []
        for span in cut:
            self._make(span, error)

    # Responses

    def _begin_reply(self, started: ReplyStarted) -> None:
        response = self._response(started.response_id)
        if started.resumed and started.response_id is None and response is None:
            # What noise cut off is said again, of a response that was over.
            self._speaking = None
            return
        if response is None:
            self._finish_decided()
            response = self._add_response(started.response_id, self._asked_at or self._now())
        elif started.resumed:
            response.interrupted, response.resumed = False, True
            response.ended = response.finished
        self._asked_at = None
        self._speaking = response

    def _add_response(self, response_id: str | None, began: int) -> _Response:
        response = _Response(
            "llm_response", "chat", began, self._parent(), {**self._session}, id=response_id
        )
        response.attributes["gen_ai.output.type"] = "speech"
        self._responses.append(response)
        if len(self._responses) > _MAX_OPEN:
            # The server never said that it is done.
            self._make_response(self._responses[0])
        return response

    def _begin_voice(self, waited: float) -> None:
        if self._speaking is not None:
            self._speaking.began = self._now() - _nanoseconds(waited)
            about = {"metrics.ttfb": waited, "gen_ai.response.time_to_first_chunk": waited}
            self._speaking.attributes |= about

    def _end_reply(self, ended: ReplyEnded) -> None:
        response, self._speaking = self._speaking, None
        if response is None:
            return
        response.interrupted = ended.interrupted
        response.ended = response.finished or self._now()
        if response.finished and not response.interrupted:
            self._make_response(response)

    def _finish_response(self, finished: ResponseFinished) -> None:
        response, now = self._response(finished.response_id, adopt=True), self._now()
        if response is None:
            # It was cancelled before it began.
            response = self._add_response(finished.response_id, self._asked_at or now)
            response.interrupted = finished.status == "cancelled"
            response.ended = now
            self._asked_at = None
        response.finished = now
        if not response.interrupted:
            response.ended = now
        attributes = response.attributes
        if finished.took is not None and "metrics.ttfb" not in attributes:
            response.began = now - _nanoseconds(finished.took)
        if finished.status is not None:
            attributes["response.status"] = finished.status
        if finished.usage is not None:
            if finished.usage.input_tokens is not None:
                attributes["gen_ai.usage.input_tokens"] = finished.usage.input_tokens
            if finished.usage.output_tokens is not None:
                attributes["gen_ai.usage.output_tokens"] = finished.usage.output_tokens
        # If it was noise that interrupted it, it goes on.
        undecided = response.interrupted and finished.status != "cancelled"
        if not undecided:
            self._make_response(response)

    def _finish_decided(self) -> None:
        """Nothing goes on any more of what is finished."""
        for response in [r for r in self._responses if r.finished is not None]:
            self._make_response(response)

    def _make_response(self, response: _Response) -> None:
        self._responses.remove(response)
        if self._speaking is response:
            self._speaking = None
        status = response.attributes.get("response.status")
        self._make(response, ("failed", "Hydra reports a failure") if status == "failed" else None)

    def _response(self, response_id: str | None, *, adopt: bool = False) -> _Response | None:
        """Find one that is not over, by its id, or as the one that has none."""
        unnamed: _Response | None = None
        for response in reversed(self._responses):
            if response.id == response_id:
                return response
            if response.id is None and response.finished is None:
                unnamed = response
        if adopt and unnamed is not None:
            unnamed.id = response_id
            return unnamed
        if adopt and response_id is None and self._responses:
            return self._responses[-1]
        return None

    # Calls

    def _note_call(self, call_id: str, name: str) -> None:
        """The response that is under way makes a call."""
        unfinished = [r for r in self._responses if r.finished is None]
        response = self._speaking or (unfinished[-1] if unfinished else None)
        if response is not None:
            response.calls[call_id] = name or response.calls.get(call_id, "")

    def _begin_call(self, response_id: str | None, call: ToolCall) -> None:
        response = self._response(response_id)
        if response is not None:
            response.calls[call.call_id] = call.name
        span = _Call(
            "llm_tool_call", "execute_tool", self._now(), self._parent(), {**self._session}
        )
        span.attributes |= {
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call.call_id,
            "tool.function_name": call.name,
            "tool.call_id": call.call_id,
            "tool.arguments": _cut_to(_MAX_ARGUMENTS, call.arguments),
        }
        if response_id is not None:
            span.attributes["gen_ai.response.id"] = response_id
        self._calls[call.call_id] = span

    def _finish_call(
        self, call_id: str, status: str, *, error: tuple[str, str] | None = None
    ) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None:
            call.attributes["tool.result_status"] = status
            self._make(call, error)

    # Spans

    def _parent(self) -> "Context | None":
        """The turn if there is one, else the conversation."""
        context = self._context
        if context is None:
            return None
        conversation = context.get_conversation_context()
        if conversation is not None:
            self._conversation = conversation
            self._conversation_id = context.conversation_id
        return context.get_turn_context() or self._conversation

    def _make(self, span: _Span, error: tuple[str, str] | None) -> None:
        """Make the span, which is over, unless its conversation is still to begin."""
        span.ended = span.ended or self._now()
        self._waiting.append((span, error))
        # A session is dialled while the pipeline is set up.
        if self._context is None or self._parent() is not None:
            self._make_waiting()

    def _make_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for span, error in waiting:
            self._make_now(span, error)

    def _make_now(self, span: _Span, error: tuple[str, str] | None) -> None:
        if self._tracer is None:
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        parent = span.parent or self._parent()
        attributes: _Attributes = {
            "gen_ai.provider.name": _PROVIDER,
            "gen_ai.operation.name": span.operation,
            "service.operation": span.name,
            **span.attributes,
        }
        if self._conversation_id is not None:
            attributes["gen_ai.conversation.id"] = self._conversation_id
        if isinstance(span, _Response):
            attributes |= _about(span)
        if error is not None:
            attributes["error.type"] = error[0]
        local = isinstance(span, _Call)
        made = self._tracer.start_span(
            span.name,
            context=parent,
            kind=SpanKind.INTERNAL if local else SpanKind.CLIENT,
            attributes=attributes,
            start_time=span.began,
        )
        for name, at, about in span.events:
            made.add_event(name, about, at)
        if error is not None:
            made.set_status(Status(StatusCode.ERROR, error[1]))
        made.end(max(span.began, span.ended or 0))


def _about(response: _Response) -> _Attributes:
    about: _Attributes = {
        "hydra.interrupted": response.interrupted,
        "hydra.audio.seconds": round(response.audio_secs, 3),
    }
    if response.id is not None:
        about |= {"response.id": response.id, "gen_ai.response.id": response.id}
    if response.resumed:
        about["hydra.resumed"] = True
    if response.words:
        about["output"] = "".join(response.words)
    if response.calls:
        about["function_calls.count"] = len(response.calls)
        about["function_calls.all_names"] = ",".join(response.calls.values())
    return about


def _cut_to(limit: int, text: str) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _nanoseconds(secs: float) -> int:
    return round(secs * 1e9)
