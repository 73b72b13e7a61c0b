"""Which replies the model owes: wanted, asked for, due, or lost with a session.

Theory of operation. A reply that the application wants passes these stations:

    wanted     no session can be asked yet, or the way is not free
    due        the model was asked; the server has not announced the response
    announced  the response exists; `responses.py` knows it from then on
    heard      audio of it was heard, or a function called: nothing is owed any more

A reply to what the user says is due as soon as the user has stopped; nobody has to ask for it.

**Wanted.** A `response.create` would be refused, or would talk over somebody, while the model
speaks, is about to speak, or listens. So a request waits until the way is free. A request answers
all that was said before it is sent, so one waiting request is enough. When the user speaks while
it waits, the answer to the user answers typed text too, and the request is dropped. A request
about a batch of function calls is never dropped (F2). No reply is wanted about calls that a turn
cancelled, unless the turn was noise.

**Due.** A due response that was interrupted is doomed: it is cancelled as soon as it is announced.
A response that was due when the user began to speak is set aside: it may come while the user
speaks, and is due again if the turn was noise. The server may have forgotten it over the noise.
After a while, a due response is not expected any more: sooner if another reply is wanted and the
server may have forgotten the one that is due.

**Before there is a session.** A reply may be wanted in any phase. A session that begins speaks
first, if it is configured so. Its greeting carries the requests that were waiting; they wait again
if the session never becomes live.

**Over a loss.** Replies that were asked for and not heard, replies that were wanted, and replies
about answered calls become one debt. The next session speaks first to pay it. If audio of the user
is sent again to that session, it is asked for the reply only when no turn was found in the audio.

**Handing over.** While a live session is about to be replaced, new requests are for the next
session. Such a request is dropped if the old session answers another turn of the user before.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from pipecat_hydra.conversation.effects import Effect, Send
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.wire.events import ResponseCreate

__all__ = ["OwedReplies"]

_DUE_SECS: Final = 8.0
_DUE_AFTER_NOISE_SECS: Final = 2.0
_REMEMBERED_IDS: Final = 256


@dataclass(frozen=True, slots=True)
class _Request:
    """A reply that is wanted.

    Parameters:
        for_calls: Whether it is to be about the results of function calls.
        calls_of: The response that called, if the server has named it.
    """

    for_calls: bool = False
    calls_of: str | None = None


@dataclass(slots=True)
class _Due:
    """Responses that are due and not announced yet."""

    expected: int = 0
    # How many of the last of them were asked for, and are no answers to the user.
    asked_for: int = 0
    # How many of the first of them are to be cancelled as soon as they are announced.
    doomed: int = 0
    # When the last of them was asked for; None after an interruption.
    asked_at: float | None = None
    # Since when the server may have forgotten them.
    doubted_at: float | None = None

    def expect(self, now: float) -> None:
        """Count one more response as due."""
        self.expected += 1
        self.asked_at = now
        self.doubted_at = None

    def doom(self) -> None:
        """Doom all that are due: nobody wants to hear them."""
        self.doomed = self.expected
        self.asked_at = self.doubted_at = None

    def doubt(self, now: float) -> None:
        """Record that the server may have forgotten them, unless they are to be cancelled."""
        self.doubted_at = now if self.expected and not self.doomed else None

    def announce(self) -> bool:
        """Count one as announced. Return whether it is to be cancelled."""
        doomed = self.doomed > 0
        self.doomed = max(0, self.doomed - 1)
        self.withdraw()
        return doomed

    def withdraw(self) -> None:
        """Count one as not coming."""
        self.expected = max(0, self.expected - 1)
        self.doomed = min(self.doomed, self.expected)
        self.asked_for = min(self.asked_for, self.expected)

    def add_asked_for(self, later: "_Due") -> None:
        """Count as due, too, what was asked for later."""
        self.expected += later.asked_for
        self.asked_for += later.asked_for


class OwedReplies:
    """Keeps account of the replies that the model owes."""

    def __init__(self, event_ids: EventIds):
        """Start with nothing owed.

        Args:
            event_ids: Numbers what is sent.
        """
        self._event_ids = event_ids
        self._wanted: deque[_Request] = deque()
        # Requests that the session being configured answers by speaking first.
        self._carried: tuple[_Request, ...] = ()
        # Requests about calls that a turn cancelled, while the turn may be noise.
        self._withheld: tuple[_Request, ...] = ()
        self._create_ids: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._due = _Due()
        # What was due before a turn, while the turn may be noise.
        self._set_aside = _Due()
        self._due_until = 0.0
        # Whether the application has asked for a response that was not heard.
        self._asked = False
        # Whether a reply was lost with its session, or is to be the greeting of one not live yet.
        self._debt = False
        # Whether the session that begins speaks first, and whether that is to be cancelled.
        self._greeting = False
        self._greeting_doomed = False
        self._handing_over = False
        # How many more turns of the user the old session may answer before the reply that is wanted
        # of the next session counts as given; None if no reply is wanted of it.
        self._next_after_turns: int | None = None

    #
    # What can be asked
    #

    @property
    def waiting(self) -> bool:
        """Whether a reply is wanted, and the model was not asked for it."""
        return bool(self._wanted)

    @property
    def pending(self) -> bool:
        """Whether a reply is due or wanted, or a session that begins is to speak first."""
        due = self._due.expected > self._due.doomed
        return due or self.waiting or self._greeting

    @property
    def for_next_session(self) -> bool:
        """Whether a reply is wanted of the next session, because this one is being replaced."""
        return self._next_after_turns is not None

    @property
    def by_new_session(self) -> bool:
        """Whether a session that begins owes a reply."""
        return self._debt or self.waiting or bool(self._carried)

    @property
    def due_before_turn(self) -> bool:
        """Whether a response that was due when the user's turn began has not come yet."""
        return self._set_aside.expected > 0

    @property
    def deadline(self) -> float | None:
        """When due responses are given up; None if none is due."""
        if not self._due.expected:
            return None
        if self._wanted and self._due.doubted_at is not None:
            return min(self._due_until, self._due.doubted_at + _DUE_AFTER_NOISE_SECS)
        return self._due_until

    #
    # Wanted
    #

    def want(self, *, unanswered_turn: bool) -> None:
        """Record that the application wants a reply.

        Args:
            unanswered_turn: Whether a turn of the user is over and not answered. The answer to it
                does not count as the reply that is wanted now.
        """
        if self._handing_over:
            self._next_after_turns = int(unanswered_turn)
        elif all(request.for_calls for request in self._wanted):
            # One that waits answers all that was said before it is sent.
            self._wanted.append(_Request())

    def want_about_calls(self, response_id: str | None) -> None:
        """Record that a reply about an answered batch of function calls is wanted."""
        self._wanted.append(_Request(for_calls=True, calls_of=response_id))

    def withhold_about_calls(self, response_id: str | None) -> None:
        """Record that a turn cancelled a batch of calls: a reply is wanted if it was noise."""
        self._withheld += (_Request(for_calls=True, calls_of=response_id),)

    def ask(
        self, now: float, *, speaking: bool, response_id: str | None, calling: bool
    ) -> list[Effect]:
        """Ask for the first reply that is wanted and for which the way is free.

        Args:
            now: The time.
            speaking: Whether a response is in flight that the listener hears.
            response_id: The id of the current response, if it has one.
            calling: Whether function calls are open.
        """
        if self._due.expected:
            return []
        for request in self._wanted:
            if request.for_calls:
                # The response that called may not be done before the reply about the calls begins
                # (protocol §6).
                free = not speaking or request.calls_of == response_id
            else:
                # While calls are open, Hydra would take this request for one about the calls, or
                # refuse it.
                free = not speaking and not calling
            if free:
                self._wanted.remove(request)
                self._asked = True
                self.expect(now)
                self._due.asked_for += 1
                create = ResponseCreate(event_id=self._event_ids.next())
                self._create_ids.append(create.event_id or "")
                return [Send(create)]
        return []

    #
    # Due
    #

    def expect(self, now: float) -> None:
        """Count a response as due: it was asked for, or the user has stopped."""
        self._due.expect(now)
        self._due_until = now + _DUE_SECS

    def announced(self, *, over_user: bool) -> tuple[bool, float | None]:
        """Count a response that has begun as announced, if one was due.

        Args:
            over_user: Whether it was due before the user began to speak, who still speaks.

        Returns:
            Whether it is to be cancelled; and when it was asked for, if that is known.
        """
        asked_at = self._due.asked_at
        if over_user:
            return self._set_aside.announce(), asked_at
        self._due.asked_at = None
        return self._due.announce(), asked_at

    def withdraw(self) -> None:
        """Count one response that was due as not coming."""
        if not self._due.expected:
            self._set_aside.withdraw()
        self._due.withdraw()
        self._asked = self._asked and (self._due.expected > 0 or self.due_before_turn)

    def refused(self, event_id: str | None) -> None:
        """Count a response as not coming if the server refuses the event that asked for it."""
        if event_id in self._create_ids:
            self.withdraw()

    def expire(self, now: float) -> bool:
        """Give up due responses whose time is over. Return whether there were any."""
        if self.deadline is None or now < self.deadline:
            return False
        self._due = _Due()
        self._asked = False
        return True

    def heard(self) -> None:
        """Record that a response was heard, called a function, is done or is given up."""
        self._asked = False

    def cancel(self, *, configuring: bool) -> None:
        """Doom due responses and forget the debt: nobody wants to hear them.

        Args:
            configuring: Whether the session is being configured, and may greet.
        """
        self._due.doom()
        self._set_aside.doom()
        self._asked = self._debt = False
        self._greeting_doomed = configuring

    #
    # User turns
    #

    def turn_started(self) -> None:
        """Set aside what is due, because the user begins to speak."""
        self._set_aside, self._due = self._due, _Due()

    def turn_is_real(self) -> None:
        """Drop requests that are not about calls: the answer to the user answers them too."""
        self._wanted = deque(request for request in self._wanted if request.for_calls)

    def earlier_turn_is_real(self) -> None:
        """Do as for a real turn, and drop the requests about calls that the turn cancelled."""
        self.turn_is_real()
        self._withheld = ()

    def turn_is_over(self) -> None:
        """Forget what was set aside or withheld: no turn is open or undecided."""
        self._set_aside = _Due()
        self._withheld = ()

    def turn_was_noise(self, now: float) -> None:
        """Make due again what was set aside, and wanted what was withheld.

        The answer to the turn is due no more, but what was asked for after the turn is.
        """
        asked_for, self._due = self._due, self._set_aside
        self._due.doubt(now)
        self._due.add_asked_for(asked_for)
        self._wanted.extend(self._withheld)
        self.turn_is_over()

    def understood(self) -> None:
        """Count a user turn as understood; a reply that was asked for is owed until heard."""
        if self._next_after_turns is not None:
            left = self._next_after_turns - 1
            self._next_after_turns = left if left >= 0 else None

    #
    # Sessions
    #

    def configured(self, *, speaks_first: bool) -> None:
        """Record whether the session that begins is configured to speak first.

        Args:
            speaks_first: Whether the model speaks first in it.
        """
        self._put_down()
        self._greeting = speaks_first
        if speaks_first:
            # The greeting is owed until the session is live.
            self._debt = True
            self._carried = tuple(self._wanted)
            self._wanted.clear()

    def session_began(self, now: float, *, greeted: bool) -> None:
        """Record that the session is live: its greeting is due, or the debt is wanted.

        Args:
            now: The time.
            greeted: Whether a response has begun in it already.
        """
        debt, self._debt = self._debt, False
        greeting, self._greeting = self._greeting, False
        self._carried = ()
        if greeting and not greeted:
            self._asked = not self._greeting_doomed
            self.expect(now)
            self._due.doomed = int(self._greeting_doomed)
        elif debt and not greeting and all(request.for_calls for request in self._wanted):
            # Audio of the user is sent again first; there may be no turn in it.
            self._wanted.append(_Request())

    def hand_over(self) -> None:
        """Leave replies wanted from now on to the next session: this one is being replaced."""
        self._handing_over = True

    def keep_session(self) -> None:
        """Have this session give the reply that the next one was to give."""
        self._handing_over = False
        if self._next_after_turns is not None:
            self._next_after_turns = None
            self.want(unanswered_turn=False)

    def disconnected(self, *, live: bool, calls_owed: bool) -> None:
        """Turn what is owed into a debt, because the session is gone.

        Args:
            live: Whether it was live.
            calls_owed: Whether calls are answered, and no reply about them was wanted yet.
        """
        if live:
            self._debt = self._asked or self.waiting or calls_owed
            self._wanted.clear()
        self._put_down()
        self.keep_session()
        self._asked = self._greeting_doomed = False
        self._due = _Due()
        self.turn_is_over()
        # Ids mean nothing beyond their session.
        self._create_ids.clear()

    def _put_down(self) -> None:
        """Make the requests wanted again that the greeting of a session carried."""
        self._wanted.extendleft(reversed(self._carried))
        self._carried = ()
