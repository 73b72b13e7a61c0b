"""Keeps the tool calls that wait for an output or for their narration (§6).

The calls of one response are a batch. Each call accepts one output. Each `response.create` takes
one batch to be narrated: the oldest that has all its outputs. If no batch has all of them, it
takes the outputs that have come for the oldest batch with any. That narration is incomplete, which
is the client's fault.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from pipecat_hydra.emulator.conversation.ledger import CallRecord
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.model.responders import ToolOutput
from pipecat_hydra.emulator.wire.events import ProtocolError
from pipecat_hydra.wire.protocol import ErrorCode


@dataclass(frozen=True, slots=True)
class Taken:
    """The outputs that one `response.create` is to narrate.

    Times are seconds since the session's socket opened.

    Parameters:
        outputs: The outputs, in the order of the calls.
        missing: Ids of the calls of the batch that have no output yet.
        last_output_at: When the last output came.
        asked_at: When `response.create` came.
    """

    outputs: tuple[ToolOutput, ...]
    missing: tuple[str, ...]
    last_output_at: float
    asked_at: float


@dataclass(slots=True)
class _Batch:
    names: dict[str, str] = field(default_factory=dict[str, str])  # in the order of the calls
    outputs: dict[str, ToolOutput] = field(default_factory=dict[str, ToolOutput])
    last_output_at: float = 0.0
    timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> list[str]:
        return [call_id for call_id in self.names if call_id not in self.outputs]

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class ToolCalls:
    """The calls of one session that were not yet narrated.

    Args:
        record: Records calls and outputs.
        timeout_secs: Time limit in seconds, from the last call of a batch, for its outputs and
            `response.create`. After a batch was narrated in part, the limit starts anew.
        on_timeout: Called with the id of the response that made the calls when the limit is
            over.
    """

    def __init__(
        self, record: EmulatedSession, *, timeout_secs: float, on_timeout: Callable[[str], None]
    ) -> None:
        self._record = record
        self._timeout_secs = timeout_secs
        self._on_timeout = on_timeout
        self._batches: dict[str, _Batch] = {}  # by response, the oldest first
        self._over: dict[str, str] = {}  # why a call accepts no output, by call id

    @property
    def pending(self) -> bool:
        """Whether a call waits for its output, or an output for `response.create`."""
        return bool(self._batches)

    def waits(self, response_id: str) -> bool:
        """Return whether a call of a response waits for its output."""
        batch = self._batches.get(response_id)
        return batch is not None and bool(batch.open)

    def called(self, response_id: str, call_id: str, name: str, arguments: str) -> None:
        """Add a call; the time limit of its batch starts anew."""
        batch = self._batches.setdefault(response_id, _Batch())
        batch.names[call_id] = name
        self._record.note_call(
            CallRecord(self._record.elapsed, response_id, call_id, name, arguments)
        )
        self._watch(response_id, batch)

    def answer(self, call_id: str, output: str) -> None:
        """Accept the output of a call.

        Raises:
            ProtocolError: No call of that id waits for an output: it was never made in this
                session, has an output already, or was given up.
        """
        batch = next((b for b in self._batches.values() if call_id in b.open), None)
        self._record.note_output(call_id, output, accepted=batch is not None)
        if batch is None:
            problem = self._over.get(call_id, "was not made in this session")
            raise ProtocolError(
                ErrorCode.INVALID_REQUEST,
                f"call {call_id!r} {problem}",
                param="conversation.item.create.item.call_id",
            )
        batch.outputs[call_id] = ToolOutput(call_id, batch.names[call_id], output)
        batch.last_output_at = self._record.elapsed
        self._over[call_id] = "was answered already"

    def take(self) -> Taken | None:
        """Take the outputs that one `response.create` is to narrate; `None` if there are none."""
        answered = [item for item in self._batches.items() if item[1].outputs]
        if not answered:
            return None
        response_id, batch = next((item for item in answered if not item[1].open), answered[0])
        missing = batch.open
        outputs = tuple(batch.outputs[call_id] for call_id in batch.names if call_id not in missing)
        batch.names = {call_id: batch.names[call_id] for call_id in missing}
        batch.outputs = {}
        if missing:
            self._watch(response_id, batch)
        else:
            batch.stop_timer()
            del self._batches[response_id]
        return Taken(outputs, tuple(missing), batch.last_output_at, self._record.elapsed)

    def close(self) -> None:
        """Cancel all timers."""
        for batch in self._batches.values():
            batch.stop_timer()

    def _watch(self, response_id: str, batch: _Batch) -> None:
        batch.stop_timer()
        loop = asyncio.get_running_loop()
        batch.timer = loop.call_later(self._timeout_secs, self._abandon, response_id, batch)

    def _abandon(self, response_id: str, batch: _Batch) -> None:
        self._batches.pop(response_id, None)
        for call_id in batch.names:
            self._over[call_id] = "was given up: its output or response.create came too late"
            self._record.note_abandoned(call_id)
        self._on_timeout(response_id)
