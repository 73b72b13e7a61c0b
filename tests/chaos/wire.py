"""What went over the wire, put in terms of responses and turns.

This is the least that a client must understand of the protocol (§5) to know what is to be
heard: which response is the one in flight, where it was cut, and whether for good. It follows
the events as faults have left them, so that one which is sent twice, late or in another order
counts as it came.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipecat_hydra.emulator import EmulatedSession


@dataclass
class Turn:
    """One `speech_started`.

    Parameters:
        at: When it was sent, in seconds of the session.
        item_id: The user's item; None if a fault took the id away.
        noise: Whether it was discarded; None if that was never told, or not understandably.
        over_at: When the user stopped speaking, or began another turn; None if never.
    """

    at: float
    item_id: str | None
    noise: bool | None = None
    over_at: float | None = None


@dataclass
class Response:
    """One response, and how much of it a client may let pass.

    Parameters:
        id: Its id.
        rate: Rate of its audio in Hz.
        at: When its first event was sent, in seconds of the session.
        pcm: All its audio in the order of the wire, late audio included.
        passes: How many bytes came while it was in flight, or late, when it was done already.
        cuts: The turns that began while it was in flight, with how many bytes had come.
        within: The turn that was open when it began; None if there was none.
        over_at: When it ceased to be in flight; None if never.
        cancelled: Whether its `response.done` said so.
        whole: Whether no more of its audio was to come, as was said.
    """

    id: str
    rate: int
    at: float
    pcm: bytes = b""
    passes: int = 0
    cuts: list[tuple[Turn, int]] = field(default_factory=list[tuple[Turn, int]])
    within: Turn | None = None
    over_at: float | None = None
    cancelled: bool = False
    whole: bool = False

    @property
    def audible(self) -> int:
        """How many bytes, at most, may ever enter the pipeline."""
        lengths = [length for turn, length in self.cuts if turn.noise is not True]
        return min([self.passes, *lengths]) // 2 * 2


class Reading:
    """The turns and responses of one session."""

    def __init__(self, session: EmulatedSession):
        self.session = session
        self.turns: list[Turn] = []
        self.responses: dict[str, Response] = {}
        self.starts_repeated = 0
        """How many `speech_started` were of a turn that was open, or could not be told from it."""
        self._current: Response | None = None
        self._late: Response | None = None  # it is done, and the last of it may still come
        self._retired: set[str] = set()
        self._open: Turn | None = None
        self._read()

    def _read(self) -> None:
        sent: dict[str, int] = {}
        for record in self.session.sent:
            match record.event:
                case {"type": "input_audio_buffer.speech_started", **rest}:
                    self._start(record.time, rest.get("item_id"))
                case {"type": "input_audio_buffer.speech_stopped"}:
                    self._close(record.time)
                case {"type": "conversation.item.added", "item": {"role": "user", "id": str(item)}}:
                    if self.turns and self.turns[-1].item_id is None:
                        self.turns[-1].item_id = item
                case {"type": "conversation.item.done", "item": {"id": str(item), **rest}}:
                    self._decide(record.time, item, rest.get("role"), rest.get("status"))
                case {"type": "response.created", "response": {"id": str(response)}}:
                    self._begin(response, record.time)
                case {"type": "response.output_audio_transcript.delta", "response_id": str(r)}:
                    self._begin(r, record.time)
                case {"type": "response.output_audio.delta", "response_id": str(response)}:
                    self._begin(response, record.time)
                    sent[response] = sent.get(response, 0) + record.audio_bytes
                    self._heard(response, record.time, sent[response])
                case {"type": "response.output_audio.done", "response_id": str(response)}:
                    for one in (self._current, self._late):
                        if one is not None and one.id == response:
                            one.whole = True
                case {"type": "conversation.item.added", "item": {"type": "message"}}:
                    if self._current is not None:
                        self._current.whole = False
                case {"type": "response.done", "response": {"id": str(response), **rest}}:
                    self._end(response, record.time, rest.get("status"))
                case _:
                    pass
        for response in self.responses.values():
            response.pcm = self.session.sent_audio(response.id)

    def _start(self, at: float, item_id: str | None) -> None:
        if self._open is not None and self._open.item_id in (item_id, None):
            self.starts_repeated += 1
            if item_id is not None and self._open.item_id == item_id:
                return
        self._close(at)
        self._open = Turn(at, item_id)
        self.turns.append(self._open)
        for one in (self._current, self._late):
            if one is not None:
                one.cuts.append((self._open, one.passes))

    def _close(self, at: float) -> None:
        if self._open is not None:
            self._open.over_at = at
            self._open = None

    def _decide(self, at: float, item_id: str, role: str | None, status: str | None) -> None:
        for turn in self.turns:
            if turn.item_id == item_id and role == "user" and turn.noise is None:
                turn.noise = status == "incomplete"
                if self._open is turn:
                    self._close(at)

    def _begin(self, response_id: str, at: float) -> None:
        current = self._current
        if response_id in self._retired or (current is not None and current.id == response_id):
            return
        if current is not None:
            self._retire(current, at)
        self._late = None
        rate = self.session.output_sample_rate
        response = Response(response_id, rate, at, within=self._open)
        self._current = self.responses[response_id] = response

    def _end(self, response_id: str, at: float, status: str | None) -> None:
        if self._current is not None and self._current.id == response_id:
            self._current.cancelled = status == "cancelled"
            self._retire(self._current, at)
            late, self._current = self._current, None
            if not late.cancelled:
                self._late = late
        self._retired.add(response_id)

    def _heard(self, response_id: str, at: float, length: int) -> None:
        """Count audio of a response, unless it comes too late."""
        if self._current is not None and self._current.id == response_id:
            self._current.passes = length
        elif self._late is not None and self._late.id == response_id and not self._late.whole:
            self._late.passes = length
            self._late.over_at = at

    def _retire(self, response: Response, at: float) -> None:
        response.over_at = at
        self._retired.add(response.id)


@dataclass(frozen=True)
class Stretch:
    """Some audio of one response.

    Parameters:
        response: Which.
        start: Where it begins in the response's audio, in bytes.
        end: Where it ends, exclusive.
        place: Where it begins in what was searched, in bytes.
    """

    response: Response
    start: int
    end: int
    place: int


def stretches(
    data: bytes, responses: Sequence[Response], *, padded: bool = False
) -> tuple[list[Stretch], list[tuple[int, int]]]:
    """Find out which audio of which response some audio is.

    Args:
        data: PCM16 LE. Of a few samples nothing is found out.
        responses: Those that it may be of, all of its rate.
        padded: Whether there may be silence in it, which no response has.

    Returns:
        The stretches, in order, and what is of none: where it begins and ends, in bytes.
    """
    found: list[Stretch] = []
    strange: list[tuple[int, int]] = []
    if len(data) < _WINDOW:
        return found, strange  # too little to be told from any other
    place = unknown = 0
    while place < len(data):
        if padded and data[place : place + 2] == b"\0\0":
            place += 2
            continue
        best = _longest(data, place, responses, found[-1] if found else None)
        if best is not None:
            found.append(best)
            place, unknown = place + best.end - best.start, 0
            continue
        # Sample by sample at first, for it may be one only; then in steps, for speed.
        step = min(2 if unknown < 2 * _WINDOW else 20 * _WINDOW, len(data) - place)
        if strange and strange[-1][1] == place:
            strange[-1] = (strange[-1][0], place + step)
        else:
            strange.append((place, place + step))
        place, unknown = place + step, unknown + step
    return found, strange


_WINDOW = 24


def _longest(
    data: bytes, place: int, responses: Sequence[Response], last: Stretch | None
) -> Stretch | None:
    best: Stretch | None = None
    if last is not None:
        length = _common(data, place, last.response.pcm, last.end)
        if length:
            best = Stretch(last.response, last.end, last.end + length, place)
    window = data[place : place + _WINDOW]
    if len(window) < _WINDOW or (best is not None and best.end - best.start >= _WINDOW):
        return best
    for response in responses:
        start = response.pcm.find(window)
        while start >= 0:
            length = _common(data, place, response.pcm, start)
            if best is None or length > best.end - best.start:
                best = Stretch(response, start, start + length, place)
            start = response.pcm.find(window, start + 1)
    return best


def _common(data: bytes, place: int, pcm: bytes, start: int) -> int:
    """How far two pieces of audio are the same, in bytes, in whole samples."""
    limit = min(len(data) - place, len(pcm) - start)
    one = np.frombuffer(data, np.uint8, limit, place)
    other = np.frombuffer(pcm, np.uint8, limit, start)
    differing = np.flatnonzero(one != other)
    return (int(differing[0]) if len(differing) else limit) // 2 * 2


def covered(parts: Sequence[Stretch]) -> list[tuple[int, int]]:
    """Merge stretches of one response into what they cover of it, in order."""
    merged: list[tuple[int, int]] = []
    for part in sorted(parts, key=lambda part: part.start):
        if merged and part.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], part.end))
        else:
            merged.append((part.start, part.end))
    return merged
