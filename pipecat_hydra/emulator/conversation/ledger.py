"""The rows of a session's record: calls, outputs, narrations, messages, history and faults.

All times are seconds since the session's socket opened.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.model.responders import ToolOutput

Role = Literal["user", "assistant", "system"]


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One `function_call_output` that came from the client.

    Parameters:
        time: When it came.
        call_id: Id of the call that it names.
        output: Text of the output.
        accepted: Whether the call waited for the output; if not, an error was sent.
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
        response_id: Id of the response that made the call; its calls are a batch.
        call_id: Id of the call.
        name: Name of the tool.
        arguments: The arguments, as sent.
        outputs: All outputs for the call, refused ones included; a correct client sends one.
        abandoned: Whether the server gave the call up (`tool_response_timeout`).
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
        """The output that was accepted; `None` if there is none."""
        return next((output.output for output in self.outputs if output.accepted), None)


@dataclass(frozen=True, slots=True)
class NarrationRecord:
    """One `response.create` that made the model narrate tool outputs.

    Parameters:
        asked_at: When `response.create` came.
        last_output_at: When the last of the outputs came.
        outputs: The outputs to narrate, in the order of the calls.
        missing: Ids of the calls of the same response that had no output yet. A correct client
            leaves none, because the narration would be incomplete (§6).
        response_id: Id of the narration; `None` if the model said nothing.
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
        role: The role of the message.
        text: The text of the message.
    """

    time: float
    role: Role
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of the conversation that the model knows.

    Parameters:
        time: When it ended.
        role: Who spoke, wrote or called.
        kind: `"speech"`, `"text"` of a message item, `"call"` of a tool or its `"output"`.
        text: The words, the call or the output. The user's speech has no text, because the
            emulator does not recognise words. The assistant's speech ends where it was cancelled.
    """

    time: float
    role: Role | Literal["tool"]
    kind: Literal["speech", "text", "call", "output"]
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault that happened.

    Parameters:
        time: When the fault happened; 0 for a connection that became no session.
        connection: Number of the connection, as the plan counts them.
        fault: The fault.
        detail: What the fault concerned: the type of an event, the names of fields.
    """

    time: float
    connection: int
    fault: Fault
    detail: str = ""

    @property
    def kind(self) -> str:
        """The kind of the fault, `Fault.kind`."""
        return self.fault.kind
