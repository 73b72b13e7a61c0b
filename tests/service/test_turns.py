"""Turns are proposed or broadcast; proposals wait for answers, if answers can come."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    ProposedUserStartedSpeakingFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameProcessor

from pipecat_hydra.service.turns import LateStarts, TurnAnnouncements, TurnFrames, TurnProposals


class Service(FrameProcessor):
    """Takes note of what is proposed, and lets something answer."""

    def __init__(self, *answers: Frame):
        super().__init__()
        self.proposed: list[str] = []
        self.answers = answers
        self.proposals = TurnProposals(self)

    async def broadcast_frame(self, frame_cls: type[Frame], **kwargs: object):
        self.proposed.append(frame_cls.__name__)
        if frame_cls is ProposedUserStartedSpeakingFrame:
            loop = asyncio.get_running_loop()
            for n, answer in enumerate(self.answers):
                loop.call_later(0.005 * (n + 1), self.proposals.see, answer)


async def secs(service: Service) -> float:
    begin = time.monotonic()
    await service.proposals.start()
    await service.proposals.answered()
    return time.monotonic() - begin


async def test_a_start_waits_for_the_interruption_that_it_causes():
    service = Service(UserStartedSpeakingFrame(), InterruptionFrame())
    assert await secs(service) >= 0.009


async def test_a_start_that_interrupts_nothing_is_waited_for_but_briefly():
    service = Service(UserStartedSpeakingFrame())
    await secs(service)
    await service.proposals.stop()
    service.proposals.see(UserStoppedSpeakingFrame())
    # It is answered, so the next is waited for too.
    assert await secs(service) >= 0.005


async def test_strategies_that_take_nothing_up_are_waited_for_once():
    service = Service()
    assert await secs(service) >= 0.19
    begin = time.monotonic()
    for _ in range(20):
        await service.proposals.stop()
        await secs(service)
    assert time.monotonic() - begin < 2.0


async def test_a_start_waits_until_the_stop_before_it_was_dealt_with():
    service = Service(InterruptionFrame())
    await service.proposals.stop()
    starting = asyncio.create_task(service.proposals.start())
    await asyncio.sleep(0.02)
    assert service.proposed == ["ProposedUserStoppedSpeakingFrame"]
    service.proposals.see(UserStoppedSpeakingFrame())
    await starting
    assert service.proposed[1:] == ["ProposedUserStartedSpeakingFrame"]


async def test_a_stop_that_a_muted_aggregator_has_ignored_is_proposed_again():
    service = Service(UserStartedSpeakingFrame(), InterruptionFrame())
    await service.proposals.start()
    await service.proposals.stop()
    await service.proposals.unmuted()
    assert service.proposed[1:] == 2 * ["ProposedUserStoppedSpeakingFrame"]
    service.proposals.see(UserStoppedSpeakingFrame())
    await service.proposals.unmuted()
    assert len(service.proposed) == 3


async def test_nothing_is_proposed_when_a_mute_ends_while_the_user_speaks():
    service = Service(UserStartedSpeakingFrame(), InterruptionFrame())
    await service.proposals.unmuted()
    await service.proposals.start()
    await service.proposals.stop()
    await service.proposals.start()
    await service.proposals.unmuted()
    assert service.proposed.count("ProposedUserStoppedSpeakingFrame") == 1


@pytest.mark.parametrize("frame", [UserStoppedSpeakingFrame(), UserStartedSpeakingFrame()])
async def test_what_nobody_waits_for_does_no_harm(frame: Frame):
    service = Service(InterruptionFrame())
    service.proposals.see(frame)
    await service.proposals.start()


async def test_what_is_known_to_be_ignored_is_not_waited_for():
    service = Service()
    service.proposals = TurnProposals(service, lambda: True)
    assert await secs(service) < 0.01
    assert service.proposed == ["ProposedUserStartedSpeakingFrame"]


class TestLateStarts:
    """Hydra tells a turn from 10 s to 12 s."""

    @pytest.fixture
    def late_starts(self) -> LateStarts:
        late_starts = LateStarts()
        late_starts.turn_started()
        late_starts.turn_stopped(12.0)
        return late_starts

    @pytest.mark.parametrize(("started_at", "late"), [(12.1, True), (15.0, True), (15.1, False)])
    def test_a_start_is_late_for_three_seconds(
        self, late_starts: LateStarts, started_at: float, late: bool
    ):
        late_starts.see(UserStartedSpeakingFrame(), started_at)
        assert late_starts.take(started_at) is late

    def test_only_the_interruption_right_behind_it_belongs_to_it(self, late_starts: LateStarts):
        assert not late_starts.take(12.1)
        late_starts.see(UserStartedSpeakingFrame(), 12.2)
        assert late_starts.take(12.3)
        assert not late_starts.take(12.3)

    def test_a_start_that_interrupts_nothing_leaves_later_interruptions_alone(
        self, late_starts: LateStarts
    ):
        late_starts.see(UserStartedSpeakingFrame(), 12.2)
        assert not late_starts.take(12.5)

    def test_a_start_in_time_leaves_none_to_be_late(self):
        late_starts = LateStarts()
        late_starts.turn_started()
        late_starts.see(UserStartedSpeakingFrame(), 10.5)
        assert not late_starts.take(10.5)
        late_starts.turn_stopped(12.0)
        late_starts.see(UserStoppedSpeakingFrame(), 12.0)
        late_starts.see(UserStartedSpeakingFrame(), 13.0)
        assert not late_starts.take(13.0)

    def test_a_start_that_came_before_the_turn_was_told_is_the_start_of_that_turn(self):
        late_starts = LateStarts()
        late_starts.see(UserStartedSpeakingFrame(), 9.9)
        late_starts.turn_started()
        late_starts.turn_stopped(12.0)
        late_starts.see(UserStoppedSpeakingFrame(), 12.1)
        late_starts.see(UserStartedSpeakingFrame(), 13.0)
        assert not late_starts.take(13.0)

    def test_what_comes_when_hydra_tells_another_turn_belongs_to_that(
        self, late_starts: LateStarts
    ):
        late_starts.turn_started()
        late_starts.see(UserStartedSpeakingFrame(), 12.5)
        assert not late_starts.take(12.5)


class TestAnnouncements:
    """One turn, announced to a pipeline that decides user turns or does not."""

    async def announce(
        self, turn_frames: TurnFrames, *, decides: bool, vad_frames: bool = False
    ) -> list[str]:
        service = Service()

        async def interrupt() -> None:
            service.proposed.append("interruption")

        surroundings: Any = SimpleNamespace(
            decides_turns=decides,
            ignores_proposals=True,
            warn_of_waiting_strategies=lambda: None,
        )
        announcements = TurnAnnouncements(
            service,
            surroundings,
            turn_frames=turn_frames,
            vad_frames=vad_frames,
            clock=lambda: 0.0,
            interrupt=interrupt,
        )
        await announcements.started()
        await announcements.stopped(0.5)
        return [name.removesuffix("SpeakingFrame") for name in service.proposed]

    @pytest.mark.parametrize(("turn_frames", "decides"), [("auto", True), ("propose", False)])
    async def test_a_turn_is_proposed_if_something_decides(
        self, turn_frames: TurnFrames, decides: bool
    ):
        announced = await self.announce(turn_frames, decides=decides)
        assert announced == ["ProposedUserStarted", "ProposedUserStopped"]

    @pytest.mark.parametrize(("turn_frames", "decides"), [("auto", False), ("broadcast", True)])
    async def test_a_turn_is_broadcast_and_interrupts_if_nothing_decides(
        self, turn_frames: TurnFrames, decides: bool
    ):
        announced = await self.announce(turn_frames, decides=decides)
        assert announced == ["UserStarted", "interruption", "UserStopped"]

    async def test_voice_activity_is_told_before_the_turn(self):
        announced = await self.announce("propose", decides=True, vad_frames=True)
        assert announced == [
            "VADUserStarted",
            "ProposedUserStarted",
            "VADUserStopped",
            "ProposedUserStopped",
        ]
