"""The conversation, event by event: the invariants A1, A3 to A6, T1 to T4, F1, F2, S3."""

import json
from collections.abc import Sequence

import pytest
from support import wire
from support.driver import PCM, Driver, kinds, said, sent

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    Fail,
    FailureKind,
    Flush,
    Ready,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    Send,
    SessionStarted,
    Severity,
    TextChunk,
    ToolArguments,
    ToolCall,
    ToolCalls,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.wire.events import (
    FunctionTool,
    InputAudioAppend,
    ItemCreate,
    MessageRole,
    ResponseCancel,
    ResponseCreate,
    ServerEvent,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
    Usage,
    encode,
)

TOOL = FunctionTool(name="get_weather", parameters={"type": "object"})


def chunk(pcm: bytes) -> AudioChunk:
    return AudioChunk(pcm, 24_000)


@pytest.fixture
def driver() -> Driver:
    return Driver().live()


# Handshake


def test_the_configuration_goes_out_once_the_session_is_created():
    conversation = Conversation(model="hydra-v1.1")
    configuration = SessionConfiguration(voice="aria", instructions="Be kind.")
    assert conversation.configure(configuration, 0.0) == []
    assert conversation.connected(0.0) == []
    effects = conversation.receive(wire.created(), 0.0)
    assert effects[0] == SessionStarted("sess_1")
    (event,) = sent(effects)
    assert isinstance(event, SessionConfigure)
    assert event.session == configuration
    assert conversation.phase is Phase.CONFIGURING


def test_a_created_session_waits_for_its_configuration():
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    assert sent(conversation.receive(wire.created(), 0.0)) == []
    assert conversation.deadline == 20.0
    assert len(sent(conversation.configure(SessionConfiguration(), 60.0))) == 1
    assert sent(conversation.configure(SessionConfiguration(), 60.0)) == []


def test_a_deprecated_model_warns_before_the_session_is_created():
    driver = Driver(Conversation(model="hydra"))
    driver.conversation.connected(0.0)
    (report,) = driver.receive(wire.event("warning", code="model_deprecated"))
    assert isinstance(report, Report)
    assert report.severity is Severity.WARNING
    assert "'hydra' is deprecated" in report.message
    assert driver.receive(wire.created()) == [SessionStarted("sess_1")]


@pytest.mark.parametrize(
    ("model", "echoed", "rate"),
    [
        ("hydra-v1.1", 48_000, 48_000),
        ("hydra-v1.1", None, 24_000),
        ("hydra-v1.0", None, 48_000),
        ("hydra", None, 48_000),
        ("hydra-v9", None, 48_000),
        ("hydra-v1.1", 0, 24_000),
        ("hydra-v1.1", -1, 24_000),
    ],
)
def test_the_rate_is_the_one_echoed_or_else_the_models(model: str, echoed: int | None, rate: int):
    driver = Driver(Conversation(model=model)).live(rate=echoed)
    assert driver.conversation.output_sample_rate == rate


def test_ready_tells_the_rate_and_opens_the_uplink():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    assert driver.conversation.microphone(PCM[:640], 0.0) == []
    (ready,) = [e for e in driver.receive(wire.configured(24_000)) if isinstance(e, Ready)]
    assert ready.output_sample_rate == 24_000
    (append,) = sent(driver.conversation.tick(0.1))
    assert append == InputAudioAppend(audio=PCM[:640])


@pytest.mark.parametrize("until", ["session.created", "session.configured"])
def test_a_server_that_does_not_answer_in_time_fails_the_session(until: str):
    conversation = Conversation(model="hydra-v1.1", handshake_timeout_secs=3.0)
    conversation.configure(SessionConfiguration(), 0.0)
    conversation.connected(1.0)
    if until == "session.configured":
        conversation.receive(wire.created(), 1.0)
    assert conversation.deadline == 4.0
    assert conversation.tick(3.9) == []
    (fail,) = conversation.tick(4.0)
    assert isinstance(fail, Fail)
    assert fail.kind is FailureKind.TIMEOUT
    assert until in fail.message
    assert conversation.tick(5.0) == []


def test_a_session_that_is_live_has_answered_in_time():
    driver = Driver(Conversation(model="hydra-v1.1", handshake_timeout_secs=3.0)).live()
    assert not [e for e in driver.conversation.tick(60.0) if isinstance(e, Fail)]


@pytest.mark.parametrize("configured", [False, True])
def test_events_after_the_loss_of_the_connection_are_ignored(configured: bool):
    driver = Driver()
    if configured:
        driver.live()
        driver.conversation.disconnected(0.0)
    late = [wire.started(), wire.response_created(), wire.audio(PCM), wire.error("server_full")]
    assert driver.receive(*late) == []
    assert not driver.conversation.user_speaking
    assert not driver.conversation.reply_pending


def test_a_rejected_voice_is_fatal_during_the_handshake_and_only_then():
    rejection = wire.error("invalid_request_error", param="session.configure.session.voice")
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="nobody"), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    (fail,) = driver.receive(rejection)
    assert isinstance(fail, Fail)
    assert fail.kind is FailureKind.CONFIGURATION
    (report,) = Driver().live().receive(rejection)
    assert isinstance(report, Report)


def test_a_session_whose_voice_was_rejected_does_not_fail_again_for_want_of_an_answer():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="nobody"), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    driver.receive(
        wire.error("invalid_request_error", param="session.configure.session.voice"),
    )
    assert driver.conversation.tick(60.0) == []


def test_a_configuration_too_large_is_reported_with_the_sizes_of_its_parts():
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.0)
    big = SessionConfiguration(instructions="x" * 17_000, tools=(TOOL,))
    effects = conversation.configure(big, 0.0)
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.severity is Severity.WARNING
    assert "instructions 17000" in report.message
    assert f"tools {len(TOOL.model_dump_json())}" in report.message
    assert str(len(encode(sent(effects)[0]))) in report.message


@pytest.mark.parametrize("larger", ["instructions", "tools"])
def test_of_a_configuration_too_large_the_larger_part_is_to_be_shortened(larger: str):
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.0)
    large, small = "x" * 12_000, "x" * 6_000
    tool = TOOL.model_copy(update={"description": large if larger == "tools" else small})
    instructions = large if larger == "instructions" else small
    effects = conversation.configure(
        SessionConfiguration(instructions=instructions, tools=(tool,)), 0.0
    )
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.message.endswith(f"shorten the {larger}")


def test_a_configuration_of_modest_size_is_not_reported():
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.0)
    effects = conversation.configure(SessionConfiguration(instructions="x" * 15_000), 0.0)
    assert kinds(effects) == [Send]


def test_another_voice_than_asked_is_reported():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="aria"), 0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured(voice="sterling"))
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert "'sterling'" in report.message
    assert "'aria'" in report.message


# A turn


def test_a_turn_from_speech_to_the_end_of_the_reply(driver: Driver):
    assert driver.receive(wire.started()) == [UserStarted()]
    driver.now = 1.0
    assert driver.receive(wire.stopped(), wire.user_item("completed")) == [UserStopped(False)]
    assert driver.conversation.reply_pending
    driver.now = 1.5
    assert driver.receive(wire.response_created()) == [ReplyStarted("resp_1")]
    effects = driver.receive(wire.audio(PCM[:300]), wire.audio(PCM[300:]))
    assert effects == [VoiceStarted("resp_1", 0.5), chunk(PCM[:300]), chunk(PCM[300:])]
    driver.now = 2.0
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    assert driver.receive(wire.done(usage=usage)) == [
        VoiceEnded("resp_1"),
        ReplyEnded("resp_1", interrupted=False),
        ResponseFinished(
            "resp_1", "completed", Usage(input_tokens=1, output_tokens=2, total_tokens=3), 1.0
        ),
    ]
    assert not driver.conversation.reply_pending


def test_a_greeting_comes_with_no_user_turn():
    driver = Driver().live(greet=True)
    assert driver.conversation.reply_pending
    driver.now = 0.25
    effects = driver.receive(wire.response_created(), wire.audio(PCM))
    assert effects == [ReplyStarted("resp_1"), VoiceStarted("resp_1", 0.25), chunk(PCM)]


def test_odd_splits_give_whole_samples_and_lose_nothing(driver: Driver):
    effects = driver.receive(
        wire.response_created(),
        *[wire.audio(PCM[i : i + 7]) for i in range(0, len(PCM), 7)],
    )
    assert said(effects) == PCM
    assert all(len(e.pcm) % 2 == 0 for e in effects if isinstance(e, AudioChunk))


def test_an_odd_byte_does_not_leak_into_the_next_response(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.audio(PCM[:3], "r1"), wire.done("r1"))
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert said(effects) == PCM


def test_a_tool_only_response_has_no_voice(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.call(), wire.done())
    assert kinds(effects) == [ReplyStarted, ReplyEnded, ResponseFinished, ToolCalls]


def test_phrases_get_the_spaces_between_them(driver: Driver):
    phrases = ["Hello there,", "how are you", "?", " Fine", "I hope."]
    effects = driver.receive(
        wire.response_created(), wire.audio(PCM), *[wire.transcript(p) for p in phrases]
    )
    text = "".join(e.text for e in effects if isinstance(e, TextChunk))
    assert text == "Hello there, how are you? Fine I hope."


def test_deltas_without_an_id_belong_to_the_response_in_flight(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.audio(PCM, None), wire.done(None))
    assert said(effects) == PCM
    assert effects[-2] == ReplyEnded("resp_1", interrupted=False)


def test_a_response_that_was_never_announced_is_heard(driver: Driver):
    effects = driver.receive(wire.audio(PCM), wire.done())
    assert effects[0] == ReplyStarted("resp_1")
    assert said(effects) == PCM


def test_a_response_that_is_generated_is_waited_for(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    assert driver.conversation.reply_pending
    driver.receive(wire.done())
    assert not driver.conversation.reply_pending


def test_each_end_without_an_id_ends_the_response_in_flight(driver: Driver):
    for response in ("r1", "r2"):
        effects = driver.receive(wire.response_created(response), wire.done(None))
        assert ReplyEnded(response, interrupted=False) in effects
    assert not driver.conversation.reply_pending


def test_a_response_announced_without_its_id_is_heard(driver: Driver):
    effects = driver.receive(
        wire.event("response.created"), wire.audio(PCM[:400]), wire.audio(PCM[400:]), wire.done()
    )
    assert said(effects) == PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_a_response_that_never_ended_is_closed_by_the_next(driver: Driver):
    effects = driver.receive(
        wire.response_created("r1"), wire.audio(PCM, "r1"), wire.response_created("r2")
    )
    assert effects[-3:] == [VoiceEnded("r1"), ReplyEnded("r1", False), ReplyStarted("r2")]
    assert driver.receive(wire.audio(PCM, "r1")) == []


def test_an_answer_quicker_than_the_word_that_the_turn_is_over_is_heard(driver: Driver):
    effects = driver.receive(
        wire.started(), wire.response_created(), wire.audio(PCM), wire.stopped(), wire.done()
    )
    assert said(effects) == PCM
    (voice,) = [e for e in effects if isinstance(e, VoiceStarted)]
    assert voice.waited is None
    assert not driver.conversation.reply_pending


def test_repeated_events_are_heard_once(driver: Driver):
    events = [wire.response_created(), wire.done(usage={"total_tokens": 3})]
    effects = driver.receive(*[event for event in events for _ in range(2)])
    assert kinds(effects) == [ReplyStarted, ReplyEnded, ResponseFinished]


@pytest.mark.parametrize(
    ("status", "severity"), [("failed", Severity.ERROR), ("incomplete", Severity.WARNING)]
)
def test_a_response_that_does_not_complete_says_why(
    driver: Driver, status: str, severity: Severity
):
    effects = driver.receive(wire.response_created(), wire.done(status=status, reason="why"))
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.severity is severity
    assert "why" in report.message
    assert ReplyEnded("resp_1", interrupted=False) in effects


# Barge-in


def test_barge_in_while_the_reply_is_generated(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    effects = driver.receive(wire.started("item_2"))
    assert effects == [VoiceEnded("resp_1", True), ReplyEnded("resp_1", True), UserStarted()]
    assert driver.interrupted() == []
    late = driver.receive(
        wire.audio(PCM),
        wire.done(status="cancelled", reason="interrupted"),
        wire.audio(PCM),
        wire.transcript("late"),
        wire.audio(PCM, None),
    )
    assert kinds(late) == [ResponseFinished]
    effects = driver.receive(
        wire.stopped("item_2"),
        wire.user_item("completed", "item_2"),
        wire.response_created("resp_2"),
        wire.audio(PCM, "resp_1"),
        wire.audio(PCM, "resp_2"),
    )
    assert said(effects) == PCM


def test_barge_in_after_generation_has_ended_interrupts_all_the_same(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert driver.receive(wire.started("item_2")) == [UserStarted()]


def test_the_old_response_is_dropped_when_the_turn_is_confirmed_without_a_cancel(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("item_2"))
    effects = driver.receive(
        wire.audio(PCM), wire.user_item("completed", "item_2"), wire.audio(PCM), wire.done()
    )
    assert said(effects) == b""


def test_a_reply_that_a_real_turn_cut_is_not_resumed_by_later_noise(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("item_2"))
    driver.receive(wire.audio(PCM), wire.stopped("item_2"), wire.user_item("completed", "item_2"))
    effects = driver.receive(
        wire.started("noise"), wire.stopped("noise"), wire.user_item("incomplete", "noise")
    )
    assert said(effects) == b""
    driver.conversation.tick(10.0)
    assert driver.conversation.at_turn_boundary


def test_an_answer_decides_a_turn_whatever_is_said_of_its_item_later(driver: Driver):
    playing(driver)
    driver.receive(wire.started("item_2"))
    driver.interrupted()
    driver.receive(wire.stopped("item_2"), wire.response_created("r2"))
    effects = driver.receive(wire.user_item("incomplete", "item_2"), wire.done("r2"))
    assert said(effects) == b""
    assert TurnDiscarded not in kinds(effects)


def test_a_turn_that_is_decided_while_the_user_speaks_on_spares_its_own_answer(driver: Driver):
    effects = driver.receive(
        wire.started(),
        wire.response_created(),
        wire.audio(PCM),
        wire.user_item("completed"),
        wire.audio(PCM),
        wire.stopped(),
        wire.done(),
    )
    assert said(effects) == 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_noise_lets_the_reply_go_on_with_what_came_meanwhile(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM[:100]), wire.started("item_2"))
    assert driver.receive(wire.audio(PCM[100:301]), wire.transcript("meanwhile")) == []
    effects = driver.receive(wire.stopped("item_2"), wire.user_item("incomplete", "item_2"))
    assert effects == [
        UserStopped(False),
        TurnDiscarded(),
        ReplyStarted("resp_1", resumed=True),
        VoiceStarted("resp_1", None),
        chunk(PCM[100:300]),
        TextChunk("meanwhile"),
    ]
    effects = driver.receive(wire.audio(PCM[301:]), wire.done())
    assert said(effects) == PCM[300:]
    assert effects[1:3] == [VoiceEnded("resp_1"), ReplyEnded("resp_1", False)]


def test_noise_over_a_reply_that_finished_meanwhile(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"))
    driver.receive(wire.audio(PCM), wire.done())
    effects = driver.receive(wire.user_item("incomplete", "item_2"))
    assert effects == [
        UserStopped(True),
        TurnDiscarded(),
        ReplyStarted("resp_1", resumed=True),
        VoiceStarted("resp_1", None),
        chunk(PCM),
        VoiceEnded("resp_1"),
        ReplyEnded("resp_1", False),
    ]
    assert driver.receive(wire.audio(PCM)) == []


def test_noise_without_a_reply_leaves_nothing_due(driver: Driver):
    effects = driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    assert effects == [UserStarted(), UserStopped(False), TurnDiscarded()]
    assert not driver.conversation.reply_pending
    driver.now = 9.0
    effects = driver.receive(wire.response_created(), wire.audio(PCM))
    assert VoiceStarted("resp_1", None) in effects


def test_noise_whose_item_has_no_id(driver: Driver):
    driver.receive(wire.response_created(), wire.started(None), wire.audio(PCM))
    effects = driver.receive(wire.stopped(None), wire.user_item("incomplete", None))
    assert said(effects) == PCM


def test_a_turn_without_an_id_has_that_of_the_users_item_and_of_no_other(driver: Driver):
    def added(role: str, item: str) -> ServerEvent:
        body = {"type": "message", "role": role, "id": item}
        return wire.event("conversation.item.added", item=body)

    assert driver.receive(added("user", "stray")) == []
    driver.receive(wire.response_created(), wire.started(None), wire.audio(PCM))
    driver.receive(added("user", "u1"), added("assistant", "a1"))
    assert said(driver.receive(wire.user_item("incomplete", "u1"))) == PCM


def test_an_item_of_nobody_known_does_not_decide_a_turn_without_an_id(driver: Driver):
    item = {"type": "function_call", "id": "x", "status": "incomplete"}
    driver.receive(wire.response_created(), wire.started(None), wire.audio(PCM))
    assert driver.receive(wire.event("conversation.item.done", item=item)) == []
    assert driver.conversation.user_speaking


def test_the_items_of_others_do_not_decide_a_turn(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"), wire.audio(PCM))
    assert driver.receive(wire.user_item("incomplete", "item_1")) == []
    assert driver.receive(wire.user_item("completed", "item_1")) == []
    assert said(driver.receive(wire.user_item("incomplete", "item_2"))) == PCM


def test_a_reply_cancelled_with_nobody_speaking_is_flushed(driver: Driver):
    effects = driver.receive(
        wire.response_created(),
        wire.audio(PCM),
        wire.done(status="cancelled", reason="interrupted"),
    )
    assert kinds(effects)[-4:] == [VoiceEnded, ReplyEnded, Flush, ResponseFinished]


def test_a_reply_cancelled_before_it_was_heard_leaves_what_is_played_alone(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"), wire.done("r1"))
    effects = driver.receive(wire.response_created("r2"), wire.done("r2", "cancelled"))
    assert kinds(effects) == [ReplyStarted, ReplyEnded, ResponseFinished]


def test_a_turn_that_opens_twice_is_closed_in_between(driver: Driver):
    effects = driver.receive(wire.started("a"), wire.started("a"), wire.started("b"))
    assert effects == [UserStarted(), UserStopped(False), UserStarted()]


def test_a_stop_without_a_start_means_nothing(driver: Driver):
    assert driver.receive(wire.stopped()) == []
    assert not driver.conversation.reply_pending


def test_a_stop_that_is_repeated_makes_nobody_wait_longer(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.now = 5.0
    assert driver.receive(wire.stopped()) == []
    driver.conversation.tick(8.0)
    assert not driver.conversation.reply_pending


def test_a_response_held_beyond_all_patience_is_given_up(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"))
    minute = bytes(60 * 48_000 * 2)
    assert driver.receive(wire.audio(minute), wire.audio(minute), wire.audio(PCM)) == []
    assert said(driver.receive(wire.user_item("incomplete", "item_2"))) == b""


SECOND = bytes(range(1, 241)) * 200


def playing(driver: Driver, *, generated: bool = True) -> None:
    """A reply of three seconds has entered the pipeline, and half a second was heard."""
    driver.receive(wire.response_created(), *[wire.audio(SECOND) for _ in range(3)])
    driver.conversation.bot_started(driver.now)
    driver.now += 0.5
    if generated:
        driver.receive(wire.done())


def noise(driver: Driver, *events: ServerEvent) -> list[Effect]:
    driver.receive(wire.started("noise"))
    driver.interrupted()
    driver.conversation.bot_stopped()
    return driver.receive(wire.stopped("noise"), *events, wire.user_item("incomplete", "noise"))


def test_what_was_said_before_another_had_the_call_is_not_said_again(driver: Driver):
    playing(driver)
    driver.conversation.forget_playback()
    assert kinds(noise(driver)) == [UserStopped, TurnDiscarded]


def test_noise_over_a_reply_that_only_plays_lets_it_be_heard_to_its_end(driver: Driver):
    playing(driver)
    effects = noise(driver)
    assert kinds(effects)[:4] == [UserStopped, TurnDiscarded, ReplyStarted, VoiceStarted]
    assert kinds(effects)[-2:] == [VoiceEnded, ReplyEnded]
    # From 0.3 s before the half second that was heard.
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :]


def test_noise_over_a_reply_that_is_generated_loses_nothing(driver: Driver):
    playing(driver, generated=False)
    effects = noise(driver, wire.audio(PCM))
    effects += driver.receive(wire.audio(PCM), wire.done())
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :] + 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_noise_may_be_heard_twice(driver: Driver):
    playing(driver)
    noise(driver)
    driver.conversation.bot_started(driver.now)
    driver.now += 1.0
    effects = noise(driver)
    assert said(effects) == (3 * SECOND)[round(0.9 * 24_000) * 2 :]


def test_a_real_turn_over_a_reply_that_only_plays_brings_none_of_it_back(driver: Driver):
    playing(driver)
    driver.receive(wire.started("item_2"))
    driver.interrupted()
    effects = driver.receive(
        wire.stopped("item_2"), wire.user_item("completed", "item_2"), wire.response_created("r2")
    )
    effects += noise(driver)
    assert said(effects) == b""


def test_a_reply_that_hydra_cancelled_is_not_said_again(driver: Driver):
    playing(driver, generated=False)
    cancelled = wire.done(status="cancelled", reason="interrupted")
    assert said(noise(driver, cancelled)) == b""


def test_what_the_application_interrupted_is_not_said_again(driver: Driver):
    playing(driver)
    driver.interrupted()
    assert said(noise(driver)) == b""


def test_what_the_application_interrupted_after_the_user_is_not_said_again(driver: Driver):
    """It is known only later that the user made but noise."""
    playing(driver)
    driver.receive(wire.started("noise"), wire.stopped("noise"))
    driver.interrupted()
    assert sent(driver.interrupted()) == []
    assert said(driver.receive(wire.user_item("incomplete", "noise"))) == b""


def test_noise_that_interrupted_nothing_repeats_nothing(driver: Driver):
    """The turn strategies of the application may have let the bot speak on."""
    playing(driver)
    effects = driver.receive(
        wire.started("noise"), wire.stopped("noise"), wire.user_item("incomplete", "noise")
    )
    assert said(effects) == b""


def test_resuming_can_be_switched_off():
    conversation = Conversation(model="hydra-v1.1", resume_after_noise=False)
    driver = Driver(conversation).live()
    playing(driver)
    assert said(noise(driver)) == b""


def test_noise_that_is_known_before_its_interruption_has_come_round(driver: Driver):
    """All of it came in one burst, and the pipeline answers only then."""
    playing(driver)
    driver.receive(wire.started("n"), wire.stopped("n"), wire.user_item("incomplete", "n"))
    effects = driver.interrupted()
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :]
    assert kinds(effects)[0] is Discard
    assert kinds(effects)[-2:] == [VoiceEnded, ReplyEnded]


def test_noise_in_a_burst_over_a_reply_that_is_generated(driver: Driver):
    playing(driver, generated=False)
    before = driver.receive(
        wire.started("n"), wire.audio(PCM), wire.stopped("n"), wire.user_item("incomplete", "n")
    )
    # What it says at once is not handed on before the interruption, which discards it.
    assert said(before) == PCM
    effects = driver.interrupted()
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :] + PCM
    assert ReplyStarted not in kinds(effects)
    effects = driver.receive(wire.audio(PCM), wire.done())
    assert said(effects) == PCM


# Interruptions that are not Hydra's


def test_another_interruption_cancels_the_response_by_its_id(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    effects = driver.interrupted()
    assert kinds(effects) == [Discard, VoiceEnded, ReplyEnded, Send]
    (cancel,) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "resp_1"
    assert sent(driver.interrupted()) == []
    late = driver.receive(wire.audio(PCM), wire.done(status="cancelled", reason="client_cancelled"))
    assert kinds(late) == [ResponseFinished]


def test_another_interruption_cancels_a_response_that_is_only_due(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.now = 5.0
    assert driver.interrupted() == [Discard()]
    assert not driver.conversation.reply_pending
    effects = driver.receive(wire.response_created("resp_1"))
    (cancel,) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "resp_1"
    assert said(driver.receive(wire.audio(PCM))) == b""
    driver.receive(wire.done(status="cancelled", reason="client_cancelled"))
    assert said(driver.receive(wire.response_created("resp_2"), wire.audio(PCM, "resp_2"))) == PCM


def test_a_response_that_was_interrupted_before_it_began_has_no_time_that_it_took(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.now = 2.0
    effects = driver.receive(wire.response_created(), wire.done())
    (finished,) = [e for e in effects if isinstance(e, ResponseFinished)]
    assert finished.took is None


def test_what_is_asked_for_after_an_interruption_is_heard(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    assert creates(driver.conversation.request_response(1.0)) == 0
    first = driver.receive(
        wire.response_created("r1"), wire.audio(PCM, "r1"), wire.done("r1", "cancelled")
    )
    assert said(first) == b""
    assert creates(first) == 1
    assert said(driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))) == PCM


def test_a_response_that_was_due_before_the_user_spoke_is_not_played_over_him(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"))
    driver.receive(wire.started("b"))
    effects = driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert effects == []
    # Cancelled, it never is; else it is heard once the user has stopped.
    assert said(driver.receive(wire.stopped("b"))) == PCM
    assert said(driver.receive(wire.audio(PCM, "r1"))) == PCM


def test_a_response_that_was_due_and_is_cancelled_while_the_user_speaks(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"), wire.started("b"))
    effects = driver.receive(
        wire.response_created("r1"),
        wire.audio(PCM, "r1"),
        wire.done("r1", "cancelled", "interrupted"),
        wire.stopped("b"),
        wire.user_item("completed", "b"),
        wire.audio(PCM, "r1"),
    )
    assert said(effects) == b""


def test_a_doomed_response_that_comes_while_the_user_speaks_is_cancelled(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.receive(wire.started())
    (cancel,) = sent(driver.receive(wire.response_created("r1")))
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "r1"
    driver.receive(wire.done("r1", "cancelled"), wire.stopped(), wire.user_item("completed"))
    assert said(driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))) == PCM


def test_a_quick_answer_is_heard_though_another_response_was_due_before(driver: Driver):
    """It comes before the word that the turn is over, and nobody cancels it."""
    driver.conversation.request_response(0.0)
    effects = driver.receive(
        wire.started(),
        wire.response_created(),
        wire.audio(PCM),
        wire.stopped(),
        wire.user_item("completed"),
        wire.audio(PCM),
        wire.done(),
    )
    assert said(effects) == 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


@pytest.mark.parametrize("ends", ["before", "after"])
@pytest.mark.parametrize("decided", ["first", "last"])
def test_what_was_due_and_began_long_before_the_user_stopped_is_no_answer(
    driver: Driver, ends: str, decided: str
):
    """It answers what was typed before; what is typed meanwhile is answered with the user."""
    driver.conversation.send_message("First.", 0.0)
    assert creates(driver.conversation.send_message("Second.", 0.0)) == 0
    driver.receive(wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    done = [wire.done("r1")]
    effects = driver.receive(*(done if ends == "before" else []))
    driver.now = 3.0
    word = [wire.stopped(), wire.user_item("completed")]
    effects += driver.receive(*(word if decided == "last" else reversed(word)))
    effects += driver.receive(*(done if ends == "after" else []))
    assert creates(effects) == 0
    assert said(effects) == PCM
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"), wire.done("r2"))
    assert said(effects) == PCM
    assert creates(effects) == 0
    assert not driver.conversation.reply_pending


@pytest.mark.parametrize(("before_secs", "is_answer"), [(0.99, True), (1.0, False)])
def test_what_was_due_is_the_answer_if_it_began_within_a_second_of_the_stop(
    driver: Driver, before_secs: float, is_answer: bool
):
    driver.conversation.request_response(0.0)
    driver.receive(wire.started(), wire.response_created())
    driver.now = before_secs
    driver.receive(wire.stopped(), wire.user_item("completed"), wire.done())
    assert driver.conversation.reply_pending is not is_answer


def test_what_was_due_is_heard_also_when_the_answer_is_quicker_than_the_word(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(
        wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"), wire.done("r1")
    )
    driver.now = 3.0
    effects = driver.receive(
        wire.response_created("r2"),
        wire.audio(2 * PCM, "r2"),
        wire.stopped(),
        wire.user_item("completed"),
        wire.done("r2"),
    )
    assert said(effects) == 3 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 2
    assert not driver.conversation.reply_pending


def test_what_was_due_and_began_long_before_noise_ended_is_heard(driver: Driver):
    driver.conversation.send_message("First.", 0.0)
    driver.conversation.send_message("Second.", 0.0)
    driver.receive(wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    driver.receive(wire.done("r1"))
    driver.now = 3.0
    effects = driver.receive(wire.stopped(), wire.user_item("incomplete"))
    assert said(effects) == PCM
    assert creates(effects) == 1


def test_a_continued_sentence_is_answered_though_its_answer_is_quick(driver: Driver):
    """What was due when the user went on is the answer to both halves."""
    driver.receive(wire.started("a"), wire.stopped("a"))
    driver.now = 0.5
    driver.receive(wire.started("b"))
    driver.now = 2.0
    effects = driver.receive(
        wire.response_created(),
        wire.audio(PCM),
        wire.user_item("completed", "b"),
        wire.stopped("b"),
        wire.audio(PCM),
        wire.done(),
    )
    assert said(effects) == 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


@pytest.mark.parametrize("first", ["stopped", "item"])
def test_what_a_real_turn_cut_stays_cut_when_noise_follows_before_it_is_decided(
    driver: Driver, first: str
):
    driver.receive(wire.response_created("r0"), wire.audio(100 * PCM, "r0"), wire.done("r0"))
    driver.conversation.bot_started(0.0)
    driver.now = 0.5
    driver.receive(wire.started("a"))
    driver.interrupted()
    driver.now = 2.0
    driver.receive(wire.stopped("a"), wire.started("noise"))
    driver.interrupted()
    answer = [wire.response_created("r1"), wire.audio(PCM, "r1")]
    effects = driver.receive(wire.user_item("completed", "a"), *answer)
    assert effects == []  # it is not said while somebody seems to speak
    ends = [wire.stopped("noise"), wire.user_item("incomplete", "noise")]
    effects = driver.receive(*(ends if first == "stopped" else reversed(ends)))
    assert said(effects) == PCM


def test_what_noise_cut_is_heard_when_other_noise_follows_before_it_is_decided(driver: Driver):
    driver.receive(wire.response_created("r0"), wire.audio(100 * PCM, "r0"), wire.done("r0"))
    driver.conversation.bot_started(0.0)
    driver.now = 0.5
    driver.receive(wire.started("a"))
    driver.interrupted()
    driver.receive(wire.stopped("a"), wire.started("b"), wire.user_item("incomplete", "a"))
    driver.interrupted()
    effects = driver.receive(wire.stopped("b"), wire.user_item("incomplete", "b"))
    assert len(said(effects)) >= 75 * len(PCM)


def test_what_noise_cuts_counts_from_its_own_beginning_whatever_was_heard_before(driver: Driver):
    """Such as a last piece of a reply that was interrupted (T3)."""
    driver.conversation.bot_started(0.0)
    driver.now = 2.0
    driver.receive(wire.response_created("r0"), wire.audio(100 * PCM, "r0"), wire.done("r0"))
    driver.now = 2.5
    driver.receive(wire.started("a"))
    driver.interrupted()
    effects = driver.receive(wire.stopped("a"), wire.user_item("incomplete", "a"))
    assert len(said(effects)) == 90 * len(PCM)


def test_a_discarded_item_without_its_role_is_the_users(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("a"))
    driver.interrupted()
    driver.receive(wire.audio(PCM), wire.stopped("a"))
    item = {"type": "message", "id": "a", "status": "incomplete"}
    effects = driver.receive(wire.event("conversation.item.done", item=item))
    assert said(effects) == PCM


def test_an_interruption_long_after_noise_asks_for_nothing(driver: Driver):
    driver.receive(wire.started(), wire.user_item("incomplete"))
    driver.now = 30.0
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.interrupted()
    effects = driver.conversation.answer_call("c1", "gone", 30.0, respond=False, cancelled=True)
    assert len(outputs(effects)) == 1
    assert creates(effects) == 0


def test_a_greeting_that_is_interrupted_before_the_session_is_configured_is_not_heard():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    driver.interrupted()
    effects = driver.receive(wire.configured(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert said(effects) == b""
    cancels = [event for event in sent(effects) if isinstance(event, ResponseCancel)]
    assert [cancel.response_id for cancel in cancels] == ["r1"]
    driver.receive(wire.done("r1", "cancelled"))
    assert not driver.conversation.reply_pending
    # Nor does it doom the greeting of another session.
    driver.conversation.disconnected(0.0)
    assert said(driver.live(greet=True).receive(wire.response_created(), wire.audio(PCM))) == PCM


@pytest.mark.parametrize("late", ["delta", "done", "both"])
def test_a_call_of_a_cancelled_response_is_none_however_late_it_comes(driver: Driver, late: str):
    driver.receive(wire.response_created("r1"), wire.call_delta('{"a', "c1", "pay", "r1"))
    driver.interrupted()
    driver.receive(wire.done("r1", "cancelled"))
    events = [
        wire.call_delta('": 1}', "c1", None, "r1"),
        # Some servers leave out what they may; and another call may come, too.
        wire.call_delta("{}", "c1", None, None),
        wire.call_delta("{}", "c2", "pay", "r1"),
    ]
    if late != "delta":
        events += [wire.call("c1", "pay", '{"a": 1}', "r1"), wire.call("c2", "pay", "{}", "r1")]
    if late == "done":
        del events[:3]
    effects = driver.receive(*events)
    driver.now = 1.0
    effects += driver.conversation.tick(1.0)
    assert [e for e in effects if isinstance(e, ToolCalls)] == []
    assert driver.conversation.at_turn_boundary
    assert creates(driver.conversation.send_message("Hello?", 1.0)) == 1


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_a_call_that_a_response_did_not_finish_is_not_made(driver: Driver, status: str):
    item = {"type": "function_call", "call_id": "c1", "name": "hang_up"}
    effects = driver.receive(
        wire.response_created(),
        wire.event("conversation.item.added", item=item),
        wire.done(status=status),
    )
    assert [e for e in effects if isinstance(e, ToolCalls)] == []
    assert driver.conversation.at_turn_boundary


def test_a_response_that_is_announced_without_its_id_and_only_calls_is_asked_about(driver: Driver):
    effects = driver.receive(
        wire.event("response.created", response={}), wire.call("c1", response="r1"), wire.done("r1")
    )
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1
    assert creates(driver.conversation.answer_call("c1", "{}", 0.0)) == 1


def test_all_that_a_session_is_told_at_its_beginning_is_sent_however_much():
    driver = Driver()
    opening: list[tuple[MessageRole, str]] = [("user", f"Message {n}.") for n in range(300)]
    driver.conversation.configure(SessionConfiguration(), 0.0, opening=opening)
    driver.conversation.send_message("The last.", 0.0, respond=False)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured())
    told = [event for event in sent(effects) if isinstance(event, ItemCreate)]
    assert len(told) == 301
    assert "Message 0." in encode(told[0]).decode()
    assert "The last." in encode(told[-1]).decode()


def test_what_is_owed_after_a_loss_is_asked_for_once(driver: Driver):
    driver.conversation.send_message("A question.", 0.0)
    driver.receive(wire.response_created())
    driver.conversation.disconnected(0.0)
    assert driver.conversation.owes_reply
    driver.conversation.configure(SessionConfiguration(), 0.0, opening=[("user", "A question.")])
    driver.conversation.request_response(0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured())
    effects += driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert creates(effects) == 1


@pytest.mark.parametrize("how", ["time", "error", "done"])
def test_a_response_that_never_comes_is_due_no_more(driver: Driver, how: str):
    """Else it would hold up the end of the call, and doom a response that does come."""
    (create,) = sent(driver.conversation.request_response(0.0))
    assert driver.conversation.reply_pending
    match how:
        case "time":
            driver.now = 8.0
            driver.conversation.tick(8.0)
        case "error":
            driver.receive(wire.error("invalid_request_error", event_id=create.event_id))
        case _:
            driver.receive(wire.done("r1", "failed"))
    assert not driver.conversation.reply_pending
    driver.now = 20.0
    driver.interrupted()
    driver.receive(wire.started(), wire.stopped(), wire.user_item("completed"))
    assert said(driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))) == PCM


def test_what_waits_for_a_reply_leaves_no_deadline_in_the_past(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.response_created("r1"))
    driver.conversation.request_response(0.0)
    driver.now = 60.0
    driver.conversation.tick(60.0)
    deadline = driver.conversation.deadline
    assert deadline is None or deadline > 60.0


def test_a_response_that_ended_before_it_was_announced_is_never_heard(driver: Driver):
    driver.receive(wire.done("r1", "cancelled"))
    effects = driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert effects == []


def test_the_end_of_a_response_that_nobody_waits_for_holds_up_no_request(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.response_created("r1"), wire.done("r1"), wire.done("r0"))
    assert creates(driver.conversation.request_response(1.0)) == 1


def test_a_tool_that_noise_cancelled_is_spoken_about(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.started("noise"))
    driver.interrupted()
    effects = driver.conversation.answer_call("c1", "cancelled", 0.0, respond=False, cancelled=True)
    assert creates(effects) == 0
    effects = driver.receive(wire.stopped("noise"), wire.user_item("incomplete", "noise"))
    assert creates(effects) == 1


def test_a_tool_that_a_barge_in_cancelled_is_not(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.started())
    driver.interrupted()
    driver.conversation.answer_call("c1", "cancelled", 0.0, respond=False, cancelled=True)
    effects = driver.receive(
        wire.stopped(), wire.user_item("completed"), wire.response_created("r2"), wire.done("r2")
    )
    assert creates(effects) == 0


def test_text_that_comes_before_the_audio_is_within_its_bracket(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.transcript("Hello"), wire.audio(PCM))
    assert kinds(effects) == [ReplyStarted, VoiceStarted, TextChunk, AudioChunk]
    effects = driver.receive(wire.response_created("r2"), wire.transcript("x", "r2"))
    assert TextChunk not in kinds(effects)
    assert kinds(driver.receive(wire.done("r2")))[:2] == [TextChunk, ReplyEnded]


def test_text_that_came_before_the_audio_is_not_repeated_after_noise(driver: Driver):
    driver.receive(wire.response_created(), wire.transcript("Hello"), wire.audio(PCM))
    driver.receive(wire.started("noise"), wire.stopped("noise"))
    effects = driver.receive(wire.user_item("incomplete", "noise"), wire.audio(PCM))
    assert kinds(effects) == [TurnDiscarded, ReplyStarted, VoiceStarted, AudioChunk]


def test_the_echo_of_our_own_announcement_cancels_nothing(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("item_2"))
    assert driver.interrupted() == []
    assert sent(driver.interrupted()) != []


def test_the_echo_may_come_after_a_very_short_turn(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.now = 0.1
    assert driver.interrupted() == []
    assert said(driver.receive(wire.response_created(), wire.audio(PCM))) == PCM


def test_an_echo_that_never_came_does_not_swallow_a_later_interruption(driver: Driver):
    driver.receive(wire.started(), wire.stopped(), wire.response_created(), wire.audio(PCM))
    driver.now = 2.0
    assert len(sent(driver.interrupted())) == 1


def test_noise_leaves_a_cancel_that_is_due_in_force(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    assert len(sent(driver.receive(wire.response_created()))) == 1


# Loss


def test_a_lost_connection_leaves_nothing_open(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    effects = driver.conversation.disconnected(0.0)
    assert effects == [VoiceEnded("resp_1", True), ReplyEnded("resp_1", True)]
    driver.live().receive(wire.started())
    assert driver.conversation.disconnected(0.0) == [UserStopped(False)]
    assert driver.conversation.disconnected(0.0) == []
    assert driver.conversation.deadline is None
    assert not driver.conversation.reply_pending


def test_what_is_said_while_offline_is_sent_by_the_next_session(driver: Driver):
    driver.conversation.disconnected(0.0)
    assert driver.conversation.microphone(PCM[:640], 0.0) == []
    driver.now = 10.0
    driver.live()
    assert sent(driver.conversation.tick(10.1)) == [InputAudioAppend(audio=PCM[:640])]


def test_what_was_said_and_could_not_be_kept_is_told():
    driver = Driver(Conversation(model="hydra-v1.1", uplink=Uplink(preroll_secs=0.5)))
    for _ in range(50):
        driver.conversation.microphone(PCM[:640], 0.0)
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured())
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.message.startswith("0.5 s")


def test_nothing_can_be_asked_of_a_session_that_is_not_live():
    conversation = Conversation(model="hydra-v1.1")
    assert conversation.request_response(0.0) == []
    assert conversation.update_tools((TOOL,), 0.0) == []
    assert conversation.answer_call("call_1", "{}", 0.0) == []


# Tools


def outputs(effects: Sequence[Effect]) -> list[str]:
    items = [json.loads(encode(e))["item"] for e in sent(effects) if isinstance(e, ItemCreate)]
    return [item["call_id"] for item in items if item["type"] == "function_call_output"]


def creates(effects: Sequence[Effect]) -> int:
    return sum(isinstance(event, ResponseCreate) for event in sent(effects))


def calls(effects: Sequence[Effect]) -> list[ToolCall]:
    return [call for e in effects if isinstance(e, ToolCalls) for call in e.calls]


def test_a_call_is_gathered_from_whatever_events_bring_it(driver: Driver):
    effects = driver.receive(
        wire.response_created(),
        wire.call_delta('{"city": "Par', name="get_weather"),
        wire.call_delta('is"}'),
        wire.call(name=None, arguments=None),
    )
    assert effects[1:] == [
        ToolArguments("call_1", "get_weather", '{"city": "Par'),
        ToolArguments("call_1", "get_weather", 'is"}'),
    ]
    effects = driver.receive(wire.done())
    assert calls(effects) == [ToolCall("call_1", "get_weather", '{"city": "Paris"}')]
    assert calls(driver.receive(wire.call())) == []


def test_the_calls_of_a_response_come_together_when_it_is_done(driver: Driver):
    driver.receive(wire.response_created(), wire.call("a"), wire.call("b"))
    (made,) = [e for e in driver.receive(wire.done()) if isinstance(e, ToolCalls)]
    assert [call.call_id for call in made.calls] == ["a", "b"]
    assert made.response_id == "resp_1"


def test_calls_are_made_without_done_when_no_other_comes(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.call("a"), wire.call("b"))
    assert calls(effects) == []
    assert driver.conversation.deadline == pytest.approx(0.02)
    assert len(calls(driver.conversation.tick(0.02))) == 2
    assert calls(driver.receive(wire.done())) == []


def test_calls_wait_for_one_that_is_still_coming(driver: Driver):
    driver.receive(wire.response_created(), wire.call("a"), wire.call_delta("{", "b", "f"))
    assert calls(driver.conversation.tick(1.0)) == []
    driver.now = 1.0
    driver.receive(wire.call("b", arguments="{}"))
    assert [c.call_id for c in calls(driver.conversation.tick(1.1))] == ["a", "b"]


def test_a_call_named_only_by_its_item(driver: Driver):
    item = {"type": "function_call", "call_id": "call_1", "name": "f"}
    effects = driver.receive(
        wire.response_created(),
        wire.event("conversation.item.added", item=item),
        wire.call(name=None, arguments="{}"),
        wire.done(),
    )
    assert calls(effects) == [ToolCall("call_1", "f", "{}")]


@pytest.mark.parametrize("name", ["f", None])
def test_a_call_named_only_by_an_item_that_came_before_its_response(
    driver: Driver, name: str | None
):
    item = {"type": "function_call", "call_id": "call_1", "name": name}
    effects = driver.receive(
        wire.event("conversation.item.added", item=item),
        wire.response_created(),
        wire.call(name=None, arguments="{}"),
        wire.done(),
    )
    assert calls(effects) == [ToolCall("call_1", name or "", "{}")]


def test_a_call_that_does_not_name_its_response_is_of_the_one_in_flight(driver: Driver):
    events = [wire.call_delta("{}", name="f", response=None), wire.call(response=None)]
    effects = driver.receive(wire.response_created(), *events, wire.done())
    (made,) = [e for e in effects if isinstance(e, ToolCalls)]
    assert made.response_id == "resp_1"
    assert creates(driver.conversation.answer_call("call_1", "{}", 0.0)) == 1


def test_an_item_that_comes_after_its_response_was_cancelled_is_no_call(driver: Driver):
    item = {"type": "function_call", "call_id": "call_1", "name": "f"}
    driver.receive(wire.response_created(), wire.done(status="cancelled"))
    driver.receive(wire.event("conversation.item.added", item=item))
    assert calls(driver.conversation.tick(9.0)) == []
    assert driver.conversation.at_turn_boundary


def test_a_response_that_is_done_before_the_arguments_have_come(driver: Driver):
    item = {"type": "function_call", "call_id": "call_1", "name": "pay"}
    effects = driver.receive(
        wire.response_created(), wire.event("conversation.item.added", item=item), wire.done()
    )
    assert calls(effects) == []
    driver.now = 0.3
    effects = driver.receive(wire.call(name=None, arguments='{"amount": 5}'))
    assert calls(effects) == [ToolCall("call_1", "pay", '{"amount": 5}')]
    assert creates(driver.conversation.answer_call("call_1", "paid", 0.3)) == 1


def test_a_call_whose_last_event_never_came_is_made_when_the_response_is_done(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.call_delta("{}", name="f"), wire.done())
    assert calls(effects) == [ToolCall("call_1", "f", "{}")]
    output = [{"type": "function_call", "call_id": "c2", "name": "g", "arguments": "[]"}]
    effects = driver.receive(wire.response_created("r2"), wire.done("r2", output=output))
    assert calls(effects) == [ToolCall("c2", "g", "[]")]


def test_a_call_cut_off_by_a_barge_in_is_no_call(driver: Driver):
    driver.receive(wire.response_created(), wire.call_delta('{"ci', name="f"))
    effects = driver.receive(wire.started(), wire.done(status="cancelled", reason="interrupted"))
    assert calls(effects) == []


def test_each_call_is_answered_once_and_the_model_asked_once(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.call("c2"), wire.done())
    first = driver.conversation.answer_call("c1", "1", 0.0)
    assert (outputs(first), creates(first)) == (["c1"], 0)
    assert driver.conversation.answer_call("c1", "again", 0.0) == []
    second = driver.conversation.answer_call("c2", "2", 0.0)
    assert (outputs(second), creates(second)) == (["c2"], 1)
    assert driver.conversation.answer_call("c2", "again", 0.0) == []
    assert driver.conversation.answer_call("unknown", "?", 0.0) == []
    assert creates(driver.conversation.tick(9.0)) == 0


def test_the_model_is_asked_200_ms_after_the_last_answer_if_done_never_comes(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    assert creates(driver.conversation.answer_call("c1", "1", 1.0)) == 0
    assert creates(driver.conversation.tick(1.19)) == 0
    assert driver.conversation.deadline is not None
    assert driver.conversation.deadline <= 1.2
    assert creates(driver.conversation.tick(1.2)) == 1
    assert creates(driver.conversation.tick(1.5)) == 0
    assert creates(driver.receive(wire.done())) == 0


def test_what_waits_for_the_calling_response_does_not_keep_it_waiting(driver: Driver):
    """It may be done only when its narration has begun, so typed text comes after that."""
    driver.receive(wire.response_created(), wire.call())
    driver.conversation.tick(0.05)
    driver.conversation.answer_call("call_1", "{}", 0.05)
    assert ResponseCreate not in map(type, sent(driver.conversation.send_message("Hi.", 0.1)))
    (create,) = (e for e in sent(driver.conversation.tick(0.3)) if isinstance(e, ResponseCreate))
    assert create
    effects = driver.receive(wire.done(), wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert ResponseCreate not in map(type, sent(effects))
    assert ResponseCreate in map(type, sent(driver.receive(wire.done("r2"))))


def test_what_is_typed_while_a_function_runs_is_answered_after_it(driver: Driver):
    """Until then Hydra would take the request for one to speak of the function."""
    driver.receive(wire.response_created(), wire.call(), wire.done())
    assert ResponseCreate not in map(type, sent(driver.conversation.send_message("Hi.", 0.1)))
    answered = sent(driver.conversation.answer_call("call_1", "{}", 0.2))
    assert list(map(type, answered)).count(ResponseCreate) == 1
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert ResponseCreate in map(type, sent(driver.receive(wire.done("r2"))))


def test_the_model_is_asked_at_once_when_done_comes_last(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    driver.conversation.answer_call("c1", "1", 0.0)
    assert creates(driver.receive(wire.done())) == 1


def test_the_model_is_not_asked_when_no_answer_wants_it(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    effects = driver.conversation.answer_call("c1", "1", 0.0, respond=False)
    assert (outputs(effects), creates(effects)) == (["c1"], 0)


def test_a_call_means_nothing_to_another_session(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    driver.conversation.disconnected(0.0)
    driver.live()
    effects = driver.conversation.answer_call("c1", "21 degrees", 0.0)
    assert outputs(effects) == []
    message, request = sent(effects)
    assert "21 degrees" in encode(message).decode()
    assert isinstance(request, ResponseCreate)
    assert driver.conversation.answer_call("c1", "again", 0.0) == []


def test_other_tools_are_put_in_force_once(driver: Driver):
    (update,) = sent(driver.conversation.update_tools((TOOL,), 0.0))
    assert isinstance(update, SessionUpdate)
    assert update.session.tools == (TOOL,)
    assert driver.conversation.update_tools((TOOL,), 0.0) == []
    assert len(sent(driver.conversation.update_tools((), 0.0))) == 1


def test_tools_that_change_in_the_handshake_are_put_in_force_after_it():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    assert driver.conversation.update_tools((TOOL,), 0.0) == []
    (update,) = sent(driver.receive(wire.configured()))
    assert isinstance(update, SessionUpdate)
    assert update.session.tools == (TOOL,)


def test_a_call_without_an_id_is_reported(driver: Driver):
    (report,) = driver.receive(wire.event("response.function_call_arguments.done", name="f"))
    assert isinstance(report, Report)


# Text and requests


def test_text_goes_in_as_a_message_and_is_answered(driver: Driver):
    effects = driver.conversation.send_message("hello", 0.0)
    message, request = sent(effects)
    assert json.loads(encode(message))["item"]["content"] == [
        {"type": "input_text", "text": "hello"}
    ]
    assert isinstance(request, ResponseCreate)
    assert len(sent(driver.conversation.send_message("x", 0.0, respond=False))) == 1


def test_text_that_comes_too_early_waits_for_the_session():
    driver = Driver()
    assert driver.conversation.send_message("hello", 0.0) == []
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured())
    assert [type(e) for e in sent(effects)[1:]] == [ItemCreate, ResponseCreate]


def test_a_request_waits_until_the_reply_in_flight_is_done(driver: Driver):
    driver.receive(wire.response_created())
    assert creates(driver.conversation.send_message("hello", 0.0)) == 0
    assert driver.conversation.reply_pending
    assert creates(driver.receive(wire.audio(PCM))) == 0
    assert creates(driver.receive(wire.done())) == 1


def test_requests_are_made_one_at_a_time(driver: Driver):
    assert creates(driver.conversation.request_response(0.0)) == 1
    assert creates(driver.conversation.request_response(0.0)) == 0
    assert creates(driver.receive(wire.response_created("r1"), wire.done("r1"))) == 1
    assert creates(driver.receive(wire.response_created("r2"), wire.done("r2"))) == 0


def test_what_was_typed_while_the_user_speaks_is_answered_with_what_was_said(driver: Driver):
    driver.receive(wire.started())
    assert creates(driver.conversation.send_message("hello", 0.0)) == 0
    effects = driver.receive(
        wire.stopped(), wire.user_item("completed"), wire.response_created(), wire.done()
    )
    assert creates(effects) == 0
    assert not driver.conversation.reply_pending


def test_what_was_typed_while_the_user_speaks_is_answered_by_any_answer(driver: Driver):
    """Also when the user's item is not told of."""
    driver.receive(wire.started())
    driver.conversation.send_message("hello", 0.0)
    effects = driver.receive(wire.stopped(), wire.response_created(), wire.done())
    assert creates(effects) == 0


def test_what_was_typed_before_noise_is_answered(driver: Driver):
    driver.receive(wire.started())
    driver.conversation.send_message("hello", 0.0)
    assert creates(driver.receive(wire.stopped(), wire.user_item("incomplete"))) == 1


def test_an_answer_that_never_comes_holds_up_no_request_for_ever(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.conversation.request_response(1.0)
    assert driver.conversation.deadline is not None
    assert driver.conversation.deadline <= 8.0
    assert creates(driver.conversation.tick(7.9)) == 0
    assert creates(driver.conversation.tick(8.0)) == 1


def test_a_narration_waits_for_a_reply_that_came_in_between(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert creates(driver.conversation.answer_call("c1", "1", 0.0)) == 0
    assert creates(driver.receive(wire.done("r2"))) == 1


def test_a_session_may_be_replaced_only_between_turns(driver: Driver):
    conversation = driver.conversation
    assert conversation.at_turn_boundary
    for event, boundary in [
        (wire.started(), False),
        (wire.stopped(), False),
        (wire.user_item("completed"), False),
        (wire.response_created(), False),
        (wire.call("c1"), False),
        (wire.done(), False),
    ]:
        driver.receive(event)
        assert conversation.at_turn_boundary is boundary
    conversation.answer_call("c1", "1", 0.0)
    assert not conversation.at_turn_boundary
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert not conversation.at_turn_boundary
    driver.receive(wire.done("r2"))
    assert conversation.at_turn_boundary


def test_a_word_that_had_just_begun_is_sent_again_to_the_session_that_follows(driver: Driver):
    driver.now = 1.0
    before, after = b"\x01\x00" * 320, b"\x02\x00" * 320
    driver.conversation.microphone(before, 1.0)
    driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    driver.conversation.microphone(after, 2.0)
    driver.conversation.disconnected(2.0)
    driver.now = 2.0
    driver.live()
    assert sent(driver.conversation.tick(2.1)) == [InputAudioAppend(audio=after)]


# Reports


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("invalid_request_error", Severity.ERROR),
        ("invalid_frame", Severity.ERROR),
        ("invalid_audio", Severity.ERROR),
        ("internal_error", Severity.ERROR),
        ("tool_response_timeout", Severity.INFO),
        ("server_full", Severity.WARNING),
        ("session_ended", Severity.WARNING),
        ("something_new", Severity.ERROR),
    ],
)
def test_an_error_is_reported_and_ends_nothing(driver: Driver, code: str, severity: Severity):
    (report,) = driver.receive(wire.error(code, param="x"))
    assert isinstance(report, Report)
    assert (report.severity, report.code) == (severity, code)
    assert "went wrong" in report.message
    assert driver.conversation.phase is Phase.LIVE


@pytest.mark.parametrize(
    ("fields", "named"), [({"type": "kind"}, "a_code"), ({"code": None, "type": "kind"}, "kind")]
)
def test_an_error_is_named_by_its_code_or_else_its_type(
    driver: Driver, fields: dict[str, str | None], named: str
):
    error = {"code": "a_code", "message": "went wrong", **fields}
    (report,) = driver.receive(wire.event("error", error=error))
    assert isinstance(report, Report)
    assert report.message == f"Hydra reports {named}: went wrong"


def test_a_tool_timeout_names_the_tool(driver: Driver):
    driver.receive(wire.response_created(), wire.call(name="get_weather"))
    (report,) = driver.receive(wire.error("tool_response_timeout"))
    assert isinstance(report, Report)
    assert "get_weather" in report.message


def test_a_tool_timeout_spares_the_calls_of_another_response(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.call("c1", response="r1"), wire.done("r1"))
    driver.receive(wire.response_created("r2"), wire.call_delta('{"ci', "c2", "f", "r2"))
    driver.receive(wire.error("tool_response_timeout"))
    effects = driver.receive(wire.call("c2", "f", '{"city": "Rome"}', "r2"), wire.done("r2"))
    (calls,) = [e for e in effects if isinstance(e, ToolCalls)]
    assert [call.call_id for call in calls.calls] == ["c2"]
    assert len(outputs(driver.conversation.answer_call("c2", "done", 0.0))) == 1


def test_a_result_after_its_turn_was_abandoned_goes_in_as_text(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.error("tool_response_timeout"))
    assert not driver.conversation.reply_pending
    effects = driver.conversation.answer_call("c1", "21 degrees", 0.0)
    assert outputs(effects) == []
    assert "21 degrees" in encode(sent(effects)[0]).decode()
    assert creates(effects) == 1


def test_unknown_and_malformed_events_are_reported_and_end_nothing(driver: Driver):
    (unknown,) = driver.receive(wire.event("response.mood"))
    assert isinstance(unknown, Report)
    assert unknown.severity is Severity.INFO
    (odd,) = driver.receive(wire.event("session.updated", session=3))
    assert isinstance(odd, Report)
    assert "session" in odd.message


def test_silence_keeps_a_quiet_session_alive(driver: Driver):
    assert driver.conversation.deadline == pytest.approx(0.4)
    appends = sent(driver.conversation.tick(0.4))
    assert appends
    assert all(isinstance(e, InputAudioAppend) and not any(e.audio) for e in appends)
