"""Which replies the model owes: wanted, asked for, due, or lost with a session.

Theory of operation. A reply that the application wants passes these stations:

    wanted     no session can be asked yet, or the way is not free
    due        the model was asked; the server has not announced the response
    announced  the response exists; `responses.py` knows it from then on
    heard      something of it was heard, or a function called: nothing is owed any more

A reply to what the user says is due as soon as the user has stopped; nobody has to ask for it.

**Wanted.** A `response.create` while the model speaks, is about to, or listens would be refused
or would talk over somebody, so it waits until the way is free. All that was said before it is sent
it answers, so there is one at a time. When the user speaks meanwhile, the answer to the user is
one to typed text too, and the request is dropped. The request that a batch of function calls is
owed is never dropped (F2). Calls that a turn cancelled are not spoken about, unless the turn was
noise.

**Due.** What is due and was interrupted is doomed: it is cancelled as soon as it is announced.
What was due when the user began to speak is set aside: it may come while the user speaks, and is
due again if that was noise. What has not come after a while will not come any more.

**Before there is a session.** A reply may be wanted in any phase. The session that begins speaks
first, if it is configured so; that carries the requests that were waiting, which wait again if the
session never becomes live.

**Over a loss.** What was asked for and not heard, what was wanted, and what calls with an answer
were still owed become one debt. The session that follows speaks first, or, when it hears the
user's last words again, is asked if there is no word in them.

**Handing over.** While a live session is about to be replaced, the session that follows is the one
to answer. A request then waits for it, unless the user has another turn answered before.

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
    # How many of the first of them are to be cancelled as soon as they are announced.
    doomed: int = 0
    # When the last of them was asked for, unless an interruption came since.
    asked_at: float | None = None

    def expect(self, now: float) -> None:
        """One more is due."""
        self.expected += 1
        self.asked_at = now

    def doom(self) -> None:
        """Nobody wants to hear any of them."""
        self.doomed = self.expected
        self.asked_at = None

    def announce(self) -> bool:
        """One is announced. Returns whether it is to be cancelled."""
        doomed = self.doomed > 0
        self.expected = max(0, self.expected - 1)
        self.doomed = max(0, self.doomed - 1)
        return doomed

    def withdraw(self) -> None:
        """One will not come."""
        self.expected = max(0, self.expected - 1)
        self.doomed = min(self.doomed, self.expected)


class OwedReplies:
    """The one owner of "a reply is owed"."""

    def __init__(self, event_ids: EventIds):
        """Start with nothing owed.

        Args:
            event_ids: Numbers what is sent.
        """
        self._event_ids = event_ids
        self._wanted: deque[_Request] = deque()
        # Requests that the session being configured answers by speaking first.
        self._carried: tuple[_Request, ...] = ()
        # Requests about calls that a turn cancelled which may yet be noise.
        self._withheld: tuple[_Request, ...] = ()
        self._create_ids: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._due = _Due()
        # What was due before a turn that may yet be noise.
        self._set_aside = _Due()
        self._due_until = 0.0
        # Whether the application has asked for a response of which nothing was heard.
        self._asked = False
        # Whether a reply was lost with its session, or promised by one not live yet.
        self._debt = False
        # Whether the session that begins speaks first, and whether nobody wants to hear that.
        self._greeting = False
        self._greeting_doomed = False
        self._handing_over = False
        # How many turns of the user may yet be answered before what is wanted of the next session
        # is answered by that; None if nothing is.
        self._next_after_turns: int | None = None

    #
    # What can be asked
    #

    @property
    def waiting(self) -> bool:
        """Whether a reply is wanted and not asked for."""
        return bool(self._wanted)

    @property
    def pending(self) -> bool:
        """Whether a reply is to come from the session that there is, or from one to begin."""
        due = self._due.expected > self._due.doomed
        return due or self.waiting or self._greeting

    @property
    def for_next_session(self) -> bool:
        """Whether a reply is wanted of the session that follows the one being replaced."""
        return self._next_after_turns is not None

    @property
    def by_new_session(self) -> bool:
        """Whether a session that begins owes a reply to what it is told."""
        return self._debt or self.waiting or bool(self._carried)

    @property
    def due_before_turn(self) -> bool:
        """Whether a response was due when the user's turn began that has not come yet."""
        return self._set_aside.expected > 0

    @property
    def deadline(self) -> float | None:
        """When what is due will not come any more; None if nothing is."""
        return self._due_until if self._due.expected else None

    #
    # Wanted
    #

    def want(self, *, unanswered_turn: bool) -> None:
        """The application wants a reply.

        Args:
            unanswered_turn: Whether a turn of the user is over and not answered. Its answer
                is none to what is wanted after it.
        """
        if self._handing_over:
            self._next_after_turns = int(unanswered_turn)
        elif all(request.for_calls for request in self._wanted):
            # One that waits answers all that was said before it is sent.
            self._wanted.append(_Request())

    def want_about_calls(self, response_id: str | None) -> None:
        """A batch of function calls is answered, and the model is to go on."""
        self._wanted.append(_Request(for_calls=True, calls_of=response_id))

    def withhold_about_calls(self, response_id: str | None) -> None:
        """A turn has cancelled a batch of function calls: go on about it only if that was noise."""
        self._withheld += (_Request(for_calls=True, calls_of=response_id),)

    def ask(
        self, now: float, *, speaking: bool, response_id: str | None, calling: bool
    ) -> list[Effect]:
        """Ask for what is wanted, one at a time, if the way is free.

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
                # A calling response may not be done before its narration has begun (protocol §6).
                free = not speaking or request.calls_of == response_id
            else:
                # While calls are open, Hydra would take it for the wish to hear of them, or
                # refuse it.
                free = not speaking and not calling
            if free:
                self._wanted.remove(request)
                self._asked = True
                self.expect(now)
                create = ResponseCreate(event_id=self._event_ids.next())
                self._create_ids.append(create.event_id or "")
                return [Send(create)]
        return []

    #
    # Due
    #

    def expect(self, now: float) -> None:
        """A response is due: it was asked for, or the user has stopped."""
        self._due.expect(now)
        self._due_until = now + _DUE_SECS

    def announced(self, *, over_user: bool) -> tuple[bool, float | None]:
        """A response has begun that may have been due.

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
        """One response that was due will not come."""
        if not self._due.expected:
            self._set_aside.withdraw()
        self._due.withdraw()

    def refused(self, event_id: str | None) -> None:
        """The server reports an error about an event that the client sent."""
        if event_id in self._create_ids:
            self.withdraw()
            self._asked = self._asked and self._due.expected > 0

    def expire(self, now: float) -> bool:
        """Give up what was due and has not come by now. Returns whether there was any."""
        if not self._due.expected or now < self._due_until:
            return False
        self._due = _Due()
        self._asked = False
        return True

    def heard(self) -> None:
        """Something of a response was heard, a function was called, or the response is done."""
        self._asked = False

    def cancel(self, *, configuring: bool) -> None:
        """Nobody wants to hear what is due, or what was lost.

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
        """The user begins to speak: what is due is set aside."""
        self._set_aside, self._due = self._due, _Due()

    def turn_is_real(self) -> None:
        """The answer to the user is one to what was typed before, too."""
        self._wanted = deque(request for request in self._wanted if request.for_calls)

    def earlier_turn_is_real(self) -> None:
        """The same, of a turn before the one that is open: what it cancelled stays so."""
        self.turn_is_real()
        self._withheld = ()

    def turn_is_over(self) -> None:
        """No turn is open or undecided: nothing is given back any more."""
        self._set_aside = _Due()
        self._withheld = ()

    def turn_was_noise(self) -> None:
        """All is due again that was before, and what the noise cancelled is spoken about."""
        self._due = self._set_aside
        self._wanted.extend(self._withheld)
        self.turn_is_over()

    def understood(self) -> None:
        """Count a user turn as understood. What was asked for besides is owed until it is heard."""
        if self._next_after_turns is not None:
            left = self._next_after_turns - 1
            self._next_after_turns = left if left >= 0 else None

    #
    # Sessions
    #

    def configured(self, *, speaks_first: bool) -> None:
        """It is said what the session that begins shall be.

        Args:
            speaks_first: Whether the model speaks first in it.
        """
        self._put_down()
        self._greeting = speaks_first
        if speaks_first:
            # It owes that until there is a session.
            self._debt = True
            self._carried = tuple(self._wanted)
            self._wanted.clear()

    def session_began(self, now: float, *, greeted: bool) -> None:
        """The session is live.

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
            # There are words of the user to be heard again first, if they are words.
            self._wanted.append(_Request())

    def hand_over(self) -> None:
        """The session is about to be replaced: what is wanted now, the next one answers."""
        self._handing_over = True

    def keep_session(self) -> None:
        """The session is not replaced after all: it answers what the next one was to answer."""
        self._handing_over = False
        if self._next_after_turns is not None:
            self._next_after_turns = None
            self.want(unanswered_turn=False)

    def disconnected(self, *, live: bool, calls_owed: bool) -> None:
        """The session is gone: what was due in it does not come.

        Args:
            live: Whether it was live.
            calls_owed: Whether the model was still to go on about calls that are answered.
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
        """What a session was to answer by speaking first waits again."""
        self._wanted.extendleft(reversed(self._carried))
        self._carried = ()
