"""A live session in which the server says anything at all (S3).

Each example is a call that has begun well, then gets up to forty messages that are events no
more, or never were, and then has a turn as it should be. `FUZZ=1000` tries that many examples.
"""

import asyncio
import copy
import json
import os
from typing import Any

import pytest
from chaos.checks.replies import brackets
from chaos.model import noise, quick
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pipecat.frames.frames import (
    BotSpeakingFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from support.bursts import Puppet, audio, created, done, item_done, puppet, started, stopped
from support.call import NO_GREETING, SHAPES, Call, Shape, call
from support.virtual_time import VirtualTimeLoop
from websockets.frames import Frame, Opcode

EXAMPLES = int(os.environ.get("FUZZ") or 10)

Message = tuple[bytes, bool]
"""What is sent, and whether as text."""

REPLY = noise("fuzz", 0.2)

# Messages that were events.

RESPONSES = ("resp_1", "resp_2")
ITEMS = ("item_1", "item_2")
CALLS = ("call_1", "call_2")


def told(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "event_id": "sv_1", **fields}


def _events() -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        told("session.created", session_id="s", session={"model": "hydra-v1.1"}),
        told("session.configured", session={"output_audio_sample_rate": 48_000, "voice": "zoe"}),
        told("session.updated", session={"tools": []}),
        told("warning", code="model_deprecated", message="It goes."),
        told(
            "error", error={"type": "t", "code": "invalid_request", "message": "No.", "param": "p"}
        ),
        told("error", error={"code": "tool_response_timeout", "event_id": "evt_1"}),
        told("response.nobody_knows", data=[1, {"a": None}]),
    ]
    for item in ITEMS:
        events += [started(item), stopped(item)]
        events += [item_done(status, item) for status in ("completed", "incomplete")]
        body = {"id": item, "type": "message", "role": "user", "status": "in_progress"}
        events.append(told("conversation.item.added", item=body, previous_item_id=None))
    for response, call_id in zip(RESPONSES, CALLS, strict=True):
        owner = {"response_id": response, "item_id": "item_9"}
        item = {"id": "item_9", "type": "function_call", "call_id": call_id, "name": "quick"}
        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        whole = {"id": response, "status": "completed", "output": [item], "usage": usage}
        why = {"reason": "turn_detected", "error": {"code": "c", "message": "m"}}
        events += [
            created(response),
            audio(response, noise(response, 0.02)),
            audio(response, noise(response, 0.02)),
            told("response.output_audio_transcript.delta", **owner, delta="So it is."),
            told("response.output_audio.done", **owner),
            told("conversation.item.added", item=item),
            told(
                "response.function_call_arguments.delta",
                **owner,
                call_id=call_id,
                name="quick",
                delta="{",
            ),
            told(
                "response.function_call_arguments.done",
                **owner,
                call_id=call_id,
                name="quick",
                arguments="{}",
            ),
            told("response.done", response=whole),
            told("response.done", response={"id": response, "status_details": why}),
            done(response, "cancelled"),
            done(response, "failed"),
        ]
    return events


EVENTS = _events()

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from((0, -1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("-inf"))),
    st.sampled_from(("", "\ud800", "\0", "\x1b[2J", "in_progress", "user", "=", "ÿ" * 5_000)),
    st.text(max_size=10),
    st.sampled_from(RESPONSES + ITEMS + CALLS),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All containers in a value, each with each of its keys."""
    items = list(value.items()) if isinstance(value, dict) else []
    items += enumerate(value) if isinstance(value, list) else []
    found = [(value, key) for key, _ in items]
    return found + [place for _, inner in items for place in _places(inner)]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """An event with fields missing, added, twice, or of other types; or as it should be."""
    event = copy.deepcopy(draw(st.sampled_from(EVENTS)))
    for _ in range(draw(st.integers(0, 2))):
        places = _places(event)
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(("delete", "replace", "replace", "deepen", "move"))):
            case "delete":
                del container[key]
            case "replace":
                container[key] = draw(values)
            case "deepen":
                container[key] = [container[key]]
            case _:
                event[draw(st.sampled_from(("id", "item", "response", "type")))] = container[key]
    data = json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        twin = json.dumps(draw(st.sampled_from(EVENTS))).encode()
        data = data[:-1] + b"," + twin[1:]  # each field twice
    return data


@st.composite
def splices(draw: st.DrawFn) -> bytes:
    """An event with bytes cut out or put in."""
    data = draw(mutants())
    start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 20))
    return data[:start] + draw(st.binary(max_size=6)) + data[start + length :]


def nested(depth: int, within: bytes) -> bytes:
    return within + b"[" * depth + b"]" * depth + b"}"


messages: st.SearchStrategy[Message] = st.tuples(
    st.one_of(
        mutants(),
        mutants(),
        mutants(),
        splices(),
        st.binary(max_size=60),
        values.map(lambda value: json.dumps(value).encode()),
        st.builds(
            nested,
            st.sampled_from((30, 200, 2_000, 100_000)),
            st.sampled_from((b"", b'{"type":', b'{"type":"response.done","response":')),
        ),
    ),
    st.integers(0, 4).map(bool),
)

# The call.


class Fuzzed:
    """A call whose server is on strings."""

    def __init__(self, server: Puppet, talk: Call):
        self.server = server
        self.talk = talk
        self.frames = talk.frames

    def send(self, sent: list[Message]) -> None:
        frames = (Frame(Opcode.TEXT if text else Opcode.BINARY, data) for data, text in sent)
        data = b"".join(frame.serialize(mask=False, extensions=[]) for frame in frames)
        self.server.connections[-1].transport.write(data)

    async def settle(self) -> None:
        """Wait until all that was sent has been taken, and what came of it."""
        self.server.burst(told("warning", code="end_of_the_fuzz"))
        pong = await self.server.connections[-1].ping()
        await asyncio.wait_for(pong, 10)
        before, count = -1, 0
        while before != count:
            await asyncio.sleep(0.05)
            dull = (InputAudioRawFrame, BotSpeakingFrame, UserSpeakingFrame)
            before = count
            count = sum(not isinstance(frame, dull) for frame, _ in self.frames.pushed)

    async def clean_turn(self) -> None:
        """The user speaks, and is answered."""
        interruptions = len(self.frames.of(InterruptionFrame))
        self.server.burst(started("item_clean"))
        await self.talk.until(lambda: len(self.frames.of(InterruptionFrame)) > interruptions)
        ended = len(self.frames.of(LLMFullResponseEndFrame))
        self.server.burst(
            stopped("item_clean"),
            item_done("completed", "item_clean"),
            created("resp_clean"),
            audio("resp_clean", REPLY),
            done("resp_clean"),
        )
        await self.talk.until(lambda: len(self.frames.of(LLMFullResponseEndFrame)) > ended)
        await self.talk.until(lambda: all(len(turns) % 2 == 0 for turns in self._turns()))

    def check(self) -> None:
        assert len(self.server.connections) == 1
        assert not self.talk.running.done()
        assert self.talk.llm.is_usable
        errors = self.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        lasting = [e for e in errors if e.fatal or (e.category and e.category.is_permanent)]
        assert not lasting
        spoken = self.frames.of(TTSAudioRawFrame)
        assert {frame.sample_rate for frame in spoken} == {24_000}
        assert b"".join(frame.audio for frame in spoken).endswith(REPLY)
        assert brackets(frame for frame, _ in self._downstream()) == (None, [])
        for turns in self._turns():
            assert turns == turns[:2] * (len(turns) // 2)

    def _turns(self) -> list[list[str]]:
        """Names of the frames that tell of the user's turns, by who tells."""
        return [
            self.frames.names(UserStartedSpeakingFrame, UserStoppedSpeakingFrame),
            self.frames.names(ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame),
        ]

    def _downstream(self) -> list[tuple[Any, FrameDirection]]:
        return [p for p in self.frames.pushed if p[1] is FrameDirection.DOWNSTREAM]


async def survives(shape: Shape, sent: list[Message]) -> None:
    tools: dict[str, Any] = {"tools": [quick]}
    if shape == "aggregators":
        tools = {"context": LLMContext(tools=[quick])}
    async with puppet() as server, call(server, shape, settings=NO_GREETING, **tools) as talk:
        await asyncio.wait_for(server.configured.wait(), 10)
        fuzzed = Fuzzed(server, talk)
        fuzzed.send(sent)
        await fuzzed.settle()
        await fuzzed.clean_turn()
        fuzzed.check()


ALL: list[Message] = [(json.dumps(event).encode(), True) for event in EVENTS]


@pytest.mark.timeout(300 + 5 * EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(SHAPES), st.lists(messages, min_size=1, max_size=40))
@example("bare", ALL)
@example("aggregators", ALL[::-1])
@example("bare", [(b"\xff\xfe\xed\xa0\x80", True), (b"", True), (b"\xff", False), (b"", False)])
def test_nothing_that_the_server_says_ends_a_call(shape: Shape, sent: list[Message]):
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(survives(shape, sent))
