"""Reply audio is joined while the listener has enough ahead, and nothing of it is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire
from support.driver import Driver, chunk, said

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Effect,
    ReplyEnded,
    ResponseFinished,
    TextChunk,
    VoiceEnded,
)

# 40 ms at 24 kHz, of which each tells its place.
DELTAS = [bytes([n + 1]) * 1920 for n in range(60)]


def joining(secs: float = 0.16) -> Driver:
    return Driver(Conversation(model="hydra-v1.1", joined_audio_secs=secs)).live()


def lengths(effects: list[Effect]) -> list[int]:
    """In deltas."""
    return [len(e.pcm) // len(DELTAS[0]) for e in effects if isinstance(e, AudioChunk)]


def begun(driver: Driver, *, deltas: int) -> list[Effect]:
    """A reply that the listener hears from its first delta on; all comes at once."""
    effects = driver.receive(wire.response_created(), wire.audio(DELTAS[0]))
    driver.conversation.bot_started(driver.now)
    return effects + driver.receive(*map(wire.audio, DELTAS[1:deltas]))


def test_the_first_audio_passes_at_once_and_the_rest_is_joined():
    # 0.15 s, that is not quite four deltas, and what comes until the listener has that.
    assert lengths(begun(joining(), deltas=25)) == 4 * [1] + 5 * [4]


def test_without_a_length_each_delta_passes():
    assert lengths(begun(joining(0.0), deltas=25)) == 25 * [1]


def test_nothing_is_joined_unless_the_transport_reports_what_is_heard():
    driver = joining()
    effects = driver.receive(wire.response_created(), *map(wire.audio, DELTAS))
    assert lengths(effects) == len(DELTAS) * [1]


def test_nothing_is_held_back_that_comes_as_fast_as_it_is_heard():
    driver = joining()
    assert lengths(begun(driver, deltas=4)) == 4 * [1]
    for delta in DELTAS[4:]:
        driver.now += 0.04
        assert driver.receive(wire.audio(delta)) == [chunk(delta)]


def test_what_is_in_hand_passes_before_the_listener_has_to_wait():
    driver = joining()
    begun(driver, deltas=10)
    # Eight deltas passed, 0.32 s.
    assert driver.conversation.deadline == pytest.approx(0.17)
    assert driver.conversation.tick(0.16) == []
    assert driver.conversation.tick(0.171) == [chunk(DELTAS[8] + DELTAS[9])]
    assert driver.conversation.audio_deadline is None


def test_the_last_audio_passes_when_all_has_come():
    driver = joining()
    begun(driver, deltas=10)
    rest = chunk(DELTAS[8] + DELTAS[9])
    assert driver.receive(wire.event("response.output_audio.done", response_id="other")) == []
    assert driver.receive(wire.event("response.output_audio.done", response_id="resp_1")) == [rest]
    assert said(driver.receive(wire.done())) == b""


def test_the_last_audio_passes_with_the_end_of_the_response():
    driver = joining()
    begun(driver, deltas=10)
    rest = chunk(DELTAS[8] + DELTAS[9])
    *effects, finished = driver.receive(wire.done())
    assert effects == [rest, VoiceEnded("resp_1"), ReplyEnded("resp_1", False)]
    assert isinstance(finished, ResponseFinished)


def test_text_keeps_its_place():
    driver = joining()
    begun(driver, deltas=10)
    effects = driver.receive(wire.transcript("Hello."))
    assert effects == [chunk(DELTAS[8] + DELTAS[9]), TextChunk("Hello.")]


def test_what_is_in_hand_is_heard_if_the_connection_is_lost():
    driver = joining()
    begun(driver, deltas=10)
    assert said(driver.conversation.disconnected(0.0)) == DELTAS[8] + DELTAS[9]


def test_a_barge_in_finds_less_in_the_pipeline():
    driver = joining()
    begun(driver, deltas=10)
    assert said(driver.receive(wire.started())) == b""
    effects = driver.receive(wire.stopped(), wire.user_item("completed"))
    effects += driver.receive(wire.response_created("resp_2"), wire.audio(DELTAS[20], "resp_2"))
    assert said(effects) == DELTAS[20]


def test_after_noise_what_was_in_hand_is_heard_once():
    driver = joining()
    begun(driver, deltas=10)
    driver.now = 0.1
    effects = driver.receive(wire.started())
    driver.interrupted()
    effects += driver.receive(wire.audio(DELTAS[10]))
    effects += driver.receive(wire.stopped(), wire.user_item("incomplete"))
    # From the beginning, for that is less than 0.3 s ago.
    assert said(effects) == b"".join(DELTAS[:11])


def test_a_cancelled_reply_is_not_heard_on():
    driver = joining()
    begun(driver, deltas=10)
    assert said(driver.conversation.cancel_response(0.0)) == b""
    assert driver.conversation.audio_deadline is None


@given(
    secs=st.floats(0.0, 0.5),
    sizes=st.lists(st.tuples(st.integers(0, 3000), st.floats(0.0, 0.1)), max_size=60),
    starts=st.integers(0, 10),
)
def test_all_is_heard_in_order_and_in_time(
    secs: float, sizes: list[tuple[int, float]], starts: int
):
    driver = joining(secs)
    conversation = driver.conversation
    effects, came, plays_until = driver.receive(wire.response_created()), b"", 0.0

    def pass_on(passed: list[Effect]) -> None:
        nonlocal effects, plays_until
        effects += passed
        plays_until = max(plays_until, driver.now) + len(said(passed)) / 48_000

    for number, (size, wait) in enumerate(sizes):
        until = driver.now + wait
        while (due := conversation.audio_deadline) is not None and due <= until:
            driver.now = max(driver.now, due)
            pass_on(conversation.tick(driver.now))
        driver.now = until
        pcm = bytes(number % 251 for _ in range(size))
        came += pcm
        pass_on(driver.receive(wire.audio(pcm)))
        if number == starts:
            conversation.bot_started(driver.now)
            plays_until = driver.now + len(said(effects)) / 48_000
        if conversation.audio_deadline is not None:
            # Who listens has something to hear.
            assert plays_until > driver.now
    pass_on(driver.receive(wire.done()))
    whole = len(came) // 2 * 2
    assert said(effects) == came[:whole]
    assert all(len(e.pcm) % 2 == 0 for e in effects if isinstance(e, AudioChunk))
