"""Sessions that are not used are closed."""

import numpy as np
import pytest
from support import wire
from support.driver import CHUNK, Driver, sent, speak

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import Ready, Rest, ToolCalls
from pipecat_hydra.conversation.rest_timer import RestTimer
from pipecat_hydra.wire.events import (
    InputAudioAppend,
    SessionConfiguration,
)


def test_a_session_that_nobody_configures_goes_to_rest():
    conversation = Conversation(model="hydra-v1.1", unused_timeout_secs=20.0)
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.1)
    assert conversation.deadline == 20.0
    assert conversation.tick(19.9) == []
    (rest,) = conversation.tick(20.0)
    assert isinstance(rest, Rest)
    assert conversation.phase is Phase.OFFLINE
    assert conversation.deadline is None


def test_one_that_is_configured_in_time_does_not():
    conversation = Conversation(model="hydra-v1.1", unused_timeout_secs=20.0)
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.1)
    conversation.configure(SessionConfiguration(), 19.0)
    conversation.receive(wire.configured(), 19.5)
    assert not [e for e in conversation.tick(25.0) if isinstance(e, Rest)]


SOUND = (8_000 * np.sin(np.arange(320))).astype("<i2").tobytes()
"""20 ms of user audio that is no silence."""


def rests(driver: Driver, secs: float, *, microphone_open: bool = False) -> bool:
    """Whether the session goes to rest within so many seconds of nothing, or of silence."""
    for _ in range(round(secs / 0.5)):
        driver.now += 0.5
        if microphone_open:
            driver.conversation.microphone(CHUNK, driver.now)
        if any(isinstance(e, Rest) for e in driver.conversation.tick(driver.now)):
            return True
    return False


def test_a_session_in_which_nothing_happens_goes_to_rest():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    assert not rests(driver, 59.0)
    assert rests(driver, 2.0)


def test_silence_on_an_open_microphone_is_no_use():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    assert not rests(driver, 59.0, microphone_open=True)
    assert rests(driver, 2.0, microphone_open=True)
    # It is kept back, so that no session is opened for it, and none has to hear all of it.
    speak(driver, 1_000)
    assert driver.conversation.open_microphone.rests
    assert driver.conversation.uplink.waiting_secs == 0.0
    driver.conversation.microphone(SOUND, driver.now)
    driver.conversation.microphone(SOUND, driver.now)
    assert not driver.conversation.open_microphone.rests
    assert 0.4 < driver.conversation.uplink.waiting_secs <= 0.54
    assert driver.conversation.uplink.take_dropped_secs() == 0.0


def test_the_time_without_use_goes_on_in_a_session_that_takes_the_place_of_another():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    assert not rests(driver, 50.0)
    driver.conversation.disconnected(driver.now)
    driver.live()
    assert not rests(driver, 9.0)
    assert rests(driver, 2.0)
    # And begins anew after a rest.
    driver.now += 1_000.0
    driver.live()
    assert not rests(driver, 59.0)
    assert rests(driver, 2.0)


def test_it_does_not_rest_when_it_is_to_hear_again_what_the_user_said():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    speak(driver, 50)
    driver.receive(wire.started())
    driver.conversation.disconnected(driver.now)
    driver.now += 100.0
    driver.live()
    assert not rests(driver, 5.0)


def test_it_does_not_rest_while_the_bot_is_heard():
    """Hydra generates a reply ten times faster than it is heard."""
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=10.0)).live()
    long = bytes(24_000 * 2 * 25)
    driver.receive(wire.response_created(), wire.audio(long), wire.done())
    driver.conversation.bot_started(driver.now)
    assert not rests(driver, 25.0)
    driver.conversation.bot_stopped()
    assert rests(driver, 11.0)


@pytest.mark.parametrize("use", ["microphone", "text", "request", "turn", "reply"])
def test_whatever_happens_keeps_it_awake(use: str):
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    assert not rests(driver, 50.0)
    match use:
        case "microphone":
            for _ in range(3):
                driver.conversation.microphone(SOUND, driver.now)
        case "text":
            driver.conversation.send_message("Hello?", driver.now, respond=False)
        case "request":
            driver.conversation.request_response(driver.now)
        case "reply":
            driver.receive(wire.response_created(), wire.done())
        case _:
            driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    assert not rests(driver, 50.0)
    assert rests(driver, 70.0)


def test_without_a_limit_it_never_rests():
    unlimited = Conversation(model="hydra-v1.1", unused_timeout_secs=None, idle_timeout_secs=None)
    unlimited.connected(0.0)
    unlimited.receive(wire.created(), 0.0)
    assert unlimited.deadline is None
    assert not rests(Driver(unlimited).live(), 1_000.0)


def test_it_does_not_rest_while_a_function_runs():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    driver.receive(wire.response_created(), wire.call(), wire.done())
    assert not rests(driver, 200.0)
    driver.conversation.answer_call("call_1", "{}", driver.now, respond=False)
    assert rests(driver, 130.0)


def test_calls_that_are_made_when_it_would_rest_are_made():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    driver.receive(wire.response_created(), wire.call())
    effects = driver.conversation.tick(61.0)
    assert any(isinstance(e, ToolCalls) for e in effects)
    assert not any(isinstance(e, Rest) for e in effects)


def test_after_a_rest_the_conversation_goes_on():
    driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0)).live()
    assert rests(driver, 61.0)
    driver.conversation.microphone(CHUNK, driver.now)
    driver.conversation.configure(SessionConfiguration(), driver.now)
    driver.conversation.connected(driver.now)
    effects = driver.receive(wire.created(), wire.configured())
    assert any(isinstance(e, Ready) for e in effects)
    driver.now += 0.1
    assert InputAudioAppend(audio=CHUNK) in sent(driver.conversation.tick(driver.now))


def test_what_happens_in_a_session_that_nobody_has_configured_is_no_use_of_it():
    rest = RestTimer(unused_timeout_secs=20.0, idle_timeout_secs=60.0)
    rest.opened(0.0)
    rest.configured()
    rest.live(1.0)
    assert rest.reason == "nothing was said for 60.0 s"
    rest.closed()
    assert rest.deadline is None
    rest.opened(100.0)
    rest.used(110.0)
    assert rest.reason == "the session was not used for 20.0 s"
    assert not rest.is_due(119.9)
    assert rest.is_due(120.0)


def test_a_session_of_a_service_in_use_is_never_unused():
    conversation = Conversation(model="hydra-v1.1", unused_timeout_secs=5.0)
    conversation.connected(0.0)
    assert conversation.deadline == 5.0
    conversation.claim(1.0)
    # The handshake has a limit of its own.
    assert not [e for e in conversation.tick(6.0) if isinstance(e, Rest)]
    conversation.disconnected(7.0)
    conversation.connected(8.0)
    assert not [e for e in conversation.tick(14.0) if isinstance(e, Rest)]
