"""Answers function calls: turns Pipecat's frames about each call into what Hydra is told.

Pipecat reports each call by frames: a result, intermediate results, a cancellation.
Hydra takes exactly one answer for a call, as text, and an unanswered call stalls the
turn (protocol §6; F1, F3). So a call whose function runs on while the conversation goes on
(`cancel_on_interruption=False`) is answered with a placeholder, unless the function returns
its result within a moment. The result goes in as a message when it comes. So does a result that
comes after its call was answered without it, because the function had returned without one.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from loguru import logger
from pipecat.frames.frames import FunctionCallCancelFrame, FunctionCallResultFrame

from pipecat_hydra.service.results import result_text
from pipecat_hydra.wire.text import well_formed

__all__ = ["FunctionAnswers", "parse_arguments"]

LIMIT_BYTES: Final = 16_000
"""Results above this are not sent: above some 18 kB in all Hydra falls silent (protocol §2)."""

GRACE_SECS: Final = 0.3
"""How long the answer to a function that runs on waits for its result."""

RUNNING: Final = json.dumps(
    {"status": "running", "note": "Still at work. The result will be told to you later."}
)
CANCELLED: Final = "The function was cancelled before it gave a result."
TIMED_OUT: Final = "The function took too long and was stopped. It gave no result."
BAD_ARGUMENTS: Final = "The arguments are not a JSON object. Call the function again with one."
TOO_MANY_ROUNDS: Final = (
    "Not called: too many function calls in a row with nothing said. Tell the user now what you "
    "know so far, and call no function."
)

_REMEMBERED_CALLS: Final = 256


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Read the arguments of a call.

    Args:
        text: The text that the model wrote; an empty text means no arguments.

    Returns:
        The arguments, or None if the text is not a JSON object.
    """
    try:
        arguments = json.loads(text or "{}")
        if "\\u" in text:
            # Half a surrogate pair, which an escape may name, breaks whatever writes it as UTF-8.
            arguments = json.loads(well_formed(json.dumps(arguments, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None


class FunctionAnswers:
    """Answers each call once, and sends later results as messages."""

    def __init__(
        self,
        name: str,
        *,
        answer: Callable[[str, str, bool, bool], None],
        tell: Callable[[str, bool], None],
    ):
        """Start with no call.

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
        # Calls that run on, each with the timer of its placeholder; None once that was sent.
        self._running: dict[str, asyncio.TimerHandle | None] = {}
        # Calls that were answered without a result that may yet come.
        self._without_result: deque[str] = deque(maxlen=_REMEMBERED_CALLS)

    def begin_running(self, call_id: str) -> None:
        """Answer a call with a placeholder soon: its function runs on with the conversation."""
        timer = asyncio.get_running_loop().call_later(GRACE_SECS, self._hold_off, call_id)
        self._running[call_id] = timer

    def close(self) -> None:
        """Stop answering calls."""
        for timer in self._running.values():
            if timer is not None:
                timer.cancel()
        self._running.clear()

    def _hold_off(self, call_id: str) -> None:
        """Answer a call that runs on with the placeholder, once."""
        timer = self._running.get(call_id)
        if timer is not None:
            timer.cancel()
            self._running[call_id] = None
            self._answer(call_id, RUNNING, True, False)

    def refuse_arguments(self, call_id: str, function: str) -> None:
        """Answer a call whose arguments are not a JSON object; its function is not run."""
        logger.warning(f"{self._name}: the arguments of {function!r} are no JSON object")
        self._answer(call_id, BAD_ARGUMENTS, True, False)

    def refuse_round(self, call_id: str, *, respond: bool) -> None:
        """Answer a call of a round that is one too many; its function is not run."""
        self._answer(call_id, TOO_MANY_ROUNDS, respond, False)

    def expect_late_result(self, call_id: str) -> None:
        """Take a result of a call that was answered without one for a message."""
        self._without_result.append(call_id)

    def on_result(self, frame: FunctionCallResultFrame) -> None:
        """Answer a call with its result, or send a later or intermediate result as a message."""
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
        """Tell Hydra that a call was cancelled by an interruption, its time limit or the model."""
        text = TIMED_OUT if frame.run_llm else CANCELLED
        if self._settle(frame.tool_call_id):
            self._answer(frame.tool_call_id, text, frame.run_llm, not frame.run_llm)
        else:
            self._tell(f"{frame.function_name}: {text}", frame.run_llm)

    def _settle(self, call_id: str) -> bool:
        """End a call. Return whether its answer is still to be sent."""
        if call_id in self._without_result:
            self._without_result.remove(call_id)
            return False
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
