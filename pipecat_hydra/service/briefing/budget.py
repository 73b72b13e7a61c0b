"""How much a session was told in all, and when another one has to follow.

Theory of operation. Hydra falls silent in a session that was told too much: no error comes, and no
audio (protocol §2). That was seen with some 18 kB of configuration, and where instructions,
functions and history together grew too large. `SessionBudget` therefore keeps the total of what a
session is told, against a limit:

- instructions and functions, which every session is told;
- the history with which the session begins;
- messages and results of functions, which come while it goes on;
- what is said aloud, which is estimated, as text, from the time that it takes. Hydra remembers a
  rolling window of about 40 turns (protocol §5), so older turns count no more.

Whether speech counts for Hydra is unknown, and another session is told only the words that are
known. Without transcripts it would know nothing of a conversation that the old session may well
remember. So speech counts for the warning in any case, but towards another session only as far as
its words are known: by the share of the user's turns, or of the replies, that have words,
whichever is smaller.

The *room* is what instructions and functions leave of the limit. The history of a new session gets
at most half of it. When most of the limit is used, one warning names the largest parts. When 7/8
of the room are used, the budget is spent: another session has to follow, at a turn boundary. Since
each session begins with half of its room free, at least 3/8 of the room are told anew between one
such session and the next.

If instructions and functions leave next to no room, another session would not help. Then the
budget is never spent, and the warning says what to shorten.

Sizes are in bytes of the JSON that is sent. Pure: time is a parameter, in seconds.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    TurnDiscarded,
    UserStarted,
    UserStopped,
)
from pipecat_hydra.wire.codec import configuration_size, encode
from pipecat_hydra.wire.events import (
    ClientEvent,
    ItemCreate,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
)
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, CONFIGURATION_WARNING_BYTES

__all__ = ["SessionBudget"]

_SPENT_SHARE: Final = 7 / 8
_HISTORY_SHARE: Final = 1 / 2
# Of the limit: with less room than this another session would not help.
_LEAST_ROOM: Final = 1 / 8
# 150 words a minute, with a space after each.
_SPEECH_BYTES_PER_SEC: Final = 15
_REMEMBERED_TURNS: Final = 40


class _Part(Enum):
    """A part of what a session is told; the value names it in the warning."""

    INSTRUCTIONS = "instructions"
    FUNCTIONS = "functions"
    HISTORY = "history"
    MESSAGES = "messages"
    RESULTS = "results of functions"
    SPEECH = "speech"


@dataclass(slots=True)
class _Words:
    """How much of what one side says has words that are known.

    Parameters:
        turns: How often that side has spoken in the session.
        known: How many texts have come of that.
    """

    turns: int = 0
    known: int = 0

    @property
    def share(self) -> float:
        return min(1.0, self.known / self.turns) if self.turns else 1.0


class SessionBudget:
    """Owns the total of what the session was told, and the limit on it."""

    def __init__(self, limit_bytes: int | None, *, warning_bytes: int | None = None):
        """Start with no session.

        Args:
            limit_bytes: How much a session may be told in all; None for no limit.
            warning_bytes: How much it was told when the warning is due; None for no warning.
        """
        self._limit = limit_bytes
        self._warning = warning_bytes
        self._sizes = dict.fromkeys(_Part, 0)
        self._turns: deque[int] = deque(maxlen=_REMEMBERED_TURNS)
        self._user_began: float | None = None
        self._reply_secs = 0.0
        self._reply_has_words = self._reply_is_resumed = False
        self._user_words, self._reply_words = _Words(), _Words()
        self._has_warned = False

    @property
    def total(self) -> int:
        """How much the session was told in all, in bytes."""
        return sum(self._sizes.values())

    @property
    def is_spent(self) -> bool:
        """Whether another session has to follow, because this one nears the limit."""
        if self._limit is None or not self._has_room:
            return False
        used = self.total - self._fixed - self._unknown_speech
        return used > _SPENT_SHARE * (self._limit - self._fixed)

    @property
    def _unknown_speech(self) -> float:
        """How much of the speech another session could not be told, for want of words."""
        known = min(self._user_words.share, self._reply_words.share)
        return self._sizes[_Part.SPEECH] * (1 - known)

    @property
    def _fixed(self) -> int:
        """How much every session is told."""
        return self._sizes[_Part.INSTRUCTIONS] + self._sizes[_Part.FUNCTIONS]

    @property
    def _has_room(self) -> bool:
        """Whether another session would have room for more than this one was told."""
        return self._limit is None or self._limit - self._fixed >= _LEAST_ROOM * self._limit

    def history_room(self, configuration: SessionConfiguration) -> int:
        """Return how many bytes the history of a session may take.

        Args:
            configuration: What the session is told besides.
        """
        fixed = sum(_sizes_of(configuration))
        most = CONFIGURATION_WARNING_BYTES - fixed
        if self._limit is None:
            return max(0, most)
        return max(0, min(most, int(_HISTORY_SHARE * (self._limit - fixed))))

    def begin(self, configuration: SessionConfiguration, told: SessionConfiguration) -> None:
        """A session begins.

        Args:
            configuration: What it is told, but for the history.
            told: The same with the history in the instructions.
        """
        self._sizes = dict.fromkeys(_Part, 0)
        instructions, functions = _sizes_of(configuration)
        self._sizes[_Part.INSTRUCTIONS] = instructions
        self._sizes[_Part.FUNCTIONS] = functions
        self._sizes[_Part.HISTORY] = _sizes_of(told)[0] - instructions
        self._turns.clear()
        self._user_words, self._reply_words = _Words(), _Words()

    def sent(self, event: ClientEvent) -> None:
        """Count an event that is sent to the session; audio and requests tell it nothing."""
        if isinstance(event, ItemCreate):
            is_result = event.item.type == "function_call_output"
            part = _Part.RESULTS if is_result else _Part.MESSAGES
            self._sizes[part] += len(encode(event))
        elif isinstance(event, SessionUpdate):
            self._sizes[_Part.FUNCTIONS] = len(encode(event))

    def heard_audio(self, audio: AudioChunk) -> None:
        """Count reply audio."""
        self._reply_secs += len(audio.pcm) / (BYTES_PER_SAMPLE * audio.sample_rate)

    def heard(self, effect: PipelineEffect, now: float) -> None:
        """Count what is said aloud.

        Args:
            effect: What the pipeline is told.
            now: The time.
        """
        match effect:
            case UserStarted():
                self._user_began = now
                self._user_words.turns += 1
            case TurnDiscarded():
                self._user_words.turns = max(0, self._user_words.turns - 1)
            case UserStopped(discarded) if self._user_began is not None:
                if not discarded:
                    self._say(now - self._user_began)
                self._user_began = None
            case ReplyStarted(_, resumed):
                self._reply_is_resumed = resumed
            case AudioChunk():
                self.heard_audio(effect)
            case TextChunk():
                self._reply_has_words = True
            case ReplyEnded():
                self._end_reply()
            case _:
                pass

    def transcribed(self) -> None:
        """Record that the words of a turn of the user are known, whether it is over or not."""
        self._user_words.known += 1

    def _end_reply(self) -> None:
        if self._reply_secs and not self._reply_is_resumed:
            self._reply_words.turns += 1
            self._reply_words.known += self._reply_has_words
        self._say(self._reply_secs)
        self._reply_secs, self._reply_has_words = 0.0, False

    def _say(self, secs: float) -> None:
        self._turns.append(round(secs * _SPEECH_BYTES_PER_SEC))
        self._sizes[_Part.SPEECH] = sum(self._turns)

    def take_warning(self) -> str | None:
        """Return a warning for a person when the session nears the limit; once."""
        if self._has_warned or self._warning is None:
            return None
        if self.total < self._warning and not self.is_spent:
            return None
        self._has_warned = True
        if not self._has_room:
            follows = "Shorten instructions or functions: they leave no room for a conversation"
        elif self._limit is None:
            follows = "No new session begins for that (context_limit_bytes is None)"
        else:
            follows = (
                f"Before it is {self._limit} bytes (context_limit_bytes), a new session begins at "
                "a turn boundary and is told the newest turns, as far as their words are known"
            )
        largest = sorted(self._sizes.items(), key=lambda size: -size[1])[:3]
        parts = ", ".join(f"{part.value} {size}" for part, size in largest if size)
        if self._unknown_speech and self._limit is not None and self._has_room:
            follows += ". Speech without a transcript counts for this warning alone"
        return (
            f"Hydra was told {self.total} bytes in this session; the largest parts are: {parts}. "
            f"It was seen to fall silent when it was told too much. {follows}"
        )


def _sizes_of(configuration: SessionConfiguration) -> tuple[int, int]:
    """Return how many bytes of a configuration are instructions, and how many are the rest."""
    rest = configuration_size(configuration)
    # Without instructions there is no field for them.
    whole = configuration.model_copy(update={"instructions": configuration.instructions or ""})
    return len(encode(SessionConfigure(session=whole, event_id="evt_0000"))) - rest, rest
