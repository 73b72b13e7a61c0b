"""Keeps account of what Hydra knows of a conversation, and which part of it a context holds.

Theory of operation. A context is one list that everybody writes to: typed text, the user's
transcripts, the bot's words, function calls and their results. Hydra knows most of it without
being told: it hears the user, it speaks, and results are posted to it. The ledger keeps one
record for each entry of the context, in order; the record's `Standing` says what Hydra knows of
the entry. Between these records stand those of entries that are not in the context. Their
`Place` says why: no context keeps the entry, or it is on its way into the context.

`Ledger.read` compares a context with the records. An entry that is still there keeps its
record. An entry that is gone loses it, and is told to no later session. An entry that has
arrived is one of these, tried in this order:

1. an entry that was on its way: a message that Hydra was told directly, a text that was spoken.
   Of several that say the same it is the newest, because what was on its way comes last;
2. a call, a result, or a text of the bot, which Hydra knows;
3. history, if anything stands behind it that Hydra knew before: somebody has rewritten
   the context, by a summary, say. Only the next session is told of it;
4. a text of the user that Hydra knows with more words, if that one is gone and nothing
   behind it was known: somebody has redacted what the user said last. In the place of the words
   stands nothing or a mask; a text with any other new word is an edited one, and new;
5. new text, which is to be told.

New text before a message that Hydra was told directly is told too, but asks for no answer of its
own: the reply to the message is the reply to it. Agents that share the context of a call find such
text there, of the time when another agent was active.

In (3), only entries that were in the context when it was read last count as known. A text of
the bot may come into the context after a text that was typed meanwhile, and must not turn the
typed text into history.

A context that holds nothing of what Hydra knew, not even redacted, was reset. The session
cannot forget, so another one has to begin; `Ledger.is_reset` is true until it does. Entries
that no context keeps belong to the old conversation and are forgotten too. `Ledger.reset` does
the same for an application that asks for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import Enum, auto
from itertools import islice, takewhile
from typing import Final

from pipecat_hydra.service.briefing.entries import Entry, Kind, Role, Text, one_line, text_entry
from pipecat_hydra.service.briefing.redaction import is_redacted

__all__ = ["Ledger", "NewText"]


class Standing(Enum):
    """What Hydra knows of an entry."""

    NEW = auto()
    """Nothing: it is to be told."""
    KNOWN = auto()
    """All of it: Hydra was told, has said it itself, or had it posted."""
    HEARD = auto()
    """The user has said it aloud."""
    HISTORY = auto()
    """Nothing, and only the next session is told."""


class Place(Enum):
    """Where an entry is."""

    CONTEXT = auto()
    """In the context, as it was when it was read last."""
    KEPT = auto()
    """Here alone: no context keeps it."""
    COMING = auto()
    """Hydra was told; it is on its way into the context, unless an interruption stops it."""
    LASTING = auto()
    """Hydra was told; it is on its way into the context, and nothing stops it."""
    HEARD = auto()
    """The user has said it aloud; it is on its way into the context."""
    UNPLAYED = auto()
    """The bot has said it; it will be in the context as far as the listener hears it."""


# How many entries are kept in a place: the newest.
_MOST: Final = {
    Place.KEPT: 200,
    Place.COMING: 200,
    Place.LASTING: 200,
    Place.HEARD: 64,
    Place.UNPLAYED: 8,
}


@dataclass(frozen=True, slots=True)
class NewText:
    """What a context holds that is new.

    Parameters:
        typed: Texts to be told, oldest first.
        spoken: Whether there is also something the user has said aloud.
        narrated: Whether there are also results that Hydra was asked to speak about.
        reset: Whether the context holds nothing of what the session knows, so that
            another one has to begin. That one is told all of the context.
        answered: Whether a message that Hydra was told directly stands behind all of the
            texts, so that the reply to it is the reply to them.
    """

    typed: tuple[Text, ...] = ()
    spoken: bool = False
    narrated: bool = False
    reset: bool = False
    answered: bool = field(default=False, compare=False)


@dataclass(slots=True, eq=False)
class _Record:
    entry: Entry
    place: Place
    standing: Standing = Standing.KNOWN
    # Whether it stands in the context for all that was before it.
    is_summary: bool = False
    # Whether a message that Hydra was told directly has come behind it.
    is_answered: bool = False

    @property
    def is_known(self) -> bool:
        return self.standing in (Standing.KNOWN, Standing.HEARD)


class Ledger:
    """Knows what Hydra knows; see the module's theory of operation."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._records: list[_Record] = []
        self._has_read = False
        # What has arrived since it was asked for last, besides text.
        self._speech_arrived = False
        self._results_arrived: set[str] = set()
        # Calls whose results Hydra was asked to speak about, until they arrive.
        self._narrated: set[str] = set()
        self._is_reset = False

    #
    # What happens outside the context
    #

    def keep(self, entry: Entry) -> None:
        """Keep an entry that Hydra knows and no context keeps."""
        self._add(entry, Place.KEPT)

    def expect(self, entry: Entry, *, lasting: bool) -> None:
        """Record an entry that Hydra was told, and that is on its way into the context.

        Args:
            entry: The entry.
            lasting: Whether it gets there even if the pipeline is interrupted.
        """
        self._add(entry, Place.LASTING if lasting else Place.COMING)

    def hear(self, text: str) -> None:
        """Record that the user has spoken a text that is, or will be, in the context."""
        entry = text_entry("user", text)
        for record in reversed(self._records):
            if record.standing is Standing.NEW and _is_speech(entry, record.entry):
                record.standing = Standing.HEARD
                self._speech_arrived = True
                return
        self._add(entry, Place.HEARD)

    def say(self, text: str) -> None:
        """Record words of the bot that the listener has not heard yet."""
        self._add(text_entry("assistant", text), Place.UNPLAYED)

    def play(self) -> None:
        """Forget the oldest words of the bot that were not heard: the listener has heard them."""
        unplayed = next(iter(self._at(Place.UNPLAYED)), None)
        if unplayed is not None:
            self._records.remove(unplayed)

    def interrupt(self) -> None:
        """Keep here the entries on their way into the context: an interruption has stopped them."""
        self._records = [r for r in self._records if r.place is not Place.UNPLAYED]
        for record in self._at(Place.COMING):
            record.place = Place.KEPT

    def narrate(self, call_id: str) -> None:
        """Record that Hydra was asked to speak about the result of a call."""
        self._narrated.add(call_id)

    def reset(self) -> None:
        """Forget the entries of the conversation that is over: all that no context holds."""
        self._is_reset = True
        # The transcript of the user's last words may come yet.
        self._records = self._at(Place.CONTEXT, Place.HEARD)

    def _add(self, entry: Entry, place: Place) -> None:
        self._records.append(_Record(entry, place))
        for record in self._at(place)[: -_MOST[place]]:
            self._records.remove(record)

    def _at(self, *places: Place) -> list[_Record]:
        return [record for record in self._records if record.place in places]

    #
    # What the context holds
    #

    def read(self, entries: Sequence[Entry]) -> None:
        """Compare the context with what is known of it.

        Args:
            entries: All entries of the context but the system message that is the
                instructions.
        """
        present = [entry for entry in entries if not entry.is_empty]
        held = self._at(Place.CONTEXT)
        if [record.entry for record in held] != present:
            self._compare(held, present)
        self._has_read = True

    def take(self) -> NewText:
        """Return the new texts of the context as it was read last, and count them as told."""
        new = [record for record in self._records if record.standing is Standing.NEW]
        new_text = NewText(
            typed=tuple(record.entry.as_told for record in new),
            spoken=self._speech_arrived,
            narrated=bool(self._narrated & self._results_arrived),
            reset=self._is_reset,
            answered=bool(new) and all(record.is_answered for record in new),
        )
        self._narrated -= self._results_arrived
        self._settle(new)
        return new_text

    def begin_session(self) -> None:
        """Count everything that `history` returns as told: a session begins with it."""
        self._settle(r for r in self._records if r.standing in (Standing.NEW, Standing.HISTORY))
        self._is_reset = False

    def _settle(self, told: Iterable[_Record]) -> None:
        for record in told:
            record.standing = Standing.KNOWN
        self._speech_arrived = False
        self._results_arrived.clear()

    def _compare(self, held: list[_Record], present: list[Entry]) -> None:
        matches = _matches([record.entry for record in held], present)
        stayed = {match for match in matches if match is not None}
        # The last entry that Hydra knew and that is still there: its position now, and before.
        last, was = max(
            ((n, m) for n, m in enumerate(matches) if m is not None and held[m].is_known),
            default=(-1, -1),
        )
        placed = self._placed(held, present, matches, last)
        _mark_summary(held, placed, matches)
        gone = [r for m, r in enumerate(held) if m > was and m not in stayed and r.is_known]
        is_redacted = [
            match is None and _redact(record, gone)
            for match, record in zip(matches[last + 1 :], placed[last + 1 :], strict=True)
        ]
        if last < 0 and gone and not any(is_redacted):
            self.reset()
        self._records = self._merged(placed, matches)

    def _placed(
        self, held: list[_Record], present: list[Entry], matches: list[int | None], last: int
    ) -> list[_Record]:
        """Return the records of a context, in order; make those of entries that have come."""
        placed: list[_Record] = []
        is_answered = False
        # The newest first, because what was on its way comes last.
        for n in reversed(range(len(present))):
            match = matches[n]
            if match is None:
                is_told = self._has_come(present[n], Place.COMING, Place.LASTING)
                record = self._arrived(present[n], is_told=is_told, is_behind=n > last)
                record.is_answered = is_answered
                is_answered = is_answered or is_told
            else:
                record = held[match]
            placed.append(record)
        return placed[::-1]

    def _arrived(self, entry: Entry, *, is_told: bool, is_behind: bool) -> _Record:
        """Make a record of an entry that has come into the context.

        Args:
            entry: The entry.
            is_told: Whether Hydra was told it when it was on its way.
            is_behind: Whether it stands behind all that Hydra knew before.
        """
        standing = Standing.NEW if is_behind else Standing.HISTORY
        if is_told:
            standing = Standing.KNOWN
        elif entry.role == "user" and self._has_come(entry, Place.HEARD):
            standing = Standing.HEARD
            self._speech_arrived = True
        elif entry.kind is not Kind.TEXT or entry.role == "assistant":
            standing = Standing.KNOWN
        # An entry that was lost on its way, and comes after all, is kept by the context now.
        self._has_come(entry, Place.KEPT)
        if entry.kind in (Kind.PARTIAL, Kind.RESULT):
            self._results_arrived.add(entry.call_id)
        return _Record(entry, Place.CONTEXT, standing)

    def _has_come(self, entry: Entry, *places: Place) -> bool:
        """Forget an entry that was expected from a place. Return whether it was."""
        found = next(
            (
                r
                for r in self._at(*places)
                if r.entry == entry or (r.place is Place.HEARD and _is_speech(r.entry, entry))
            ),
            None,
        )
        if found is not None:
            self._records.remove(found)
        return found is not None

    def _merged(self, placed: list[_Record], matches: list[int | None]) -> list[_Record]:
        """Put the records of the context, as it is now, between those of other places.

        Args:
            placed: The records of the context, in order.
            matches: For each of them, which one it was in the context as it was.
        """
        merged: list[_Record] = []
        others = iter(self._records)
        last = max((n for n, match in enumerate(matches) if match is not None), default=-1)
        for n, (record, match) in enumerate(zip(placed, matches, strict=True)):
            if match is not None:
                merged += takewhile(lambda other, here=record: other is not here, others)
            elif n > last and self._has_read:
                # It came after all that is kept, and before what is still on its way.
                rest = list(others)
                merged += [other for other in rest if other.place is Place.KEPT]
                others = iter([other for other in rest if other.place is not Place.KEPT])
            merged.append(record)
        merged += others
        present = {id(record) for record in placed}
        return [r for r in merged if r.place is not Place.CONTEXT or id(r) in present]

    #
    # What is known
    #

    @property
    def is_reset(self) -> bool:
        """Whether the conversation was reset since the session began."""
        return self._is_reset

    @property
    def begins_with_summary(self) -> bool:
        """Whether the first entry of the history is a summary, or the application's instruction.

        Where the history has to be cut, that entry stays.
        """
        first = next((r for r in self._records if r.place is not Place.HEARD), None)
        if first is None or first.entry.kind is not Kind.TEXT:
            return False
        return first.is_summary or first.entry.role in ("developer", "system")

    def kept(self) -> list[Entry]:
        """Return the entries that Hydra was told and the context does not hold; oldest first."""
        return [r.entry for r in self._at(Place.KEPT, Place.COMING, Place.LASTING)]

    def last_kept(self, role: Role) -> Entry | None:
        """Return the newest entry with a role that no context keeps."""
        kept = [r.entry for r in self._at(Place.KEPT) if r.entry.role == role]
        return kept[-1] if kept else None

    def history(self, *, hears_again: bool = False) -> list[Entry]:
        """Return the whole conversation, for a session that begins; oldest first.

        Args:
            hears_again: Whether the session hears the user's last words, so that it is not
                told of them.
        """
        context = self._at(Place.CONTEXT)
        left_out: set[int] = set()
        while hears_again and context and context[-1].standing is Standing.HEARD:
            left_out.add(id(context.pop()))
        # The listener has heard all that was said before the user spoke last.
        latest = takewhile(lambda record: record.entry.role != "user", reversed(context))
        heard = {one_line(r.entry.text) for r in latest if r.entry.role == "assistant"}
        return [
            record.entry
            for record in self._records
            if record.place is not Place.HEARD
            and id(record) not in left_out
            and not (record.place is Place.UNPLAYED and one_line(record.entry.text) in heard)
        ]


def _is_speech(spoken: Entry, entry: Entry) -> bool:
    """Return whether an entry holds the user's spoken text, apart from white space."""
    same = (spoken.role, one_line(spoken.text)) == (entry.role, one_line(entry.text))
    return same and entry.kind is Kind.TEXT


def _matches(old: Sequence[Entry], new: Sequence[Entry]) -> list[int | None]:
    """Return for each new entry the index of the old one that it is, or None; in order."""
    begin = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    rest = min(len(old), len(new)) - begin
    backwards = zip(reversed(old), reversed(new), strict=False)
    end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], islice(backwards, rest)))
    matches: list[int | None] = [None] * len(new)
    matches[:begin] = range(begin)
    matches[len(new) - end :] = range(len(old) - end, len(old))
    # A middle that was only added to, or only taken from, has nothing in common.
    middle = SequenceMatcher(
        None, old[begin : len(old) - end], new[begin : len(new) - end], autojunk=False
    )
    for block in middle.get_matching_blocks():
        for n in range(block.size):
            matches[begin + block.b + n] = begin + block.a + n
    return matches


def _mark_summary(held: list[_Record], placed: list[_Record], matches: list[int | None]) -> None:
    """Mark the first entry of a context if it came in the place of several, or before all.

    Args:
        held: The records of the context as it was.
        placed: Those of the context as it is.
        matches: For each of these, which one it was.
    """
    came = sum(1 for _ in takewhile(lambda match: match is None, matches))
    went = next((match for match in matches if match is not None), len(held))
    if held and came and (went == 0 or went > came):
        placed[0].is_summary = True


def _redact(new: _Record, gone: list[_Record]) -> bool:
    """Give a new text of the user the standing of a text that is gone, if it is that, redacted.

    Args:
        new: The record of the new text.
        gone: The records that are gone; the one of the redacted text is removed.

    Returns:
        Whether the new text is a redacted one.
    """
    if new.standing is not Standing.NEW or new.entry.role != "user":
        return False
    for old in gone:
        if old.entry.role == "user" and is_redacted(old.entry.text, new.entry.text):
            new.standing = old.standing
            gone.remove(old)
            return True
    return False
