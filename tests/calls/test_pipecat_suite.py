"""What Pipecat's tests of its own realtime services check, asked of this one.

Pipecat tests a service by its private methods. Here each check is a call, which Pipecat's frames
go into and events of the protocol come out of. Each class names the services whose tests it
stands for. A check that another file of these tests makes already is not repeated here.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from chaos.checks.replies import brackets
from chaos.model import noise
from pipecat.frames.frames import (
    ErrorFrame,
    FunctionCallResultProperties,
    InputTextRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMMessagesUpdateFrame,
    LLMSetToolsFrame,
    LLMUpdateSettingsFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_mute import FunctionCallUserMuteStrategy
from pipecat.utils.errors import ErrorCategory
from support.bots import Bot, running, script
from support.bursts import Puppet, audio, called, created, done, puppet
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Say
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema, tool_options

shapes = pytest.mark.parametrize("shape", SHAPES)

PARTS = [noise("part", 0.1)[start : start + 960] for start in range(0, 4_800, 960)]


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    """The functions where each shape of pipeline has them."""
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


@asynccontextmanager
async def live(shape: Shape, **service: Any) -> AsyncGenerator[tuple[Puppet, Call]]:
    """A call whose session is live, with a server that says what it is told to."""
    arguments = {"settings": NO_GREETING, **service}
    async with puppet() as server, call(server, shape, **arguments) as talk:
        await asyncio.wait_for(server.configured.wait(), 10)
        yield server, talk


def items(server: Puppet, kind: str) -> list[dict[str, Any]]:
    put_in = [event["item"] for event in server.of("conversation.item.create")]
    return [item for item in put_in if item["type"] == kind]


def texts(server: Puppet) -> list[str]:
    return [item["content"][0]["text"] for item in items(server, "message")]


def outputs(server: Puppet) -> dict[str, Any]:
    """What each call was answered with; fails if one was answered twice."""
    answers = items(server, "function_call_output")
    assert len({item["call_id"] for item in answers}) == len(answers)
    return {item["call_id"]: json.loads(item["output"]) for item in answers}


def append(*contents: Any, role: str = "user", run: bool | None = True) -> LLMMessagesAppendFrame:
    messages: list[Any] = [{"role": role, "content": content} for content in contents]
    return LLMMessagesAppendFrame(messages=messages, run_llm=run)


class TestFunctionsOfTheConstructor:
    """Gemini Live, Nova Sonic, Ultravox, OpenAI, Grok, Inworld: functions given to the service."""

    @pytest.mark.parametrize("given_as", ["schema", "list"])
    async def test_a_handler_in_a_schema_needs_no_registration(self, given_as: str):
        async def sample(params: FunctionCallParams) -> None:
            await params.result_callback({"sampled": True})

        schema = FunctionSchema("sample", "Take a sample.", {}, [], handler=sample)
        given: Any = [schema] if given_as == "list" else ToolsSchema(standard_tools=[schema])
        async with live("bare", tools=given) as (server, talk):
            server.burst(created("r"), called("r", "c", "sample"), done("r"))
            await talk.until(lambda: outputs(server) == {"c": {"sampled": True}})

    async def test_the_options_of_a_function_hold(self):
        started = asyncio.Event()

        @tool_options(cancel_on_interruption=False)
        async def sample(params: FunctionCallParams) -> None:
            """Take a sample."""
            started.set()
            await asyncio.sleep(2)
            await params.result_callback("sampled")

        async with live("bare", tools=[sample]) as (server, talk):
            server.burst(created("r"), called("r", "c", "sample"), done("r"))
            await started.wait()
            await talk.worker.queue_frame(InterruptionFrame())
            # It runs on, and what it gives is told.
            await talk.until(lambda: any("sampled" in text for text in texts(server)))

    async def test_those_of_a_context_win(self):
        async def sample(params: FunctionCallParams) -> None:
            """Take a sample."""
            await params.result_callback("sampled")

        async def other(params: FunctionCallParams) -> None:
            """Do something else."""
            await params.result_callback("other")

        context = LLMContext(tools=[other])
        async with live("aggregators", tools=[sample], context=context) as (server, talk):
            told = server.of("session.configure")[0]["session"]["tools"]
            assert [tool["name"] for tool in told] == ["other"]
            server.burst(created("r"), called("r", "c", "other"), done("r"))
            await talk.until(lambda: outputs(server) == {"c": "other"})


class TestFunctionsThatAreSet:
    """OpenAI: `LLMSetToolsFrame` registers functions, and takes away those that are gone."""

    @shapes
    async def test_a_new_function_can_be_called_and_one_that_is_gone_cannot(self, shape: Shape):
        ran: list[str] = []

        async def old(params: FunctionCallParams) -> None:
            """Do it the old way."""
            ran.append("old")
            await params.result_callback("old")

        async def new(params: FunctionCallParams) -> None:
            """Do it the new way."""
            ran.append("new")
            await params.result_callback("new")

        async with live(shape, **tools(shape, old)) as (server, talk):
            await talk.worker.queue_frame(LLMSetToolsFrame(tools=[new]))
            await talk.until(lambda: server.of("session.update"))
            told = server.of("session.update")[0]["session"]["tools"]
            assert [tool["name"] for tool in told] == ["new"]
            calls = called("r", "c_new", "new"), called("r", "c_old", "old")
            server.burst(created("r"), *calls, done("r"))
            await talk.until(lambda: len(outputs(server)) == 2)
            assert ran == ["new"]
            assert outputs(server)["c_new"] == "new"


class TestTypedText:
    """OpenAI, Nova Sonic: text goes to Hydra once each, in order, and is answered."""

    @shapes
    async def test_the_same_words_twice_are_told_twice(self, shape: Shape):
        async with live(shape) as (server, talk):
            for nth in (1, 2):
                await talk.worker.queue_frame(append("Again"))
                await talk.until(lambda count=nth: len(server.of("response.create")) == count)
                server.burst(created(f"r{nth}"), audio(f"r{nth}", PARTS[0]), done(f"r{nth}"))
                await talk.until_pushed(TTSStoppedFrame, nth)
                await talk.until_quiet()
            await asyncio.sleep(0.5)
            assert texts(server) == ["Again", "Again"]
            assert len(server.of("response.create")) == 2

    @shapes
    async def test_two_at_once_are_told_in_order_each_once(self, shape: Shape):
        async with live(shape) as (server, talk):
            await talk.worker.queue_frames([append("First"), append("Second")])
            await talk.until(lambda: server.of("response.create"))
            await asyncio.sleep(0.5)
            assert texts(server) == ["First", "Second"]

    @shapes
    async def test_the_text_of_a_message_in_parts_is_told_whole(self, shape: Shape):
        parts = [{"type": "text", "text": "in several"}, {"type": "text", "text": "parts"}]
        async with live(shape) as (server, talk):
            await talk.worker.queue_frame(append(parts))
            await talk.until(lambda: server.of("response.create"))
            (text,) = texts(server)
            assert text.split() == ["in", "several", "parts"]

    @shapes
    async def test_what_the_bot_is_made_to_have_said_is_no_text_of_the_user(self, shape: Shape):
        async with live(shape) as (server, talk):
            await talk.worker.queue_frame(append("I said so.", role="assistant", run=False))
            await asyncio.sleep(0.5)
            assert [item for item in items(server, "message") if item["role"] == "user"] == []
            assert server.of("response.create") == []

    async def test_what_is_taken_out_before_it_was_told_is_not_told(self):
        async with live("aggregators") as (server, talk):
            await talk.worker.queue_frame(append("Obsolete", run=False))
            await talk.worker.queue_frame(LLMMessagesUpdateFrame(messages=[], run_llm=False))
            await talk.worker.queue_frame(append("Valid"))
            await talk.until(lambda: server.of("response.create"))
            await asyncio.sleep(0.5)
            assert "Obsolete" not in json.dumps(server.received)

    @shapes
    @pytest.mark.parametrize("text", ["", " \n"])
    async def test_text_without_words_is_neither_told_nor_answered(self, shape: Shape, text: str):
        async with live(shape) as (server, talk):
            await talk.worker.queue_frame(InputTextRawFrame(text=text))
            await talk.llm.send_text(text)
            await asyncio.sleep(0.5)
            assert texts(server) == []
            assert server.of("response.create") == []


class TestResponsesOfSeveralItems:
    """OpenAI: a response is one reply, of however many items."""

    @shapes
    @pytest.mark.parametrize("overlapping", [True, False])
    async def test_they_are_one_reply(self, shape: Shape, overlapping: bool):
        first = {**audio("r", PARTS[0]), "item_id": "a", "output_index": 0}
        second = {**audio("r", PARTS[1]), "item_id": "b", "output_index": 1}
        of_first, of_second = (
            {"type": "response.output_audio.done", "response_id": "r", "item_id": item}
            for item in ("a", "b")
        )
        rest = [second, of_first] if overlapping else [of_first, second]
        async with live(shape) as (server, talk):
            server.burst(created("r"), first, *rest, of_second, done("r"))
            await talk.until_pushed(TTSStoppedFrame)
            await talk.until_quiet()
            spoken = talk.frames.of(TTSAudioRawFrame)
            assert b"".join(frame.audio for frame in spoken) == PARTS[0] + PARTS[1]
            assert talk.frames.names(TTSStartedFrame, TTSStoppedFrame) == [
                "TTSStartedFrame",
                "TTSStoppedFrame",
            ]
            assert brackets(frame for frame, _ in talk.frames.pushed) == (None, [])

    @shapes
    async def test_an_interruption_cancels_the_response_once(self, shape: Shape):
        async with live(shape) as (server, talk):
            for part, item in zip(PARTS, "aabb", strict=False):
                server.burst(created("r"), {**audio("r", part), "item_id": item})
            await talk.until_pushed(TTSAudioRawFrame, 4)
            await talk.worker.queue_frame(InterruptionFrame())
            await talk.until(lambda: server.of("response.cancel"))
            server.burst({**audio("r", PARTS[4]), "item_id": "b"}, done("r", "cancelled"))
            await asyncio.sleep(0.5)
            (cancel,) = server.of("response.cancel")
            assert cancel["response_id"] == "r"
            assert len(talk.frames.of(TTSAudioRawFrame)) == 4


class TestResultsOfFunctions:
    """OpenAI, Grok, Ultravox, Nova Sonic: results while a function runs, and its last."""

    @shapes
    async def test_they_are_told_in_order_beside_the_answer(self, shape: Shape):
        @tool_options(cancel_on_interruption=False)
        async def delegate(params: FunctionCallParams) -> None:
            """Have somebody else do it."""
            for share in (25, 50):
                await asyncio.sleep(1)
                properties = FunctionCallResultProperties(is_final=False)
                await params.result_callback({"percent": share}, properties=properties)
            await asyncio.sleep(1)
            await params.result_callback({"percent": 100})

        async with live(shape, **tools(shape, delegate)) as (server, talk):
            server.burst(created("r"), called("r", "c", "delegate"), done("r"))
            # The placeholder alone is an answer, so that Hydra does not wait.
            await talk.until(lambda: outputs(server))
            await talk.until(lambda: len(texts(server)) == 3)
            for share, text in zip(("25", "50", "100"), texts(server), strict=True):
                assert share in text
            await asyncio.sleep(0.5)
            assert list(outputs(server)) == ["c"]

    @shapes
    async def test_the_model_is_asked_once_the_reply_in_flight_is_over(self, shape: Shape):
        @tool_options(cancel_on_interruption=False)
        async def delegate(params: FunctionCallParams) -> None:
            """Have somebody else do it."""
            await asyncio.sleep(1)
            await params.result_callback("settled")

        async with live(shape, **tools(shape, delegate)) as (server, talk):
            server.burst(created("r1"), called("r1", "c", "delegate"), done("r1"))
            await talk.until(lambda: server.of("response.create"))
            server.burst(created("r2"), audio("r2", PARTS[0]))
            await talk.until(lambda: texts(server))
            await asyncio.sleep(0.5)
            assert len(server.of("response.create")) == 1
            server.burst(done("r2"))
            await talk.until(lambda: len(server.of("response.create")) == 2)

    @shapes
    async def test_an_error_of_a_function_is_none_of_the_service(self, shape: Shape):
        async def look_up(params: FunctionCallParams) -> None:
            """Look something up."""
            raise PermissionError("401 Unauthorized")

        async with live(shape, **tools(shape, look_up)) as (server, talk):
            server.burst(created("r"), called("r", "c", "look_up"), done("r"))
            await talk.until(lambda: outputs(server))
            (error,) = talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
            assert error.category is ErrorCategory.APPLICATION
            assert "look_up" in error.error
            assert talk.llm.is_usable

    @pytest.mark.parametrize("function", ["missing", "delegate"])
    async def test_a_user_who_is_muted_while_functions_run_is_heard_afterwards(self, function: str):
        @tool_options(cancel_on_interruption=False)
        async def delegate(params: FunctionCallParams) -> None:
            """Have somebody else do it."""
            properties = FunctionCallResultProperties(is_final=False)
            await params.result_callback("soon", properties=properties)
            await asyncio.sleep(0.2)
            await params.result_callback("done")

        turn = [ToolCall(function, {}, "call_1"), Say.tones(0.4)]
        async with emulator(script(turn, Say.tones(0.4))) as hydra:
            mute = {"user_mute_strategies": [FunctionCallUserMuteStrategy()]}
            bot = Bot(hydra, tools=[delegate], user=mute)
            async with running(bot):
                await bot.say("hello")
                await bot.until_answered(1)
                await bot.until_quiet()
                await bot.say("hello")
                await bot.until_answered(2)
            assert len(bot.told.sent_of("input_audio_buffer.speech_started")) == 2


class TestWhatIsAddedToTheInstruction:
    """The base class: guides of the framework outlive a change of the instruction."""

    @shapes
    async def test_it_is_told_with_every_instruction(self, shape: Shape):
        settings = HydraLLMSettings(system_instruction="APP", generate_initial_response=False)
        async with live(shape, settings=settings) as (server, talk):
            talk.llm.append_system_instruction("GUIDE")
            await talk.until(lambda: len(server.of("session.configure")) == 2)
            delta = HydraLLMSettings(system_instruction="NEW")
            await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
            await talk.until(lambda: len(server.of("session.configure")) == 3)
            told = [event["session"]["instructions"] for event in server.of("session.configure")]
            assert told == ["APP", "APP\n\nGUIDE", "NEW\n\nGUIDE"]
