"""Records the `llm_response` spans: when each response was asked for, what it said, how it ended.

A response is over for the pipeline when its reply has ended, and for Hydra at `response.done`. The
two come in either order. Either may miss, and a response may have no id until it is done. A reply
that noise interrupted may go on, so an interrupted response stays open until the user has spoken
to the end or another response begins.
"""

from dataclasses import dataclass, field
from typing import Final

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    ResponseFinished,
    TextChunk,
    ToolArguments,
    ToolCalls,
    UserStarted,
    UserStopped,
    VoiceStarted,
)
from pipecat_hydra.service.tracing.spans import Attributes, Span, Spans
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

_MAX_OPEN: Final = 64


@dataclass(slots=True)
class _Response(Span):
    id: str | None = None
    finished: int | None = None
    interrupted: bool = False
    resumed: bool = False
    audio_secs: float = 0.0
    words: list[str] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)

    def described(self) -> Attributes:
        """Return all attributes, with what was said and called."""
        about: Attributes = {
            **self.attributes,
            "hydra.interrupted": self.interrupted,
            "hydra.audio.seconds": round(self.audio_secs, 3),
        }
        if self.id is not None:
            about |= {"response.id": self.id, "gen_ai.response.id": self.id}
        if self.resumed:
            about["hydra.resumed"] = True
        if self.words:
            about["output"] = "".join(self.words)
        if self.calls:
            about["function_calls.count"] = len(self.calls)
            about["function_calls.all_names"] = ",".join(self.calls.values())
        return about


class ResponseSpans:
    """Records the responses of a service.

    Args:
        spans: Creates the spans.
    """

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._responses: list[_Response] = []
        self._speaking: _Response | None = None
        # When the user's turn ended, until a response to it begins.
        self._asked_at: int | None = None

    def see(self, effect: PipelineEffect) -> None:
        """Record an effect that concerns responses; ignores all others."""
        match effect:
            case AudioChunk(pcm, rate):
                if self._speaking is not None:
                    self._speaking.audio_secs += len(pcm) / BYTES_PER_SAMPLE / rate
            case TextChunk(text):
                if self._speaking is not None:
                    self._speaking.words.append(text)
            case UserStarted():
                self._asked_at = None
                self._end_decided()
            case UserStopped(discarded):
                # A response that speaks already was quicker than this effect.
                quick = self._speaking is not None
                self._asked_at = None if discarded or quick else self._spans.now()
            case ReplyStarted():
                self._begin_reply(effect)
            case VoiceStarted(_, waited) if waited is not None:
                self._begin_voice(waited)
            case ReplyEnded():
                self._end_reply(effect)
            case ResponseFinished():
                self._finish(effect)
            case ToolArguments(call_id, name):
                self._note_call(call_id, name)
            case ToolCalls(response_id, calls):
                if (response := self._find(response_id)) is not None:
                    response.calls |= {call.call_id: call.name for call in calls}
            case _:
                pass

    def cut(self) -> list[Span]:
        """End all responses, because the session has ended; return those that were open."""
        self._end_decided()
        cut: list[Span] = [*self._responses]
        self._responses, self._speaking, self._asked_at = [], None, None
        return cut

    def _begin_reply(self, started: ReplyStarted) -> None:
        response = self._find(started.response_id)
        if started.resumed and started.response_id is None and response is None:
            # The rest of a reply that noise interrupted is played; its response was over before.
            self._speaking = None
            return
        if response is None:
            self._end_decided()
            response = self._add(started.response_id, self._asked_at or self._spans.now())
        elif started.resumed:
            response.interrupted, response.resumed = False, True
            response.ended = response.finished
        self._asked_at = None
        self._speaking = response

    def _add(self, response_id: str | None, began: int) -> _Response:
        attributes = {**self._spans.session, "gen_ai.output.type": "speech"}
        parent = self._spans.parent()
        response = _Response("llm_response", "chat", began, parent, attributes, id=response_id)
        self._responses.append(response)
        if len(self._responses) > _MAX_OPEN:
            # The server has not sent `response.done` for the first of them.
            self._end(self._responses[0])
        return response

    def _begin_voice(self, waited: float) -> None:
        if self._speaking is not None:
            self._speaking.began = self._spans.now() - _nanoseconds(waited)
            about = {"metrics.ttfb": waited, "gen_ai.response.time_to_first_chunk": waited}
            self._speaking.attributes |= about

    def _end_reply(self, ended: ReplyEnded) -> None:
        response, self._speaking = self._speaking, None
        if response is None:
            return
        response.interrupted = ended.interrupted
        response.ended = response.finished or self._spans.now()
        if response.finished and not response.interrupted:
            self._end(response)

    def _finish(self, finished: ResponseFinished) -> None:
        response, now = self._find(finished.response_id, adopt=True), self._spans.now()
        if response is None:
            # The response was cancelled before it began.
            response = self._add(finished.response_id, self._asked_at or now)
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
        # If noise interrupted the response, its reply goes on.
        undecided = response.interrupted and finished.status != "cancelled"
        if not undecided:
            self._end(response)

    def _end_decided(self) -> None:
        """End the responses that are done: none of their replies can go on any more."""
        for response in [r for r in self._responses if r.finished is not None]:
            self._end(response)

    def _end(self, response: _Response) -> None:
        self._responses.remove(response)
        if self._speaking is response:
            self._speaking = None
        failed = response.attributes.get("response.status") == "failed"
        self._spans.create(response, ("failed", "Hydra reports a failure") if failed else None)

    def _find(self, response_id: str | None, *, adopt: bool = False) -> _Response | None:
        """Find an open response by its id.

        Args:
            response_id: The id; None for the response that has none.
            adopt: If no response has the id, give it to one that has none.
        """
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

    def _note_call(self, call_id: str, name: str) -> None:
        """Count a call for the response that is in flight."""
        unfinished = [r for r in self._responses if r.finished is None]
        response = self._speaking or (unfinished[-1] if unfinished else None)
        if response is not None:
            response.calls[call_id] = name or response.calls.get(call_id, "")


def _nanoseconds(secs: float) -> int:
    return round(secs * 1e9)
