"""The example of a cascade that takes over from Hydra."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from pipecat.frames.frames import Frame, LLMContextFrame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from support.bots import (
    example,
    talking,
    until,
    until_heard,
)
from support.call import emulator, recording
from typing_extensions import override

from pipecat_hydra.emulator import Say, Script
from pipecat_hydra.testing import VirtualTransport


class LateLine(VirtualTransport):
    """A line whose client connects some time after the pipeline has started, as a browser does."""

    def __init__(self, late_secs: float):
        super().__init__()
        self._late_secs = late_secs

    @override
    async def _call_event_handler(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        if event_name == "on_client_connected":
            await asyncio.sleep(self._late_secs)
        await super()._call_event_handler(event_name, *args, **kwargs)


class TestFailover:
    @pytest.mark.parametrize("late_secs", [0.0, 1.0])
    async def test_the_cascade_takes_over_at_once_when_hydra_refuses(self, late_secs: float):
        line = LateLine(late_secs)
        bot = example("failover")
        llm = listening(bot.StandInLLM())
        async with emulator() as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key="sk-wrong",
                base_url=hydra.url,
                cascade=(bot.StandInSTT(), llm.processor, bot.StandInTTS()),
            )
            async with talking(run, line):
                greeting = await heard_in_all(line)
                assert len(llm.contexts) == 1  # it was asked to speak once, whoever was first
                await line.microphone.say(recording("hello"))
                assert await heard_in_all(line, after=greeting) == 2 * greeting
            assert hydra.sessions == []
        assert [message["role"] for message in llm.contexts[1]] == [
            "developer",
            "assistant",
            "user",
        ]

    async def test_the_cascade_knows_what_hydra_has_said(self):
        line = VirtualTransport()
        bot = example("failover")
        llm = listening(bot.StandInLLM())
        script = Script([Say.tones(0.4, "I am well.")], greeting=Say.tones(0.4, "Hello!"))
        async with AsyncExitStack() as stack:
            hydra = await stack.enter_async_context(emulator(script, transcripts=True))
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key=hydra.api_key,
                base_url=hydra.url,
                cascade=(bot.StandInSTT(), llm.processor, bot.StandInTTS()),
            )
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                assert llm.contexts == []
                said = len(line.heard_pcm)
                await stack.aclose()
                said = await heard_in_all(line, after=said)
                await line.microphone.say(recording("hello"))
                await heard_in_all(line, after=said)
        first, second = llm.contexts
        assert [message["content"] for message in first[:2]] == ["Hello!", "I am well."]
        assert [message["role"] for message in first[2:]] == ["developer"]
        assert second[: len(first)] == first
        assert [message["role"] for message in second[3:]] == ["assistant", "user"]

    async def test_the_cascade_has_its_own_key(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SMALLEST_API_KEY", "sk-of-hydra")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(ValueError, match="OPENAI_API_KEY"):
            async with example("failover").hydra():
                pass
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-cascade")
        async with example("failover").hydra() as given:
            assert not given.keys() & {"api_key", "base_url"}
            names = [type(service).__name__ for service in given["cascade"]]
            assert names == ["OpenAISTTService", "OpenAILLMService", "OpenAITTSService"]


@dataclass
class Listening:
    """A processor, and the messages of the contexts that came to it."""

    processor: FrameProcessor
    contexts: list[list[Any]] = field(default_factory=list)


def listening(processor: FrameProcessor) -> Listening:
    """Note what contexts come to a processor."""
    told = Listening(processor)

    @processor.event_handler("on_before_process_frame")
    async def note(processor: FrameProcessor, frame: Frame):
        if isinstance(frame, LLMContextFrame):
            told.contexts.append(list(frame.context.get_messages()))

    return told


async def heard_in_all(line: VirtualTransport, *, after: int = 0) -> int:
    """Wait until more is heard, and it is over; tell how many bytes were heard by then."""
    await until(lambda: len(line.heard_pcm) > after)
    heard = 0
    while len(line.heard_pcm) > heard:
        heard = len(line.heard_pcm)
        await asyncio.sleep(0.3)
    return heard
