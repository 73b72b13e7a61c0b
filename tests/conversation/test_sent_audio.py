"""What of the user's audio is sent again, and what of it is lost."""

import pytest

from pipecat_hydra.conversation.sent_audio import SentAudio

SEC = 32_000
LOUD = b"\x00\x10" * 320
QUIET = bytes(640)


def send(sent: SentAudio, secs: float, *, since: float = 0.0, chunk: bytes = LOUD) -> float:
    """Send so many seconds of audio, 20 ms at a time; gives the time when all is sent."""
    chunks = round(secs / 0.02)
    for n in range(chunks):
        sent.add(chunk, since + n * 0.02)
    return since + secs


def secs_again(sent: SentAudio, unheard_since: float | None = None) -> float:
    chunks, _ = sent.take_unheard(unheard_since)
    return round(sum(map(len, chunks)) / SEC, 2)


@pytest.fixture
def sent() -> SentAudio:
    return SentAudio(10 * SEC)


def test_the_last_second_is_sent_again(sent: SentAudio):
    send(sent, 5.0)
    assert secs_again(sent) == 1.0
    assert secs_again(sent) == 0.0


def test_it_comes_in_order(sent: SentAudio):
    for n in range(60):
        sent.add(bytes([n]) * 640, n * 0.02)
    chunks, lost = sent.take_unheard(None)
    assert [chunk[0] for chunk in chunks] == [*range(10, 60)]
    assert lost == 0


def given_again(sent: SentAudio, now: float) -> None:
    """Lose a session, and begin another one that is sent again what that had last."""
    chunks, _ = sent.take_unheard(None)
    sent.session_began()
    for chunk in chunks:
        sent.add(chunk, now)


@pytest.mark.parametrize(("more_secs", "again"), [(0.9, 1.9), (1.1, 1.0)])
def test_what_a_session_was_given_again_and_did_not_judge_is_sent_once_more(
    sent: SentAudio, more_secs: float, again: float
):
    now = send(sent, 5.0)
    given_again(sent, now)
    send(sent, more_secs, since=now)
    assert secs_again(sent) == again


def test_once_a_turn_is_found_what_was_long_before_it_is_not_sent_once_more(sent: SentAudio):
    now = send(sent, 5.0)
    given_again(sent, now)
    now = send(sent, 0.9, since=now)
    given_again(sent, now)
    sent.keep()
    assert secs_again(sent) == 1.0


def test_a_turn_is_sent_again_from_a_second_before_it(sent: SentAudio):
    send(sent, 3.0)
    sent.keep()
    assert sent.keeping
    send(sent, 2.0)
    sent.keep()
    send(sent, 1.0)
    assert secs_again(sent) == 4.0
    # Nobody has understood it by that.
    assert sent.keeping


def test_what_is_understood_is_not(sent: SentAudio):
    send(sent, 2.0)
    sent.keep()
    send(sent, 2.0)
    sent.mark()
    assert not sent.keeping
    assert secs_again(sent) == 0.0


@pytest.mark.parametrize(("silence", "again"), [(0.0, 0.0), (0.3, 0.5), (2.0, 1.0)])
def test_what_was_sent_since_the_end_of_the_turn_is_not_understood(
    sent: SentAudio, silence: float, again: float
):
    sent.keep()
    send(sent, 3.0)
    sent.turn_ended(silence)
    send(sent, 0.2)
    sent.mark()
    # A whole second at most, and nothing if nobody knows when the turn ended.
    assert secs_again(sent) == again


def test_another_turn_has_an_end_of_its_own(sent: SentAudio):
    sent.keep()
    send(sent, 3.0)
    sent.turn_ended(0.3)
    sent.keep()
    sent.mark()
    assert secs_again(sent) == 0.0


def test_what_does_not_fit_of_a_turn_is_lost():
    sent = SentAudio(2 * SEC)
    sent.keep()
    send(sent, 5.0)
    chunks, lost = sent.take_unheard(None)
    assert sum(map(len, chunks)) == 2 * SEC
    assert lost == 3 * SEC


def test_what_does_not_fit_and_is_of_no_turn_is_not():
    sent = SentAudio(2 * SEC)
    send(sent, 5.0)
    assert sent.take_unheard(None)[1] == 0


def test_a_second_is_kept_however_little_room_there_is():
    sent = SentAudio(100)
    send(sent, 5.0)
    assert secs_again(sent) == 1.0


def test_what_the_server_cannot_have_heard_is_sent_again(sent: SentAudio):
    now = send(sent, 2.0, chunk=QUIET)
    now = send(sent, 3.0, since=now)
    send(sent, 0.5, since=now, chunk=QUIET)
    # From 0.3 s before the first sound since a second before it was last heard from.
    assert secs_again(sent, 2.0) == 3.8


def test_quiet_is_not_worth_being_late_for(sent: SentAudio):
    send(sent, 5.0, chunk=QUIET)
    assert secs_again(sent, 1.0) == 1.0


def test_what_was_unheard_and_is_forgotten_is_lost():
    sent = SentAudio(2 * SEC)
    send(sent, 5.0)
    _, lost = sent.take_unheard(1.0)
    # What was sent up to 3 s is not remembered any more.
    assert lost == pytest.approx(2 * SEC, abs=SEC * 0.03)


def test_the_silence_since_the_end_of_a_turn_counts_all_that_was_sent(sent: SentAudio):
    send(sent, 1.0)
    send(sent, 1.0, chunk=QUIET)
    assert sent.silence_since(1_500) == pytest.approx(0.5)


@pytest.mark.parametrize("audio_end_ms", [None, 0, 2_500, 10_000])
def test_a_place_that_makes_no_sense_says_nothing(sent: SentAudio, audio_end_ms: int | None):
    send(sent, 6.0 if audio_end_ms == 2_500 else 1.0, chunk=QUIET)
    assert sent.silence_since(audio_end_ms) == 0.0


def test_places_count_from_the_beginning_of_the_session(sent: SentAudio):
    send(sent, 5.0)
    sent.session_began()
    send(sent, 1.0)
    assert sent.silence_since(800) == pytest.approx(0.2)
