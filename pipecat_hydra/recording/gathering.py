"""Gathers what the records of a call tell: its parts, with the moments of the events.

Nothing here listens to the audio; `hearing.py` does. A turn is what Hydra reports as one, from
`speech_started` to `speech_stopped`. A response answers the last turn that has begun before it and
was not discarded. What the pipeline tells adds what the wire does not: words of the user,
interruptions, errors in functions, metrics.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from pipecat_hydra.recording.format import AudioReference, Record
from pipecat_hydra.recording.parts import (
    Problem,
    Reconnect,
    Reply,
    SessionSpan,
    SettingsChange,
    ToolCall,
    Turn,
)
from pipecat_hydra.recording.sound import Span
from pipecat_hydra.wire.protocol import UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE

__all__ = ["Gathering"]

_SAME_PROBLEM_SECS = 1.0
"""Within this time the same error that is told at several places is one."""


class Gathering:
    """The parts of a call as its records tell them, in the order in which they began.

    Attributes:
        turns: The turns of the user.
        replies: The responses, those without audio too.
        tools: The calls of functions.
        sessions: The sessions.
        reconnects: The losses of the connection.
        problems: The errors.
        settings: The changes of settings.
        cuts: When the pipeline was interrupted.
        ttfbs: Times to first byte that the pipeline's metrics tell, in seconds.
        played: Where the loudspeaker has played something, ascending.
        spoken: When the bot spoke, as the pipeline tells.
    """

    def __init__(self, rate_of: Callable[[str], int]):
        """Create one that knows of nothing.

        Args:
            rate_of: Gives the rate of an audio file of the recording in Hz, 0 if it is not kept.
        """
        self._rate_of = rate_of
        self._session_rates: dict[int, int] = {}
        self.turns: list[Turn] = []
        self.replies: list[Reply] = []
        self.tools: list[ToolCall] = []
        self.sessions: list[SessionSpan] = []
        self.reconnects: list[Reconnect] = []
        self.problems: list[Problem] = []
        self.settings: list[SettingsChange] = []
        self.cuts: list[float] = []
        self.ttfbs: list[float] = []
        self.played: list[Span] = []
        self.spoken: list[Span] = []
        self._bot_started: float | None = None
        self._asked: float | None = None
        self._replies_by_id: dict[tuple[int, str], Reply] = {}

    def take(self, record: Record) -> None:
        """Take the next record of the call.

        Args:
            record: The record.
        """
        match record.source:
            case "server":
                self._take_server_event(record)
            case "client":
                self._take_client_event(record)
            case "pipeline":
                self._take_from_pipeline(record)
            case _:
                self._take_of_call(record)

    def finish(self) -> None:
        """Find the turn of each response and of each call, once all records are taken.

        Only then is it known which turns were discarded.
        """
        turns = [turn for turn in self.turns if not turn.is_discarded]
        turn_of: dict[str, int | None] = {}
        for reply in self.replies:
            begun = [turn.number for turn in turns if turn.began <= reply.created]
            reply.turn = turn_of[reply.response_id] = begun[-1] if begun else None
        for tool in self.tools:
            tool.turn = turn_of.get(tool.response_id)

    def _take_server_event(self, record: Record) -> None:
        event, session = record.data, record.session or 0
        match record.type:
            case "session.configured":
                rate = _dict(event.get("session")).get("output_audio_sample_rate")
                self._session_rates[session] = rate if isinstance(rate, int) else 0
            case "input_audio_buffer.speech_started":
                number, item = len(self.turns) + 1, _text(event.get("item_id"))
                self.turns.append(Turn(number, session, item, record.t))
            case "input_audio_buffer.speech_stopped":
                turn = self._turn(session, _text(event.get("item_id")))
                if turn is not None and turn.ended is None:
                    turn.ended = self._asked = record.t
            case "conversation.item.added" | "conversation.item.done":
                self._take_item(session, _dict(event.get("item")))
            case "response.created":
                self._create(record, _text(_dict(event.get("response")).get("id")))
            case "response.output_audio.delta":
                self._take_audio(record, event)
            case "response.output_audio_transcript.delta":
                if (reply := self._reply(session, event)) is not None:
                    reply.words = f"{reply.words} {_text(event.get('delta')).strip()}".strip()
            case "response.function_call_arguments.done":
                self._call(record, event)
            case "response.done":
                response = _dict(event.get("response"))
                reply = self._replies_by_id.get((session, _text(response.get("id"))))
                if reply is not None and reply.ended is None:
                    reply.ended = record.t
                    reply.status = _text(response.get("status")) or "completed"
            case "error":
                error = _dict(event.get("error"))
                code = _text(error.get("code")) or _text(error.get("type"))
                message = ": ".join(filter(None, (code, _text(error.get("message")))))
                self._report(Problem(record.t, "server", message or "error"))
            case _:
                pass

    def _take_item(self, session: int, item: dict[str, Any]) -> None:
        if item.get("role") != "user":
            return
        turn = self._turn(session, _text(item.get("id")), is_exact=True)
        if turn is None:
            return
        if item.get("status") == "incomplete":
            turn.is_discarded = True
        contents = item.get("content")
        texts = [
            _text(_dict(content).get("text"))
            for content in cast(list[Any], contents if isinstance(contents, list) else [])
        ]
        turn.words = " ".join(filter(None, texts)) or turn.words

    def _create(self, record: Record, response_id: str) -> None:
        reply = Reply(response_id, record.session or 0, created=record.t, asked=self._asked)
        self._asked = None
        self.replies.append(reply)
        self._replies_by_id[reply.session, response_id] = reply

    def _take_audio(self, record: Record, event: Mapping[str, Any]) -> None:
        reply = self._reply(record.session or 0, event)
        if reply is None or record.audio is None:
            return
        if reply.first_audio is None:
            reply.first_audio = record.t
        # A recording without audio has references, but no file that tells the rate.
        rate = self._rate_of(record.audio.file) or self._session_rates.get(reply.session)
        reply.generated_secs += record.audio.samples / (rate or UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE)

    def _call(self, record: Record, event: Mapping[str, Any]) -> None:
        self.tools.append(
            ToolCall(
                name=_text(event.get("name")),
                call_id=_text(event.get("call_id")),
                response_id=_text(event.get("response_id")),
                arguments=_parsed(event.get("arguments")),
                asked=record.t,
            )
        )

    def _take_client_event(self, record: Record) -> None:
        event = record.data
        match record.type:
            case "response.create":
                self._asked = record.t
            case "conversation.item.create":
                item = _dict(event.get("item"))
                tool = self._tool(_text(item.get("call_id")))
                if item.get("type") == "function_call_output" and tool is not None:
                    tool.answered = record.t
                    tool.result = _parsed(item.get("output"))
            case _:
                pass

    def _take_from_pipeline(self, record: Record) -> None:
        data = record.data
        match record.type:
            case "interruption":
                self.cuts.append(record.t)
            case "user_words" if self.turns:
                turn = self.turns[-1]
                turn.words = turn.words or _text(data.get("text"))
            case "turn_discarded" if self.turns:
                self.turns[-1].is_discarded = True
            case "function_started":
                tool = self._tool(_text(data.get("call_id")))
                if tool is not None:
                    tool.name = tool.name or _text(data.get("name"))
                    if not tool.arguments:
                        tool.arguments = _parsed(data.get("arguments"))
            case "function_ended":
                tool = self._tool(_text(data.get("call_id")))
                if tool is not None:
                    tool.is_cancelled = bool(data.get("cancelled"))
                    tool.error = _text(data.get("error")) or None
            # Pipecat's TTFA metric repeats the time as "TTFA.ttfb".
            case "metrics" if _text(data.get("name")).lower() == "ttfb":
                value = data.get("value")
                if isinstance(value, int | float) and value > 0:
                    self.ttfbs.append(float(value))
            case "heard" if record.audio is not None:
                self._play(record.t, record.audio)
            case "bot_started":
                self._bot_started = record.t
            case "bot_stopped" if self._bot_started is not None:
                self.spoken.append((self._bot_started, record.t))
                self._bot_started = None
            case "error":
                self._report(Problem(record.t, "pipeline", _message(data)))
            case _:
                pass

    def _take_of_call(self, record: Record) -> None:
        data = record.data
        match record.type:
            case "session_opening":
                self._open_session().opening = record.t
            case "session_open":
                self._session().open = record.t
            case "session_configured":
                self._session().configured = record.t
            case "session_closed":
                session = self._session()
                session.closed, session.reason = record.t, _text(data.get("reason"))
            case "reconnecting":
                if not self.reconnects or self.reconnects[-1].ended is not None:
                    self.reconnects.append(Reconnect(record.t, reason=_text(data.get("message"))))
            case "reconnected":
                if self.reconnects and self.reconnects[-1].ended is None:
                    self.reconnects[-1].ended = record.t
                    self.reconnects[-1].is_restored = data.get("state_restored") is not False
            case "given_up":
                self._report(Problem(record.t, "call", "no connection: given up", True))
            case "error" | "recorder_error":
                is_permanent = bool(data.get("is_permanent"))
                self._report(Problem(record.t, "call", _message(data), is_permanent))
            case "dropped":
                secs, why = data.get("secs"), _text(data.get("why"))
                lost = f"{secs:.2f} s of audio" if isinstance(secs, int | float) else "audio"
                self._report(Problem(record.t, "call", f"{lost} lost: {why}".rstrip(": ")))
            case "settings":
                self.settings.append(SettingsChange(record.t, dict(data)))
            case _:
                pass

    def _play(self, begin: float, audio: AudioReference) -> None:
        rate = self._rate_of(audio.file)
        if not rate:
            return
        end = begin + audio.samples / rate
        if self.played and begin - self.played[-1][1] < 0.001:
            self.played[-1] = (self.played[-1][0], end)
        else:
            self.played.append((begin, end))

    def _turn(self, session: int, item_id: str, *, is_exact: bool = False) -> Turn | None:
        """Return the turn of an item; if ids are missing, the last turn of the session."""
        for turn in reversed(self.turns):
            if turn.session == session and turn.item_id and turn.item_id == item_id:
                return turn
        last = self.turns[-1] if self.turns else None
        if last is None or is_exact or last.session != session or (item_id and last.item_id):
            return None
        return last

    def _reply(self, session: int, event: Mapping[str, Any]) -> Reply | None:
        """Return the response of an event; without an id it is the last of the session."""
        if response_id := _text(event.get("response_id")):
            return self._replies_by_id.get((session, response_id))
        last = self.replies[-1] if self.replies else None
        return last if last is not None and last.session == session else None

    def _tool(self, call_id: str) -> ToolCall | None:
        return next((tool for tool in reversed(self.tools) if tool.call_id == call_id), None)

    def _open_session(self) -> SessionSpan:
        """Begin a session; one that never opened has no number, and is tried again."""
        last = self.sessions[-1] if self.sessions else None
        if last is None or last.open is not None:
            self.sessions.append(SessionSpan(len(self.sessions) + 1))
        return self.sessions[-1]

    def _session(self) -> SessionSpan:
        return self.sessions[-1] if self.sessions else self._open_session()

    def _report(self, problem: Problem) -> None:
        for known in reversed(self.problems):
            if problem.at - known.at > _SAME_PROBLEM_SECS:
                break
            if known.message in problem.message or problem.message in known.message:
                known.is_permanent = known.is_permanent or problem.is_permanent
                return
        self.problems.append(problem)


def _message(data: Mapping[str, Any]) -> str:
    return _text(data.get("message")) or _text(data.get("error")) or "error"


def _parsed(value: object) -> Any:
    """Return a value, parsed if it is text in JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
