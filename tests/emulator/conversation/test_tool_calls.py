"""Tool calls that wait: batches, outputs, narrations in part, and the time limit."""

import asyncio

import pytest

from pipecat_hydra.emulator import EmulatedSession, ToolOutput
from pipecat_hydra.emulator.conversation.tool_calls import ToolCalls
from pipecat_hydra.emulator.wire.events import ProtocolError


class Calls:
    def __init__(self) -> None:
        self.record = EmulatedSession("sess_1", "hydra-v1.1")
        self.timed_out: list[str] = []
        self.calls = ToolCalls(self.record, timeout_secs=5, on_timeout=self.timed_out.append)

    def called(self, response: str, *call_ids: str) -> None:
        for call_id in call_ids:
            self.calls.called(response, call_id, "look", "{}")

    def answered(self, *call_ids: str) -> None:
        for call_id in call_ids:
            self.calls.answer(call_id, f"of {call_id}")

    def taken(self) -> tuple[list[str], list[str]] | None:
        """Ids of the outputs that are narrated, and of those that are missing."""
        taken = self.calls.take()
        return taken and ([output.call_id for output in taken.outputs], list(taken.missing))


async def test_outputs_are_taken_in_the_order_of_the_calls() -> None:
    it = Calls()
    it.called("resp_1", "a", "b")
    it.answered("b", "a")
    assert not it.calls.waits("resp_1")
    taken = it.calls.take()
    assert taken is not None
    assert taken.outputs == (ToolOutput("a", "look", "of a"), ToolOutput("b", "look", "of b"))
    assert not it.calls.pending
    assert it.calls.take() is None


async def test_a_whole_batch_goes_before_an_older_one_in_part() -> None:
    it = Calls()
    it.called("resp_1", "a", "b")
    it.called("resp_2", "c")
    it.answered("a", "c")
    assert it.taken() == (["c"], [])
    assert it.taken() == (["a"], ["b"])
    assert it.taken() is None
    assert it.calls.pending
    it.answered("b")
    assert it.taken() == (["b"], [])
    it.calls.close()


@pytest.mark.parametrize(
    ("call_id", "problem"),
    [("a", "was answered already"), ("none", "was not made in this session")],
)
async def test_an_output_that_no_call_waits_for(call_id: str, problem: str) -> None:
    it = Calls()
    it.called("resp_1", "a")
    it.answered("a")
    with pytest.raises(ProtocolError, match=problem):
        it.answered(call_id)
    assert it.record.call("a").output == "of a"
    it.calls.close()


async def test_a_batch_is_given_up_after_its_last_call() -> None:
    it = Calls()
    it.called("resp_1", "a")
    await asyncio.sleep(4)
    it.called("resp_1", "b")
    await asyncio.sleep(4)
    assert not it.timed_out
    await asyncio.sleep(2)
    assert it.timed_out == ["resp_1"]
    assert it.record.call("a").abandoned
    with pytest.raises(ProtocolError, match="was given up"):
        it.answered("a")
    assert not it.calls.pending


async def test_the_rest_of_a_batch_has_the_whole_time_again() -> None:
    it = Calls()
    it.called("resp_1", "a", "b")
    await asyncio.sleep(4)
    it.answered("a")
    assert it.taken() == (["a"], ["b"])
    await asyncio.sleep(4)
    assert not it.timed_out
    await asyncio.sleep(2)
    assert it.timed_out == ["resp_1"]


async def test_nothing_times_out_once_it_is_closed() -> None:
    it = Calls()
    it.called("resp_1", "a")
    it.calls.close()
    await asyncio.sleep(6)
    assert not it.timed_out
