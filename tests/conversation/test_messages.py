"""Text messages wait for a session, and are sent once, in order."""

import json

from support import wire
from support.driver import Driver, sent

from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.messages import Messages
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import ItemCreate, MessageRole, ResponseCreate, SessionConfiguration


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


def test_a_message_is_sent_by_one_session_alone():
    messages = Messages(EventIds())
    messages.open_with([("assistant", "a")])
    messages.put("user", "b")
    assert len(messages.send()) == 2
    assert messages.send() == []


def test_of_messages_that_wait_without_end_the_newest_are_kept():
    messages = Messages(EventIds())
    for n in range(300):
        messages.put("user", str(n))
    waiting = messages.take_waiting()
    assert [text for _, text in waiting] == [str(n) for n in range(44, 300)]
    assert messages.take_waiting() == []
