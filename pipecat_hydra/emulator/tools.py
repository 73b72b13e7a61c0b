"""Tool calls that wait for an answer (§6)."""

from pipecat_hydra.emulator.responders import ToolOutput
from pipecat_hydra.emulator.wire import ProtocolError
from pipecat_hydra.protocol import ErrorCode


class ToolCalls:
    """The calls of one session that are open, and outputs that are not yet narrated."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}
        self._outputs: list[ToolOutput] = []

    @property
    def pending(self) -> bool:
        """Whether a call is open, or an output waits for `response.create`."""
        return bool(self._open or self._outputs)

    @property
    def answered(self) -> bool:
        """Whether an output waits for `response.create`."""
        return bool(self._outputs)

    def called(self, call_id: str, name: str) -> None:
        """A tool was called."""
        self._open[call_id] = name

    def answer(self, call_id: str, output: str) -> None:
        """Take the output of a call.

        Raises:
            ProtocolError: No call of that id waits for an answer: it was never made in this
                session, was answered already, or was given up.
        """
        name = self._open.pop(call_id, None)
        if name is None:
            raise ProtocolError(
                ErrorCode.INVALID_REQUEST,
                "no call with this call_id waits for an output",
                param="conversation.item.create.item.call_id",
            )
        self._outputs.append(ToolOutput(call_id, name, output))

    def take(self) -> list[ToolOutput]:
        """Take the outputs to narrate; calls that are open stay so."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def abandon(self) -> None:
        """Give up on all of them."""
        self._open.clear()
        self._outputs.clear()
