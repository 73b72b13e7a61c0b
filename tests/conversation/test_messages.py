"""Text messages wait for a session, and are sent once, in order."""

import json

from support import wire
from support.driver import Driver, sent

from pipecat_hydra.wire.events import (
    ItemCreate,
    MessageRole,
    ResponseCreate,
    SessionConfiguration,
    encode,
)


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
