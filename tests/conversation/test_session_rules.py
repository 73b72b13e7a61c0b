"""How a session begins and ends, and what the next one keeps of it when it is lost."""

import pytest
from support import wire
from support.driver import PCM, Driver, calls, said, sent, speak

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Effect,
    Ready,
    Rest,
    ToolCalls,
    UserStopped,
)
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.wire.events import (
    ItemCreate,
    ResponseCreate,
    SessionConfiguration,
)


def lose(driver: Driver) -> list[Effect]:
    return driver.conversation.disconnected(driver.now)


def resent(driver: Driver) -> int:
    """How many chunks wait to be sent again."""
    return round(driver.conversation.uplink.waiting_secs / 0.02)


def again(driver: Driver) -> bool | None:
    """Whether the model speaks first in the session that follows, if nobody knows better."""
    driver.conversation.connected(driver.now)
    (configure,) = sent(driver.receive(wire.created()))
    return configure.session.generate_initial_response  # pyright: ignore[reportAttributeAccessIssue]


# What the user said


def test_a_turn_that_is_open_is_sent_again_from_before_its_start(driver: Driver):
    speak(driver, 100)
    driver.receive(wire.started())
    speak(driver, 100)
    assert UserStopped(False) in lose(driver)
    # And of the last second before it was noticed.
    assert resent(driver) == 150


def test_a_word_that_had_just_begun_when_the_bot_spoke_is_sent_again():
    """Nobody has noticed it yet."""
    driver = Driver().live(greet=True)
    speak(driver, 5)
    driver.receive(wire.response_created(), wire.audio(PCM))
    lose(driver)
    assert resent(driver) == 5


def test_a_turn_that_waits_for_its_answer_is_sent_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("completed"), wire.response_created())
    lose(driver)
    assert resent(driver) == 25
    assert driver.conversation.user_turns == 0


def test_a_turn_whose_answer_is_heard_is_not(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("completed"))
    driver.receive(wire.response_created(), wire.audio(PCM))
    lose(driver)
    assert resent(driver) == 0
    assert driver.conversation.user_turns == 1


def test_a_word_that_had_begun_when_the_answer_came_is(driver: Driver):
    """The server had closed by then, and has not heard it."""
    driver.receive(wire.started())
    speak(driver, 50)
    stopped = wire.event("input_audio_buffer.speech_stopped", audio_end_ms=800, item_id="item_1")
    driver.receive(stopped, wire.user_item("completed"), wire.response_created())
    speak(driver, 10)
    driver.receive(wire.audio(PCM))
    lose(driver)
    # 0.2 s of silence that the server had heard before it ended the turn, and what came then.
    assert resent(driver) == 20
    assert driver.conversation.user_turns == 1


def test_a_turn_that_made_the_model_call_a_function_is_not(driver: Driver):
    """It would call it again, and book the table twice."""
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.response_created(), wire.call(), wire.done())
    lose(driver)
    assert resent(driver) == 0


def test_what_is_said_over_calls_that_are_just_made_is_sent_again(driver: Driver):
    driver.receive(wire.response_created(), wire.call())
    driver.receive(wire.started())
    speak(driver, 10)
    assert any(isinstance(e, ToolCalls) for e in driver.conversation.tick(driver.now))
    speak(driver, 10)
    lose(driver)
    assert resent(driver) == 20


def test_a_turn_whose_answer_was_quicker_than_its_end_is_not(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.response_created(), wire.audio(PCM), wire.stopped())
    lose(driver)
    assert resent(driver) == 0


def test_what_is_said_over_an_answer_is_sent_again(driver: Driver):
    driver.receive(wire.started("i1"))
    speak(driver)
    driver.receive(wire.stopped("i1"), wire.response_created(), wire.audio(PCM))
    driver.receive(wire.started("i2"))
    speak(driver, 10)
    driver.receive(wire.audio(PCM))
    lose(driver)
    assert resent(driver) == 10


def test_noise_is_not_sent_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("incomplete"))
    lose(driver)
    assert resent(driver) == 0
    assert not driver.conversation.under_way


def test_a_turn_that_the_application_wants_no_answer_to_is_not_sent_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("completed"))
    driver.conversation.cancel_response(driver.now)
    lose(driver)
    assert resent(driver) == 0


def test_a_turn_that_is_never_answered_is_forgotten_after_a_while(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("completed"))
    driver.now += 10.0
    driver.conversation.tick(driver.now)
    lose(driver)
    assert resent(driver) == 0


def test_a_turn_whose_answer_has_begun_is_not_forgotten_before_it_is_heard(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("completed"), wire.response_created())
    driver.now += 10.0
    driver.conversation.tick(driver.now)
    lose(driver)
    assert resent(driver) == 25


def test_an_answer_that_failed_leaves_the_turn_to_be_heard_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.response_created(), wire.done(status="failed"))
    lose(driver)
    assert resent(driver) == 25


def test_noise_after_a_question_does_not_forget_the_question(driver: Driver):
    driver.receive(wire.started("i1"))
    speak(driver)
    driver.receive(wire.stopped("i1"), wire.started("i2"))
    driver.receive(wire.stopped("i2"), wire.user_item("incomplete", "i2"))
    lose(driver)
    assert resent(driver) == 25


def test_what_could_not_be_kept_of_a_long_turn_is_told():
    driver = Driver(Conversation(model="hydra-v1.1", uplink=Uplink(preroll_secs=1.0))).live()
    driver.receive(wire.started())
    speak(driver, 100)
    lose(driver)
    driver.conversation.connected(driver.now)
    (ready,) = (e for e in driver.receive(wire.created(), wire.configured()) if type(e) is Ready)
    assert ready.lost_secs == pytest.approx(1.0)


@pytest.mark.parametrize("how", ["never answered", "cancelled"])
def test_a_turn_without_an_answer_is_unknown_to_the_next_session(driver: Driver, how: str):
    driver.receive(wire.started())
    speak(driver)
    driver.receive(wire.stopped(), wire.user_item("completed"))
    if how == "cancelled":
        driver.conversation.cancel_response(driver.now)
    else:
        driver.now += 10.0
        driver.conversation.tick(driver.now)
    assert driver.conversation.user_turns == 1


def test_the_echo_of_an_interruption_may_come_after_the_loss(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    lose(driver)
    assert driver.interrupted() == []
    assert driver.conversation.uplink.keeping


def test_ids_may_come_again_in_another_session(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.call(), wire.done())
    lose(driver)
    driver.live()
    effects = driver.receive(wire.response_created(), wire.audio(PCM))
    assert said(effects) == PCM
    (call,) = calls(driver.receive(wire.call(), wire.done()))
    # The call of the session before is another one, which is answered as text.
    (late,) = sent(driver.conversation.answer_call("call_1", "{}", driver.now, respond=False))
    assert isinstance(late, ItemCreate)
    assert late.item.type == "message"
    (answer, _) = sent(driver.conversation.answer_call(call.call_id, "{}", driver.now))
    assert isinstance(answer, ItemCreate)
    assert answer.item.type == "function_call_output"
    assert answer.item.call_id == "call_1"


# What comes out of order


def test_a_response_before_the_session_is_configured_has_its_rate():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created(), wire.response_created(), wire.configured(16_000))
    (chunk,) = (e for e in driver.receive(wire.audio(PCM)) if isinstance(e, AudioChunk))
    assert chunk.sample_rate == 16_000
    driver.receive(wire.done())
    # And it is not waited for once more.
    assert not driver.conversation.reply_pending
    assert ResponseCreate in map(type, sent(driver.conversation.send_message("Hello?", 1.0)))


# What the model owed


def test_a_greeting_that_was_not_heard_is_owed():
    driver = Driver().live(greet=True)
    driver.receive(wire.response_created())
    lose(driver)
    assert driver.conversation.owes_reply
    assert again(driver) is True


def test_a_greeting_that_was_heard_is_not():
    driver = Driver().live(greet=True)
    driver.receive(wire.response_created(), wire.audio(PCM))
    lose(driver)
    assert driver.conversation.under_way
    assert again(driver) is False


def test_a_greeting_over_which_the_user_speaks_is_not():
    driver = Driver().live(greet=True)
    driver.receive(wire.started())
    speak(driver)
    lose(driver)
    assert not driver.conversation.owes_reply


@pytest.mark.parametrize("announced", [False, True])
def test_an_answer_that_was_asked_for_and_not_heard_is_owed(driver: Driver, announced: bool):
    driver.conversation.send_message("Hello?", driver.now)
    if announced:
        driver.receive(wire.response_created())
    lose(driver)
    assert driver.conversation.owes_reply
    assert again(driver) is True
    driver.receive(wire.configured())
    lose(driver)
    assert driver.conversation.owes_reply
    assert again(driver) is True
    driver.receive(wire.configured(), wire.response_created("r2"), wire.audio(PCM, "r2"))
    lose(driver)
    assert not driver.conversation.owes_reply


def test_a_greeting_that_was_asked_for_is_owed_though_no_word_was_sent_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    lose(driver)
    driver.live(greet=True)
    driver.now += 5.0
    driver.conversation.tick(driver.now)
    assert not driver.conversation.uplink.keeping
    assert driver.conversation.reply_pending
    lose(driver)
    assert driver.conversation.owes_reply
    assert again(driver) is True


def test_a_greeting_that_was_asked_for_is_owed_though_noise_was_sent_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    lose(driver)
    driver.live(greet=True)
    driver.receive(wire.started("i2"), wire.stopped("i2"), wire.user_item("incomplete", "i2"))
    assert driver.conversation.reply_pending
    lose(driver)
    # The audio goes out once more; the model is asked if there is no word in it this time either.
    assert again(driver) is False
    assert not asked_for(driver.receive(wire.configured()))
    driver.now += 10.0
    assert asked_for(driver.conversation.tick(driver.now))


def test_an_answer_that_was_cancelled_is_not_owed(driver: Driver):
    driver.conversation.request_response(driver.now)
    driver.conversation.cancel_response(driver.now)
    lose(driver)
    assert not driver.conversation.owes_reply


def test_an_answer_that_has_begun_and_is_long_in_coming_is_owed(driver: Driver):
    driver.conversation.send_message("Hello?", driver.now)
    driver.receive(wire.response_created())
    driver.now += 10.0
    driver.conversation.tick(driver.now)
    lose(driver)
    assert driver.conversation.owes_reply


def test_a_session_of_which_nothing_was_asked_owes_nothing(driver: Driver):
    lose(driver)
    driver.live()
    lose(driver)
    assert not driver.conversation.owes_reply


def test_what_waited_to_be_said_of_calls_is_asked_for_once_in_the_next_session(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.call(response="r1"), wire.done("r1"))
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert not asked_for(driver.conversation.answer_call("call_1", "{}", driver.now))
    lose(driver)
    assert driver.conversation.owes_reply
    driver.conversation.configure(SessionConfiguration(), driver.now)
    driver.conversation.connected(driver.now)
    assert asked_for(driver.receive(wire.created(), wire.configured()))
    effects = driver.receive(wire.response_created("r3"), wire.audio(PCM, "r3"), wire.done("r3"))
    assert not asked_for(effects)


def test_what_is_to_be_said_of_calls_that_were_answered_is_owed(driver: Driver):
    """Also in the moment before the model is asked for it."""
    driver.receive(wire.response_created(), wire.call())
    driver.now += 0.05
    driver.conversation.tick(driver.now)
    assert not [e for e in sent(driver.conversation.answer_call("call_1", "{}", driver.now))[1:]]
    lose(driver)
    assert driver.conversation.owes_reply


def test_what_is_to_be_answered_is_owed_until_there_is_a_session(driver: Driver):
    lose(driver)
    asked = SessionConfiguration(generate_initial_response=True)
    driver.conversation.configure(asked, driver.now)
    driver.conversation.connected(driver.now)
    driver.receive(wire.created())
    lose(driver)
    assert driver.conversation.owes_reply


def test_a_request_that_was_refused_is_not_owed(driver: Driver):
    (create,) = sent(driver.conversation.request_response(driver.now))
    driver.receive(wire.error("invalid_request_error", event_id=create.event_id))
    lose(driver)
    assert not driver.conversation.owes_reply


def test_a_request_whose_response_is_done_before_it_was_announced_is_not_owed(driver: Driver):
    driver.conversation.request_response(driver.now)
    driver.receive(wire.done())
    lose(driver)
    assert not driver.conversation.owes_reply


def test_a_request_that_a_turn_without_an_end_has_cut_is_not_owed(driver: Driver):
    driver.conversation.request_response(driver.now)
    driver.receive(wire.started())
    driver.conversation.tick(driver.now + 60.0)
    lose(driver)
    assert not driver.conversation.owes_reply


def asked_for(effects: list[Effect]) -> bool:
    return any(isinstance(event, ResponseCreate) for event in sent(effects))


def owing(driver: Driver) -> list[Effect]:
    """A session that follows one in which something was typed and something said."""
    driver.conversation.send_message("Hello?", driver.now)
    driver.receive(wire.started("i1"))
    speak(driver)
    lose(driver)
    assert not driver.conversation.owes_reply
    driver.conversation.configure(SessionConfiguration(), driver.now)
    driver.conversation.connected(driver.now)
    return driver.receive(wire.created(), wire.configured())


def test_what_is_owed_waits_for_what_the_user_said(driver: Driver):
    assert not asked_for(owing(driver))
    assert not asked_for(driver.receive(wire.started("i2"), wire.stopped("i2")))
    # Its answer is one to what was typed, too.
    effects = driver.receive(wire.user_item("completed", "i2"), wire.response_created())
    assert not asked_for([*effects, *driver.receive(wire.audio(PCM), wire.done())])


def test_what_is_owed_is_given_after_all_if_that_was_noise(driver: Driver):
    assert not asked_for(owing(driver))
    driver.receive(wire.started("i2"), wire.stopped("i2"))
    assert asked_for(driver.receive(wire.user_item("incomplete", "i2")))


def test_what_is_owed_is_given_after_all_if_nothing_was_heard(driver: Driver):
    assert not asked_for(owing(driver))
    driver.now += 10.0
    assert asked_for(driver.conversation.tick(driver.now))
    assert not driver.conversation.uplink.keeping


def test_calls_that_want_nothing_said_are_not(driver: Driver):
    driver.receive(wire.response_created(), wire.call())
    driver.now += 0.05
    driver.conversation.tick(driver.now)
    driver.conversation.answer_call("call_1", "{}", driver.now, respond=False)
    lose(driver)
    assert not driver.conversation.owes_reply


def test_a_reply_that_is_given_anyway_is_not_asked_for_once_more(driver: Driver):
    lose(driver)
    driver.conversation.request_response(driver.now)
    assert driver.conversation.owes_reply
    driver.live(greet=True)
    effects = driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert not [e for e in sent(effects) if isinstance(e, ResponseCreate)]


def test_messages_that_wait_are_taken_or_sent(driver: Driver):
    lose(driver)
    driver.conversation.send_message("one", driver.now, role="system", respond=False)
    assert driver.conversation.take_unsent() == [("system", "one")]
    driver.live()
    assert driver.conversation.take_unsent() == []


# Sessions that nobody uses


def test_a_session_that_nobody_configures_is_closed():
    driver = Driver()
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    assert driver.conversation.tick(19.9) == []
    (rest,) = driver.conversation.tick(20.0)
    assert isinstance(rest, Rest)
    assert driver.conversation.phase is Phase.OFFLINE


def test_a_session_is_not_closed_while_a_function_runs(driver: Driver):
    driver.receive(wire.response_created(), wire.call(), wire.done())
    effects = driver.conversation.tick(300.0)
    assert not any(isinstance(effect, Rest) for effect in effects)
    assert driver.conversation.phase is Phase.LIVE


# Configurations


def test_a_session_is_configured_once_and_told_so_once(driver: Driver):
    driver.conversation.configure(SessionConfiguration(voice="ivy"), 1.0)
    assert driver.receive(wire.configured()) == []
    driver.conversation.disconnected(2.0)
    driver.conversation.connected(3.0)
    (configure,) = sent(driver.receive(wire.created()))
    assert configure.session.voice == "ivy"  # pyright: ignore[reportAttributeAccessIssue]
