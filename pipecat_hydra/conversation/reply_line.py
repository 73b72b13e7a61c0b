"""Which response is current, and which is next: how one takes the place of another.

Theory of operation. At most one response is current. It becomes so by `response.created`, or by its
first delta if that event is missing. It ceases to be current when it has ended, or when another
takes its place. Its id is then retired: nothing with a retired id ever passes (`response_ids.py`,
A5).

`response.done` may come before the last deltas, and before the text. So a response that is done
rests: for the pipeline it is over, and nothing waits for it. If more of it comes, it wakes. No more
of its audio passes after `output_audio.done`. It has ended when another response begins, or when
the user begins to speak and no more of it is expected. Once a session has shown that it sends
`response.done` early, the bracket of a response stays open for a moment after it.

A response that nobody asked for may begin while another streams. The server means that the user
has interrupted the other one, or that there are two replies in one turn (protocol §5). What becomes
of the other one tells. So the new one is next: it is held, and takes the place of the other one
when that has ended. If the server cancels the other one, or nothing comes of it for a moment, the
user has interrupted it, and what the listener has not heard of it is thrown away.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §3, §5.
"""

from dataclasses import dataclass

from pipecat_hydra.conversation.effects import Effect, Flush
from pipecat_hydra.conversation.reply import Reply
from pipecat_hydra.conversation.response_ids import ResponseIds

__all__ = ["EndedResponse", "ReplyLine"]


@dataclass(frozen=True, slots=True)
class EndedResponse:
    """How a response ended.

    Parameters:
        effects: What the pipeline is told.
        response_id: Its id, if it ever had one.
        announced: Whether it is current, or was. If not, it never will be.
        current: Whether it was current.
        answered: Whether it was generated to its end, and nobody interrupted it.
        took: Seconds from asking to finishing, for a response that ended by itself.
    """

    effects: list[Effect]
    response_id: str | None
    announced: bool = True
    current: bool = False
    answered: bool = False
    took: float | None = None


class ReplyLine:
    """The current response, the next one, and the ids of those that are over."""

    def __init__(self) -> None:
        """Start with no response."""
        self.current: Reply | None = None
        """The current response."""
        self._next: Reply | None = None
        self._ids = ResponseIds()
        # Whether parts of a response came after its `response.done`.
        self._is_done_early = False

    @property
    def is_any_next(self) -> bool:
        """Whether a response waits for the current one to end."""
        return self._next is not None

    @property
    def deadline(self) -> float | None:
        """When the current response rests, counts as stalled or gives its place to the next."""
        if self.current is None:
            return None
        return self.current.quiet_at if self._next is not None else self.current.deadline

    def find(self, response_id: str | None) -> Reply | None:
        """Return the current response, or the next one, if it has the id or no id is given."""
        if self.current is None or response_id in (None, self.current.id):
            return self.current
        return self._next if self._next is not None and self._next.id == response_id else None

    @property
    def last(self) -> Reply | None:
        """The response that has begun last, unless it is over."""
        return self._next or self.current

    def of_item(self, item_id: str | None) -> Reply | None:
        """Return the response in which an item was begun, as far as that is known."""
        for reply in (self.current, self._next):
            if reply is not None and item_id in reply.items:
                return reply
        is_unknown = item_id is None or (self.current is not None and not self.current.items)
        return self.current if is_unknown else None

    def is_known(self, response_id: str | None) -> bool:
        """Whether a response was announced before; a response without an id was not."""
        if response_id is None:
            return False
        reply = self.find(response_id)
        if reply is None:
            return self._ids.is_repeated(response_id)
        return not (reply.generated and reply.announced)

    def was_announced(self, response_id: str | None) -> bool:
        """Whether a response that ends is not the end of one that was never announced."""
        return (
            response_id is None
            or self.find(response_id) is not None
            or self._ids.is_retired(response_id)
        )

    def is_first_sign(self, response_id: str | None) -> bool:
        """Whether a delta is the first sign of a response that was not announced."""
        if response_id is None or self._ids.is_retired(response_id):
            return False
        self.adopt(response_id)
        return self.find(response_id) is None

    def adopt(self, response_id: str | None) -> None:
        """Set the id of the current response, if it was announced without one."""
        reply = self.current
        if reply is None or reply.id is not None or reply.generated:
            return
        if not self._ids.is_retired(response_id):
            reply.id = response_id

    # One after the other

    def put(self, reply: Reply) -> list[Effect]:
        """Make a response that begins the current one, or the next one; return what that ends."""
        if reply.asked_at is None and self.current is not None and self.current.goes_on:
            reply.hold()
            self._next = reply
            return []
        effects = self.end(interrupted=False)
        self._ids.use_again(reply.id)
        self.current = reply
        return effects

    def supersede(self, now: float) -> list[Effect]:
        """Let the next response take the place of one that the user has interrupted."""
        return [*self.end(interrupted=True), Flush(), *self.advance(now)]

    def advance(self, now: float) -> list[Effect]:
        """Let the next response, if there is one, take the place of the current one."""
        if self._next is None:
            return []
        effects = self.end(interrupted=False)
        reply = self.current = self._next
        self._next = None
        reply.progress_at = now
        effects += reply.follow()
        return effects + (self.finish(reply, now) if reply.generated else [])

    def turn_started(self, now: float) -> list[Effect]:
        """End a response that is heard whole, or after which another is next.

        One whose last parts may still come stays: if the turn is noise, they are heard.
        """
        reply = self.current
        if self._next is None and (
            reply is None or not reply.generated or reply.held or reply.may_go_on(now)
        ):
            return []
        effects = self.end(interrupted=True)
        self.current, self._next = self._next, None
        return effects

    def take_all(self) -> list[Reply]:
        """Return the responses that are to be stopped for good; the last one is current."""
        replies = [reply for reply in (self.current, self._next) if reply is not None]
        if self.current is not None and self._next is not None:
            self._ids.retire(self.current.id)
            self.current, self._next = self._next, None
        return replies

    # Its parts and its end

    def wake(self, reply: Reply, now: float) -> list[Effect]:
        """Record that more of a response has come; end its rest."""
        reply.progress_at = now
        is_late = reply.generated and reply.active and not reply.audio_is_whole
        self._is_done_early = self._is_done_early or is_late
        return [*reply.wake()]

    def item_began(self, item_id: str | None) -> None:
        """Record that the last response goes on with another item, which may have audio."""
        reply = self.last
        if reply is not None and not reply.generated:
            reply.audio_is_whole = False
            if item_id is not None:
                reply.items.add(item_id)

    def audio_is_whole(self, response_id: str | None, now: float) -> list[Effect]:
        """Record that no more audio of a response comes; let the response rest if it is done."""
        reply = self.find(response_id)
        if reply is None:
            return []
        reply.audio_is_whole = True
        if reply is not self.current:
            return []
        audio = reply.joined.take()
        if self._next is not None:
            return [*audio, *self.advance(now)]
        is_over = reply.generated and reply.active and not reply.rests
        return [*audio, *(reply.rest() if is_over else [])]

    def done(self, response_id: str | None) -> tuple[Reply | None, bool]:
        """Record that the server has ended a response.

        Returns:
            The response, if it is current or next and had not ended; and whether the server has
            not said so before.
        """
        self.adopt(response_id)
        reply = self.find(response_id)
        if reply is not None and reply.generated:
            reply = None
        announced = reply is not None and reply.announced
        is_new = self._ids.end(response_id, announced=announced)
        if not self.was_announced(response_id):
            self._ids.retire(response_id)
        return reply, is_new

    def generated(self, reply: Reply, status: str | None, now: float) -> list[Effect]:
        """End a generated response; if it is held, keep it until the turn is decided."""
        if status != "cancelled":
            reply.generated = True
            return [] if reply.held else self.finish(reply, now)
        if reply is self._next:
            self._next = None
            self._ids.retire(reply.id)
            return []
        # The server has cancelled what the listener still hears, although nobody speaks.
        flush = reply.active and reply.heard
        effects = self.end(interrupted=True)
        return [*effects, *([Flush()] if flush else []), *self.advance(now)]

    def finish(self, reply: Reply, now: float) -> list[Effect]:
        """Let the current response rest, which is generated: more of it may come."""
        if not reply.active:
            return [*self.end(interrupted=False), *self.advance(now)]
        reply.may_rest = True
        reply.progress_at = now
        if self._is_done_early and not reply.audio_is_whole:
            return []
        return [*reply.rest(), *self.advance(now)]

    def end(self, *, interrupted: bool) -> list[Effect]:
        """End the current response and retire its id, so that nothing with that id passes."""
        reply, self.current = self.current, None
        if reply is None:
            return []
        self._ids.retire(reply.id)
        return [*reply.close(interrupted=interrupted)]

    def clear(self) -> list[Effect]:
        """End the current response and forget all ids: they mean nothing beyond their session."""
        effects = self.end(interrupted=True)
        self._next = None
        self._ids.clear()
        self._is_done_early = False
        return effects
