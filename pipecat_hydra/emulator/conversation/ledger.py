"""The rows that a session keeps: calls, narrations, texts, history, and faults that happened.

All times are seconds since the session's socket opened, as in `Record`.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipecat_hydra.emulator.faults.kinds import Fault
from pipecat_hydra.emulator.model.responders import ToolOutput

Role = Literal["user", "assistant", "system"]


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One `function_call_output` that came from the client.

    Parameters:
        time: When it came.
        call_id: The call that it names.
        output: Its text.
        accepted: Whether the call waited for it; else it was answered by an error.
    """

    time: float
    call_id: str
    output: str = field(repr=False)
    accepted: bool


@dataclass(slots=True)
class CallRecord:
    """One function call that the model made.

    Parameters:
        time: When the call was complete.
        response_id: The response that made it; the calls of one response are a batch.
        call_id: Its id.
        name: The tool.
        arguments: The arguments, as sent.
        outputs: Every output that named it, refused ones included: a right client sends one.
        abandoned: Whether the server gave it up (`tool_response_timeout`).
    """

    time: float
    response_id: str
    call_id: str
    name: str
    arguments: str = field(repr=False)
    outputs: list[OutputRecord] = field(default_factory=list[OutputRecord])
    abandoned: bool = False

    @property
    def output(self) -> str | None:
        """The output that was accepted, if any."""
        return next((output.output for output in self.outputs if output.accepted), None)


@dataclass(frozen=True, slots=True)
class NarrationRecord:
    """One time that the model was made to go on after tool calls.

    Parameters:
        asked_at: When `response.create` came.
        last_output_at: When the last of the outputs came.
        outputs: What there was to narrate, in the order of the calls.
        missing: Ids of the calls of the same response that had no output yet: a right
            client leaves none, for what is said then is half an answer (§6).
        response_id: The response; `None` when the model chose to say nothing.
    """

    asked_at: float
    last_output_at: float
    outputs: tuple[ToolOutput, ...]
    missing: tuple[str, ...]
    response_id: str | None

    @property
    def settle_secs(self) -> float:
        """Seconds from the last output to `response.create` (§6 asks for 0 to some 0.2)."""
        return self.asked_at - self.last_output_at


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """One `message` item that came from the client.

    Parameters:
        time: When it came.
        role: Whose words they are.
        text: The words.
    """

    time: float
    role: Role
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that the model knows to have happened.

    Parameters:
        time: When it was over.
        role: Who did it.
        kind: `"speech"`, `"text"` of a message item, `"call"` of a tool or its `"output"`.
        text: What was said, written, called or put out. The user's speech has none: the
            emulator knows no words. The assistant's is cut where it was cancelled.
    """

    time: float
    role: Role | Literal["tool"]
    kind: Literal["speech", "text", "call", "output"]
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault that happened.

    Parameters:
        time: When; 0 for a connection that became no session.
        connection: The number of the connection, as the plan counts them.
        fault: The fault.
        detail: What it concerned: the type of an event, the names of fields.
    """

    time: float
    connection: int
    fault: Fault
    detail: str = ""

    @property
    def kind(self) -> str:
        """Kind of the fault."""
        return self.fault.kind
