"""A bot that was written for another realtime service."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pipecat.frames.frames import LLMRunFrame, LLMSetToolsFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
)
from pipecat.services.llm_service import FunctionCallParams, LLMService
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner
from support.bots import (
    talking,
    tool_names,
    until_heard,
)
from support.call import emulator, recording, session

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, HydraEmulator, Say, Script
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema
from pipecat_hydra.testing import VirtualTransport

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
