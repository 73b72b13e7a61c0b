"""What became of function calls, as Hydra is told it.

Pipecat reports each call by frames: a result, intermediate results, a cancellation.
Hydra takes exactly one answer for a call, as text, and an unanswered call stalls the
turn (protocol §6; F1, F3). So a function that runs on while the conversation goes on
(`cancel_on_interruption=False`) is answered with a placeholder, unless it gives its
result within a moment, and what it really gives goes in as a message when it comes.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

from loguru import logger
from pipecat.frames.frames import FunctionCallCancelFrame, FunctionCallResultFrame

__all__ = ["FunctionAnswers", "parse_arguments", "result_text"]

LIMIT_BYTES: Final = 16_000
"""Results above this are not sent: above some 18 kB in all Hydra falls silent (protocol §2)."""

GRACE_SECS: Final = 0.3
"""How long a function that runs on may take to give its result as the answer itself."""

RUNNING: Final = json.dumps(
    {"status": "running", "note": "Still at work. The result will be told to you later."}
)
CANCELLED: Final = "The function was cancelled before it gave a result."
TIMED_OUT: Final = "The function took too long and was stopped. It gave no result."
BAD_ARGUMENTS: Final = "The arguments are not a JSON object. Call the function again with one."


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Read the arguments of a call.

    Args:
        text: What the model wrote; nothing at all counts as no arguments.

    Returns:
        The arguments, or None if the text is no JSON object.
    """
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None


def result_text(result: Any) -> str:
    """Make text of what a handler returned.

    Args:
        result: Any JSON value, falsy ones included; None says only that it is done.
            What JSON does not know is written as `str` writes it.

    Returns:
        The text for the model.
    """
    if result is None:
        return "COMPLETED"
    try:
        return json.dumps(result, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, or a structure that holds itself.
        return str(result)


class FunctionAnswers:
    """Answers each call once, and tells later what comes later."""

    def __init__(
        self,
        name: str,
        *,
        answer: Callable[[str, str, bool, bool], None],
        tell: Callable[[str, bool], None],
    ):
        """Make one for a session of the pipeline.

        Args:
            name: The service, for warnings.
            answer: Sends the output of a call: its id, the text, whether the model
                shall speak about it, whether an interruption cancelled it. Only the
                first output of a call goes out.
            tell: Sends a message to the model: the text, whether it shall speak.
        """
        self._name = name
        self._answer = answer
        self._tell = tell
        # Calls that run on, and what will answer them for now, while it has not.
        self._running: dict[str, asyncio.TimerHandle | None] = {}

    def begin_running(self, call_id: str) -> None:
        """A call's function runs on while the conversation does: answer it for now, soon."""
        timer = asyncio.get_running_loop().call_later(GRACE_SECS, self._hold_off, call_id)
        self._running[call_id] = timer

    def close(self) -> None:
        """Answer nothing any more."""
        for timer in self._running.values():
            if timer is not None:
                timer.cancel()
        self._running.clear()

    def _hold_off(self, call_id: str) -> None:
        """Answer a call that runs on for now, once."""
        timer = self._running.get(call_id)
        if timer is not None:
            timer.cancel()
            self._running[call_id] = None
            self._answer(call_id, RUNNING, True, False)

    def refuse_arguments(self, call_id: str, function: str) -> None:
        """A call's arguments are no JSON object, so the function was not called."""
        logger.warning(f"{self._name}: the arguments of {function!r} are no JSON object")
        self._answer(call_id, BAD_ARGUMENTS, True, False)

    def on_result(self, frame: FunctionCallResultFrame) -> None:
        """A function gave a result, or an intermediate one."""
        properties = frame.properties
        respond = properties.run_llm if properties is not None else None
        if respond is None:
            respond = frame.run_llm
        text = self._limited(result_text(frame.result), frame.function_name)
        final = properties is None or properties.is_final
        if final and self._settle(frame.tool_call_id):
            self._answer(frame.tool_call_id, text, respond is not False, False)
            return
        if not final:
            if frame.tool_call_id not in self._running:
                return
            self._hold_off(frame.tool_call_id)
        kind = "result" if final else "intermediate result"
        self._tell(f"The {kind} of {frame.function_name} is: {text}", respond is not False)

    def on_cancel(self, frame: FunctionCallCancelFrame) -> None:
        """A call was cancelled: by an interruption, by its time limit, or by the model."""
        text = TIMED_OUT if frame.run_llm else CANCELLED
        if self._settle(frame.tool_call_id):
            self._answer(frame.tool_call_id, text, frame.run_llm, not frame.run_llm)
        else:
            self._tell(f"{frame.function_name}: {text}", frame.run_llm)

    def _settle(self, call_id: str) -> bool:
        """A call has come to its end. Returns whether its answer is still due."""
        if call_id not in self._running:
            return True
        timer = self._running.pop(call_id)
        if timer is None:
            return False
        timer.cancel()
        return True

    def _limited(self, text: str, function: str) -> str:
        size = len(text.encode(errors="replace"))
        if size <= LIMIT_BYTES:
            return text
        logger.warning(
            f"{self._name}: the result of {function!r} has {size} bytes; Hydra is told that it is "
            f"too large, since it falls silent when too much is said. Keep it under {LIMIT_BYTES}"
        )
        return f"The function gave a result of {size} bytes, which is too large for you to read."
