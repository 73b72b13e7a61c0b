"""The queue of effects for the pipeline, and the task that hands them on in order.

Effects come from synchronous steps and go to a coroutine function that may take its time. The
queue keeps the two from waiting for each other (S6). One supervised task hands
the effects on, one at a time, and then waits for what an effect makes the pipeline do, if the
function says so. If the task dies, the effect in hand is lost; the queue
starts another task for the effects behind it, and tells its owner, who ends the session
because the pipeline no longer knows all of it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from loguru import logger

from pipecat_hydra.conversation.effects import AudioChunk, PipelineEffect, TextChunk
from pipecat_hydra.session.supervision import Supervised, log_bug

__all__ = ["EffectQueue", "Pause"]

Pause = Callable[[], Awaitable[None]]
"""Awaited before the next effect is handed on."""

_DRAIN_TIMEOUT_SECS: Final = 1.0
_CROWD: Final = 256


class EffectQueue:
    """Hands effects on in order. After the first `put` you must `close` it."""

    def __init__(
        self,
        on_effect: Callable[[PipelineEffect], Awaitable[Pause | None]],
        *,
        on_death: Callable[[str], None],
    ):
        """Make an empty queue.

        Args:
            on_effect: Awaited with each effect, one at a time. Returns what must be waited
                for before the next effect, or None. An exception that it or the waiting
                raises is logged and ends nothing.
            on_death: Called with the cause when the task that hands on has died; another
                one takes its place.
        """
        self.on_effect = on_effect
        """Awaited with each effect."""
        self._on_death = on_death
        self._effects: deque[PipelineEffect] = deque()
        # What the task waits for while it has nothing to do.
        self._wake: asyncio.Future[None] | None = None
        self.is_crowded: bool = False
        """Whether so many effects wait that no more should be made."""
        self._is_drained = True
        self._drained = asyncio.Event()
        self._handing_on = asyncio.Lock()
        # How many wait to run between two effects.
        self._waiting_between = 0
        self._task: Supervised[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._effects)

    @property
    def is_drained(self) -> bool:
        """Whether all effects have been handed on."""
        return self._is_drained

    def put(self, effect: PipelineEffect) -> None:
        """Add an effect; it is handed on soon, unless the queue is closed."""
        if self._closed:
            return
        if self._task is None:
            # First, so that nothing is handed on before this returns, even if tasks start eagerly.
            self._start_task()
        self._effects.append(effect)
        self.is_crowded = len(self._effects) > _CROWD
        self._is_drained = False
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def discard_speech(self) -> None:
        """Drop the audio and the text of responses that wait in the queue."""
        kept = [e for e in self._effects if not isinstance(e, AudioChunk | TextChunk)]
        self._effects.clear()
        self._effects.extend(kept)

    async def drained(self) -> None:
        """Wait until all effects have been handed on."""
        while not self._is_drained:
            self._drained.clear()
            await self._drained.wait()

    @asynccontextmanager
    async def between(self) -> AsyncGenerator[None]:
        """Run the body while no effect is being handed on.

        Inside `on_effect` the body runs at once. It may run during a pause after an effect.
        """
        if self._task is not None and self._task.is_current:
            yield
            return
        self._waiting_between += 1
        try:
            await self._handing_on.acquire()
        finally:
            self._waiting_between -= 1
        try:
            yield
        finally:
            self._handing_on.release()

    async def close(self, *, drain: bool) -> None:
        """Stop handing on, for good. Idempotent.

        Args:
            drain: Whether to hand on first what waits, within a second.
        """
        if drain and self._task is not None:
            try:
                await asyncio.wait_for(self.drained(), _DRAIN_TIMEOUT_SECS)
            except TimeoutError:
                logger.debug("Hydra: the pipeline did not take all that it was told in time")
        self._closed = True
        if self._task is not None:
            self._task.stop()
            await self._task.wait()
        self._effects.clear()

    def _start_task(self) -> None:
        self._task = Supervised(self._work(), name="hydra-effects", on_end=self._ended)

    def _ended(self) -> None:
        task, self._task = self._task, None
        if task is None or task.death is None or self._closed:
            return
        self._on_death(task.death)
        if not self._is_drained:
            # No further `put` may follow to start a task for what waits.
            self._start_task()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._effects:
                pause = await self._hand_on()
                if pause is not None:
                    await self._wait(pause)
            self._is_drained, self.is_crowded = True, False
            self._drained.set()
            self._wake = loop.create_future()
            await self._wake

    async def _hand_on(self) -> Pause | None:
        """Hand on effects, until one says what must be waited for or somebody waits between two."""
        async with self._handing_on:
            while self._effects and not self._waiting_between:
                effect = self._effects.popleft()
                try:
                    pause = await self.on_effect(effect)
                except Exception as error:
                    # A frame that could not be pushed must not end the call.
                    log_bug(f"{type(effect).__name__} was not handled", error)
                else:
                    if pause is not None:
                        return pause
        return None

    async def _wait(self, pause: Pause) -> None:
        try:
            await pause()
        except Exception as error:
            log_bug("what an effect makes the pipeline do was not waited for", error)
