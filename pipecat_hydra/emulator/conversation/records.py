"""The record of a session: all that passed, for a test to look at or to wait for."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pipecat_hydra.emulator.conversation.ledger import (
    CallRecord,
    FaultRecord,
    HistoryEntry,
    MessageRecord,
    NarrationRecord,
    OutputRecord,
)
from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.wire.client_events import Message
from pipecat_hydra.emulator.wire.events import Event

Direction = Literal["received", "sent"]


@dataclass(frozen=True, slots=True)
class Record:
    """One event that went over the wire.

    Parameters:
        time: Seconds since the session's socket opened.
        event: The decoded event, without its audio.
        audio_bytes: Length of its decoded audio in bytes; 0 if it has none.
    """

    time: float
    event: Event
    audio_bytes: int = 0

    @property
    def type(self) -> str:
        """Type of the event; empty for a frame that was no event."""
        kind = self.event.get("type")
        return kind if isinstance(kind, str) else ""


class EmulatedSession:
    """One session that a `HydraEmulator` served: its configuration, its events, its conversation.

    Tests and the command line read the attributes; only the emulator writes them. There is one
    attribute for each thing that a test may ask about, which is why there are so many.
    """

    def __init__(self, session_id: str, model: str, *, record: bool = True) -> None:
        self.id = session_id
        """`session_id` on the wire."""
        self.model = model
        """The model that the URL asked for."""
        self.configuration: Event | None = None
        """`session` of the first valid `session.configure`, unknown fields included."""
        self.configuration_bytes = 0
        """Encoded size of that event in bytes."""
        self.unknown_fields: tuple[str, ...] = ()
        """Unknown fields of `session.configure`, which the server ignored."""
        self.configured = False
        """Whether `session.configured` was sent."""
        self.tools: list[Event] = []
        """The tools in force: those of `session.configure` or of the last `session.update`."""
        self.output_sample_rate = 0
        """Rate of reply audio in Hz; 0 before `session.configure`."""
        self.received: list[Record] = []
        """Every event that came from the client, in order."""
        self.sent: list[Record] = []
        """Every event that went to the client, in order, as faults changed it."""
        self.early_audio_events = 0
        """Number of appends that came before `session.configured`; a correct client sends none."""
        self.calls: list[CallRecord] = []
        """Every function call that the model made, with the outputs for it."""
        self.stray_outputs: list[OutputRecord] = []
        """Outputs for calls that were never made; a correct client sends none."""
        self.narrations: list[NarrationRecord] = []
        """Every narration of tool outputs."""
        self.messages: list[MessageRecord] = []
        """Every `message` item that came, whether or not the model honours it."""
        self.history: list[HistoryEntry] = []
        """What the model knows of the conversation, in order; discarded turns are not in it."""
        self.injected: list[FaultRecord] = []
        """Every fault that happened, in order; those that apply from the start come first."""
        self.close_code: int | None = None
        """WebSocket close code; `None` while open, 1006 if the connection was lost."""
        self._record = record
        self._started = time.monotonic()
        self._received_audio = bytearray()
        self._sent_audio: dict[str, bytearray] = {}
        self._waiters: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<EmulatedSession {self.id} model={self.model} close_code={self.close_code}>"

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self.close_code is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the session's socket opened."""
        return time.monotonic() - self._started

    @property
    def errors(self) -> list[Event]:
        """The `error` objects that were sent, in order."""
        return [record.event["error"] for record in self.sent_of("error")]

    def injected_of(self, kind: str) -> list[FaultRecord]:
        """Return the records of one kind of fault."""
        return [record for record in self.injected if record.kind == kind]

    def received_of(self, kind: str) -> list[Record]:
        """Return the records of the events of one type that came from the client."""
        return [record for record in self.received if record.type == kind]

    def sent_of(self, kind: str) -> list[Record]:
        """Return the records of the events of one type that went to the client."""
        return [record for record in self.sent if record.type == kind]

    @property
    def create_times(self) -> list[float]:
        """When each `response.create` came, refused ones included."""
        return [record.time for record in self.received_of("response.create")]

    def call(self, call_id: str) -> CallRecord:
        """Return the last call with an id.

        Raises:
            KeyError: There was no such call.
        """
        call = self._find_call(call_id)
        if call is None:
            raise KeyError(call_id)
        return call

    @property
    def received_audio(self) -> bytes:
        """User audio that came after `session.configured`: mono PCM16 LE at 16 kHz."""
        return bytes(self._received_audio)

    def sent_audio(self, response_id: str | None = None) -> bytes:
        """Return the reply audio that was sent: of one response, or of all in order."""
        if response_id is not None:
            return bytes(self._sent_audio.get(response_id, b""))
        return b"".join(self._sent_audio.values())

    async def wait_for_received(
        self, kind: str, *, count: int = 1, within: float = 5.0
    ) -> list[Record]:
        """Wait until the client has sent `count` events of a type, and return all of the type.

        Raises:
            TimeoutError: They did not come in `within` seconds.
        """
        return await self._wait_for("received", kind, count, within)

    async def wait_for_sent(
        self, kind: str, *, count: int = 1, within: float = 5.0
    ) -> list[Record]:
        """Wait until `count` events of a type went to the client, and return all of the type.

        Raises:
            TimeoutError: They were not sent in `within` seconds.
        """
        return await self._wait_for("sent", kind, count, within)

    async def wait_closed(self, *, within: float = 5.0) -> int:
        """Wait until the socket is closed, and return the close code.

        Raises:
            TimeoutError: The socket was not closed in `within` seconds.
        """
        await self.wait_until(lambda: self.closed, within=within, what="the close")
        assert self.close_code is not None
        return self.close_code

    async def wait_until(
        self, condition: Callable[[], bool], *, within: float = 5.0, what: str = "the condition"
    ) -> None:
        """Wait until a condition on this session is true.

        The condition is evaluated at once, and again whenever something is recorded.

        Args:
            condition: The condition.
            within: Time limit in seconds.
            what: Names the condition in the error message.

        Raises:
            TimeoutError: The condition was not true in `within` seconds. The message counts the
                events that had passed.
        """
        try:
            async with asyncio.timeout(within):
                while not condition():
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            raise TimeoutError(
                f"{what} did not come within {within} s; received "
                f"{self._counts(self.received)}, sent {self._counts(self.sent)}"
            ) from None

    async def _wait_for(
        self, direction: Direction, kind: str, count: int, within: float
    ) -> list[Record]:
        records = self.received_of if direction == "received" else self.sent_of
        await self.wait_until(
            lambda: len(records(kind)) >= count, within=within, what=f"{count} x {kind}"
        )
        return records(kind)

    @staticmethod
    def _counts(records: list[Record]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for record in records:
            counts[record.type] = counts.get(record.type, 0) + 1
        return counts

    # The rest is called by the emulator alone.

    def note(
        self, direction: Direction, event: Event, *, audio_bytes: int = 0, audio: bytes = b""
    ) -> Record:
        """Record an event; `audio` is the audio of a sent delta."""
        record = Record(self.elapsed, event, audio_bytes or len(audio))
        if self._record:
            (self.received if direction == "received" else self.sent).append(record)
            if audio:
                response_id: Any = event.get("response_id")
                self._sent_audio.setdefault(response_id, bytearray()).extend(audio)
        self.wake()
        return record

    def note_audio(self, pcm: bytes) -> None:
        """Record user audio."""
        if self._record:
            self._received_audio += pcm

    def note_call(self, call: CallRecord) -> None:
        """Record a call that the model made."""
        if self._record:
            self.calls.append(call)
        self.note_history("assistant", "call", f"{call.name} {call.arguments}")

    def note_output(self, call_id: str, output: str, *, accepted: bool) -> None:
        """Record an output that came for a call."""
        if self._record:
            call = self._find_call(call_id)
            outputs = self.stray_outputs if call is None else call.outputs
            outputs.append(OutputRecord(self.elapsed, call_id, output, accepted))
        if accepted:
            self.note_history("tool", "output", output)

    def note_abandoned(self, call_id: str) -> None:
        """Record that a call was given up."""
        call = self._find_call(call_id)
        if call is not None:
            call.abandoned = True

    def note_narration(self, narration: NarrationRecord) -> None:
        """Record a narration."""
        if self._record:
            self.narrations.append(narration)
        self.wake()

    def note_message(self, item: Message, *, honoured: bool) -> None:
        """Record a message item; the model knows it only if it is honoured."""
        if self._record:
            self.messages.append(MessageRecord(self.elapsed, item.role, item.text))
        if honoured:
            self.note_history(item.role, "text", item.text)

    def note_history(
        self,
        role: Literal["user", "assistant", "system", "tool"],
        kind: Literal["speech", "text", "call", "output"],
        text: str = "",
    ) -> None:
        """Record an entry of the conversation that the model knows."""
        if self._record:
            self.history.append(HistoryEntry(self.elapsed, role, kind, text))
        self.wake()

    def note_fault(self, connection: int, fault: Fault, detail: str) -> FaultRecord:
        """Record a fault that happened."""
        record = FaultRecord(self.elapsed, connection, fault, detail)
        if self._record:
            self.injected.append(record)
        self.wake()
        return record

    def _find_call(self, call_id: str) -> CallRecord | None:
        return next((call for call in reversed(self.calls) if call.call_id == call_id), None)

    def wake(self) -> None:
        """Let all `wait_until` evaluate their conditions again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
