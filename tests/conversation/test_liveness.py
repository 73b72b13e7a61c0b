"""Whatever the server does, the conversation goes on within a bounded time (P1).

A server that keeps to no rule says anything in any order, then falls silent for good. The
application answers every call at once. After a while the conversation must take a request, be
replaced, rest and end. `HYDRA_LIVENESS_EXAMPLES=20000` tries so many sequences.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import wire
from support.driver import CHUNK, PCM, Driver, calls, creates

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    Effect,
    ReplyEnded,
    ReplyStarted,
    ToolCalls,
    UserStarted,
    UserStopped,
)
from pipecat_hydra.wire.events import ServerEvent

pytestmark = pytest.mark.timeout(0)

EXAMPLES = int(os.environ.get("HYDRA_LIVENESS_EXAMPLES", "300"))

LONGEST_TURN_SECS = 20.0
# A turn that does not stop, the answer to it that does not come, a response that stalls, a call of
# it that is never whole, what was asked meanwhile and is not answered.
BOUND_SECS = LONGEST_TURN_SECS + 8.0 + 12.0 + 2.0 + 8.0
# The model is asked about one batch of calls after the other.
BATCH_SECS = 8.0

responses = st.sampled_from(["r1", "r2", "r3", None])
items = st.sampled_from(["a", "b", None])
call_ids = st.sampled_from(["c1", "c2", "c3"])
statuses = st.sampled_from(["completed", "cancelled", "failed", "incomplete", "odd"])
stages = st.sampled_from(["conversation.item.added", "conversation.item.done"])


def _function_item(stage: str, call: str) -> ServerEvent:
    return wire.event(stage, item={"type": "function_call", "call_id": call, "name": "f"})


def _output(response: str | None, call: str) -> ServerEvent:
    item = {"type": "function_call", "call_id": call, "name": "f", "arguments": "{}"}
    return wire.done(response, output=[item])


events = st.one_of(
    st.builds(wire.started, items),
    st.builds(wire.stopped, items),
    st.builds(wire.user_item, st.sampled_from(["completed", "incomplete"]), items),
    st.builds(wire.response_created, responses),
    st.builds(wire.audio, st.just(PCM), responses),
    st.builds(wire.audio_done, responses),
    st.builds(wire.transcript, st.just("Hi"), responses),
    st.builds(wire.done, responses, statuses),
    st.builds(_output, responses, call_ids),
    st.builds(wire.call, call_ids, st.sampled_from(["f", None]), st.just("{}"), responses),
    st.builds(wire.call_delta, st.sampled_from(["", "{", "{}"]), call_ids, st.none(), responses),
    st.builds(_function_item, stages, call_ids),
    st.builds(wire.error, st.sampled_from(["tool_response_timeout", "internal_error"])),
    st.builds(wire.created),
    st.builds(wire.configured),
)

Step = Callable[[Conversation, float], list[Effect]]


def _nothing(step: Callable[[Conversation, float], Any]) -> Step:
    def take(conversation: Conversation, now: float) -> list[Effect]:
        step(conversation, now)
        return []

    return take


wishes: st.SearchStrategy[Step] = st.sampled_from(
    [
        lambda conversation, now: conversation.request_response(now),
        lambda conversation, now: conversation.send_message("Hello.", now),
        lambda conversation, now: conversation.interrupted(now),
        lambda conversation, now: conversation.cancel_response(now),
        lambda conversation, now: [*conversation.microphone(CHUNK, now)],
        _nothing(lambda conversation, now: conversation.bot_started(now)),
        _nothing(lambda conversation, now: conversation.bot_stopped()),
    ]
)

steps = st.lists(
    st.one_of(events, events, events, wishes, st.sampled_from([0.05, 0.5, 1.5, 4.0])), max_size=25
)


class _Application:
    """Answers each call, and counts what is open in the pipeline."""

    def __init__(self) -> None:
        self.driver = Driver(
            Conversation(
                model="hydra-v1.1", longest_turn_secs=LONGEST_TURN_SECS, idle_timeout_secs=None
            )
        ).live()
        self.replies = self.turns = self.batches = 0

    def take(self, effects: list[Effect]) -> list[Effect]:
        taken = list(effects)
        for effect in taken:
            self.replies += isinstance(effect, ReplyStarted) - isinstance(effect, ReplyEnded)
            self.turns += isinstance(effect, UserStarted) - isinstance(effect, UserStopped)
            self.batches += isinstance(effect, ToolCalls)
            for call in calls([effect]):
                conversation = self.driver.conversation
                taken += conversation.answer_call(call.call_id, "{}", self.driver.now)
        return taken

    def wait(self, secs: float) -> None:
        """Let time pass, and do what is due when it is due, within a quarter of a second."""
        until = self.driver.now + secs
        while self.driver.now < until:
            self.driver.now = min(until, self.driver.now + 0.25)
            deadline = self.driver.conversation.deadline
            if deadline is not None and deadline <= self.driver.now:
                self.take(self.driver.conversation.tick(self.driver.now))

    def assert_alive(self) -> None:
        conversation = self.driver.conversation
        assert conversation.at_turn_boundary
        assert not conversation.reply_pending
        assert self.replies == 0
        assert creates(self.take(conversation.request_response(self.driver.now))) == 1


@given(steps)
@example(
    # A call that waits for another one of its response keeps nothing in progress.
    [
        wire.response_created("r1"),
        wire.call("c1", "f", "{}", "r1"),
        wire.call_delta("", "c2", None, "r1"),
    ]
)
@example(
    # Four requests wait for the end of a turn that does not stop, and none is answered.
    [
        wire.started("a"),
        wire.call("c1", "f", "{}", "r1"),
        wire.call("c3", "f", "{}", "r3"),
        lambda conversation, now: conversation.request_response(now),
        wire.call("c2", "f", "{}", "r2"),
    ]
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_whatever_the_server_does_the_conversation_goes_on(
    steps: list[ServerEvent | Step | float],
):
    application = _Application()
    for step in steps:
        if isinstance(step, float | int):
            application.wait(step)
        elif callable(step):
            application.take(step(application.driver.conversation, application.driver.now))
        else:
            application.take(application.driver.receive(step))
    application.wait(BOUND_SECS)
    # Some of the batches were made only meanwhile.
    application.wait(BATCH_SECS * application.batches)
    application.assert_alive()
    # Neither is there an answer to that.
    application.wait(10.0)
    application.assert_alive()
    application.take(application.driver.conversation.disconnected(application.driver.now))
    assert application.replies == application.turns == 0
