"""Stretches of sound: where they begin, and which recorded one each of a replay is."""

import numpy as np
import pytest

from emulator.replay.played import USER_RATE, Samples, quiet, voice
from pipecat_hydra.emulator.replay.stretches import Alignment, Place, Stretches, threshold_of

THRESHOLD = 100


def begins(*pieces: Samples, frame: int = 320) -> list[int]:
    pcm, stretches = np.concatenate(pieces), Stretches(THRESHOLD)
    for first in range(0, len(pcm), frame):
        stretches.push(pcm[first : first + frame])
    assert stretches.received == len(pcm)
    return stretches.begins


def aligned(recorded: list[int], *pieces: Samples) -> Alignment:
    """A replay whose samples come at real time."""
    alignment, pcm = Alignment(recorded, THRESHOLD), np.concatenate(pieces)
    for first in range(0, len(pcm), 320):
        alignment.push(pcm[first : first + 320], (first + 320) / USER_RATE)
    return alignment


@pytest.mark.parametrize("frame", [160, 320, 333, 5_000])
def test_where_a_stretch_begins_depends_on_no_frames(frame: int):
    pieces = [quiet(0.5), voice(0.3), quiet(0.2), voice(0.3), quiet(0.5), voice(0.1)]
    assert begins(*pieces, frame=frame) == begins(*pieces, frame=1)
    assert len(begins(*pieces, frame=frame)) == 2


def test_a_place_is_told_by_the_stretch_that_began_last():
    stretches = Stretches(THRESHOLD)
    stretches.push(quiet(0.5))
    assert stretches.place() == Place(-1, USER_RATE // 2)
    stretches.push(np.full(100, 1_000, np.int16))
    assert stretches.place() == Place(0, 100)


def test_what_counts_as_sound_follows_from_how_loud_the_user_is():
    soft, loud = voice(1.0) // 20, voice(1.0)
    assert threshold_of(soft) < 30 + 64 < threshold_of(loud) < 1_000
    assert threshold_of(quiet(1.0)) == threshold_of(quiet(0)) > 0


@pytest.mark.parametrize("silence", [0.2, 1.0, 1.5, 5.9])
def test_a_stretch_comes_with_more_or_less_silence_before_it(silence: float):
    alignment = aligned([USER_RATE, 3 * USER_RATE], quiet(silence), voice(1.0), quiet(1), voice(1))
    for number, begin in enumerate((silence, silence + 2)):
        reached = alignment.reached_at(Place(number, 1_600))
        assert reached == pytest.approx(begin + 0.1, abs=0.021)
    assert alignment.missing == []


def test_a_stretch_that_is_left_out_takes_no_other_place():
    recorded = [USER_RATE, 5 * USER_RATE]
    alignment = aligned(recorded, quiet(5.0), voice(1.0))
    assert alignment.reached_at(Place(1, 1_600)) == pytest.approx(5.1, abs=0.021)
    assert alignment.reached_at(Place(0, 1_600)) is not None
    assert alignment.missing == [0]


def test_a_stretch_that_does_not_come_is_waited_for_for_a_while():
    assert aligned([USER_RATE], quiet(5.9)).reached_at(Place(0, 0)) is None
    alignment = aligned([USER_RATE], quiet(6.1))
    assert alignment.reached_at(Place(0, 0)) == pytest.approx(6.0, abs=0.021)
    assert alignment.missing == [0]


def test_a_stretch_that_was_not_recorded_is_none():
    alignment = aligned([USER_RATE], quiet(1.0), voice(1.0), quiet(1.0), voice(1.0))
    assert alignment.reached_at(Place(0, 0)) == pytest.approx(1.0, abs=0.021)
    assert alignment.missing == []
