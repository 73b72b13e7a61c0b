"""What a recording comes to, in calls that are laid out by hand: so all moments are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.recordings import USER_RATE, SampleCall, tone, write_recording

from pipecat_hydra.recording import Recording
from pipecat_hydra.recording.course import LATENCIES, Course

TOLERANCE = 0.01
"""A chunk of the microphone laid at its time, and a step of the measurement."""

Write = Callable[..., Course]


@pytest.fixture
def course(tmp_path: Path) -> Write:
    """Write a call, and return its course."""

    def written(call: SampleCall, **options: Any) -> Course:
        return Course.of(Recording.open(call.write(tmp_path / "call", **options)))

    return written


def speech(secs: float):
    return tone(secs, USER_RATE, hz=300)


def near(*values: float) -> Any:
    return pytest.approx(list(values), abs=TOLERANCE)


def test_an_answer_is_measured_from_the_last_sound_to_the_first(course: Write):
    call = SampleCall(8)
    call.say(1, speech(2), "Hello?")
    call.reply(3.5, tone(2), heard_from=3.7, words="Hello.")
    came = course(call)
    (turn,), (reply,) = came.turns, came.replies
    assert [turn.said_from, turn.said_until] == near(1, 3)
    assert (turn.words, turn.is_discarded) == ("Hello?", False)
    assert [reply.heard_from, reply.heard_until, reply.heard_secs] == near(3.7, 5.7, 2)
    assert (reply.turn, reply.words, reply.status, reply.is_cut) == (
        1,
        "Hello.",
        "completed",
        False,
    )
    assert came.answer_to(turn) is reply
    assert came.latencies["answer"] == near(0.7)
    assert came.latencies["ttfb"] == near(0.15)
    assert [*came.latencies] == list(LATENCIES)
    assert came.is_complete
    assert came.is_measured


def test_silence_at_the_begin_of_a_reply_is_not_heard(course: Write):
    call = SampleCall(8)
    call.say(1, speech(1))
    pcm = tone(2)
    pcm[: 24_000 // 2] = 0
    call.reply(2.5, pcm, heard_from=2.6)
    assert course(call).latencies["answer"] == near(1.1)


def test_a_greeting_answers_no_turn(course: Write):
    call = SampleCall(8)
    call.reply(0.3, tone(1), heard_from=0.5)
    call.say(2, speech(1))
    came = course(call)
    assert [reply.turn for reply in came.replies] == [None]
    assert came.latencies["answer"] == []
    assert came.answer_to(came.turns[0]) is None


def test_a_barge_in_is_measured_from_the_first_sound_to_silence(course: Write):
    call = SampleCall(12)
    call.say(1, speech(1))
    call.reply(2.4, tone(6), heard_from=2.6, cut=5.35)
    call.say(5, speech(1), reported=(0.25, 0.4))
    call.interrupt(5.26)
    call.interrupt(5.27)  # by another processor
    call.reply(6.5, tone(1), heard_from=6.7)
    came = course(call)
    (interruption,) = came.interruptions
    assert interruption.turn == 2
    assert interruption.response_id == came.replies[0].response_id
    assert [interruption.speech_began, interruption.silent_at] == near(5, 5.35)
    assert came.latencies["barge_in"] == near(0.35)
    assert came.latencies["answer"] == near(0.6, 0.7)
    assert [reply.is_cut for reply in came.replies] == [True, False]
    assert came.replies[0].generated_secs == pytest.approx(6)
    assert came.replies[0].heard_secs == pytest.approx(2.75, abs=TOLERANCE)


def test_a_reply_that_is_over_is_not_interrupted(course: Write):
    call = SampleCall(8)
    call.reply(0.3, tone(2), heard_from=0.5)
    call.say(2.45, speech(1))
    call.interrupt(2.65)
    came = course(call)
    assert came.interruptions == []
    assert not came.replies[0].is_cut


def test_a_reply_that_is_cut_before_it_is_heard_is_cut(course: Write):
    call = SampleCall(8)
    call.reply(1, tone(2), heard_from=1.2, cut=1.2)
    call.interrupt(1.15)
    came = course(call)
    assert came.replies[0].is_cut
    assert came.interruptions == []


def test_replies_without_a_pause_are_told_apart_by_their_length(course: Write):
    call = SampleCall(10)
    call.reply(0.3, tone(2, hz=300), heard_from=0.5)
    call.reply(0.9, tone(3, hz=600), heard_from=2.5)
    first, second = course(call).replies
    assert [first.heard_from, first.heard_until] == near(0.5, 2.5)
    assert [second.heard_from, second.heard_until] == near(2.5, 5.5)


def test_what_is_heard_before_any_reply_belongs_to_none(course: Write):
    call = SampleCall(8)
    call.reply(3, tone(1), heard_from=3.2)
    # A fixed phrase by another service.
    call.play(tone(0.5, hz=900), 1.0)
    (reply,) = course(call).replies
    assert [reply.heard_from, reply.heard_until] == near(3.2, 4.2)


def test_a_tool_turn_is_measured_to_the_sound_about_its_result(course: Write):
    call = SampleCall(10)
    call.say(1, speech(1))
    call.call(2.4, "get_weather", {"city": "Paris"}, answered=3.4, result={"sky": "sunny"})
    call.reply(3.6, tone(2), heard_from=3.9)
    came = course(call)
    (tool,) = came.tools
    assert (tool.name, tool.call_id, tool.turn) == ("get_weather", "call_1", 1)
    assert (tool.arguments, tool.result) == ({"city": "Paris"}, {"sky": "sunny"})
    assert [tool.asked, tool.answered, tool.narrated] == near(2.45, 3.4, 3.9)
    assert came.latencies["tool_turn"] == near(1.9)
    assert came.latencies["answer"] == []


def test_a_filler_before_a_tool_is_an_answer(course: Write):
    call = SampleCall(10)
    call.say(1, speech(1))
    call.reply(2.4, tone(0.8), heard_from=2.5, words="Let me see.")
    call.call(2.5, "get_weather", {}, answered=4, result="sunny")
    call.reply(4.2, tone(2), heard_from=4.4)
    came = course(call)
    assert came.tools[0].result == "sunny"
    assert came.latencies["answer"] == near(0.5)
    assert came.latencies["tool_turn"] == near(2.4)


def test_a_function_that_fails_or_is_never_answered(course: Write):
    call = SampleCall(10)
    call.call(1, "a", "no JSON {", answered=1.5, result={"error": "boom"}, call_id="call_a")
    call.add(1.4, "pipeline", "function_ended", call_id="call_a", error="boom")
    call.call(2, "b", {}, answered=20, result="late", call_id="call_b", response_id="resp_b")
    call.records = [record for record in call.records if record["t"] < 10]
    call.add(3, "pipeline", "function_ended", call_id="call_b", cancelled=True)
    first, second = course(call).tools
    assert (first.arguments, first.error, first.is_cancelled) == ("no JSON {", "boom", False)
    assert (second.answered, second.result, second.is_cancelled) == (None, None, True)


def test_a_discarded_turn_is_answered_by_nothing(course: Write):
    call = SampleCall(10)
    call.say(1, speech(1), "Hello?")
    call.say(2.5, speech(0.2), is_discarded=True, reported=(0.1, 0.8))
    call.reply(3, tone(2), heard_from=3.2)
    came = course(call)
    assert [turn.is_discarded for turn in came.turns] == [False, True]
    assert came.replies[0].turn == 1
    assert came.latencies["answer"] == near(1.2)


def test_a_session_that_did_not_open_is_tried_again(course: Write):
    call = SampleCall(10)
    call.drop(3, 6)
    # Two attempts failed before the session opened.
    for t in (3.5, 4.5):
        call.add(t, "call", "session_opening")
        call.add(t + 0.5, "call", "reconnecting", message="code 1013")
    came = course(call)
    assert [one.number for one in came.sessions] == [1, 2]
    assert (came.sessions[1].opening, came.sessions[1].open) == (5.92, 5.96)
    assert [(one.began, one.ended) for one in came.reconnects] == [(3, 6)]


@pytest.mark.parametrize("state_restored", [True, False])
def test_a_reconnect_tells_whether_hydra_knows_what_was_said(course: Write, state_restored: bool):
    call = SampleCall(10)
    call.drop(3, 4.5, state_restored=state_restored)
    assert [one.is_restored for one in course(call).reconnects] == [state_restored]


def test_a_drop_is_a_reconnect_between_two_sessions(course: Write):
    call = SampleCall(10)
    call.drop(3, 4.5)
    call.say(5, speech(1))
    call.reply(6.4, tone(1), heard_from=6.6)
    came = course(call)
    assert [(one.began, one.ended, one.reason) for one in came.reconnects] == [
        (3, 4.5, "code 1011")
    ]
    first, second = came.sessions
    assert (first.closed, first.reason, second.number, second.closed) == (3, "code 1011", 2, None)
    assert came.latencies["answer"] == near(0.6)


def test_errors_are_told_once(course: Write):
    call = SampleCall(5)
    error = {"code": "internal_error", "message": "Something broke."}
    call.event(1, "server", "error", error=error)
    call.add(1.1, "call", "error", message="Hydra: internal_error: Something broke.")
    call.add(1.2, "pipeline", "error", message="Something broke.")
    call.add(3, "pipeline", "error", message="Something broke.")
    call.add(4, "call", "dropped", secs=0.5, why="the queue was full")
    call.add(4.5, "call", "given_up")
    came = course(call)
    assert [(error.at, error.source, error.is_permanent) for error in came.errors] == [
        (1, "server", False),
        (3, "pipeline", False),
        (4, "call", False),
        (4.5, "call", True),
    ]
    assert came.errors[2].message == "0.50 s of audio lost: the queue was full"


def test_metrics_give_the_time_to_first_byte(course: Write):
    call = SampleCall(8)
    call.say(1, speech(1))
    call.reply(2.5, tone(1), heard_from=2.7)
    call.add(2.6, "pipeline", "metrics", name="ttfb", value=0.123, unit="s")
    call.add(2.6, "pipeline", "metrics", name="TTFA.ttfb", value=0.123, unit="s")
    call.add(2.6, "pipeline", "metrics", name="processing", value=7.0, unit="s")
    assert course(call).latencies["ttfb"] == [0.123]


def test_a_recording_that_was_cut_off_ends_where_its_records_end(course: Write):
    call = SampleCall(8)
    call.say(1, speech(1))
    call.reply(2.5, tone(9), heard_from=2.7)
    came = course(call, is_complete=False)
    assert not came.is_complete
    assert came.secs == pytest.approx(8, abs=0.05)
    assert not came.replies[0].is_cut
    assert came.latencies["answer"] == near(0.7)


def test_without_audio_the_events_are_measured(course: Write):
    call = SampleCall(8)
    call.say(1, speech(1), reported=(0.2, 0.4))
    call.reply(2.5, tone(1), heard_from=2.7)
    came = course(call, audio=False)
    assert not came.is_measured
    assert came.turns[0].said_until is None
    assert came.replies[0].generated_secs == pytest.approx(1)
    assert came.latencies["answer"] == near(0.3)


def test_an_empty_call_comes_to_nothing(tmp_path: Path):
    came = Course.of(Recording.open(write_recording(tmp_path / "call", [])))
    assert (came.secs, came.is_complete, came.is_measured) == (0, False, False)
    assert came.turns == came.replies == came.interruptions == came.tools == []
    assert set(came.latencies) == set(LATENCIES)


def test_events_that_lack_everything_are_borne(course: Write):
    call = SampleCall(4)
    for kind in (
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "conversation.item.done",
        "response.output_audio.delta",
        "response.created",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.function_call_arguments.done",
        "response.done",
        "error",
        "session.configured",
    ):
        call.event(2, "server", kind)
    call.event(2, "client", "conversation.item.create", item="none")
    for kind in ("function_started", "function_ended", "user_words", "metrics", "error", "heard"):
        call.add(2.5, "pipeline", kind)
    for kind in ("reconnected", "settings", "dropped", "session_closed", "error"):
        call.add(3, "call", kind)
    came = course(call)
    assert (len(came.turns), len(came.replies), len(came.tools)) == (1, 1, 1)


@given(
    said=st.floats(0.3, 3),
    pause=st.floats(0.25, 2),
    reported=st.tuples(st.floats(0, 0.25), st.floats(0.05, 0.24)),
    noise=st.floats(0.0003, 0.005),
    barge_in=st.floats(0.05, 0.6),
)
# To shrink a failure would take minutes.
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_latencies_are_measured_within_twenty_milliseconds(
    tmp_path_factory: pytest.TempPathFactory,
    said: float,
    pause: float,
    reported: tuple[float, float],
    noise: float,
    barge_in: float,
):
    call = SampleCall(16)
    call.say(1, speech(said), reported=reported)
    answered = 1 + said + pause
    again = answered + 2
    call.reply(1 + said + 0.15, tone(6), heard_from=answered, cut=again + barge_in)
    call.say(again, speech(1), reported=reported)
    call.interrupt(again + min(barge_in, 0.3))
    call.noise(noise)
    folder = call.write(tmp_path_factory.mktemp("calls") / "call")
    latencies = Course.of(Recording.open(folder)).latencies
    assert latencies["answer"] == pytest.approx([pause], abs=0.02)
    assert latencies["barge_in"] == pytest.approx([barge_in], abs=0.02)
