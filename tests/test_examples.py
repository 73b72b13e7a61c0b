"""The examples, and a bot that was written for another realtime service."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from call import emulator, recording, session
from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import LLMRunFrame, LLMSetToolsFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
)
from pipecat.runner.types import RunnerArguments
from pipecat.services.llm_service import FunctionCallParams, LLMService
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, EmulatedSession, HydraEmulator, Say, Script
from pipecat_hydra.virtual_transport import VirtualTransport

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    """Import an example, which is a file and no part of a package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def talking(bot: Coroutine[Any, Any, None], line: VirtualTransport) -> AsyncGenerator[None]:
    """Run a bot until the user hangs up, which must end it."""
    running = asyncio.create_task(bot)
    try:
        await line.timeline.started()
        yield
        await line.hang_up()
        await asyncio.wait_for(running, 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def until_heard(line: VirtualTransport, hydra: EmulatedSession, responses: int) -> None:
    """Wait until the user has heard all of so many replies."""
    await hydra.wait_for_sent("response.output_audio.done", count=responses, within=20)
    await until(lambda: len(line.heard_pcm) >= len(hydra.sent_audio()))
    assert line.heard_pcm.rstrip(b"\0").startswith(hydra.sent_audio().rstrip(b"\0"))


def tool_names(tools: list[dict[str, Any]]) -> list[str]:
    return [tool["name"] for tool in tools]


class TestFunctionCalling:
    async def test_both_functions_are_called_and_what_they_give_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("function_calling")
        monkeypatch.setattr(bot, "SEARCH_SECS", 0.3)
        script = Script(
            [
                [
                    Call("get_weather", {"city": "Paris"}, "weather"),
                    Call("find_restaurant", {"city": "Paris", "cuisine": "French"}, "table"),
                    Say.tones(0.6, "The weather, and a search that is under way"),
                ],
                Say.tones(0.4, "The restaurant"),
            ]
        )
        line = VirtualTransport()
        async with emulator(script) as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key=hydra.api_key,
                base_url=hydra.url,
            )
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)  # the greeting
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)

            assert told.configuration is not None
            assert told.configuration["generate_initial_response"] is True
            assert "for travellers" in told.configuration["instructions"]
            assert tool_names(told.tools) == ["get_weather", "find_restaurant"]
            weather, search = told.call("weather"), told.call("table")
            assert json.loads(weather.output or "")["sky"] == "clear"
            assert json.loads(search.output or "")["status"] == "running"
            (narration,) = told.narrations
            assert not narration.missing
            (found,) = told.messages
            assert "The Golden Lion" in found.text
            assert len(told.create_times) == 2
            assert told.errors == []

    async def test_without_a_key_it_talks_to_an_emulator_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("function_calling")
        monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
        monkeypatch.setattr(bot, "SEARCH_SECS", 0.1)
        warnings: list[str] = []
        handler = logger.add(lambda message: warnings.append(str(message)), level="WARNING")
        line = VirtualTransport()
        async with bot.hydra() as endpoint:
            logger.remove(handler)
            run = bot.run_bot(line, RunnerArguments(), **endpoint)
            async with talking(run, line):
                await until(lambda: line.heard_pcm)
                greeting_secs = line.heard_until_secs
                await line.microphone.say(recording("hello"))
                await until(lambda: line.heard_until_secs > greeting_secs + 2)
        assert len(warnings) == 1
        assert "SMALLEST_API_KEY is not set" in warnings[0]

    async def test_with_a_key_it_talks_to_hydra(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SMALLEST_API_KEY", "sk-mine")
        async with example("function_calling").hydra() as endpoint:
            assert endpoint["api_key"] == "sk-mine"
            assert endpoint["base_url"].startswith("wss://")

    def test_a_missing_runner_is_told_in_one_line(self, tmp_path: Path):
        # Whether or not it is installed here.
        (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError('fastapi')\n")
        done = subprocess.run(
            [sys.executable, EXAMPLES / "function_calling.py"],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "LOGURU_AUTOINIT": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr == 'The runner is missing: pip install "pipecat-ai[runner,webrtc]"\n'


# A bot as Pipecat's own example for OpenAI's realtime service has it
# (examples/realtime/realtime-openai.py): only the service is put in from outside.


async def fetch_weather(params: FunctionCallParams):
    await params.result_callback({"conditions": "nice", "location": params.arguments["location"]})


async def get_news(params: FunctionCallParams):
    await params.result_callback({"news": ["Stock markets reach all-time highs"]})


async def get_restaurant(params: FunctionCallParams, location: str):
    """Get a restaurant recommendation.

    Args:
        location: The city and state, e.g. San Francisco, CA.
    """
    await params.result_callback({"name": "The Golden Dragon", "location": location})


weather_function = FunctionSchema(
    name="get_current_weather",
    description="Get the current weather",
    properties={"location": {"type": "string", "description": "The city and state"}},
    required=["location"],
)
news_function = FunctionSchema(
    name="get_news", description="Get the current news.", properties={}, required=[]
)


def assembled(llm: LLMService[Any], transport: BaseTransport) -> PipelineWorker:
    llm.register_function("get_current_weather", fetch_weather)
    llm.register_function("get_news", get_news)
    context = LLMContext(
        [{"role": "developer", "content": "Say hello!"}],
        ToolsSchema(standard_tools=[weather_function, get_restaurant]),
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        context, realtime_service_mode=True
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                user_aggregator,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    return worker


async def run(worker: PipelineWorker) -> None:
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def of_openai(hydra: HydraEmulator) -> LLMService[Any]:
    return OpenAIRealtimeLLMService(
        api_key=hydra.api_key,
        settings=OpenAIRealtimeLLMService.Settings(system_instruction="Be friendly."),
    )


def of_hydra(hydra: HydraEmulator) -> LLMService[Any]:
    return HydraLLMService(
        api_key=hydra.api_key,
        base_url=hydra.url,
        settings=HydraLLMService.Settings(system_instruction="Be friendly."),
    )


class TestABotOfAnotherService:
    async def test_it_runs_when_the_service_is_exchanged(self):
        script = Script(
            [
                [
                    Call("get_current_weather", {"location": "Paris"}, "weather"),
                    Call("get_restaurant", {"location": "Paris"}, "restaurant"),
                    Say.tones(0.4, "The weather and a restaurant"),
                ],
                [Call("get_news", {}, "news"), Say.tones(0.4, "The news")],
            ]
        )
        line = VirtualTransport()
        async with emulator(script) as hydra:
            worker = assembled(of_hydra(hydra), line)
            async with talking(run(worker), line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                assert told.configuration is not None
                assert told.configuration["generate_initial_response"] is True
                assert "Be friendly." in told.configuration["instructions"]
                assert "Say hello!" in told.configuration["instructions"]
                assert tool_names(told.tools) == ["get_current_weather", "get_restaurant"]

                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                assert json.loads(told.call("weather").output or "")["conditions"] == "nice"
                assert "Golden Dragon" in (told.call("restaurant").output or "")

                new_tools = ToolsSchema([weather_function, get_restaurant, news_function])
                await worker.queue_frames([LLMSetToolsFrame(tools=new_tools)])
                await told.wait_for_received("session.update")
                assert tool_names(told.tools)[2:] == ["get_news"]

                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)
                assert "all-time highs" in (told.call("news").output or "")
            assert len(hydra.sessions) == 1
            assert len(session(hydra).create_times) == 2
            assert session(hydra).errors == []

    @pytest.mark.parametrize("service", [of_hydra, of_openai])
    async def test_it_is_put_together_the_same_with_either_service(
        self, service: Callable[[HydraEmulator], LLMService[Any]]
    ):
        async with emulator() as hydra:
            assert assembled(service(hydra), VirtualTransport())
