"""The logical session: a `Conversation`, driven over a WebSocket.

`HydraConnection` owns everything that runs: the task that connects and reads, the
timer that gives the conversation its deadlines, and the one task that hands the
effects on in order. Steps of the conversation are synchronous and may come from
anywhere in the event loop; what they send goes out at once, and what the pipeline
is told waits its turn, so neither ever waits for the other.

There is one WebSocket at a time. `prewarm` opens it before anybody uses the session, to
save the time that takes; `open` says that it is used. From then on, when it is lost, it is
opened again (`retries.py`): the conversation goes on, and user audio is kept meanwhile.
`replace` exchanges it for another, for what Hydra lets nobody change in a session.

What becomes of it is told by effects: `Connected`, `SessionStarted`, `Ready`, and then
`Disconnected`, followed by `Lost` and `Retrying` if it will be opened again, by `GivenUp`
if it will not, and by `Rested` if nobody needs it.
"""

import asyncio
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from loguru import logger

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Connected,
    Discard,
    Disconnected,
    Effect,
    Fail,
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Ready,
    Report,
    Rest,
    Rested,
    Retrying,
    Send,
    Severity,
    TextChunk,
)
from pipecat_hydra.session.retries import Retries, RetryPolicy
from pipecat_hydra.session.websocket import Endpoint, HydraConnectionError, HydraWebSocket
from pipecat_hydra.wire.events import (
    ClientEvent,
    InputAudioAppend,
    SessionConfigure,
    decode,
    encode,
)
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["HydraConnection"]

_MAX_WAITING_EFFECTS: Final = 256
_DRAIN_TIMEOUT_SECS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Ending:
    """How one attempt to have a session ended."""

    kind: FailureKind
    message: str
    configured: bool = False
    created: bool = False
    retry_after_secs: float | None = None


class HydraConnection:
    """Runs one conversation. After making one you must `close` it."""

    def __init__(
        self,
        endpoint: Callable[[], Awaitable[Endpoint]],
        conversation: Conversation,
        *,
        on_effect: Callable[[PipelineEffect], Awaitable[None]],
        on_connected: Callable[[], None] = lambda: None,
        retry: RetryPolicy | None = None,
        open_timeout_secs: float = 10.0,
    ):
        """Make a connection that is not open.

        Args:
            endpoint: Awaited for where to connect to and with which key, each time. It
                may raise `HydraConnectionError`.
            conversation: What to run. From now on its steps must be performed by
                `perform`.
            on_effect: Awaited with each effect for the pipeline, one at a time, in
                order. What it raises is logged and ends nothing.
            on_connected: Called each time a WebSocket is open, before anything is said,
                to configure the session.
            retry: What a lost session is worth; the defaults if None.
            open_timeout_secs: How long connecting may take, in seconds.
        """
        self._endpoint = endpoint
        self._conversation = conversation
        self._on_effect = on_effect
        self._on_connected = on_connected
        self._retries = Retries(retry or RetryPolicy())
        self._open_timeout = open_timeout_secs
        self._socket: HydraWebSocket | None = None
        self._closing: asyncio.Task[None] | None = None
        self._failure: Fail | None = None
        self._rest: Rest | None = None
        self._stop_reason = ""
        self._wanted = self._given_up = False
        # Whether the pipeline has been told of the loss that lasts.
        self._lost_told = False
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
        """Whether a WebSocket is open, being opened or replaced, or will be opened again."""
        return self._replacing or (self._runner is not None and not self._runner.done())

    @property
    def is_connected(self) -> bool:
        """Whether a WebSocket is open, and not being closed."""
        return self._socket is not None and self._rest is None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody uses the session, so that a loss of it matters."""
        return self._wanted

    @property
    def now(self) -> float:
        """The conversation's time, in seconds."""
        return asyncio.get_running_loop().time()

    def prewarm(self) -> None:
        """Begin to connect, in the background, for a session that nobody uses yet.

        If it cannot be had, or is lost, it is not tried again before `open`.
        """
        if self.is_open or self._closed or self._given_up:
            return
        self._retries.settle()
        self._lost_told = False
        self._start()

    def _start(self) -> None:
        if self.is_open or self._closed:
            return
        if self._dispatcher is None:
            self._dispatcher = asyncio.create_task(self._dispatch(), name="hydra-effects")
        self._runner = asyncio.create_task(self._run(), name="hydra-connection")

    def open(self) -> None:
        """Have a session from now on: connect, in the background, if that is still to be done.

        Once it was given up, nothing is tried any more before `renew`.
        """
        if self._given_up or self._closed:
            return
        self._wanted = True
        self.prewarm()

    def renew(self) -> None:
        """Allow for another try after all was given up."""
        self._given_up = False

    async def replace(self) -> None:
        """Exchange the session for another one, in the background once the old is closed."""
        if self._rest is not None:
            # Whoever wants one again gets another anyway.
            return
        self._replacing = True
        try:
            await self._stop_runner("replaced by another")
        finally:
            self._replacing = False
        self._start()

    async def close(self, *, drain: bool = True) -> None:
        """End the session for good. Idempotent; nothing is left running.

        Args:
            drain: Whether to end politely, and to hand on within a second what the
                pipeline has still to be told. If not, all ends at once.
        """
        self._closed = True
        if not drain and self._socket is not None:
            self._socket.abort()
        await self._stop_runner("the pipeline has ended")
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

    async def _stop_runner(self, reason: str) -> None:
        """End the session; if we are cancelled meanwhile it ends all the same."""
        self._stop_reason = reason
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
                case Rest():
                    self._end_politely(effect)
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
        if isinstance(effect, Ready):
            self._retries.configured(self.now)
            self._lost_told = False
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

    def _end_politely(self, rest: Rest) -> None:
        self._rest = rest
        self._wanted = False
        if self._socket is not None:
            self._closing = asyncio.create_task(self._socket.close(), name="hydra-closing")

    async def _run(self) -> None:
        """Have a session, and another one when it is lost, as long as that is wanted."""
        delay_secs: float | None = 0.0
        while delay_secs is not None:
            await asyncio.sleep(delay_secs)
            delay_secs = self._after(await self._attempt())

    def _after(self, ending: _Ending) -> float | None:
        """Tell how an attempt ended. Returns the seconds to the next one, or None."""
        rest, self._rest = self._rest, None
        if rest is not None:
            self._tell(Rested(rest.message, failed=False))
            # Somebody may have come back while it was being closed.
            return 0.0 if self._wanted else None
        kind, message = ending.kind, ending.message
        if not self._wanted and not kind.final:
            failed = not (ending.created and kind is FailureKind.ENDED)
            self._tell(Rested(message, failed=failed))
            return None
        retry = self._retries.next(kind, self.now, retry_after_secs=ending.retry_after_secs)
        if retry is None:
            self._tell(GivenUp(kind, message))
            self._wanted = False
            self._given_up = True
            return None
        # A session's first use and its idle close may cross, which is nobody's fault.
        crossed = ending.created and not ending.configured and kind is FailureKind.ENDED
        if not (crossed or self._lost_told):
            self._lost_told = True
            self._tell(Lost(kind, message, ending.configured))
        self._tell(Retrying(retry.attempt, retry.delay_secs, kind, message))
        return retry.delay_secs

    async def _attempt(self) -> _Ending:
        """Connect, read until it ends, and say why it did."""
        try:
            return await self._serve()
        except HydraConnectionError as error:
            return _Ending(error.kind, error.message, retry_after_secs=error.retry_after_secs)
        except Exception as error:
            # No call may end without a word.
            _log_bug("the session failed", error)
            message = f"the session with Hydra failed ({type(error).__name__})"
            return _Ending(FailureKind.SERVER, message)

    async def _serve(self) -> _Ending:
        self._failure = self._rest = None
        socket = self._socket = await HydraWebSocket.open(
            await self._endpoint(),
            timeout_secs=self._open_timeout,
            on_congested=self._report_congestion,
        )
        phase, reason = Phase.OFFLINE, ""
        try:
            self._tell(Connected())
            self._on_connected()
            self.perform(self._conversation.connected(self.now))
            async for message in socket.messages():
                self._take(message)
                if len(self._effects) > _MAX_WAITING_EFFECTS:
                    # A slow pipeline slows the reading, and that the server.
                    await self._effects_done.wait()
        except asyncio.CancelledError:
            reason = self._stop_reason
            raise
        finally:
            phase = self._conversation.phase
            self._socket = None
            if self._rest is not None:
                reason = self._rest.message
            lost = self._conversation.disconnected(self.now, unheard_since=socket.unheard_since)
            self.perform(lost)
            self._tell(Disconnected(reason or self._why(socket).message))
            await self._close(socket)
        ending = self._why(socket)
        return _Ending(
            ending.kind,
            ending.message,
            configured=phase is Phase.LIVE,
            created=phase not in (Phase.OFFLINE, Phase.CONNECTED),
        )

    def _why(self, socket: HydraWebSocket) -> Fail | HydraConnectionError:
        """Why a socket is closed."""
        return self._failure or socket.outcome()

    async def _close(self, socket: HydraWebSocket) -> None:
        closing, self._closing = self._closing, None
        try:
            await socket.close()
        finally:
            if closing is not None and not closing.done():
                closing.cancel()

    def _take(self, message: bytes) -> None:
        try:
            self.perform(self._conversation.receive(decode(message), self.now))
        except Exception as error:
            # An event that we take badly must not end the call (S3).
            _log_bug("an event was not handled", error)

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
            _log_bug(f"{type(effect).__name__} was not handled", error)

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


def _log_bug(what: str, error: Exception) -> None:
    """Log an exception; what it says, which may be what a user said, at TRACE only."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    logger.error(f"Hydra: {what}: {type(error).__name__} at {place.filename}:{place.lineno}")
    logger.opt(exception=error).trace(f"Hydra: {what}")
