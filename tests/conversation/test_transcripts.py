"""The words of the user: each turn once."""

from typing import Any

import pytest
from support import wire
from support.driver import PCM, Driver

from pipecat_hydra.conversation.effects import Effect, UserStopped, UserTranscript
from pipecat_hydra.conversation.transcripts import Transcripts
from pipecat_hydra.wire.events import ConversationItem


def item(text: str | None, item_id: str | None = "i", **fields: Any) -> ConversationItem:
    content = [{"type": "input_audio", "text": text}]
    body = {"id": item_id, "role": "user", "status": "completed", "content": content, **fields}
    return ConversationItem.model_validate(body)


def spoken(text: str, item_id: str | None = "item_1", status: str = "completed") -> Any:
    body = {"type": "message", **item(text, item_id, status=status).model_dump(exclude_none=True)}
    return wire.event("conversation.item.done", item=body)


def words(effects: list[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, UserTranscript)]


def test_an_item_has_its_words_once():
    transcripts = Transcripts()
    transcripts.turn_started()
    assert transcripts.take(item(" Hello. ")) == "Hello."
    assert transcripts.take(item("Hello.")) is None
    assert transcripts.take(item("Bye.", "j")) == "Bye."


def test_items_without_an_id_are_told_apart_by_their_turns():
    transcripts = Transcripts()
    for text in ("Hello.", "Hello."):
        transcripts.turn_started()
        assert transcripts.take(item(text, None)) == text
        assert transcripts.take(item(text, None)) is None


@pytest.mark.parametrize(
    "silent",
    [
        item(None),
        item("  "),
        item("Noise.", status="incomplete"),
        item(None, content=None),
        item(None, content=[{"type": "input_text", "text": "Typed."}]),
    ],
)
def test_what_was_not_said_aloud_has_no_words(silent: ConversationItem):
    assert Transcripts().take(silent) is None


def test_words_may_be_in_parts_and_under_another_name():
    parts = [{"type": "input_audio", "transcript": "Hello"}, {"text": "there."}]
    assert Transcripts().take(item(None, content=parts)) == "Hello there."


def test_words_that_the_next_session_hears_again_are_not_told_again():
    transcripts = Transcripts()
    assert transcripts.take(item("One.", "a")) == "One."
    transcripts.understood()
    assert transcripts.take(item("Two.", "b")) == "Two."
    for _ in range(2):
        transcripts.disconnected()
        # The id means nothing in another session, and it may hear the words otherwise.
        assert transcripts.take(item("Too.", "a")) is None
    assert transcripts.take(item("Three.", "b")) == "Three."


def test_without_words_to_be_heard_again_all_are_told():
    transcripts = Transcripts()
    transcripts.take(item("One.", "a"))
    transcripts.disconnected()
    transcripts.understood()
    assert transcripts.take(item("Two.", "a")) == "Two."


@pytest.mark.parametrize("lagging", [False, True])
def test_the_words_of_a_turn_are_told(driver: Driver, lagging: bool):
    driver.receive(wire.started())
    if lagging:
        driver.receive(wire.response_created(), wire.audio(PCM))
        assert words(driver.receive(wire.stopped(), spoken("Hello."))) == ["Hello."]
    else:
        effects = driver.receive(spoken("Hello."), wire.stopped())
        # While the turn is open, for who writes a turn down at its end.
        assert [type(effect) for effect in effects] == [UserTranscript, UserStopped]


def test_noise_has_no_words(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    assert words(driver.receive(spoken("Uh.", status="incomplete"))) == []


def test_the_words_of_a_turn_without_an_answer_are_told_once_over_a_loss(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    assert words(driver.receive(spoken("Hello."))) == ["Hello."]
    driver.conversation.disconnected(1.0)
    driver.conversation.connected(2.0)
    driver.now = 2.0
    driver.receive(wire.created(), wire.configured(), wire.started("x"), wire.stopped("x"))
    assert words(driver.receive(spoken("Hello.", "x"))) == []
    driver.receive(wire.response_created(), wire.audio(PCM), wire.audio_done(), wire.done())
    driver.receive(wire.started("y"), wire.stopped("y"))
    assert words(driver.receive(spoken("Bye.", "y"))) == ["Bye."]
