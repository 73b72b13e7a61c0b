"""Whatever the server does, the conversation goes on within a bounded time (P1).

A server that keeps to no rule says anything in any order, while the application asks, types,
interrupts, answers calls and replaces the session. Then the server falls silent. After a while the
conversation must be at rest: it takes requests, hears the user, makes calls, and its session can be
replaced and closed. From then on the server keeps to the rules.

`HYDRA_LIVENESS_EXAMPLES=20000` tries so many sequences.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from support import wire
from support.driver import CHUNK, PCM, Driver, calls, creates, outputs, said, sent

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    Effect,
    Fail,
    ReplyEnded,
    ReplyStarted,
    Rest,
    ToolCalls,
    UserStarted,
    UserStopped,
)
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.wire.codec import decode
from pipecat_hydra.wire.events import ResponseCreate, ServerEvent, SessionConfiguration
from pipecat_hydra.wire.protocol import ErrorCode

pytestmark = pytest.mark.timeout(0)

EXAMPLES = int(os.environ.get("HYDRA_LIVENESS_EXAMPLES", "300"))

LONGEST_TURN_SECS = 20.0
# A turn that does not stop, and what is asked for after it and is not answered.
BOUND_SECS = LONGEST_TURN_SECS + 8.0
# The model is asked about one batch of calls after the other.
BATCH_SECS = 8.0
# Words that have no answer are sent again to the next session, and heard before it is asked.
REPLAY_SECS = 4.0
# Longer than a story.
IDLE_SECS = 1000.0


class Application:
    """What is around the conversation: it answers calls, replaces and reopens sessions.

    Args:
        answers: How it answers the calls, in turn: after how many seconds, whether the model shall
            speak about them, and whether an interruption cancelled them.
    """

    def __init__(self, answers: Sequence["Answer"]) -> None:
        # No silence is sent, because each chunk would be a step of its own.
        self.conversation = Conversation(
            model="hydra-v1.1",
            uplink=Uplink(silence_after_secs=1e9),
            longest_turn_secs=LONGEST_TURN_SECS,
            joined_audio_secs=0.16,
            idle_timeout_secs=IDLE_SECS,
        )
        self._driver = Driver(self.conversation).live()
        self._answers = itertools.cycle(answers)
        self._to_answer: list[tuple[float, str, Answer]] = []
        self._replacing = False
        self._ids = itertools.count()
        # What is open in the pipeline, and how many batches of calls there were.
        self.replies = self.turns = self.batches = 0
        self.last_create: str | None = None
        self.rested = self.server_is_tame = False

    @property
    def now(self) -> float:
        return self._driver.now

    def do(self, effects: Sequence[Effect]) -> list[Effect]:
        """Do what the conversation asks for; return all that it has asked for."""
        for effect in effects:
            self.replies += isinstance(effect, ReplyStarted) - isinstance(effect, ReplyEnded)
            self.turns += isinstance(effect, UserStarted) - isinstance(effect, UserStopped)
            self.batches += isinstance(effect, ToolCalls)
        for event in sent(effects):
            if isinstance(event, ResponseCreate):
                self.last_create = event.event_id
        done = list(effects)
        for call in calls(effects):
            answer = next(self._answers)
            self._to_answer.append((self.now + answer[0], call.call_id, answer))
        done += self._answer_calls()
        if any(isinstance(effect, Rest) for effect in effects):
            self.rested = True
        if any(isinstance(effect, Fail) for effect in effects):
            done += self.reconnect()
        if self._replacing and self.conversation.may_be_replaced(self.now):
            done += self.reconnect()
        return done

    def _answer_calls(self) -> list[Effect]:
        done: list[Effect] = []
        while (due := min(self._to_answer, default=None)) is not None and due[0] <= self.now:
            self._to_answer.remove(due)
            _, call_id, (_, respond, cancelled) = due
            done += self.do(
                self.conversation.answer_call(
                    call_id, "{}", self.now, respond=respond, cancelled=cancelled
                )
            )
        return done

    def receive(self, *events: ServerEvent) -> list[Effect]:
        return [effect for event in events for effect in self.do(self._driver.receive(event))]

    def wait(self, secs: float) -> list[Effect]:
        """Let time pass, and do what is due when it is due."""
        until, done = self.now + secs, list[Effect]()
        in_a_row = 0
        while True:
            due = [at for at, _, _ in self._to_answer]
            if (deadline := self.conversation.deadline) is not None:
                due.append(deadline)
            if not due or (at := min(due)) > until:
                self._driver.now = until
                return done
            in_a_row = in_a_row + 1 if at <= self.now else 0
            assert in_a_row < 5, "something stays due"
            self._driver.now = max(self.now, at)
            done += self._answer_calls()
            done += self.do(self.conversation.tick(self.now))

    def reconnect(self) -> list[Effect]:
        """Close the session, if one is open, and open another socket."""
        self._replacing = False
        done = self.do(self.conversation.disconnected(self.now))
        assert self.replies == self.turns == 0
        done += self.do(self.conversation.connected(self.now))
        return done + (self.handshake() if self.server_is_tame else [])

    def replace(self) -> None:
        """Replace the session as soon as it is at a turn boundary."""
        self._replacing = True
        self.conversation.hand_over()
        configuration = SessionConfiguration(generate_initial_response=False)
        self.conversation.configure(configuration, self.now)
        self.do([])

    def keep(self) -> None:
        """Replace the session no more."""
        self._replacing = False
        self.do(self.conversation.keep_session(self.now))

    # What follows is for a server that keeps to the rules

    def tame_server(self) -> None:
        """Let each session that is opened from now on become live."""
        self.server_is_tame = True
        self.handshake()

    def handshake(self) -> list[Effect]:
        """Let the session that is opened become live."""
        events = {Phase.CONNECTED: [wire.created(), wire.configured()]}
        events[Phase.CONFIGURING] = [wire.configured()]
        return self.receive(*events.get(self.conversation.phase, []))

    def answer(self) -> list[Effect]:
        """Let the server give one reply."""
        response = f"lawful {next(self._ids)}"
        return self.receive(
            wire.response_created(response),
            wire.audio(PCM, response),
            wire.audio_done(response),
            wire.done(response),
        )

    def assert_at_rest(self) -> None:
        """Nobody speaks, nothing is owed, and nothing is open."""
        assert self.conversation.phase is Phase.LIVE
        assert self.conversation.at_turn_boundary
        assert not self.conversation.reply_pending
        assert not self._replacing
        assert self.replies == self.turns == 0

    def is_asked(self) -> None:
        """A request is made at once. If no reply comes, it is given up."""
        assert creates(self.do(self.conversation.request_response(self.now))) == 1
        self.wait(8.0)

    def is_typed_to(self) -> None:
        """Typed text is answered."""
        assert creates(self.do(self.conversation.send_message("Hello.", self.now))) == 1
        assert said(self.answer()) == PCM

    def is_spoken_to(self) -> None:
        """The user is heard, and the answer to the user."""
        item = f"lawful {next(self._ids)}"
        done = self.receive(wire.started(item), wire.stopped(item))
        done += self.receive(wire.user_item("completed", item))
        assert [type(e) for e in done if isinstance(e, UserStarted | UserStopped)] == [
            UserStarted,
            UserStopped,
        ]
        assert said(self.answer()) == PCM

    def calls(self) -> None:
        """A call is made and answered once, and the model is asked about it if it is to be."""
        response, call = (f"lawful {next(self._ids)}" for _ in range(2))
        done = self.receive(
            wire.response_created(response),
            wire.call(call, "f", "{}", response),
            wire.done(response),
        )
        done += self.wait(3.0)
        assert outputs(done) == [call]
        if creates(done):
            assert said(self.answer()) == PCM

    def is_replaced(self) -> None:
        """Another session takes the place of this one at once."""
        sessions = self.conversation.sessions
        self.replace()
        assert self.conversation.sessions == sessions + 1
        self.wait(REPLAY_SECS)

    def rests(self) -> None:
        """The session is closed when nobody uses it for long, and another one can be opened."""
        self.wait(IDLE_SECS + 1.0)
        assert self.rested
        self.reconnect()
        self.wait(REPLAY_SECS)


Answer: TypeAlias = tuple[float, bool, bool]
Step: TypeAlias = ServerEvent | Callable[[Application], object] | float


RESPONSES = ["r1", "r2", "r3", None]
ITEMS = ["a", "b", None]
CALLS = ["c1", "c2", "c3"]
STAGES = ["conversation.item.added", "conversation.item.done"]
STATUSES = ["completed", "cancelled", "failed", "incomplete", "odd"]
ERRORS = [
    ErrorCode.INVALID_REQUEST,
    ErrorCode.INVALID_AUDIO,
    ErrorCode.TOOL_RESPONSE_TIMEOUT,
    ErrorCode.TOOL_RESPONSE_TIMEOUT,
    ErrorCode.SERVER_FULL,
    ErrorCode.SESSION_ENDED,
    ErrorCode.INTERNAL,
    "odd",
]


def message(stage: str, item: str | None, role: str | None, status: str | None) -> ServerEvent:
    fields = {"id": item, "role": role, "status": status}
    return wire.event(stage, item={k: v for k, v in fields.items() if v is not None})


def function_item(stage: str, call: str, **fields: object) -> ServerEvent:
    return wire.event(stage, item={**function(call), **fields})


def whole_function_item(call: str) -> ServerEvent:
    return function_item(STAGES[1], call, arguments="{}")


def whole_transcript(response: str | None) -> ServerEvent:
    kind = "response.output_audio_transcript.done"
    return wire.event(kind, response_id=response, transcript="Hi there")


def function(call: str) -> dict[str, object]:
    return {"type": "function_call", "call_id": call, "name": "f"}


def output(response: str | None, call: str) -> ServerEvent:
    return wire.done(response, output=[{**function(call), "arguments": "{}"}])


def each(event: Callable[..., ServerEvent], *choices: Sequence[object]) -> list[ServerEvent]:
    """The events with each combination of these fields."""
    return [event(*fields) for fields in itertools.product(*choices)]


server_events = st.one_of(
    st.sampled_from(each(wire.started, ITEMS)),
    st.sampled_from(each(wire.stopped, ITEMS)),
    st.sampled_from(each(wire.user_item, ["completed", "incomplete"], ITEMS)),
    st.sampled_from(
        [
            *each(message, STAGES, ITEMS, ["user", "assistant", None], ["incomplete", None]),
            *map(wire.event, STAGES),
        ]
    ),
    st.sampled_from(each(wire.response_created, RESPONSES)),
    st.sampled_from(each(wire.audio, [PCM, PCM, PCM[:1], b""], RESPONSES)),
    st.sampled_from(each(wire.audio_done, RESPONSES)),
    st.sampled_from(
        [*each(wire.transcript, ["Hi", ""], RESPONSES), *each(whole_transcript, RESPONSES)]
    ),
    st.sampled_from(each(wire.done, RESPONSES, STATUSES)),
    st.sampled_from(each(output, RESPONSES, CALLS)),
    st.sampled_from(each(wire.call, [*CALLS, None], ["f", None], ["{}", None], RESPONSES)),
    st.sampled_from(each(wire.call_delta, ["", "{", "{}"], [*CALLS, None], [None], RESPONSES)),
    st.sampled_from([*each(function_item, STAGES, CALLS), *each(whole_function_item, CALLS)]),
    st.sampled_from(each(wire.error, ERRORS)),
    st.sampled_from(
        [
            wire.created(),
            wire.configured(),
            wire.event("session.updated"),
            wire.event("warning", code="odd"),
            wire.event("odd"),
            decode("no JSON"),
        ]
    ),
)


def refuse(app: Application) -> object:
    """The server refuses the last request."""
    return app.receive(wire.error(ErrorCode.INVALID_REQUEST, event_id=app.last_create))


wishes: st.SearchStrategy[Step] = st.sampled_from(
    [
        lambda app: app.do(app.conversation.request_response(app.now)),
        lambda app: app.do(app.conversation.send_message("Hello.", app.now)),
        lambda app: app.do(app.conversation.send_message("Hm.", app.now, respond=False)),
        lambda app: app.do(app.conversation.interrupted(app.now)),
        lambda app: app.do(app.conversation.interrupted(app.now, late=True)),
        lambda app: app.do(app.conversation.cancel_response(app.now)),
        lambda app: app.do(app.conversation.microphone(CHUNK, app.now)),
        lambda app: app.conversation.bot_started(app.now),
        lambda app: app.conversation.bot_stopped(),
        Application.replace,
        Application.keep,
        Application.reconnect,
        refuse,
    ]
)

steps = st.lists(
    st.one_of(
        server_events, server_events, server_events, wishes, st.sampled_from([0.05, 0.5, 1.5, 4.0])
    ),
    max_size=25,
)
answers = st.lists(
    st.sampled_from(
        [
            (0.0, True, False),
            (0.0, True, False),
            (0.3, True, False),
            (2.0, True, False),
            (0.1, False, False),
            (0.1, False, True),
        ]
    ),
    min_size=1,
    max_size=3,
)
AT_ONCE = [(0.0, True, False)]
DEMANDS = [
    Application.is_asked,
    Application.is_typed_to,
    Application.is_spoken_to,
    Application.calls,
    Application.is_replaced,
    Application.rests,
]


@given(steps, answers, st.sampled_from(DEMANDS))
@example(
    # A call that waits for another one of its response keeps nothing in progress.
    [
        wire.response_created("r1"),
        wire.call("c1", "f", "{}", "r1"),
        wire.call_delta("", "c2", None, "r1"),
    ],
    AT_ONCE,
    Application.is_asked,
)
@example(
    # Four requests wait for the end of a turn that does not stop, and none is answered.
    [
        wire.started("a"),
        wire.call("c1", "f", "{}", "r1"),
        wire.call("c3", "f", "{}", "r3"),
        lambda app: app.do(app.conversation.request_response(app.now)),
        wire.call("c2", "f", "{}", "r2"),
    ],
    AT_ONCE,
    Application.is_asked,
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_whatever_the_server_does_the_conversation_goes_on(
    steps: list[Step], answers: list[Answer], first: Callable[[Application], None]
):
    app = Application(answers)
    for step in steps:
        match step:
            case float() | int():
                app.wait(step)
            case BaseModel():
                app.receive(step)
            case _:
                step(app)
    app.tame_server()
    app.wait(BOUND_SECS)
    # Some of the batches were made only meanwhile.
    app.wait(BATCH_SECS * app.batches)
    for demand in (first, *DEMANDS):
        app.assert_at_rest()
        demand(app)
    app.assert_at_rest()
