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
from enum import Enum
from typing import Final

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
    ReplyEnded,
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
        return self.total - self._fixed > _SPENT_SHARE * (self._limit - self._fixed)

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

    def sent(self, event: ClientEvent) -> None:
        """Count an event that is sent to the session; audio and requests tell it nothing."""
        if isinstance(event, ItemCreate):
            is_result = event.item.type == "function_call_output"
            part = _Part.RESULTS if is_result else _Part.MESSAGES
            self._sizes[part] += len(encode(event))
        elif isinstance(event, SessionUpdate):
            self._sizes[_Part.FUNCTIONS] = len(encode(event))

    def heard(self, effect: PipelineEffect, now: float) -> None:
        """Count what is said aloud.

        Args:
            effect: What the pipeline is told.
            now: The time.
        """
        match effect:
            case UserStarted():
                self._user_began = now
            case UserStopped(discarded) if self._user_began is not None:
                if not discarded:
                    self._say(now - self._user_began)
                self._user_began = None
            case AudioChunk(pcm, sample_rate):
                self._reply_secs += len(pcm) / (BYTES_PER_SAMPLE * sample_rate)
            case ReplyEnded():
                self._say(self._reply_secs)
                self._reply_secs = 0.0
            case _:
                pass

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
