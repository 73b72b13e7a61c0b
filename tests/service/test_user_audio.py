"""User audio of several people: what becomes one stream, in time and without a hole."""

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pipecat.frames.frames import Frame, InputAudioRawFrame, UserAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, recording, session

from pipecat_hydra.service.user_audio import SpeakerPolicy, UserAudio

RATE = 16_000
FRAME = RATE // 50


def level(value: int, secs: float) -> NDArray[np.int16]:
    return np.full(int(secs * RATE), value, np.int16)


def ramp(secs: float, first: int = 1) -> NDArray[np.int16]:
    """Samples that are all different, so that a hole or a repetition shows."""
    return np.arange(first, first + int(secs * RATE), dtype=np.int16)


def frames_of(
    user: str, samples: NDArray[np.int16], at: float, size: int = FRAME
) -> list[tuple[float, InputAudioRawFrame]]:
    """Frames of a person who begins to speak at a time; each comes when it is spoken."""
    return [
        (
            at + (start + len(samples[start : start + size])) / RATE,
            UserAudioRawFrame(samples[start : start + size].tobytes(), RATE, 1, user_id=user),
        )
        for start in range(0, len(samples), size)
    ]


def heard(
    audio: UserAudio, *people: Iterable[tuple[float, InputAudioRawFrame]]
) -> NDArray[np.int16]:
    """What Hydra hears of several people."""
    chunks: list[bytes] = []
    for at, frame in sorted((one for person in people for one in person), key=lambda one: one[0]):
        chunks += audio.push(frame, now=at)
    assert all(len(chunk) % 2 == 0 and 320 <= len(chunk) <= 1_280 for chunk in chunks)
    return np.frombuffer(b"".join(chunks), np.int16)


def test_the_chunks_of_one_person_pass_as_they_are():
    audio = UserAudio()
    for at, frame in frames_of("a", ramp(1.0), 5.0):
        (chunk,) = audio.push(frame, now=at)
        assert chunk is frame.audio


def test_frames_that_name_nobody_are_of_one_stream():
    told: list[None] = []
    audio = UserAudio(on_several=lambda: told.append(None))
    for n in range(10):
        frame = InputAudioRawFrame(bytes(2 * FRAME), RATE, 1)
        assert len(audio.push(frame, now=n / 50)) == 1
    assert not told


@pytest.mark.parametrize("apart", [0.0, 0.007, 0.019])
def test_two_people_are_added_in_the_time_of_one(apart: float):
    told: list[None] = []
    audio = UserAudio(on_several=lambda: told.append(None))
    both = heard(audio, frames_of("a", level(100, 2.0), 0.0), frames_of("b", level(7, 1.0), apart))
    assert set(both.tolist()) <= {0, 100, 107}
    assert abs(len(both) - 2 * RATE) <= 2 * FRAME
    assert abs(np.count_nonzero(both == 107) - RATE) <= 2 * FRAME
    assert told == [None]


def test_the_second_person_makes_no_hole_in_the_speech_of_the_first():
    both = heard(UserAudio(), frames_of("a", ramp(1.5), 0.0), frames_of("b", level(0, 1.0), 0.253))
    assert both.tolist() == ramp(1.5)[: len(both)].tolist()
    assert len(both) >= 1.5 * RATE - 2 * FRAME


def test_what_is_too_loud_is_clipped():
    both = heard(
        UserAudio(),
        frames_of("a", level(30_000, 0.5), 0.0),
        frames_of("b", level(30_000, 0.5), 0.0),
    )
    assert both.max() == 32_767
    assert both.min() >= 30_000


def test_frames_of_different_sizes_and_rates_are_mixed():
    wide = [
        (
            (n + 1) * 0.06,
            UserAudioRawFrame(level(7, 0.18).tobytes(), 48_000, 1, user_id="b"),
        )
        for n in range(30)
    ]
    both = heard(UserAudio(), frames_of("a", level(100, 1.8), 0.0), wide)
    assert abs(len(both) - 1.8 * RATE) <= 5 * FRAME
    assert np.count_nonzero(both == 107) > 1.6 * RATE


def test_a_person_who_falls_silent_holds_up_the_other_for_a_moment_only():
    audio = UserAudio()
    started = [*frames_of("a", level(100, 1.0), 0.0), *frames_of("b", level(7, 3.0), 0.0)]
    late: list[float] = []
    given = 0
    for at, frame in sorted(started, key=lambda one: one[0]):
        given += sum(map(len, audio.push(frame, now=at))) // 2
        late.append(at - given / RATE)
    assert max(late) < 0.25
    assert late[-1] < 0.03


def test_after_a_silence_of_all_no_silence_is_sent_for_it():
    audio = UserAudio()
    before = heard(audio, frames_of("a", level(100, 0.5), 0.0), frames_of("b", level(7, 0.5), 0.0))
    after = heard(audio, frames_of("a", level(100, 0.5), 3.0), frames_of("b", level(7, 0.5), 3.0))
    assert abs(len(before) + len(after) - RATE) <= 3 * FRAME


def test_who_is_left_alone_passes_as_before():
    audio = UserAudio()
    heard(audio, frames_of("a", level(100, 1.0), 0.0), frames_of("b", level(7, 8.0), 0.0))
    (frame,) = (frame for _, frame in frames_of("b", level(7, 0.02), 8.0))
    (chunk,) = audio.push(frame, now=8.02)
    assert chunk is frame.audio


def test_first_takes_who_was_heard_first_until_that_one_is_gone():
    told: list[None] = []
    audio = UserAudio("first", on_several=lambda: told.append(None))
    both = heard(audio, frames_of("a", level(100, 1.0), 0.0), frames_of("b", level(7, 10.0), 0.5))
    assert np.count_nonzero(both == 100) == RATE
    assert abs(np.count_nonzero(both == 7) - 4.5 * RATE) <= 2 * FRAME
    assert told == [None]


def test_a_screen_and_a_microphone_of_one_person_are_two_streams():
    audio = UserAudio()
    screen = frames_of("a", level(7, 1.0), 0.0)
    for _, frame in screen:
        frame.transport_source = "screenAudio"
    both = heard(audio, frames_of("a", level(100, 1.0), 0.0), screen)
    assert abs(len(both) - RATE) <= 2 * FRAME


@given(
    people=st.lists(
        st.tuples(st.floats(0, 3), st.floats(0.1, 4), st.sampled_from([160, 320, 512, 2_560])),
        min_size=1,
        max_size=4,
    ),
    jitter=st.floats(0, 0.15),
    seed=st.integers(0, 99),
)
def test_any_people_are_heard_in_the_time_that_they_took(
    people: list[tuple[float, float, int]], jitter: float, seed: int
):
    """Never more audio than real time gives, and hardly less than the longest was heard."""
    rng = random.Random(seed)
    audio = UserAudio()
    every: list[tuple[float, InputAudioRawFrame]] = []
    for n, (at, secs, size) in enumerate(people):
        person = frames_of(str(n), level(100, secs), at, size)
        lines = [when + rng.uniform(0, jitter) for when, _ in person]
        every += zip(np.maximum.accumulate(lines).tolist(), (f for _, f in person), strict=True)
    got = len(heard(audio, every)) / RATE
    longest = max(secs for _, secs, _ in people)
    covered = max(at + secs for at, secs, _ in people) - min(at for at, _, _ in people)
    assert got >= longest - 0.2 - 0.16 - jitter - 0.05
    # Who is late is not waited for: what comes late goes behind what the others said meanwhile.
    assert got <= covered + 0.16 * len(people) + 2 * jitter + 0.05


class People(FrameProcessor):
    """Gives the microphone's audio as one person's, and that of others beside it."""

    def __init__(self, first: str, *others: NDArray[np.int16]):
        super().__init__()
        self._first = first
        self._others = list(others)

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if not isinstance(frame, InputAudioRawFrame):
            await self.push_frame(frame, direction)
            return
        size = len(frame.audio) // 2
        streams = {self._first: frame.audio}
        for n, other in enumerate(self._others):
            streams[f"other {n}"] = np.pad(other[:size], (0, max(0, size - len(other)))).tobytes()
            self._others[n] = other[size:]
        for user, pcm in streams.items():
            one = UserAudioRawFrame(pcm, frame.sample_rate, frame.num_channels, user_id=user)
            await self.push_frame(one, direction)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("policy", ["mix", "first"])
async def test_the_people_in_a_room_reach_hydra(
    shape: Shape, policy: SpeakerPolicy, number: int, warnings: list[str]
):
    said = recording("question")
    hello = recording("hello")
    # The third one comes to speak when the second has finished.
    others = [hello, np.pad(hello, (len(hello), 0))][: number - 1]
    people = People("a", *others)
    async with (
        emulator() as hydra,
        call(
            hydra,
            shape,
            microphone=said,
            before_aggregator=[people],
            settings=NO_GREETING,
            speakers=policy,
        ) as talk,
    ):
        await talk.transport.microphone.done()
        await talk.until(lambda: len(session(hydra).received_audio) >= 2 * len(said))
        received = np.frombuffer(session(hydra).received_audio, np.int16)[: len(said)]
    expected = said.astype(int)
    if policy == "mix":
        # One frame later: the first person's first frame had passed when the second came.
        for other in others:
            expected[FRAME : FRAME + len(other)] += other[: len(expected) - FRAME]
    likeness = np.corrcoef(received, expected.clip(-32768, 32767))[0, 1]
    assert likeness > 0.99
    assert len([text for text in warnings if "speakers='first'" in text]) == 1
