"""The conversation under random events: what must hold whatever the server does.

The first machine is a server that says anything in any order, with a listener that
checks the invariants on what comes out. The second test is a server that keeps to the
protocol, where besides nothing may be lost.
"""

import copy
import struct
from collections import defaultdict
from collections.abc import Callable
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import wire

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    ReplyEnded,
    ReplyStarted,
    Send,
    TextChunk,
    ToolCalls,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.wire.events import (
    InputAudioAppend,
    ItemCreate,
    ResponseCancel,
    ResponseCreate,
    ServerEvent,
    SessionConfiguration,
    SessionConfigure,
)

RESPONSES = [f"resp_{n}" for n in range(12)]
ITEMS = ["item_1", "item_2", "item_3"]
CALLS = [f"call_{n}" for n in range(8)]

responses = st.sampled_from(RESPONSES)
items = st.sampled_from(ITEMS)
calls = st.sampled_from(CALLS)


connected = precondition(lambda self: self.conversation.phase is not Phase.OFFLINE)


class AnyServer(RuleBasedStateMachine):
    """Says anything; every effect is checked as it comes."""

    def __init__(self):
        super().__init__()
        self.conversation = Conversation(model="hydra-v1.1", resume_after_noise=False)
        self.now = 0.0
        self.counters: dict[str, int] = defaultdict(int)
        self.delivered: dict[str, bytearray] = defaultdict(bytearray)
        self.heard: dict[str, bytearray] = defaultdict(bytearray)
        self.known: list[str] = []
        self.dead: set[str] = set()
        self.suspended: set[str] = set()
        self.announced: set[str] = set()
        self.ended: set[str] = set()
        self.bracket: str | None = None
        self.voice = False
        self.user_speaking = False
        self.user_item = ""
        self.starts = self.stops = 0
        self.called: set[str] = set()
        self.answered: set[str] = set()
        self.asked = 0
        self.live = False
        self.configured_times = 0
        # Until when an interruption is but the echo of a turn, and of one that was noise.
        self.echo_until: float | None = None
        self.noise_until: float | None = None

    # What is checked

    def check(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            self.check_one(effect)
        return effects

    def check_one(self, effect: Effect) -> None:
        match effect:
            case ReplyStarted(response_id):
                assert self.bracket is None
                self.bracket = response_id or ""
            case VoiceStarted():
                assert self.bracket is not None
                assert not self.voice
                self.voice = True
            case AudioChunk(pcm):
                assert self.voice
                self.check_audio(pcm)
            case TextChunk():
                assert self.bracket is not None
            case VoiceEnded():
                assert self.voice
                self.voice = False
            case ReplyEnded():
                assert self.bracket is not None
                assert not self.voice
                self.bracket = None
            case UserStarted():
                assert not self.user_speaking
                self.user_speaking = True
                self.starts += 1
            case UserStopped():
                assert self.user_speaking
                self.user_speaking = False
                self.stops += 1
            case ToolCalls(_, calls):
                for call in calls:
                    assert call.call_id not in self.called
                    self.called.add(call.call_id)
            case Send(event):
                self.check_sent(event)
            case _:
                pass

    def check_audio(self, pcm: bytes) -> None:
        assert len(pcm) % 2 == 0
        number = RESPONSES.index(f"resp_{struct.unpack_from('<H', pcm)[0] // 4096}")
        response = RESPONSES[number]
        assert response not in self.dead
        assert response not in self.suspended
        # Once a response is heard, nothing of an earlier one is.
        self.dead |= set(self.known[: self.known.index(response)])
        self.heard[response] += pcm
        # In order, whole samples, nothing left out and nothing made up.
        assert self.delivered[response].startswith(self.heard[response])

    def check_sent(self, event: object) -> None:
        match event:
            case InputAudioAppend():
                assert self.live
                assert len(event.audio) >= 320
            case SessionConfigure():
                self.configured_times += 1
                assert self.configured_times == 1
            case ResponseCancel(response_id=response_id):
                assert self.live or response_id in self.known
                assert response_id in self.known
            case ItemCreate():
                pass
            case ResponseCreate():
                assert self.live
                self.asked += 1
            case _:
                pass

    def receive(self, event: wire.ServerEvent) -> list[Effect]:
        before = self.conversation.deadline
        effects = self.check(self.conversation.receive(event, self.now))
        if len(effects) == 1 and isinstance(effects[0], AudioChunk):
            self.assert_nothing_is_due_earlier_than(before)
        return effects

    def assert_nothing_is_due_earlier_than(self, deadline: float | None) -> None:
        """The connection leaves its timer as it is after such a step."""
        assert deadline is not None
        assert self.conversation.deadline is not None
        assert self.conversation.deadline >= deadline

    def by_the_long_way(self, event: ServerEvent) -> tuple[list[Effect], float | None]:
        """What audio comes to if it is taken as any other event is."""
        other = copy.deepcopy(self.conversation)
        with patch.object(other, "go_on", return_value=None):
            return other.receive(event, self.now), other.deadline

    def newest(self) -> str | None:
        return self.known[-1] if self.known else None

    # What the server says

    @initialize(live=st.sampled_from([True, True, True, False]))
    def begin(self, live: bool):
        if live:
            self.configure(False)
            self.connect()
            self.session_created()
            self.session_configured()

    @rule()
    def connect(self):
        if self.conversation.phase is Phase.OFFLINE:
            self.configured_times = 0
            # Ids mean nothing beyond their session.
            for seen in (self.known, self.dead, self.suspended, self.announced, self.ended):
                seen.clear()
            for stream in (self.delivered, self.heard):
                stream.clear()
            self.check(self.conversation.connected(self.now))

    @connected
    @rule()
    def session_created(self):
        self.receive(wire.created())

    @connected
    @rule()
    def session_configured(self):
        self.live = self.live or self.conversation.phase is Phase.CONFIGURING
        self.receive(wire.configured())

    @connected
    @rule(item=items)
    def speech_started(self, item: str):
        before = self.starts
        same = self.user_speaking and self.user_item == item
        self.user_item = item
        if not same:
            self.suspended |= set(self.known)
            self.echo_until, self.noise_until = self.now + 1.0, None
        self.receive(wire.started(item))
        # One interruption for each start, and none for a repeated one.
        assert self.starts == before + (0 if same else 1)

    @connected
    @rule(item=items)
    def speech_stopped(self, item: str):
        self.receive(wire.stopped(item))
        assert not self.user_speaking

    @connected
    @rule(item=items)
    def turn_is_real(self, item: str):
        self.receive(wire.user_item("completed", item))

    @connected
    @rule(item=items)
    def turn_is_noise(self, item: str):
        self.perhaps_noise(lambda: self.receive(wire.user_item("incomplete", item)))

    def perhaps_noise(self, step: Callable[[], list[Effect]]) -> None:
        """Do what may discard a turn: a suspended response that is the newest may go on then."""
        newest = self.newest()
        suspended = set(self.suspended)
        if newest is not None:
            self.suspended.discard(newest)
        effects = step()
        if TurnDiscarded() in effects:
            self.noise_until = self.echo_until
        if not any(isinstance(e, ReplyStarted) and e.resumed for e in effects):
            self.suspended = suspended

    @connected
    @rule(response=responses)
    def response_created(self, response: str):
        if response in self.ended:
            # An id that is used again.
            self.ended.remove(response)
            self.known.remove(response)
            for seen in (self.dead, self.suspended):
                seen.discard(response)
            for stream in (self.delivered, self.heard):
                stream.pop(response, None)
        if response not in self.known:
            self.known.append(response)
            self.announced.add(response)
        self.receive(wire.response_created(response))

    @connected
    @rule(response=responses, size=st.integers(0, 40))
    def audio_delta(self, response: str, size: int):
        if response not in self.known:
            self.known.append(response)
        number = RESPONSES.index(response)
        stream = self.delivered[response]
        start = len(stream)
        while len(stream) < start + size:
            # Each sample tells its response and its place.
            sample = len(stream) // 2
            stream += struct.pack("<H", number * 4096 + sample % 4096)[len(stream) % 2 :]
        del stream[start + size :]
        event = wire.audio(bytes(stream[start:]), response)
        expected = self.by_the_long_way(event)
        assert (self.receive(event), self.conversation.deadline) == expected

    @connected
    @rule(response=responses, text=st.text(max_size=5))
    def transcript_delta(self, response: str, text: str):
        if response not in self.known:
            self.known.append(response)
        self.receive(wire.transcript(text, response))

    @connected
    @rule(response=responses, status=st.sampled_from(["completed", "cancelled", "failed"]))
    def response_done(self, response: str, status: str):
        if response not in self.known:
            # It ended before it was announced: it never will be.
            self.known.insert(0, response)
            self.dead.add(response)
        if response in self.announced:
            self.ended.add(response)
        self.receive(wire.done(response, status))
        if status == "cancelled":
            self.dead.add(response)

    @connected
    @rule(response=responses)
    def audio_done(self, response: str):
        self.receive(wire.audio_done(response))

    @connected
    @rule(response=responses, call=calls)
    def call_done(self, response: str, call: str):
        self.receive(wire.call(call, response=response))

    @connected
    @rule(response=responses, call=calls)
    def call_begun(self, response: str, call: str):
        self.receive(wire.call_delta("{", call, "f", response))

    @rule(message=st.binary(max_size=30))
    def garbage(self, message: bytes):
        self.receive(wire.decode(message))

    @rule(code=st.sampled_from(["invalid_frame", "server_full", "internal_error", "x"]))
    def error(self, code: str):
        self.receive(wire.error(code))

    # What the application, the connection and the clock do

    @rule(greet=st.booleans())
    def configure(self, greet: bool):
        configuration = SessionConfiguration(generate_initial_response=greet)
        self.check(self.conversation.configure(configuration, self.now))

    @rule()
    def disconnect(self):
        self.check(self.conversation.disconnected(self.now))
        self.live = False
        self.echo_until = self.noise_until = None
        self.called.clear()
        self.answered.clear()
        self.dead |= set(self.known)
        assert self.bracket is None
        assert not self.user_speaking
        assert self.starts == self.stops

    @rule()
    def interrupted(self):
        of_noise = self.noise_until is not None and self.now <= self.noise_until
        self.echo_until = self.noise_until = None
        effects = self.check(self.conversation.interrupted(self.now))
        if Discard() in effects and not of_noise:
            self.dead |= set(self.known)

    @rule()
    def microphone(self):
        before = self.conversation.deadline
        sent = self.conversation.microphone(b"\x01\x00" * 320, self.now)
        if self.check([*sent]):
            self.assert_nothing_is_due_earlier_than(before)

    @rule(call=calls)
    def answer(self, call: str):
        effects = self.check(self.conversation.answer_call(call, "{}", self.now))
        outputs = [e for e in effects if isinstance(e, Send) and isinstance(e.event, ItemCreate)]
        if outputs:
            assert call not in self.answered
            self.answered.add(call)
        assert len(outputs) <= 1

    @rule()
    def request_response(self):
        self.check(self.conversation.request_response(self.now))

    @rule(secs=st.floats(0.0, 3.0))
    def time_passes(self, secs: float):
        self.now += secs
        # A turn of which nothing comes is given up as noise.
        self.perhaps_noise(lambda: self.check(self.conversation.tick(self.now)))

    @invariant()
    def nothing_is_due_while_offline(self):
        if self.conversation.phase is Phase.OFFLINE:
            assert self.conversation.deadline is None
            assert self.bracket is None
            assert not self.user_speaking


# 600 runs of up to 50 steps, some 27 000 in all.
AnyServer.TestCase.settings = settings(max_examples=600, stateful_step_count=50)
TestAnyServer = AnyServer.TestCase


turns = st.lists(
    st.fixed_dictionaries(
        {
            "deltas": st.lists(st.binary(max_size=50), max_size=6),
            # Where the next user turn begins: during the reply, or after it.
            "barge_in_after": st.none() | st.integers(0, 6),
            "late": st.integers(0, 3),
            "noise_after": st.none() | st.integers(0, 6),
            "interrupted_after": st.none() | st.integers(0, 6),
            "foreign_before_created": st.booleans(),
        }
    ),
    max_size=8,
)


@given(turns)
@settings(max_examples=300)
def test_with_a_server_that_keeps_to_the_protocol_nothing_is_lost(
    scripts: list[dict[str, object]],
):
    """What of a reply came before it was cut off is heard, all of it, and nothing after."""
    conversation = Conversation(model="hydra-v1.1")
    now = 0.0
    conversation.configure(SessionConfiguration(), now)
    conversation.connected(now)
    heard = bytearray()
    cancels: list[str | None] = []

    def take(effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case AudioChunk(pcm):
                    heard.extend(pcm)
                case Send(ResponseCancel(response_id=response_id)):
                    cancels.append(response_id)
                case _:
                    pass

    def say(*events: wire.ServerEvent) -> None:
        for event in events:
            take(conversation.receive(event, now))

    say(wire.created(), wire.configured())
    for n, script in enumerate(scripts):
        now += 10.0
        response, item, heard_before = f"resp_{n}", f"item_{n}", len(heard)
        deltas: list[bytes] = script["deltas"]  # type: ignore[assignment]
        say(wire.started(item))
        take(conversation.interrupted(now))
        say(wire.stopped(item), wire.user_item("completed", item))
        if script["foreign_before_created"]:
            now += 2.0
            take(conversation.interrupted(now))
            say(wire.response_created(response))
            assert cancels[-1] == response
            say(*[wire.audio(delta, response) for delta in deltas])
            say(wire.done(response, "cancelled", "client_cancelled"))
            assert len(heard) == heard_before
            continue
        say(wire.response_created(response))
        expected = bytearray()
        cut = False
        for position, delta in enumerate(deltas):
            if position == script["noise_after"] and not cut:
                noise = f"noise_{n}"
                say(wire.started(noise))
                take(conversation.interrupted(now))
                say(wire.audio(delta, response), wire.stopped(noise))
                say(wire.user_item("incomplete", noise))
                expected += delta
                now += 2.0
                continue
            if position == script["interrupted_after"] and not cut:
                take(conversation.interrupted(now + 2.0))
                assert cancels[-1] == response
                cut = True
            if position == script["barge_in_after"] and not cut:
                say(wire.started(f"barge_{n}"))
                take(conversation.interrupted(now))
                say(wire.done(response, "cancelled", "interrupted"))
                cut = True
            say(wire.audio(delta, response))
            if not cut:
                expected += delta
        if not cut:
            say(wire.audio_done(response))
        say(wire.done(response, "cancelled" if cut else "completed"))
        for _ in range(int(script["late"])):  # type: ignore[call-overload]
            say(wire.audio(b"late", response))
        say(wire.stopped(f"barge_{n}"))
        assert bytes(heard[heard_before:]) == bytes(expected[: len(expected) // 2 * 2])


def test_what_began_over_one_turn_is_not_heard_after_another():
    state = AnyServer()
    state.begin(live=True)
    state.request_response()
    state.interrupted()
    state.speech_started(item="item_1")
    state.audio_delta(response="resp_0", size=2)
    state.speech_started(item="item_2")
    state.speech_stopped(item="item_2")
    assert not state.heard["resp_0"]


def test_a_turn_of_which_nothing_comes_counts_as_noise():
    state = AnyServer()
    state.begin(live=True)
    state.audio_delta(response="resp_1", size=2)
    state.audio_delta(response="resp_0", size=2)
    state.speech_started(item="item_1")
    state.speech_stopped(item="item_1")
    state.time_passes(secs=3.0)
    assert state.heard["resp_0"]
