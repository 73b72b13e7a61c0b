"""An end that the server announces and does not bring about."""

import struct

import pytest
from support import wire
from support.driver import PCM, Driver, sent

from pipecat_hydra.conversation.announced_end import AnnouncedEnd
from pipecat_hydra.conversation.effects import Effect, Fail, FailureKind
from pipecat_hydra.wire.events import ErrorDetail, InputAudioAppend


def given_up(driver: Driver, at: float) -> list[Fail]:
    driver.now = at
    effects: list[Effect] = driver.conversation.tick(driver.now)
    return [effect for effect in effects if isinstance(effect, Fail)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("session_ended", FailureKind.SERVER),
        ("internal_error", FailureKind.SERVER),
        ("server_full", FailureKind.CAPACITY),
    ],
)
def test_a_session_that_is_over_and_not_closed_is_given_up(
    driver: Driver, code: str, kind: FailureKind
):
    driver.receive(wire.error(code))
    assert driver.conversation.deadline is not None
    assert driver.conversation.deadline <= 1.0
    assert given_up(driver, 0.9) == []
    (fail,) = given_up(driver, 1.0)
    assert fail.kind is kind
    assert not fail.kind.final
    assert code in fail.message
    assert given_up(driver, 1.5) == []


@pytest.mark.parametrize("code", ["session_ended", "internal_error"])
def test_it_is_given_up_in_the_handshake_too(code: str):
    driver = Driver()
    driver.conversation.connected(0.0)
    driver.receive(wire.error(code))
    assert len(given_up(driver, 1.0)) == 1


@pytest.mark.parametrize("code", ["invalid_frame", "invalid_audio", "unheard_of"])
def test_another_error_ends_nothing(driver: Driver, code: str):
    driver.receive(wire.error(code))
    assert given_up(driver, 5.0) == []


def test_a_close_that_follows_is_all_there_is(driver: Driver):
    driver.receive(wire.error("session_ended"))
    driver.conversation.disconnected(0.5)
    assert given_up(driver, 5.0) == []


def test_a_session_that_goes_on_after_an_internal_error_is_kept(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.error("internal_error"))
    # It goes on the short way.
    driver.now = 0.9
    driver.receive(wire.audio(PCM))
    assert given_up(driver, 1.0) == []
    driver.receive(wire.audio_done(), wire.done(), wire.error("internal_error"))
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    driver.receive(wire.audio_done("r2"), wire.done("r2"))
    assert given_up(driver, 3.0) == []


def test_a_response_that_nothing_more_comes_of_is_no_sign_that_the_session_goes_on(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.error("internal_error"))
    driver.now = 0.2
    driver.receive(wire.audio(PCM))
    assert len(given_up(driver, 1.0)) == 1


def test_what_the_user_says_after_the_end_was_announced_is_heard_by_the_next_session(
    driver: Driver,
):
    def say(first: int, last: int) -> None:
        for number in range(first, last):
            driver.now = number * 0.02
            driver.conversation.microphone(struct.pack("<h", number + 1000) * 320, driver.now)

    say(0, 100)
    driver.receive(wire.error("session_ended"))
    # Longer than what every new session hears again.
    say(100, 200)
    assert len(given_up(driver, driver.now)) == 1
    driver.conversation.disconnected(driver.now)
    driver.conversation.connected(driver.now)
    effects = driver.receive(wire.created(), wire.configured())
    for _ in range(200):
        driver.now += 0.02
        effects += driver.conversation.tick(driver.now)
    heard = {event.audio[:2] for event in sent(effects) if isinstance(event, InputAudioAppend)}
    assert {struct.pack("<h", number + 1000) for number in range(100, 200)} <= heard


def test_a_response_that_failed_is_no_sign_that_the_session_goes_on(driver: Driver):
    driver.receive(wire.response_created(), wire.error("internal_error"))
    driver.receive(wire.done(status="failed"))
    assert len(given_up(driver, 1.0)) == 1


def test_a_session_that_is_over_is_given_up_whatever_it_still_says(driver: Driver):
    driver.receive(wire.error("session_ended"))
    driver.receive(wire.response_created(), wire.audio(PCM))
    assert len(given_up(driver, 1.0)) == 1


def test_an_internal_error_is_repeated_if_it_falls_on_the_same_words():
    end = AnnouncedEnd()
    for at, words, is_repeated in (
        (0.0, None, False),
        (10.0, 1, False),
        (20.0, 1, True),
        (30.0, 2, False),
        (40.0, None, False),
        (50.0, 2, False),
        (60.0, 2, True),
    ):
        end.take(ErrorDetail(code="internal_error"), at)
        assert len(end.tick(at + 1.0, heard_at=None, words=words)) == 1
        assert end.is_repeated is is_repeated
    end.take(ErrorDetail(code="session_ended"), 123.0)
    assert len(end.tick(124.0, heard_at=124.0, words=2)) == 1
    assert not end.is_repeated


def test_words_that_a_server_fails_on_are_heard_again_once(driver: Driver):
    kept: list[bool] = []
    for _ in range(2):
        driver.receive(wire.started(), wire.stopped(), wire.user_item("completed"))
        driver.receive(wire.error("internal_error"))
        assert len(given_up(driver, driver.now + 1.0)) == 1
        kept.append(driver.conversation.uplink.keeping)
        driver.conversation.disconnected(driver.now)
        driver.conversation.connected(driver.now)
        driver.receive(wire.created(), wire.configured())
    assert kept == [True, False]


def test_the_first_word_of_the_end_counts():
    end = AnnouncedEnd()
    end.take(ErrorDetail(code="session_ended"), 0.0)
    end.take(ErrorDetail(code="internal_error"), 0.5)
    end.model_is_heard()
    (fail,) = end.tick(1.0, heard_at=None, words=None)
    assert isinstance(fail, Fail)
    assert "session_ended" in fail.message
    assert end.tick(2.0, heard_at=None, words=None) == []
