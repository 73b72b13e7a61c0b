"""What a function may do in a call: end in any way, be answered by anybody, stop the bot."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from pipecat.frames.frames import (
    EndFrame,
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    TTSAudioRawFrame,
)
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, session
from support.functions import (
    answered,
    in_context,
    messages,
    nothing_in_progress,
    outputs,
    requests,
    script,
    tools,
)

from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Drop, HydraEmulator, Say, Script
from pipecat_hydra.service.pipecat_versions import tool_options

shapes = pytest.mark.parametrize("shape", SHAPES)

Handler = Callable[[FunctionCallParams], Awaitable[None]]


#
# Ways to end
#


async def inner_task_cancelled(params: FunctionCallParams):
    """Wait for a task that is cancelled."""
    inner = asyncio.create_task(asyncio.sleep(30))
    asyncio.get_running_loop().call_later(0.1, inner.cancel)
    await inner


async def inner_scope_leaks(params: FunctionCallParams):
    """Leave a scope of anyio that was cancelled, as a broken MCP client does."""
    leaked: BaseException | None = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except asyncio.CancelledError as error:
            leaked = error
    assert leaked is not None
    raise leaked


async def cancels_its_own_task(params: FunctionCallParams):
    """Cancel the task that runs the function."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def raises_cancelled(params: FunctionCallParams):
    """Raise what a cancellation raises."""
    raise asyncio.CancelledError


async def raises_a_group(params: FunctionCallParams):
    """Raise a group of errors that are no `Exception`s."""
    raise BaseExceptionGroup("unhandled", [asyncio.CancelledError(), ValueError("x")])


class Odd(BaseException):
    """Nothing that anybody catches."""


async def raises_a_base_exception(params: FunctionCallParams):
    """Raise what is no `Exception`."""
    raise Odd


ENDINGS: list[Handler] = [
    inner_task_cancelled,
    inner_scope_leaks,
    cancels_its_own_task,
    raises_cancelled,
    raises_a_group,
    raises_a_base_exception,
]


@shapes
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_function_that_ends_in_no_ordinary_way_is_answered(shape: Shape, ending: Handler):
    async with (
        emulator(script(ToolCall(ending.__name__, {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, ending)) as talk,
    ):
        await answered(talk, hydra, "failed")


@shapes
async def test_of_parallel_calls_one_may_fail(shape: Shape):
    async def slow(params: FunctionCallParams):
        """Give an answer after a while."""
        await asyncio.sleep(0.5)
        await params.result_callback("slow")

    calls = [ToolCall("raises_a_group", {}, "call_1"), ToolCall("slow", {}, "call_2")]
    async with (
        emulator(script(*calls)) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, raises_a_group, slow)) as talk,
    ):
        await answered(talk, hydra, "failed", '"slow"')


@shapes
async def test_a_function_that_calls_back_twice_is_answered_once(shape: Shape):
    async def eager(params: FunctionCallParams):
        """Give two answers."""
        await params.result_callback("first")
        await params.result_callback("second")

    async with (
        emulator(script(ToolCall("eager", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, eager)) as talk,
    ):
        await answered(talk, hydra, '"first"')
        assert messages(hydra) == []


#
# No result
#


async def forgets(params: FunctionCallParams, a: int = 0):
    """Do something, and give no result."""


@shapes
async def test_a_function_that_returns_without_a_result_is_warned_of_and_answered(
    shape: Shape, warnings: list[str]
):
    async with (
        emulator(script(ToolCall("forgets", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, forgets)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await talk.until(lambda: [w for w in warnings if "'forgets' has returned" in w], within=0.1)
        began = time.monotonic()
        await talk.until(lambda: outputs(hydra))
        assert 4.0 < time.monotonic() - began < 6.0
        ((_, output),) = outputs(hydra)
        assert "no result" in output
        await talk.until(lambda: requests(hydra) == 1)
        await in_context(talk, "no result")
    assert sum("'forgets' has returned" in warning for warning in warnings) == 1


@shapes
@pytest.mark.parametrize("late", [False, True])
async def test_a_result_that_comes_after_the_function_has_returned_is_told(
    shape: Shape, late: bool
):
    async def hands_on(params: FunctionCallParams):
        """Let somebody else give the result."""
        loop = asyncio.get_running_loop()
        loop.call_later(1.5 if late else 0.4, lambda: tasks.append(loop.create_task(give(params))))

    async def give(params: FunctionCallParams):
        await params.result_callback("here it is")

    tasks: list[asyncio.Task[None]] = []
    async with (
        emulator(script(ToolCall("hands_on", {}, "call_1"))) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            no_result_timeout_secs=0.8,
            **tools(shape, hands_on),
        ) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: outputs(hydra))
        if late:
            assert "no result" in outputs(hydra)[0][1]
            await talk.until(lambda: messages(hydra))
            assert "here it is" in messages(hydra)[0]
            await talk.until(lambda: requests(hydra) == 2)
        else:
            assert "here it is" in outputs(hydra)[0][1]
        await talk.until(lambda: nothing_in_progress(talk.context))
        assert len(outputs(hydra)) == 1
        assert not session(hydra).errors


@shapes
async def test_without_a_limit_a_function_that_gave_no_result_waits_for_the_next_turn(shape: Shape):
    turns = Script([[ToolCall("forgets", {}, "call_1"), Say.tones()], [Say.tones()]])
    async with (
        emulator(turns, tool_timeout_secs=60.0) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            no_result_timeout_secs=None,
            **tools(shape, forgets),
        ) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await asyncio.sleep(20)
        assert outputs(hydra) == []
        await talk.say("hello")
        await talk.until(lambda: outputs(hydra))
        assert "cancelled" in outputs(hydra)[0][1]
        assert requests(hydra) == 0
        await talk.until_pushed(TTSAudioRawFrame)
        await in_context(talk, "CANCELLED")


@shapes
@pytest.mark.parametrize("when", ["in time", "after the turn", "never"])
async def test_a_client_may_give_the_result_as_rtvi_clients_do(shape: Shape, when: str):
    cancelled: list[str] = []
    turns = Script([[ToolCall("forgets", {"a": 1}, "call_1"), Say.tones()], [Say.tones()]])
    result = FunctionCallResultFrame("forgets", "call_1", {"a": 1}, {"confirmed": True})
    async with (
        emulator(turns, tool_timeout_secs=60.0) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            no_result_timeout_secs=None,
            **tools(shape, forgets),
        ) as talk,
    ):

        @talk.llm.event_handler("on_function_calls_cancelled")
        async def on_cancelled(service: Any, calls: list[Any]):
            cancelled.extend(one.tool_call_id for one in calls)

        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await asyncio.sleep(8)
        if when == "in time":
            await talk.worker.queue_frame(result)
            await talk.until(lambda: outputs(hydra))
            assert outputs(hydra) == [("call_1", '{"confirmed": true}')]
            await talk.until(lambda: requests(hydra) == 1)
            await in_context(talk, '{"confirmed": true}')
            return
        await talk.say("hello")
        await talk.until(lambda: outputs(hydra))
        assert "cancelled" in outputs(hydra)[0][1]
        await talk.until_pushed(FunctionCallCancelFrame)
        assert cancelled == ["call_1"]
        await in_context(talk, "CANCELLED")
        await talk.until_quiet()
        if when == "after the turn":
            await talk.worker.queue_frame(result)
            await talk.until(lambda: messages(hydra))
            assert "confirmed" in messages(hydra)[0]
            await talk.until(lambda: requests(hydra) == 1)
        assert len(outputs(hydra)) == 1
        assert not session(hydra).errors


@shapes
async def test_an_open_call_does_not_block_what_comes_after_a_later_turn(shape: Shape):
    release = asyncio.Event()

    async def patient(params: FunctionCallParams):
        """Wait for a sign."""
        await release.wait()
        await params.result_callback("here at last")

    turns = Script([[ToolCall("patient", {}, "call_1"), Say.tones()], [Say.tones()]])
    async with (
        emulator(turns, tool_timeout_secs=60.0) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            # Nobody interrupts, so nothing cancels the function.
            turn_frames="propose",
            strategies=ExternalUserTurnStrategies(enable_interruptions=False),
            **tools(shape, patient),
        ) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(FunctionCallsStartedFrame)
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.until_quiet()
        assert outputs(hydra) == []
        await talk.llm.send_text("Are you there?")
        await talk.until(lambda: requests(hydra) == 1, within=1.0)
        release.set()
        await talk.until(lambda: outputs(hydra))
        await talk.until(lambda: requests(hydra) == 2)


#
# What the model may send
#


async def echoes(params: FunctionCallParams, city: str = "", n: int = 0):
    """Give the arguments back."""
    await params.result_callback(dict(params.arguments))


@shapes
@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("items", [True, False])
async def test_arguments_may_come_as_an_object(shape: Shape, repeated: bool, items: bool):
    async with (
        emulator(
            script(ToolCall("echoes", {"city": "Paris"}, "call_1")),
            arguments_as_object=True,
            arguments_done_has_arguments=repeated,
            call_items=items,
        ) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, echoes)) as talk,
    ):
        await answered(talk, hydra, '{"city": "Paris"}')


@shapes
async def test_a_call_may_have_the_id_of_an_earlier_one(shape: Shape):
    turns = Script(
        [
            [ToolCall("echoes", {"n": 1}, "call_1"), Say.tones()],
            [ToolCall("echoes", {"n": 2}, "call_1"), Say.tones()],
        ]
    )
    async with (
        emulator(turns) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, echoes)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: requests(hydra) == 1)
        await talk.until_quiet()
        await talk.say("hello")
        await talk.until(lambda: requests(hydra) == 2)
        assert outputs(hydra) == [("call_1", '{"n": 1}'), ("call_1", '{"n": 2}')]
        assert [len(n.outputs) for n in session(hydra).narrations] == [1, 1]
        assert not session(hydra).errors
        await in_context(talk, '{"n": 1}', '{"n": 2}')


@shapes
async def test_the_result_of_an_earlier_call_of_that_id_is_no_answer_to_the_later(shape: Shape):
    @tool_options(cancel_on_interruption=False)
    async def later(params: FunctionCallParams, n: int):
        """Give the arguments back after a while, the first ones last."""
        await asyncio.sleep(12.0 if n == 1 else 2.0)
        await params.result_callback(dict(params.arguments))

    turns = Script(
        [
            [ToolCall("later", {"n": 1}, "call_1"), Say.tones()],
            [ToolCall("later", {"n": 2}, "call_1"), Say.tones()],
        ]
    )
    async with (
        emulator(turns) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, later)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: requests(hydra) == 1)
        await talk.until_quiet()
        await talk.say("hello")
        await talk.until(lambda: len(messages(hydra)) == 2, within=20.0)
        assert [call_id for call_id, _ in outputs(hydra)] == ["call_1", "call_1"]
        assert '{"n": 2}' in messages(hydra)[0]
        assert '{"n": 1}' in messages(hydra)[1]
        assert not session(hydra).errors
        await talk.until(lambda: nothing_in_progress(talk.context))


#
# Sessions that come and go
#


def told(hydra: HydraEmulator, number: int) -> list[str]:
    """What one session was told by items: the text of messages, the ids of calls answered."""
    items = [r.event["item"] for r in hydra.sessions[number].received_of(ITEM)]
    return [i["content"][0]["text"] if i["type"] == "message" else i["call_id"] for i in items]


ITEM = "conversation.item.create"


@shapes
@pytest.mark.parametrize("result", [True, False])
async def test_after_a_reconnect_what_came_of_a_call_is_told_as_text(shape: Shape, result: bool):
    async def slow(params: FunctionCallParams):
        """Take a while, and give a result or not."""
        await asyncio.sleep(2)
        if result:
            await params.result_callback("late news")

    turns = script(ToolCall("slow", {}, "call_1"))
    drop = Drop("reset", sent=1, of="response.done", times=1)
    async with (
        HydraEmulator(turns, faults=[drop]) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            retry=RetryPolicy(first_delay_secs=0.05),
            no_result_timeout_secs=0.5,
            **tools(shape, slow),
        ) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: len(hydra.sessions) == 2 and told(hydra, 1))
        assert told(hydra, 0) == []
        (text,) = told(hydra, 1)
        assert ("late news" if result else "no result") in text
        # Asked about that, the model begins its script anew.
        await in_context(talk, *["late news" if result else "no result"] * 2)
        assert not hydra.sessions[1].errors


@shapes
async def test_the_result_of_a_lost_session_answers_no_call_of_that_id(shape: Shape):
    async def slow(params: FunctionCallParams, n: int = 0):
        """Give a result, the first time late."""
        made.append(params.tool_call_id)
        await asyncio.sleep(5.0 if len(made) == 1 else 8.0)
        await params.result_callback(f"result {len(made)}")

    made: list[str] = []
    turns = script(ToolCall("slow", {}, "call_1"))
    drop = Drop("reset", sent=1, of="response.done", times=1)
    async with (
        HydraEmulator(turns, faults=[drop]) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            retry=RetryPolicy(first_delay_secs=0.05),
            # Nobody interrupts, so nothing cancels the first call.
            turn_frames="propose",
            strategies=ExternalUserTurnStrategies(enable_interruptions=False),
            **tools(shape, slow),
        ) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: len(hydra.sessions) == 2)
        await talk.say("hello")
        await talk.until(lambda: len(told(hydra, 1)) == 2)
        assert made == ["call_1", "call_1_2"]
        late, answer = told(hydra, 1)
        assert "called before" in late
        assert answer == "call_1"
        assert not hydra.sessions[1].errors


@shapes
async def test_a_function_that_outlives_the_call_is_answered_no_more(
    shape: Shape, warnings: list[str]
):
    given: list[FunctionCallParams] = []

    @tool_options(cancel_on_interruption=False)
    async def outlives(params: FunctionCallParams):
        """Work for an hour."""
        given.append(params)
        await asyncio.sleep(3_600)

    async with (
        emulator(script(ToolCall("outlives", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, outlives)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.until_quiet()
        await talk.worker.queue_frame(EndFrame())
        await talk.ended(within=30)
        (params,) = given
        await params.result_callback("too late")
        assert len(outputs(hydra)) == 1
        assert messages(hydra) == []
    assert not [warning for warning in warnings if "outlives" in warning and "failed" in warning]


@shapes
async def test_calls_that_run_one_after_the_other_are_all_answered(shape: Shape):
    calls = [ToolCall("inner_task_cancelled"), ToolCall("forgets"), ToolCall("echoes", {"n": 3})]
    async with (
        emulator(script(*calls)) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            run_in_parallel=False,
            no_result_timeout_secs=0.5,
            **tools(shape, inner_task_cancelled, forgets, echoes),
        ) as talk,
    ):
        await answered(talk, hydra, "failed", "no result", '{"n": 3}')


#
# What a function may do meanwhile
#


@shapes
@pytest.mark.parametrize("how", ["wait_for", "task", "gather"])
async def test_a_function_that_stops_the_bot_in_another_task_runs_on(shape: Shape, how: str):
    async def hush(params: FunctionCallParams):
        """Stop the bot, then take a while."""
        llm = params.llm
        assert isinstance(llm, HydraLLMService)
        if how == "wait_for":
            # Which makes a task of it on Python 3.11.
            await asyncio.wait_for(llm.cancel_response(), 5)
        elif how == "task":
            await asyncio.create_task(llm.cancel_response())
        else:
            await asyncio.gather(llm.cancel_response(), asyncio.sleep(0.1))
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
@pytest.mark.parametrize("secs", [0.4, 0.8])
async def test_a_function_that_blocks_the_event_loop_is_named(
    shape: Shape, secs: float, warnings: list[str]
):
    async def blocks(params: FunctionCallParams):
        """Block, twice."""
        await asyncio.sleep(0)
        for _ in range(2):
            time.sleep(secs)  # noqa: ASYNC251
            await asyncio.sleep(0.05)
        await params.result_callback("blocked")

    async def waits(params: FunctionCallParams):
        """Wait meanwhile."""
        await asyncio.sleep(2)
        await params.result_callback("waited")

    calls = [ToolCall("blocks", {}), ToolCall("waits", {})]
    async with (
        emulator(script(*calls)) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, blocks, waits)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: len(outputs(hydra)) == 2)
    told = [warning for warning in warnings if "blocked the event loop" in warning]
    assert len(told) == (secs > 0.5)
    assert all("'blocks'" in warning and "0.8 s" in warning for warning in told)
