"""Calls whose connection is lost: what the application is told, and what was had again."""

from typing import Any

from pipecat.frames.frames import (
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from support.call import Call

from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.emulator import (
    EmulatedSession,
    HydraEmulator,
)

QUICK = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)


class Story:
    """What the application is told of the connection."""

    def __init__(self, llm: HydraLLMService):
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        for name in (
            "on_connected",
            "on_session_started",
            "on_session_ended",
            "on_disconnected",
            "on_reconnecting",
            "on_reconnected",
            "on_capacity",
            "on_capacity_position",
            "on_given_up",
        ):
            llm.add_event_handler(name, self._teller(name))

    def _teller(self, name: str):
        async def tell(_: HydraLLMService, *arguments: Any) -> None:
            self.told.append((name, arguments))

        return tell

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for told, arguments in self.told if told == name]

    @property
    def attempts(self) -> list[int]:
        return [attempt for attempt, _ in self.of("on_reconnecting")]


def errors(talk: Call) -> list[ErrorFrame]:
    return talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)


def opened_and_closed(talk: Call) -> None:
    """Every bracket and every turn that was opened was closed (A6, T2)."""
    for opening, closing in (
        (LLMFullResponseStartFrame, LLMFullResponseEndFrame),
        (TTSStartedFrame, TTSStoppedFrame),
        (UserStartedSpeakingFrame, UserStoppedSpeakingFrame),
        (ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame),
    ):
        assert len(talk.frames.of(opening)) == len(talk.frames.of(closing))


def configured(hydra: HydraEmulator) -> list[EmulatedSession]:
    return [session for session in hydra.sessions if session.configured]


def heard(talk: Call) -> bytes:
    """What entered the pipeline, at the rate of Hydra."""
    return b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))


async def reconnected(talk: Call, story: Story, times: int = 1) -> None:
    await talk.until(lambda: len(story.of("on_reconnected")) >= times)
