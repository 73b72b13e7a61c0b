"""Function calls in whole calls: each answered once, the model asked once (F1 to F3)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from warnings import catch_warnings

import pytest
from pipecat.frames.frames import (
    EndFrame,
    FunctionCallResultProperties,
    FunctionCallsStartedFrame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from support.call import (
    NO_GREETING,
    SHAPES,
    Call,
    Shape,
    call,
    configuration,
    emulator,
    recording,
    session,
)
from support.functions import messages, nothing_in_progress, outputs, requests, script, tools

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Say, Script
from pipecat_hydra.service.pipecat_versions import tool_options

shapes = pytest.mark.parametrize("shape", SHAPES)


async def quick(params: FunctionCallParams):
    """Give an answer at once."""
    await params.result_callback("quick")


async def slow(params: FunctionCallParams):
    """Give an answer after a while."""
    await asyncio.sleep(0.3)
    await params.result_callback("slow")


@tool_options(cancel_on_interruption=False)
async def later(params: FunctionCallParams):
    """Give an answer while the conversation goes on."""
    await params.result_callback("half", properties=FunctionCallResultProperties(is_final=False))
    await asyncio.sleep(0.5)
    await params.result_callback("whole")


@pytest.mark.parametrize("kicked_off", [True, False])
async def test_a_function_is_given_the_context_whoever_speaks_first(kicked_off: bool):
    given: list[Any] = []

    async def look(params: FunctionCallParams):
        """Look at the context."""
        given.append(params.context)
        await params.result_callback("done")

    context = LLMContext(tools=[look])
    async with (
        emulator(script(ToolCall("look", {}))) as hydra,
        call(hydra, context=context, kickoff_timeout_secs=0.1) as talk,
    ):
        if kicked_off:
            await talk.worker.queue_frame(LLMRunFrame())
            await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.say("hello")
        await talk.until(lambda: given)
        assert given == [context]


async def narrated(talk: Call, replies: int = 2) -> None:
    await talk.until_pushed(LLMFullResponseEndFrame, replies)


@shapes
@pytest.mark.parametrize(
    "calls_done",
    [
        "before_arguments_done",
        "before_outputs",
        "after_outputs",
        "before_narration",
        "after_narration_began",
    ],
)
async def test_two_tools_of_different_speed_get_one_narration(shape: Shape, calls_done: str):
    calls = [ToolCall("slow", {}, "call_1"), ToolCall("quick", {}, "call_2")]
    async with (
        emulator(script(*calls), calls_done=calls_done) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, quick, slow)) as talk,
    ):
        await talk.say("hello")
        await narrated(talk)
        assert outputs(hydra) == [("call_2", '"quick"'), ("call_1", '"slow"')]
        assert requests(hydra) == 1
        (narration,) = session(hydra).narrations
        assert len(narration.outputs) == 2
        assert not narration.missing
        assert not session(hydra).errors
        (group,) = talk.frames.of(FunctionCallsStartedFrame)
        assert [c.tool_call_id for c in group.function_calls] == ["call_1", "call_2"]
        await talk.until_quiet()
        assert talk.transport.heard_pcm
        await talk.until(lambda: nothing_in_progress(talk.context))


async def fails(params: FunctionCallParams):
    """Fail, with words that are not for the model."""
    raise RuntimeError("the password is swordfish")


@tool_options(timeout_secs=0.2)
async def hangs(params: FunctionCallParams):
    """Never come back."""
    await asyncio.sleep(30)


async def nothing(params: FunctionCallParams):
    """Do it and say nothing."""
    await params.result_callback(None)


async def too_much(params: FunctionCallParams):
    """Say far too much."""
    await params.result_callback("x" * 100_000)


@shapes
@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("quick", {}, '"quick"'),
        ("nothing", {}, "COMPLETED"),
        ("fails", {}, "failed"),
        ("hangs", {}, "took too long"),
        ("unknown", {}, "not currently available"),
        ("quick", "{not json", "not a JSON object"),
        ("quick", "[1]", "not a JSON object"),
        ("too_much", {}, "too large"),
    ],
    ids=["result", "none", "error", "timeout", "unknown", "not-json", "no-object", "too-large"],
)
async def test_every_call_is_answered_once_and_the_call_goes_on(
    shape: Shape, name: str, arguments: Any, answer: str
):
    functions = (quick, fails, hangs, nothing, too_much)
    async with (
        emulator(script(ToolCall(name, arguments, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, *functions)) as talk,
    ):
        await talk.say("hello")
        await narrated(talk)
        ((call_id, output),) = outputs(hydra)
        assert call_id == "call_1"
        assert answer in output
        assert "swordfish" not in output
        assert requests(hydra) == 1
        assert not session(hydra).errors
        # The call goes on: the next turn is answered.
        await talk.say("hello")
        await narrated(talk, 3)
        assert len(outputs(hydra)) == 1
        await talk.until(lambda: nothing_in_progress(talk.context))


@shapes
async def test_a_barge_in_over_a_long_tool_cancels_it_and_the_next_one_works(shape: Shape):
    async def long(params: FunctionCallParams):
        """Take five seconds."""
        await asyncio.sleep(5)
        await params.result_callback("too late")

    turns: Sequence[Any] = [
        [ToolCall("long", {}, "call_1"), Say.tones()],
        [ToolCall("quick", {}, "call_2"), Say.tones()],
    ]
    async with (
        emulator(Script(turns)) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, long, quick)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await talk.say("hello")
        await talk.until(lambda: len(outputs(hydra)) == 2)
        await talk.until_pushed(TTSAudioRawFrame)
        assert outputs(hydra)[0][0] == "call_1"
        assert "cancelled" in outputs(hydra)[0][1]
        assert outputs(hydra)[1] == ("call_2", '"quick"')
        assert requests(hydra) == 1
        await talk.until(lambda: nothing_in_progress(talk.context))


@shapes
async def test_the_user_is_heard_while_a_function_cleans_up(shape: Shape, warnings: list[str]):
    running, cleaned = asyncio.Event(), asyncio.Event()

    async def browse(params: FunctionCallParams):
        """Browse for long, and close the browser."""
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            await cleaned.wait()

    async with (
        emulator(script(ToolCall("browse", {}))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, browse)) as talk,
    ):
        await talk.say("hello")
        await asyncio.wait_for(running.wait(), 10)
        await talk.llm.queue_frame(InterruptionFrame())
        await talk.llm.queue_frame(InputTextRawFrame(text="Are you there?"))
        await talk.until(lambda: messages(hydra))
        # Or else Pipecat has given up to wait for it.
        assert not [warning for warning in warnings if "timed out" in warning]
        cleaned.set()
        await talk.until(lambda: outputs(hydra))


@shapes
async def test_an_asynchronous_tool_is_answered_at_once_and_told_when_it_comes(shape: Shape):
    async with (
        emulator(script(ToolCall("later", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, later)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: len(messages(hydra)) == 2)
        ((call_id, output),) = outputs(hydra)
        assert call_id == "call_1"
        assert "running" in output
        half, whole = messages(hydra)
        assert "half" in half
        assert "whole" in whole
        await talk.until(lambda: requests(hydra) >= 2)
        assert not session(hydra).errors
        await talk.until(lambda: nothing_in_progress(talk.context))


async def test_an_asynchronous_tool_leaves_the_system_message_of_the_context_in_force():
    persona: Any = {"role": "system", "content": "You are Ada, a waiter."}
    context = LLMContext([persona], tools=[later])
    async with emulator() as hydra, call(hydra, context=context) as talk:
        # Pipecat tells once that it belongs into the settings.
        with catch_warnings(record=True):
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame)
        instructions = configuration(hydra)["instructions"]
        assert instructions.startswith("You are Ada, a waiter.\n\n")
        # What Pipecat tells of such functions.
        assert instructions.count("\n") > 2


@shapes
async def test_an_asynchronous_tool_survives_a_barge_in(shape: Shape):
    release = asyncio.Event()

    @tool_options(cancel_on_interruption=False)
    async def patient(params: FunctionCallParams):
        """Wait for a sign."""
        await release.wait()
        await params.result_callback("here at last")

    async with (
        emulator(script(ToolCall("patient", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, patient)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.say("hello")
        await talk.until_pushed(InterruptionFrame, 2)
        release.set()
        await talk.until(lambda: messages(hydra))
        assert "here at last" in messages(hydra)[0]
        assert len(outputs(hydra)) == 1


@shapes
async def test_a_result_that_nobody_is_to_speak_about_is_sent_and_not_asked_about(shape: Shape):
    async def silent(params: FunctionCallParams):
        """Say nothing."""
        properties = FunctionCallResultProperties(run_llm=False)
        await params.result_callback("noted", properties=properties)

    async with (
        emulator(script(ToolCall("silent", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, silent)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: outputs(hydra))
        await asyncio.sleep(0.4)
        assert requests(hydra) == 0


@tool_options(cancel_on_interruption=False, cancellable_by_llm=True)
async def endless(params: FunctionCallParams):
    """Work until told to stop."""
    await asyncio.sleep(30)


@shapes
async def test_the_model_can_cancel_a_tool_that_allows_it(shape: Shape):
    turns: Sequence[Any] = [
        [ToolCall("endless", {}, "call_1"), Say.tones()],
        [ToolCall("cancel_endless", {"tool_call_id": "call_1"}, "call_2"), Say.tones()],
    ]
    async with (
        emulator(Script(turns)) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, endless)) as talk,
    ):
        await talk.say("hello")
        await narrated(talk)
        told = configuration(hydra)
        assert [tool["name"] for tool in told["tools"]] == ["endless", "cancel_endless"]
        await talk.say("hello")
        await narrated(talk, 4)
        assert [call_id for call_id, _ in outputs(hydra)] == ["call_1", "call_2"]
        await talk.until(lambda: any("cancelled" in text for text in messages(hydra)))
        assert not session(hydra).errors
        await talk.until(lambda: nothing_in_progress(talk.context))


async def test_a_result_that_comes_too_late_for_its_turn_is_told_all_the_same():
    async def very_slow(params: FunctionCallParams):
        """Take longer than Hydra waits."""
        await asyncio.sleep(0.6)
        await params.result_callback("late news")

    async with (
        emulator(script(ToolCall("very_slow", {}, "call_1")), tool_timeout_secs=0.2) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[very_slow]) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: messages(hydra))
        assert "late news" in messages(hydra)[0]
        assert outputs(hydra) == []
        await talk.until_pushed(TTSAudioRawFrame)


async def test_a_catch_all_handler_takes_every_call():
    seen: list[str] = []

    async def any_function(params: FunctionCallParams):
        seen.append(params.function_name)
        await params.result_callback("ok")

    async with (
        emulator(script(ToolCall("whatever", {}, "call_1"))) as hydra,
        call(hydra, "bare", settings=NO_GREETING) as talk,
    ):
        talk.llm.register_function(None, any_function)
        await talk.say("hello")
        await narrated(talk)
        assert seen == ["whatever"]
        assert outputs(hydra) == [("call_1", '"ok"')]


async def test_arguments_can_be_watched_as_they_come():
    arguments = {"city": "Paris", "country": "France", "when": "tomorrow"}
    async with (
        emulator(script(ToolCall("quick", arguments, "call_1"))) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[quick]) as talk,
    ):
        seen: list[tuple[str, str, str]] = []

        @talk.llm.event_handler("on_function_call_arguments_delta")
        async def on_delta(service: Any, call_id: str, name: str, fragment: str):
            seen.append((call_id, name, fragment))

        await talk.say("hello")
        await narrated(talk)
        assert len(seen) > 1
        assert {(call_id, name) for call_id, name, _ in seen} == {("call_1", "quick")}
        assert "Paris" in "".join(fragment for _, _, fragment in seen)


async def test_a_result_that_is_too_large_is_warned_about(warnings: list[str]):
    async with (
        emulator(script(ToolCall("too_much", {}, "call_1"))) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[too_much]) as talk,
    ):
        await talk.say("hello")
        await narrated(talk)
    assert sum("'too_much' has 100002 bytes" in warning for warning in warnings) == 1


@shapes
@pytest.mark.parametrize("word", ["in time", "late", "never"])
async def test_a_turn_that_is_answered_before_it_stops_delays_no_narration(shape: Shape, word: str):
    """And neither typed text nor the end of the pipeline."""
    settings = {"stopped_lag_ms": 20 * (word == "late"), "speech_stopped": word != "never"}
    async with (
        emulator(script(ToolCall("quick", {})), **settings) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, quick)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await talk.until(lambda: requests(hydra) == 1, within=0.05)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.worker.queue_frame(InputTextRawFrame("And then?"))
        await talk.until(lambda: requests(hydra) == 2, within=0.05)
        await talk.until_pushed(LLMFullResponseEndFrame, 3)
        await talk.worker.queue_frame(EndFrame())
        await talk.until(lambda: hydra.sessions[0].close_code, within=0.05)


@shapes
@pytest.mark.parametrize("is_noise", [True, False])
async def test_a_function_is_cancelled_by_a_turn_only_if_that_is_real(shape: Shape, is_noise: bool):
    async def long(params: FunctionCallParams):
        """Take three seconds."""
        await asyncio.sleep(3)
        await params.result_callback("done")

    # The second turn is noise, if it is short of this; the first never is.
    settings: dict[str, Any] = {"min_turn_ms": 800} if is_noise else {}
    turns = Script([[ToolCall("long", {}), Say.tones()], [Say.tones()]])
    async with (
        emulator(turns, **settings) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, long)) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await talk.transport.microphone.say(recording("hello")[:7_000])
        await talk.until_pushed(InterruptionFrame, 2)
        await talk.until(lambda: outputs(hydra), within=5.0)
        ((_, output),) = outputs(hydra)
        assert ("cancelled" in output) is not is_noise
        await talk.until_pushed(TTSAudioRawFrame)
        assert requests(hydra) == int(is_noise)


@shapes
async def test_an_interruption_by_somebody_else_cancels_a_function_at_once(shape: Shape):
    async def long(params: FunctionCallParams):
        """Take five seconds."""
        await asyncio.sleep(5)
        await params.result_callback("too late")

    async with (
        emulator(script(ToolCall("long", {}))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, long)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await asyncio.sleep(1.5)
        await talk.worker.queue_frame(InterruptionFrame())
        await talk.until(lambda: outputs(hydra), within=0.5)
        assert "cancelled" in outputs(hydra)[0][1]


@shapes
@pytest.mark.parametrize("how", ["cancel", "text"])
async def test_a_function_that_stops_the_bot_runs_on(shape: Shape, how: str):
    async def hush(params: FunctionCallParams):
        """Stop the bot, then take a while."""
        llm = params.llm
        assert isinstance(llm, HydraLLMService)
        if how == "cancel":
            await llm.cancel_response()
        else:
            await llm.send_text("Hold on.", respond=False, interrupt=True)
        await asyncio.sleep(0.5)
        await params.result_callback("hushed")

    async with (
        emulator(script(ToolCall("hush", {}))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, hush)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: outputs(hydra))
        assert outputs(hydra)[0][1] == '"hushed"'


@shapes
@pytest.mark.parametrize("calls_done", ["before_narration", "after_narration_began"])
async def test_text_after_a_result_that_nobody_speaks_about_is_answered_soon(
    shape: Shape, calls_done: str
):
    async def silent(params: FunctionCallParams):
        """Say nothing."""
        properties = FunctionCallResultProperties(run_llm=False)
        await params.result_callback("noted", properties=properties)

    async with (
        emulator(script(ToolCall("silent", {}, "call_1")), calls_done=calls_done) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, silent)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: outputs(hydra))
        answered = time.monotonic()
        await talk.worker.queue_frame(InputTextRawFrame("And now?"))
        await talk.until_pushed(TTSAudioRawFrame)
        assert 0.5 < time.monotonic() - answered < 1.5
        assert requests(hydra) == 1
        await narrated(talk)
        assert not session(hydra).errors
        # The response that called has not stalled.
        await asyncio.sleep(13.0)
        assert not session(hydra).received_of("response.cancel")
