"""Counts the Python calls that a microphone frame costs, and a delta.

First the microphone alone for some seconds, then replies beside it, from which the microphone's
share is subtracted. `sys.setprofile` counts the calls of Python functions in all, those of
asyncio, and those of the service's own code. A coroutine that goes on after a wait counts as
called again. Unlike times, the counts hardly depend on the machine.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.call import Call
from benchmarks.server import DELTA_BYTES

__all__ = ["PythonCalls"]

_ASYNCIO = str(Path(asyncio.__file__).parent)
_HARNESS = str(Path(__file__).parent)


class PythonCalls:
    """Counts in a process with one session, in the scenario `deltas`."""

    def __init__(self, own_code: Path):
        """Prepare.

        Args:
            own_code: The folder of the service.
        """
        self._own_code = str(own_code)
        self._kinds: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    async def count(self, call: Call, secs: float) -> dict[str, float]:
        """Count the calls for a frame and for a delta.

        Args:
            call: The session; nobody speaks in the first seconds.
            secs: How long to count, without replies and with them.

        Returns:
            The calls of all, of asyncio and of the service's own, for `frame` and for `delta`.
        """
        alone, frames, _ = await self._counted(call, secs)
        call.probe.forget()
        await call.probe.heard.wait()
        both, frames_beside, deltas = await self._counted(call, secs)
        result: dict[str, float] = {}
        for kind in ("all", "asyncio", "own"):
            frame = alone[kind] / frames
            result[f"{kind} frame"] = frame
            result[f"{kind} delta"] = (both[kind] - frame * frames_beside) / deltas
        return result

    async def _counted(self, call: Call, secs: float) -> tuple[Counter[str], int, float]:
        """Count the calls of some seconds, and the frames and the deltas in them."""
        self._counts = Counter()
        frames, audio = call.microphone.frames, call.probe.audio_bytes
        with self._counting():
            await asyncio.sleep(secs)
        deltas = (call.probe.audio_bytes - audio) / DELTA_BYTES
        return self._counts, call.microphone.frames - frames, deltas

    @contextmanager
    def _counting(self) -> Iterator[None]:
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, arg: object) -> None:
        if event != "call":
            return
        path = frame.f_code.co_filename
        kind = self._kinds.get(path)
        if kind is None:
            kind = self._kinds[path] = self._kind(path)
        if kind != "harness":
            self._counts["all"] += 1
            self._counts[kind] += 1

    def _kind(self, path: str) -> str:
        if path.startswith(self._own_code):
            return "own"
        if path.startswith(_ASYNCIO):
            return "asyncio"
        return "harness" if path.startswith(_HARNESS) else "other"
