"""The logical session: a `Conversation`, driven over a WebSocket.

`HydraConnection` owns everything that runs: the task that connects and reads, the
timer that gives the conversation its deadlines, and the one task that hands the
effects on in order. Steps of the conversation are synchronous and may come from
anywhere in the event loop; what they send goes out at once, and what the pipeline
is told waits its turn, so neither ever waits for the other.

There is one WebSocket at a time. It is opened by `open`, and `open` may be called
again once it is gone: the conversation goes on, and user audio is kept meanwhile.
`replace` exchanges it for another, for what Hydra lets nobody change in a session.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from loguru import logger

from pipecat_hydra.conversation import Conversation, Phase
from pipecat_hydra.effects import (
    AudioChunk,
    Discard,
    Effect,
    Fail,
    FailureKind,
    Lost,
    PipelineEffect,
    Report,
    Send,
    Severity,
    TextChunk,
)
from pipecat_hydra.events import (
    ClientEvent,
    InputAudioAppend,
    SessionConfiguration,
    SessionConfigure,
    decode,
    encode,
)
from pipecat_hydra.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE
from pipecat_hydra.websocket import Endpoint, HydraConnectionError, HydraWebSocket

__all__ = ["HydraConnection"]

_MAX_WAITING_EFFECTS: Final = 256
_DRAIN_TIMEOUT_SECS: Final = 1.0


class HydraConnection:
    """Runs one conversation. After making one you must `close` it."""

    def __init__(
        self,
        endpoint: Endpoint,
        conversation: Conversation,
        *,
        on_effect: Callable[[PipelineEffect], Awaitable[None]],
        open_timeout_secs: float = 10.0,
    ):
        """Make a connection that is not open.

        Args:
            endpoint: Where to connect to; may be replaced through `endpoint`
                while not connected.
            conversation: What to run. From now on its steps must be performed by
                `perform`.
            on_effect: Awaited with each effect for the pipeline, one at a time, in
                order. What it raises is logged and ends nothing.
            open_timeout_secs: How long connecting may take, in seconds.
        """
        self.endpoint = endpoint
        self._conversation = conversation
        self._on_effect = on_effect
        self._open_timeout = open_timeout_secs
        self._socket: HydraWebSocket | None = None
        self._failure: Fail | None = None
        self._replacing = False
        self._closed = False
        self._runner: asyncio.Task[None] | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._effects: deque[PipelineEffect] = deque()
        self._effects_waiting = asyncio.Event()
        self._effects_done = asyncio.Event()
        self._effects_done.set()
        self._handing_on = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether a WebSocket is open, being opened or being replaced."""
        return self._replacing or (self._runner is not None and not self._runner.done())

    @property
    def now(self) -> float:
        """The conversation's time, in seconds."""
        return asyncio.get_running_loop().time()

    def open(self) -> None:
        """Begin to connect, in the background. Does nothing while that goes on, or once closed.

        How it ends is told by effects: `SessionStarted`, or `Lost`.
        """
        if self.is_open or self._closed:
            return
        if self._dispatcher is None:
            self._dispatcher = asyncio.create_task(self._dispatch(), name="hydra-effects")
        self._runner = asyncio.create_task(self._run(), name="hydra-connection")

    async def replace(self, endpoint: Endpoint, configuration: SessionConfiguration | None) -> None:
        """Exchange the session for another one, in the background once the old is closed.

        Args:
            endpoint: Where to connect to from now on.
            configuration: What the new session shall be; None if that is not known yet.
        """
        self._replacing = True
        try:
            await self._stop_runner()
        finally:
            self._replacing = False
        self.endpoint = endpoint
        if configuration is not None:
            self.perform(self._conversation.configure(configuration, self.now))
        self.open()

    async def close(self, *, drain: bool = True) -> None:
        """End the session for good. Idempotent; nothing is left running.

        Args:
            drain: Whether to end politely, and to hand on within a second what the
                pipeline has still to be told. If not, all ends at once.
        """
        self._closed = True
        if not drain and self._socket is not None:
            self._socket.abort()
        await self._stop_runner()
        dispatcher = self._dispatcher
        if dispatcher is not None:
            if drain and not dispatcher.done():
                try:
                    await asyncio.wait_for(self._effects_done.wait(), _DRAIN_TIMEOUT_SECS)
                except TimeoutError:
                    logger.debug("Hydra: the pipeline did not take all that it was told in time")
            dispatcher.cancel()
            await asyncio.wait({dispatcher})
            self._dispatcher = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._effects.clear()

    async def _stop_runner(self) -> None:
        """End the session; if we are cancelled meanwhile it ends all the same."""
        runner = self._runner
        if runner is None:
            return
        if not runner.cancelling():
            # A second time would cut short the closing of the socket.
            runner.cancel()
        await asyncio.wait({runner})
        if self._runner is runner:
            self._runner = None

    def perform(self, effects: Sequence[Effect]) -> None:
        """Do what a step of the conversation asked for, and mind its next deadline."""
        for effect in effects:
            match effect:
                case Send(event):
                    self._send(event)
                case Fail():
                    self._fail(effect)
                case Discard():
                    self._discard()
                case _:
                    self._tell(effect)
        self._mind_deadline()

    @asynccontextmanager
    async def between_effects(self) -> AsyncGenerator[None]:
        """Do something while no effect is being handed on.

        Within the handing on of an effect it is done at once: a processor in direct
        mode answers a frame before the pushing of it returns.
        """
        if asyncio.current_task() is self._dispatcher:
            yield
            return
        async with self._handing_on:
            yield

    def _tell(self, effect: PipelineEffect) -> None:
        self._effects.append(effect)
        self._effects_done.clear()
        self._effects_waiting.set()

    def _discard(self) -> None:
        kept = [e for e in self._effects if not isinstance(e, AudioChunk | TextChunk)]
        self._effects.clear()
        self._effects.extend(kept)

    def _send(self, event: ClientEvent) -> None:
        if self._socket is None:
            return
        try:
            message = encode(event)
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"{event.type} cannot be written as JSON: {error}"
            if isinstance(event, SessionConfigure):
                self._fail(Fail(FailureKind.CONFIGURATION, problem))
            else:
                self._tell(Report(Severity.ERROR, problem))
            return
        secs = 0.0
        if isinstance(event, InputAudioAppend):
            secs = len(event.audio) / (INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE)
        self._socket.send(message, audio_secs=secs)

    def _fail(self, failure: Fail) -> None:
        self._failure = failure
        if self._socket is not None:
            self._socket.abort()

    async def _run(self) -> None:
        """Connect, read until it ends, and say why it did."""
        try:
            self._tell(await self._serve())
        except Exception as error:
            # No call may end without a word.
            logger.error(f"Hydra: the session failed: {error!r}")
            message = f"the session with Hydra failed ({type(error).__name__})"
            self._tell(Lost(FailureKind.SERVER, message, configured=False))

    async def _serve(self) -> Lost:
        self._failure = None
        try:
            socket = self._socket = await HydraWebSocket.open(
                self.endpoint,
                timeout_secs=self._open_timeout,
                on_congested=self._report_congestion,
            )
        except HydraConnectionError as error:
            return Lost(error.kind, error.message, configured=False)
        configured = False
        try:
            self.perform(self._conversation.connected(self.now))
            async for message in socket.messages():
                self._take(message)
                if len(self._effects) > _MAX_WAITING_EFFECTS:
                    # A slow pipeline slows the reading, and that the server.
                    await self._effects_done.wait()
        finally:
            configured = self._conversation.phase is Phase.LIVE
            self._socket = None
            self.perform(self._conversation.disconnected(self.now, replaced=self._replacing))
            await socket.close()
        if self._failure is not None:
            return Lost(self._failure.kind, self._failure.message, configured)
        outcome = socket.outcome()
        return Lost(outcome.kind, outcome.message, configured)

    def _take(self, message: bytes) -> None:
        try:
            self.perform(self._conversation.receive(decode(message), self.now))
        except Exception as error:
            # An event that we take badly must not end the call (S3).
            logger.error(f"Hydra: an event was not handled: {error!r}")

    async def _dispatch(self) -> None:
        """Hand the effects on, one at a time; the only place where any is."""
        while True:
            while self._effects:
                async with self._handing_on:
                    if self._effects:
                        await self._hand_on(self._effects.popleft())
            self._effects_done.set()
            self._effects_waiting.clear()
            await self._effects_waiting.wait()

    async def _hand_on(self, effect: PipelineEffect) -> None:
        try:
            await self._on_effect(effect)
        except Exception as error:
            # A frame that could not be pushed must not end the call.
            logger.error(f"Hydra: {type(effect).__name__} was not handled: {error!r}")

    def _mind_deadline(self) -> None:
        """Have a timer at the conversation's deadline; one that is early does no harm."""
        deadline = self._conversation.deadline
        if deadline is None or self._runner is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._runner is not None:
            self.perform(self._conversation.tick(self.now))

    def _report_congestion(self, secs: float) -> None:
        message = (
            f"Hydra takes no audio: {secs:.0f} s of what the user said wait to be sent, and the "
            "oldest are being dropped"
        )
        self._tell(Report(Severity.ERROR, message))
