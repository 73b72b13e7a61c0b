"""Pacing of user audio: pre-roll, catching up, silence (A1, A3)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.conversation.uplink import Uplink

CHUNK_SECS = 0.02


def chunk(number: int) -> bytes:
    """20 ms whose bytes tell which chunk it is; never all zero."""
    return (number + 1).to_bytes(2, "little") * 320


def secs(chunks: list[bytes]) -> float:
    return sum(map(len, chunks)) / 32_000


def is_silence(pcm: bytes) -> bool:
    return not any(pcm)


def run(uplink: Uplink, start: float, end: float, step: float = 0.005) -> list[tuple[float, bytes]]:
    """Let time pass, ticking; what is sent, with its time."""
    sent: list[tuple[float, bytes]] = []
    for n in range(round((end - start) / step) + 1):
        now = start + n * step
        sent += [(now, pcm) for pcm in uplink.tick(now)]
    return sent


def test_closed_nothing_is_sent_and_the_newest_is_kept():
    uplink = Uplink(preroll_secs=1.0)
    for n in range(100):
        assert uplink.push(chunk(n), n * CHUNK_SECS) == []
    assert uplink.tick(2.0) == []
    assert uplink.deadline is None
    assert uplink.waiting_secs == 1.0
    assert uplink.take_dropped_secs() == 1.0
    assert uplink.take_dropped_secs() == 0.0
    sent = uplink.open(2.0) + [pcm for _, pcm in run(uplink, 2.0, 2.6)]
    assert [pcm for pcm in sent if not is_silence(pcm)] == [chunk(n) for n in range(50, 100)]


def test_open_audio_passes_through_at_once_and_unchanged():
    uplink = Uplink()
    uplink.open(0.0)
    uplink.tick(1.0)
    for n in range(100):
        pcm = chunk(n)
        (passed,) = uplink.push(pcm, 1.0 + n * CHUNK_SECS)
        assert passed is pcm


def test_what_was_kept_is_sent_at_no_more_than_twice_real_time():
    uplink = Uplink(preroll_secs=10.0)
    for n in range(100):
        uplink.push(chunk(n), n * CHUNK_SECS)
    sent = [(2.0, pcm) for pcm in uplink.open(2.0)]
    n = 100
    for step in range(1, 800):
        now = 2.0 + step * 0.005
        if step % 4 == 0:
            sent += [(now, pcm) for pcm in uplink.push(chunk(n), now)]
            n += 1
        sent += [(now, pcm) for pcm in uplink.tick(now)]
        assert secs([pcm for _, pcm in sent]) <= 2.0 * (now - 2.0) + 1e-9
    assert [pcm for _, pcm in sent] == [chunk(k) for k in range(len(sent))]
    # Two seconds behind, gaining one second a second: caught up after two.
    assert uplink.waiting_secs == 0.0


def test_a_burst_is_spread_out():
    uplink = Uplink()
    uplink.open(0.0)
    run(uplink, 0.0, 1.0)
    at_once: list[bytes] = []
    for n in range(100):
        at_once += uplink.push(chunk(n), 1.0)
    assert secs(at_once) <= 0.5
    later = [pcm for _, pcm in run(uplink, 1.0, 2.0)]
    live = [pcm for pcm in at_once + later if not is_silence(pcm)]
    assert live == [chunk(n) for n in range(100)]


def test_a_long_frame_passes_at_once():
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(10):
        pieces = [chunk(n * 25 + k) for k in range(25)]
        now = 0.5 * (n + 1)
        assert [pcm for piece in pieces for pcm in uplink.push(piece, now)] == pieces
        assert uplink.waiting_secs == 0.0


class TestABurstThatIsTooLongToBeKept:
    """One stretch of it is dropped, the oldest, and that is told once."""

    @staticmethod
    def live(*, silent_secs: float) -> Uplink:
        uplink = Uplink(preroll_secs=2.0)
        uplink.open(0.0)
        run(uplink, 0.0, silent_secs)
        return uplink

    @staticmethod
    def follow(uplink: Uplink, start: float, secs: float) -> tuple[list[bytes], list[float]]:
        """Tick when it is due; what is sent, and each time that something is told to be lost."""
        sent: list[bytes] = []
        told: list[float] = []
        end = start + secs
        while (now := uplink.deadline) is not None and now <= end:
            sent += uplink.tick(now)
            if lost := uplink.take_overflow_secs(now):
                told.append(lost)
        return [pcm for pcm in sent if not is_silence(pcm)], told

    @pytest.mark.parametrize("lasts", [0.0, 0.1, 0.4])
    def test_one_stretch_is_dropped(self, lasts: float):
        uplink = self.live(silent_secs=0.3)
        sent: list[bytes] = []
        told: list[float] = []
        step = lasts / 500
        for n in range(500):
            now = 10.0 + n * step
            sent += uplink.push(chunk(n), now)
            more, lost = self.follow(uplink, now, 0.0)
            sent += more
            told += lost
        more, lost = self.follow(uplink, 10.0 + lasts, 3.0)
        sent += more
        told += lost
        numbers = [int.from_bytes(pcm[:2], "little") - 1 for pcm in sent]
        assert numbers == sorted(set(numbers))
        (gap,) = [after - before - 1 for before, after in pairwise(numbers) if after > before + 1]
        assert numbers[-1] == 499
        assert told == [pytest.approx(gap * CHUNK_SECS)]
        # What is kept is the newest, and before the gap stands what was sent at once.
        assert 2.0 <= secs([pcm for pcm in sent if pcm > chunk(0)]) <= 2.0 + 0.5 + 2 * 0.5

    def test_it_is_told_after_half_a_second(self):
        uplink = self.live(silent_secs=0.3)
        for n in range(500):
            uplink.push(chunk(n), 10.0)
        assert uplink.take_overflow_secs(10.4) == 0.0
        assert uplink.deadline == 10.5
        assert 2.0 <= uplink.waiting_secs <= 2.5
        assert uplink.take_overflow_secs(10.5) == pytest.approx(9.5 - uplink.waiting_secs)
        assert uplink.take_overflow_secs(10.5) == 0.0

    def test_what_does_not_fit_while_it_is_closed_is_for_the_next_session_to_tell(self):
        uplink = Uplink(preroll_secs=1.0)
        for n in range(100):
            uplink.push(chunk(n), n * CHUNK_SECS)
        assert uplink.take_overflow_secs(2.0) == 0.0
        assert uplink.open(2.0) == []
        # All that is kept has room, and the microphone goes on.
        assert uplink.push(chunk(100), 2.0) == []
        assert uplink.take_dropped_secs() == pytest.approx(1.0)
        assert uplink.waiting_secs == pytest.approx(1.02)

    def test_a_loss_of_the_connection_meanwhile_leaves_it_to_the_next_session(self):
        uplink = self.live(silent_secs=0.3)
        for n in range(500):
            uplink.push(chunk(n), 10.0)
        uplink.close()
        assert uplink.take_overflow_secs(11.0) == 0.0
        assert uplink.take_dropped_secs() >= 7.0


def test_a_burst_right_after_silence_is_spread_out_with_it():
    uplink = Uplink()
    uplink.open(0.0)
    assert uplink.tick(10.0) == []
    at_once = uplink.tick(11.0)
    assert at_once
    for n in range(100):
        at_once += uplink.push(chunk(n), 11.0)
    assert secs(at_once) <= 0.5 + 1e-9


def test_silence_comes_at_the_microphones_pace_when_it_is_quiet():
    uplink = Uplink(silence_after_secs=0.25)
    uplink.open(0.0)
    for n in range(10):
        uplink.push(chunk(n), n * CHUNK_SECS)
        uplink.tick(n * CHUNK_SECS)
    last = 9 * CHUNK_SECS
    sent = run(uplink, last, last + 10.0)
    sent = [(now, pcm) for now, pcm in sent if is_silence(pcm)]
    assert all(now >= last + 0.25 for now, _ in sent)
    # All that the clock owes, that of the wait too.
    assert secs([pcm for _, pcm in sent]) == pytest.approx(10.0, abs=0.03)
    assert all(640 <= len(pcm) <= 1280 for _, pcm in sent)


def test_silence_stops_as_soon_as_somebody_speaks():
    uplink = Uplink(silence_after_secs=0.25)
    uplink.open(0.0)
    assert run(uplink, 0.0, 1.0)
    assert uplink.push(chunk(0), 1.0) == [chunk(0)]
    assert run(uplink, 1.0, 1.24) == []


def test_a_loop_that_stood_still_puts_no_silence_before_what_was_said_meanwhile():
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(1, 11):
        uplink.push(chunk(n), n * CHUNK_SECS)
    assert uplink.tick(0.8) == []
    sent = uplink.push(chunk(11), 0.8)
    assert sent == [chunk(11)]
    # A microphone that is quiet all the same has its silence, a little later.
    assert uplink.tick(1.4) == []
    assert uplink.tick(1.9)


def test_what_lay_about_while_another_service_had_the_call_is_dropped():
    uplink = Uplink()
    uplink.push(chunk(0), 0.0)
    uplink.push(chunk(1), 40.0)
    assert uplink.take_dropped_secs() == CHUNK_SECS
    uplink.open(40.0)
    assert [pcm for _, pcm in run(uplink, 40.0, 40.2)] == [chunk(1)]


def test_what_is_said_without_a_pause_is_kept_however_late_in_a_call():
    uplink = Uplink()
    for n in range(10):
        uplink.push(chunk(n), 1_000.0 + n * CHUNK_SECS)
    uplink.take_dropped_secs()
    sent = uplink.open(1_000.2) + [pcm for _, pcm in run(uplink, 1_000.2, 1_000.4)]
    assert sent == [chunk(n) for n in range(10)]


def test_what_was_too_much_to_be_kept_is_dropped_only_if_it_is_lost():
    uplink = Uplink(preroll_secs=1.0)
    for lose in (False, True):
        uplink.open(0.0)
        uplink.keep()
        for n in range(100):
            uplink.push(chunk(n), n * CHUNK_SECS)
        if not lose:
            uplink.mark()
        uplink.close()
        assert (uplink.take_dropped_secs() > 0.9) is lose


def test_a_clock_that_jumps_owes_no_flood_of_silence():
    uplink = Uplink()
    uplink.open(0.0)
    assert secs(uplink.tick(100.0)) <= 0.2
    assert secs([pcm for _, pcm in run(uplink, 100.0, 101.0)]) <= 1.1


def test_reopening_sends_what_was_said_meanwhile():
    uplink = Uplink()
    uplink.open(0.0)
    uplink.close()
    assert uplink.push(chunk(0), 1.0) == []
    assert not uplink.is_open
    uplink.open(2.0)
    assert [pcm for _, pcm in run(uplink, 2.0, 2.1)] == [chunk(0)]


def test_the_last_second_is_sent_again():
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(100):
        uplink.push(chunk(n), n * CHUNK_SECS)
    run(uplink, 2.0, 2.1)
    uplink.close()
    uplink.close()
    assert uplink.waiting_secs == 1.0
    again = uplink.open(3.0) + [pcm for _, pcm in run(uplink, 3.0, 3.6)]
    assert [pcm for pcm in again if not is_silence(pcm)] == [chunk(n) for n in range(50, 100)]


def test_all_that_the_user_is_saying_is_sent_again_until_it_is_understood():
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(100):
        uplink.push(chunk(n), n * CHUNK_SECS)
        if n == 30:
            uplink.keep()
    uplink.close()
    assert uplink.keeping
    assert uplink.waiting_secs == 2.0
    # It is lost again in the middle of that, and nothing of it is.
    uplink.open(3.0)
    assert len([pcm for _, pcm in run(uplink, 3.0, 3.4) if not is_silence(pcm)]) < 100
    uplink.close()
    assert uplink.waiting_secs == 2.0
    uplink.open(5.0)
    run(uplink, 5.0, 7.0)
    uplink.mark()
    uplink.close()
    assert not uplink.keeping
    assert uplink.waiting_secs == 0.0


def test_all_but_quiet_since_the_server_was_heard_is_sent_again():
    uplink = Uplink(preroll_secs=10.0)
    uplink.open(0.0)
    quiet = b"\x05\x00" * 320
    for n in range(400):
        uplink.push(chunk(n) if 200 <= n < 250 else quiet, n * CHUNK_SECS)
    # Since 1 s nothing is heard of it; at 4 s the user said something for a second.
    uplink.close(unheard_since=1.0)
    assert uplink.take_dropped_secs() == 0.0
    assert uplink.waiting_secs == pytest.approx(4.0 + 0.3, abs=0.02)
    again = uplink.open(9.0) + [pcm for _, pcm in run(uplink, 9.0, 12.0)]
    assert [pcm for pcm in again if pcm != quiet and not is_silence(pcm)] == [
        chunk(n) for n in range(200, 250)
    ]


def test_where_all_is_quiet_since_the_server_was_heard_only_the_last_second_is_sent_again():
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(400):
        uplink.push(b"\x05\x00" * 320, n * CHUNK_SECS)
    uplink.close(unheard_since=1.0)
    assert uplink.waiting_secs == 1.0


@pytest.mark.parametrize(("loudness", "again_secs"), [(199, 1.0), (200, 7.3)])
def test_what_is_as_loud_as_speech_is_sent_again(loudness: int, again_secs: float):
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(400):
        pcm = loudness if n == 50 else 5
        uplink.push(pcm.to_bytes(2, "little") * 320, n * CHUNK_SECS)
    uplink.close(unheard_since=1.0)
    assert uplink.waiting_secs == pytest.approx(again_secs, abs=0.02)


def test_a_word_that_had_begun_when_the_turn_before_was_understood_is_sent_again():
    uplink = Uplink()
    uplink.open(0.0)
    uplink.keep()
    for n in range(100):
        uplink.push(chunk(n), n * CHUNK_SECS)
        if n == 79:
            # Of what was sent, the last 0.2 s is not of the turn.
            uplink.turn_ended(0.2)
    uplink.mark()
    uplink.close()
    assert not uplink.keeping
    uplink.open(3.0)
    again = [pcm for _, pcm in run(uplink, 3.0, 4.0) if not is_silence(pcm)]
    assert again == [chunk(n) for n in range(70, 100)]


def test_what_is_sent_again_keeps_its_pauses_on_a_line_that_gives_nothing_in_silence():
    uplink = Uplink()
    uplink.open(0.0)
    uplink.keep()
    for start in (0.0, 1.5):
        for n in range(25):
            uplink.push(chunk(n), start + n * CHUNK_SECS)
        run(uplink, start + 0.5, start + 1.49)
    uplink.close()
    again = uplink.open(3.0) + [pcm for _, pcm in run(uplink, 3.0, 4.5)]
    words = [n for n, pcm in enumerate(again) if not is_silence(pcm)]
    assert len(words) == 50
    assert secs(again[words[24] : words[25]]) == pytest.approx(1.0, abs=0.1)


def test_on_such_a_line_what_was_understood_is_not_sent_again():
    uplink = Uplink()
    uplink.open(0.0)
    uplink.keep()
    for n in range(25):
        uplink.push(chunk(n), n * CHUNK_SECS)
    run(uplink, 0.5, 1.1)
    uplink.turn_ended(0.6)
    run(uplink, 1.1, 1.5)
    uplink.mark()
    uplink.close()
    again = uplink.open(2.0) + [pcm for _, pcm in run(uplink, 2.0, 3.0)]
    assert all(is_silence(pcm) for pcm in again)


def test_what_was_understood_is_not_sent_again_though_the_server_was_not_heard_since():
    uplink = Uplink()
    uplink.open(0.0)
    for n in range(100):
        uplink.push(chunk(n), n * CHUNK_SECS)
    uplink.mark()
    uplink.close(unheard_since=0.0)
    assert uplink.waiting_secs == 0.0


def test_what_the_server_did_not_hear_and_is_too_much_to_keep_counts_as_dropped():
    uplink = Uplink(preroll_secs=2.0)
    uplink.open(0.0)
    for n in range(300):
        uplink.push(chunk(n + 500), n * CHUNK_SECS)
    uplink.close(unheard_since=1.0)
    assert uplink.waiting_secs == pytest.approx(2.0)
    assert uplink.take_dropped_secs() == pytest.approx(3.0, abs=0.05)


def test_what_is_kept_to_be_sent_again_is_bounded():
    uplink = Uplink(preroll_secs=1.5)
    uplink.open(0.0)
    uplink.keep()
    for n in range(200):
        uplink.push(chunk(n), n * CHUNK_SECS)
    uplink.close()
    assert uplink.waiting_secs <= 1.5
    uplink.push(chunk(200), 4.0)
    assert uplink.waiting_secs <= 1.5


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 0.2),
            st.sampled_from(["push", "push", "push", "tick", "open", "close", "keep", "mark"]),
        ),
        max_size=200,
    )
)
def test_whatever_happens_order_holds_and_nothing_is_made_up(steps: list[tuple[float, str]]):
    """Audio goes out in order, with no gap but what is counted as dropped; silence never over it.

    On the next connection it begins where the last one ended, or somewhat before.
    """
    uplink = Uplink(preroll_secs=1.0)
    now, pushed = 0.0, 0
    opened_at = silent_secs = 0.0
    last_push: float | None = None
    connections: list[list[int]] = []
    for wait, action in steps:
        now += wait
        sent: list[bytes] = []
        waited = uplink.waiting_secs > 0
        match action:
            case "push":
                sent = uplink.push(chunk(pushed), now)
                pushed += 1
                last_push = now
            case "open":
                if not uplink.is_open:
                    connections.append([])
                    opened_at, silent_secs = now, 0.0
                    sent = uplink.open(now)
            case "close":
                uplink.close()
            case "keep":
                uplink.keep()
            case "mark":
                uplink.mark()
            case _:
                sent = uplink.tick(now)
        if sent:
            assert uplink.is_open
        if any(map(is_silence, sent)) and waited:
            # It took the place of audio on the connection before, and is sent again with that.
            assert len(connections) > 1
        elif any(map(is_silence, sent)):
            assert action == "tick"
            assert all(map(is_silence, sent))
            assert uplink.waiting_secs == 0.0
            silent_secs += secs(sent)
            # No more than the time that the line has given nothing for.
            assert silent_secs <= now - opened_at + 0.01 + 1e-9
            assert last_push is None or now - last_push >= 0.02
        if connections:
            live = [pcm for pcm in sent if not is_silence(pcm)]
            connections[-1] += [int.from_bytes(pcm[:2], "little") - 1 for pcm in live]
        # What is to be sent again comes on top, until more is said.
        assert uplink.waiting_secs <= 2.5 + 1e-9
    dropped = round(uplink.take_dropped_secs() / CHUNK_SECS)
    waiting = round(uplink.waiting_secs / CHUNK_SECS)
    heard = {number for connection in connections for number in connection}
    assert pushed - len(heard) <= dropped + waiting
    for connection in connections:
        assert connection == sorted(set(connection))
    spoken = [connection for connection in connections if connection]
    for before, after in pairwise(spoken):
        assert after[0] <= before[-1] + 1 + dropped
        assert before[-1] - after[0] < 50


def test_a_gap_in_what_is_sent_is_what_was_dropped():
    uplink = Uplink(preroll_secs=1.0)
    uplink.open(0.0)
    uplink.push(chunk(0), 0.0)
    uplink.close()
    for n in range(1, 101):
        uplink.push(chunk(n), 1.0)
    assert uplink.take_dropped_secs() == 1.02
    sent = uplink.open(3.0) + [pcm for _, pcm in run(uplink, 3.0, 4.0)]
    assert [pcm for pcm in sent if not is_silence(pcm)] == [chunk(n) for n in range(51, 101)]


Step = tuple[float, float]
"""How long nothing comes, and how long a frame comes then."""


def driven(uplink: Uplink, steps: list[Step], *, until_secs: float) -> list[tuple[float, bytes]]:
    """Push frames in pieces of 20 ms and tick when it is due; what is sent, with its time."""
    sent: list[tuple[float, bytes]] = []
    now, pushed = 0.0, 0
    for wait, secs in [*steps, (until_secs, 0.0)]:
        now += wait
        while (due := uplink.deadline) is not None and due < now:
            sent += [(due, pcm) for pcm in uplink.tick(due)]
        for _ in range(round(secs / CHUNK_SECS)):
            sent += [(now, pcm) for pcm in uplink.push(chunk(pushed), now)]
            pushed += 1
    return sent


@pytest.mark.parametrize("silent_secs", [0.5, 0.55, 0.6, 0.7, 1.0, 2.0])
def test_silence_that_could_not_be_sent_in_time_cuts_no_word(silent_secs: float):
    uplink = Uplink()
    for number in range(50):
        uplink.push(chunk(number), number * CHUNK_SECS)
    # What was kept takes half a second to be sent.
    opened_at = 50 * CHUNK_SECS
    uplink.open(opened_at)
    said_at = opened_at + silent_secs
    run(uplink, opened_at, said_at)
    sent: list[bytes] = []
    for number in range(50, 100):
        now = said_at + (number - 50) * CHUNK_SECS
        while (due := uplink.deadline) is not None and due < now:
            sent += uplink.tick(due)
        sent += uplink.push(chunk(number), now)
    first, *_, last = [n for n, pcm in enumerate(sent) if not is_silence(pcm)]
    assert not any(map(is_silence, sent[first:last]))


@given(
    st.lists(
        st.tuples(st.floats(0.0, 1.0), st.sampled_from([0.02, 0.02, 0.02, 0.06, 0.5, 1.5])),
        max_size=80,
    ),
    st.floats(0.0, 3.0),
)
def test_whatever_a_line_gives_it_goes_out_once_in_order_and_at_twice_real_time(
    steps: list[Step], until_secs: float
):
    uplink = Uplink()
    uplink.open(0.0)
    sent = driven(uplink, steps, until_secs=until_secs)
    live = [int.from_bytes(pcm[:2], "little") - 1 for _, pcm in sent if not is_silence(pcm)]
    assert live == list(range(len(live)))
    pushed = sum(round(secs / CHUNK_SECS) for _, secs in steps)
    waiting = round(uplink.waiting_secs / CHUNK_SECS)
    dropped = round(uplink.take_dropped_secs() / CHUNK_SECS)
    assert len(live) + waiting + dropped == pushed
    # Of no stretch of time more than twice as much, and half a second at once; since the
    # beginning not even that.
    level, total, last = 0.0, 0.0, 0.0
    for now, pcm in sent:
        level = max(0.0, level - 2.0 * (now - last)) + len(pcm) / 32_000
        total += len(pcm) / 32_000
        last = now
        assert level <= 0.5 + 1e-3
        assert total <= 2.0 * now + 1e-3


@given(
    st.lists(
        st.tuples(st.floats(0.02, 1.9), st.integers(1, 100)),
        max_size=20,
    )
)
def test_the_sum_of_what_is_sent_is_what_the_clock_says(stretches: list[tuple[float, int]]):
    """On a line that gives at most what real time allows, at any time of it."""
    uplink = Uplink()
    uplink.open(0.0)
    steps = [(CHUNK_SECS, CHUNK_SECS)]
    for gap, chunks in stretches:
        steps += [(gap, CHUNK_SECS), *[(CHUNK_SECS, CHUNK_SECS)] * chunks]
    sent = driven(uplink, steps, until_secs=2.0)
    at, total = 0.0, 0.0
    # Gaps that jitter explains are owed for only when they add up; what is lost is forgiven.
    forgiven = sum(min(gap, 0.42) for gap, _ in stretches)
    for now, pcm in sent:
        total += len(pcm) / 32_000
        at = now
        # Silence may be ahead by half a piece, and a frame more, when somebody speaks again.
        assert total <= now + 0.04 + 0.03 * len(stretches)
        assert total >= now - 0.44 - forgiven - 2 * CHUNK_SECS
    assert at >= sum(wait for wait, _ in steps) + 1.9
