"""Pipecat Flows drives a conversation: what a node says is what Hydra is told."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from pipecat.flows import (
    ContextStrategy,
    ContextStrategyConfig,
    FlowArgs,
    FlowManager,
    FlowsFunctionSchema,
    NodeConfig,
    flows_tool_options,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from support.call import emulator, recording

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, Dialogue, EmulatedSession, HydraEmulator, Say, Script
from pipecat_hydra.testing import VirtualTransport


class OneCaller:
    """Goes on with a script where the last session left it; a script alone begins anew."""

    def __init__(self, script: Script):
        self._dialogue = script.begin()

    def begin(self) -> Dialogue:
        return self._dialogue


ORDER = Script(
    [
        [Call("choose_size", {"size": "large"}, "size"), Say.tones(0.4, "To the next node")],
        [Call("place_order", {"address": "Main Street 1"}, "order"), Say.tones(0.4, "It is done")],
    ]
)


async def choose_size(args: FlowArgs, flow_manager: FlowManager):
    flow_manager.state["size"] = args["size"]
    return {"size": args["size"]}, flow_manager.state["next"]


@flows_tool_options(cancel_on_interruption=True)
async def place_order(flow_manager: FlowManager, address: str):
    """Place the order.

    Args:
        address: Where it goes.
    """
    flow_manager.state["address"] = address
    return {"minutes": 30}, None


def first_node(*, waits: bool = True) -> NodeConfig:
    size = FlowsFunctionSchema(
        name="choose_size",
        description="Take note of the size.",
        properties={"size": {"type": "string"}},
        required=["size"],
        handler=choose_size,
        cancel_on_interruption=waits,
    )
    return {
        "name": "size",
        "role_message": "You take orders for pizza.",
        "task_messages": [{"role": "developer", "content": "Ask for the size."}],
        "functions": [size],
    }


def second_node(role: str | None) -> NodeConfig:
    node: NodeConfig = {
        "name": "address",
        "task_messages": [{"role": "developer", "content": "Ask where the {{ size }} one goes."}],
        "functions": [place_order],
    }
    if role is not None:
        node["role_message"] = role
    return node


class Order:
    """A call to order a pizza."""

    def __init__(self, hydra: HydraEmulator):
        self.hydra = hydra
        self.transport = VirtualTransport()
        llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url)
        strategies = ExternalUserTurnStrategies()
        aggregators = LLMContextAggregatorPair(
            LLMContext(), user_params=LLMUserAggregatorParams(user_turn_strategies=strategies)
        )
        self.worker = PipelineWorker(
            Pipeline(
                [
                    self.transport.input(),
                    aggregators.user(),
                    llm,
                    self.transport.output(),
                    aggregators.assistant(),
                ]
            ),
            idle_timeout_secs=None,
        )
        self.flow = FlowManager(
            llm=cast("Any", llm),  # which it types as a service with any adapter, invariantly
            context_aggregator=aggregators,
            worker=self.worker,
            transport=self.transport,
        )

    @property
    def session(self) -> EmulatedSession:
        """The session that is live."""
        return self.hydra.sessions[-1]

    @property
    def instructions(self) -> str:
        configuration = self.session.configuration or {}
        return configuration.get("instructions") or ""

    @property
    def tools(self) -> list[str]:
        return [tool["name"] for tool in self.session.tools]

    @property
    def replies(self) -> int:
        """How many replies were spoken, in all sessions."""
        done = "response.output_audio.done"
        return sum(len(session.sent_of(done)) for session in self.hydra.sessions)

    @property
    def outputs(self) -> dict[str, str | None]:
        """What each call was answered."""
        calls = [call for session in self.hydra.sessions for call in session.calls]
        return {call.name: call.output for call in calls}

    async def say(self) -> None:
        await self.transport.microphone.say(recording("hello"))

    async def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            await asyncio.sleep(0.01)

    async def no_more(self) -> None:
        """Give it time to do what it should not."""
        await asyncio.sleep(0.5)


@asynccontextmanager
async def ordering(
    first: NodeConfig, second: NodeConfig, script: Script = ORDER
) -> AsyncGenerator[Order]:
    async with emulator(OneCaller(script)) as hydra:
        order = Order(hydra)
        order.flow.state["next"] = second

        @order.transport.event_handler("on_client_connected")
        async def on_client_connected(transport: VirtualTransport, client: Any):
            await order.flow.initialize(first)

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(order.worker)
        running = asyncio.create_task(runner.run())
        try:
            yield order
        finally:
            await order.worker.cancel()
            await running
        assert [error for session in hydra.sessions for error in session.errors] == []


async def test_the_first_node_is_what_the_session_is_configured_with():
    async with ordering(first_node(), second_node(None)) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        assert order.instructions.startswith("You take orders for pizza.")
        assert '"Ask for the size."' in order.instructions
        assert order.tools == ["choose_size"]
        assert order.session.configuration
        assert order.session.configuration["generate_initial_response"] is True
        await order.no_more()
        assert order.replies == 1
        assert order.session.received_of("response.create") == []


async def test_another_node_of_the_same_role_goes_on_in_the_same_session():
    async with ordering(first_node(), second_node(None)) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(lambda: order.replies == 2)
        assert order.flow.current_node == "address"
        assert json.loads(order.outputs["choose_size"] or "") == {"size": "large"}
        assert order.tools == ["place_order"]
        (task,) = order.session.messages
        assert task.text == "Ask where the large one goes."
        assert len(order.session.create_times) == 1
        assert order.session.create_times[0] > task.time

        await order.say()
        await order.until(lambda: order.replies == 3)
        assert json.loads(order.outputs["place_order"] or "") == {"minutes": 30}
        assert order.flow.state["address"] == "Main Street 1"
        await order.no_more()
        assert order.replies == 3
        assert len(order.hydra.sessions) == 1


async def test_another_role_is_another_session_that_knows_what_was_said():
    node = second_node("You take down addresses.")
    async with ordering(first_node(), node) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(lambda: len(order.hydra.sessions) == 2 and order.replies == 2)
        await order.until(lambda: order.session.configured)
        assert order.instructions.startswith("You take down addresses.")
        assert "choose_size" in order.instructions
        assert "Ask where the large one goes." in order.instructions
        assert order.tools == ["place_order"]
        await order.no_more()
        assert order.replies == 2

        await order.say()
        await order.until(lambda: order.replies == 3)
        assert json.loads(order.outputs["place_order"] or "") == {"minutes": 30}
        assert len(order.hydra.sessions) == 2


async def test_a_node_that_resets_the_context_is_another_session_that_knows_nothing():
    node = second_node(None)
    node["context_strategy"] = ContextStrategyConfig(strategy=ContextStrategy.RESET)
    async with ordering(first_node(), node) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(lambda: len(order.hydra.sessions) == 2 and order.replies == 2)
        await order.until(lambda: order.session.configured)
        assert order.instructions.startswith("You take orders for pizza.")
        assert "Ask where the large one goes." in order.instructions
        assert "Ask for the size." not in order.instructions
        assert "choose_size" not in order.instructions
        assert order.tools == ["place_order"]
        await order.no_more()
        assert order.replies == 2

        await order.say()
        await order.until(lambda: order.replies == 3)
        assert json.loads(order.outputs["place_order"] or "") == {"minutes": 30}
        assert len(order.hydra.sessions) == 2


async def test_the_last_words_of_a_flow_are_heard_before_it_ends():
    """Without a function that runs on, the last node has instructions of its own."""
    goodbye: NodeConfig = {
        "name": "goodbye",
        "task_messages": [{"role": "developer", "content": "Say goodbye."}],
        "functions": [],
        "post_actions": [{"type": "end_conversation"}],
    }
    async with ordering(first_node(waits=False), goodbye) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(order.worker.has_finished)
        assert "Say goodbye." in order.instructions
        assert order.session.sent_of("response.output_audio.done")
        assert order.transport.heard_pcm.rstrip(b"\0").endswith(
            order.session.sent_audio().rstrip(b"\0")[-2_000:]
        )


async def test_a_fixed_phrase_of_a_flow_is_said_by_the_model():
    node = second_node(None)
    node["pre_actions"] = [{"type": "tts_say", "text": "One moment, please."}]
    async with ordering(first_node(), node) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(lambda: order.flow.current_node == "address")
        await order.until(lambda: len(order.session.messages) == 2)
        phrase, task = order.session.messages
        assert '"One moment, please."' in phrase.text
        assert task.text == "Ask where the large one goes."
        await order.until(lambda: order.replies >= 2)
        await order.no_more()
        assert len(order.hydra.sessions) == 1


async def test_the_fixed_last_words_of_a_flow_are_heard_before_it_ends():
    goodbye: NodeConfig = {
        "name": "goodbye",
        "task_messages": [{"role": "developer", "content": "Thank the caller."}],
        "functions": [],
        "post_actions": [{"type": "end_conversation", "text": "Goodbye, and enjoy."}],
    }
    async with ordering(first_node(), goodbye) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(order.worker.has_finished)
        (phrase,) = [m for m in order.session.messages if "Goodbye, and enjoy." in m.text]
        asked = [at for at in order.session.create_times if at > phrase.time]
        assert asked
        assert order.transport.heard_pcm.rstrip(b"\0").endswith(
            order.session.sent_audio().rstrip(b"\0")[-2_000:]
        )


async def test_a_function_that_flows_does_not_wait_for_is_answered_once():
    """What Flows makes of a function unless it is told otherwise."""
    async with ordering(first_node(waits=False), second_node(None)) as order:
        await order.until(lambda: order.hydra.sessions and order.replies)
        await order.say()
        await order.until(lambda: order.replies == 2)
        await order.no_more()
        assert order.replies == 2
        assert json.loads(order.outputs["choose_size"] or "") == {"size": "large"}
