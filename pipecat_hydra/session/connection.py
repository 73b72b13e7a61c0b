"""The logical session: runs a `Conversation` over one WebSocket after another.

`HydraConnection` joins the parts that run: the runner decides when a session is opened
(runner.py); each of its attempts connects and reads here; the timers call the
conversation when something is due (timers.py); the effect queue hands effects to the
pipeline (effect_queue.py). Steps of the conversation are synchronous and may come from
anywhere in the event loop. What they send goes out at once. Effects for the pipeline wait in
a queue. So neither waits for the other.

There is one WebSocket at a time. `prewarm` opens it before anybody uses the session, which
saves the time of connecting; `open` says that the session is used. A session in use that is
lost is opened again: the conversation goes on, and keeps the user's audio meanwhile.
`replace` exchanges the session for another, to change what Hydra freezes in a session.

Effects tell the pipeline about the connection: `Queued`, if it has to wait for its place
(capacity.py); `Connected`, `SessionStarted` and `Ready`; then
`Disconnected`, followed by `Lost` and `Retrying` if the session will be opened again, by
`GivenUp` if not, and by `Rested` if nobody needs it.

Every task is supervised (P2): the attempt, the task that hands on effects, the polite close,
and those of the WebSocket. The death of each ends the session as a failure of the server
would: it is reported, and another session is opened.
"""

import asyncio
from binascii import b2a_base64
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Connected,
    Discard,
    Disconnected,
    Effect,
    Fail,
    FailureKind,
    PipelineEffect,
    Ready,
    Report,
    Rest,
    Send,
    Severity,
)
from pipecat_hydra.session.capacity import Admission, Capacity, NoPlaceError
from pipecat_hydra.session.effect_queue import EffectQueue, Pause
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.retries import Retries, RetryPolicy
from pipecat_hydra.session.runner import Ending, SessionRunner, State
from pipecat_hydra.session.supervision import Supervised, log_bug
from pipecat_hydra.session.timers import ConversationTimers
from pipecat_hydra.session.websocket import HydraWebSocket, Traffic
from pipecat_hydra.wire.codec import APPEND, decode, encode
from pipecat_hydra.wire.events import (
    AudioDelta,
    ClientEvent,
    InputAudioAppend,
    SessionConfigure,
    SessionConfigured,
    SessionCreated,
)
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["HydraConnection"]

_BYTES_PER_SEC: Final = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE


class HydraConnection:
    """Runs one conversation. After making one you must `close` it."""

    def __init__(
        self,
        endpoint: Callable[[], Awaitable[Endpoint]],
        conversation: Conversation,
        *,
        on_effect: Callable[[PipelineEffect], Awaitable[Pause | None]],
        on_handshake: Callable[[], None] = lambda: None,
        on_sent: Callable[[ClientEvent], None] = lambda _: None,
        on_voice_rejected: Callable[[str], bool] = lambda _: False,
        retry: RetryPolicy | None = None,
        open_timeout_secs: float = 10.0,
        capacity: Capacity | None = None,
    ):
        """Make a connection that is not open.

        Args:
            endpoint: Awaited for where to connect to and with which key, each time. It
                may raise `HydraConnectionError`.
            conversation: What to run. From now on its steps must be performed by
                `perform`.
            on_effect: Awaited with each effect for the pipeline, one at a time, in
                order. Returns what must be waited for before the next effect, or None.
                An exception that it raises is logged and ends nothing; a
                `CancelledError` costs the session, and another one is opened.
            on_handshake: Called when the server has created the session, and again when it has
                configured it, each time before the conversation takes that step. So what is
                then sent can be as it is to be at that moment.
            on_sent: Called with each event that is sent, but for audio.
            on_voice_rejected: Called with the words for a person when Hydra rejects the voice
                of the configuration. Returns whether it replaces the session; else the
                session fails.
            retry: How a lost session is tried again; the defaults if None.
            open_timeout_secs: How long connecting may take, in seconds.
            capacity: Gives the session a place, before it is opened; None if it needs none.
        """
        self._endpoint = endpoint
        self._conversation = conversation
        self._on_handshake = on_handshake
        self._on_sent = on_sent
        self._on_voice_rejected = on_voice_rejected
        self._open_timeout = open_timeout_secs
        self.traffic: Final = Traffic()
        """How much was sent and received so far."""
        self._effects = EffectQueue(on_effect, on_death=self._on_effects_death)
        self._admission = Admission(capacity, self._effects.put)
        self._runner = SessionRunner(
            self._attempt,
            retries=Retries(retry or RetryPolicy()),
            tell=self._effects.put,
            on_over=self._admission.leave,
        )
        self._timers = ConversationTimers(conversation, self._tick)
        # The open WebSocket, and, once we have decided to end it, why.
        self._socket: HydraWebSocket | None = None
        self._leaving: Fail | Rest | None = None
        self._closing: Supervised[None] | None = None
        self._show_sent: Callable[[bytes, bytes], None] | None = None
        self._show_received: Callable[[bytes | bytearray, bytes], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a WebSocket is open, being opened or replaced, or will be opened again."""
        return self._runner.is_open

    @property
    def is_connected(self) -> bool:
        """Whether a WebSocket is open, and not being closed because nobody uses it."""
        return self._socket is not None and not self._is_resting

    @property
    def is_wanted(self) -> bool:
        """Whether somebody uses the session, so that a loss of it matters."""
        return self._runner.is_wanted

    @property
    def is_in_use(self) -> bool:
        """Whether somebody uses the session, and it is open or will be."""
        return self._runner.is_in_use

    @property
    def is_lost(self) -> bool:
        """Whether a session in use was lost or could not be opened, and no other is live yet."""
        return self._runner.state is State.LOST

    @property
    def is_drained(self) -> bool:
        """Whether all effects for the pipeline have been handed on."""
        return self._effects.is_drained

    @property
    def now(self) -> float:
        """The conversation's time, in seconds."""
        return asyncio.get_running_loop().time()

    def hand_on_to(self, on_effect: Callable[[PipelineEffect], Awaitable[Pause | None]]) -> None:
        """Await another function with each effect from now on."""
        self._effects.on_effect = on_effect

    def show_messages(
        self,
        *,
        sent: Callable[[bytes, bytes], None],
        received: Callable[[bytes | bytearray, bytes], None],
    ) -> None:
        """Call these from now on with each message, as it is on the wire, and with its audio."""
        self._show_sent, self._show_received = sent, received

    def prewarm(self) -> None:
        """Begin to connect, in the background, for a session that nobody uses yet.

        If connecting fails, or the session is lost, it is not tried again before `open`.
        """
        self._runner.prewarm()

    def open(self) -> None:
        """Use the session from now on: connect, in the background, unless that is done.

        After the session was given up, this does nothing until `renew` was called.
        """
        self._runner.open()

    def renew(self) -> None:
        """Allow another try after the session was given up."""
        self._runner.renew()

    async def replace(self) -> None:
        """Exchange the session for another one, in the background once the old is closed."""
        await self._runner.replace()

    async def close(self, *, drain: bool = True) -> None:
        """End the session for good. Idempotent; nothing is left running.

        Args:
            drain: Whether to close the WebSocket politely, and to hand on within a second
                the effects that wait for the pipeline. If not, all ends at once.
        """
        if not drain and self._socket is not None:
            self._socket.abort()
        await self._runner.close()
        await self._admission.close()
        await self._effects.close(drain=drain)
        self._timers.cancel()

    def perform(self, effects: Sequence[Effect]) -> None:
        """Carry out the effects of a step, and move the timers to the conversation's deadlines."""
        self._carry_out(effects)
        self._timers.move()

    def hear(self, chunk: bytes, now: float) -> bool:
        """Have the conversation take user audio, and send what it sends.

        Audio postpones what is due, so the timers stay as they are: they find out. Only audio that
        is not sent at once may be due earlier.

        Args:
            chunk: 20 to 40 ms of 16 kHz mono PCM16.
            now: The time.

        Returns:
            Whether audio was sent, on a session that is in use.
        """
        sent = self._conversation.hear(chunk, now)
        if self._socket is None or not sent:
            self._timers.audio_waits()
            return False
        for each in sent:
            message = APPEND % b2a_base64(each, newline=False)
            if self._show_sent is not None:
                self._show_sent(message, each)
            self._socket.send(message, audio_secs=len(each) / _BYTES_PER_SEC)
        return self._leaving is None

    def between_effects(self) -> AbstractAsyncContextManager[None]:
        """Run the body of the context while no effect is being handed on.

        Inside the handing on of an effect the body runs at once, because a processor in direct
        mode answers a frame before the pushing of the frame returns. It may run during a pause
        after an effect.
        """
        return self._effects.between()

    @property
    def _is_resting(self) -> bool:
        return isinstance(self._leaving, Rest)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(event):
                    self._send(event)
                case Fail():
                    self._fail(effect)
                case Rest():
                    self._rest(effect)
                case Discard():
                    self._effects.discard_speech()
                case Ready():
                    self._runner.ready()
                    self._effects.put(effect)
                case _:
                    self._effects.put(effect)

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
                self._effects.put(Report(Severity.ERROR, problem))
            return
        if self._show_sent is not None:
            self._show_sent(message, event.audio if isinstance(event, InputAudioAppend) else b"")
        if isinstance(event, InputAudioAppend):
            self._socket.send(message, audio_secs=len(event.audio) / _BYTES_PER_SEC)
        else:
            self._socket.send(message)
            self._on_sent(event)

    def _fail(self, failure: Fail) -> None:
        """Drop the WebSocket, if there is one; the runner decides what follows."""
        if self._socket is None:
            return
        if failure.is_of_voice and self._on_voice_rejected(failure.message):
            return
        if not self._is_resting:
            self._leaving = failure
        self._socket.abort()

    def _rest(self, rest: Rest) -> None:
        """Close the WebSocket politely, in the background."""
        if self._socket is None:
            return
        self._leaving = rest
        self._runner.rest()
        # Reading ends with the connection, also if the polite closing of it dies.
        self._closing = Supervised(
            self._socket.close(), name="hydra-closing", on_end=self._socket.abort
        )

    async def _attempt(self) -> Ending:
        """Connect, serve the session until it ends, and say why it ended."""
        try:
            await self._admission.enter()
            return await self._serve()
        except NoPlaceError as error:
            return Ending(FailureKind.CAPACITY, str(error), is_final=True)
        except HydraConnectionError as error:
            return Ending(error.kind, error.message, retry_after_secs=error.retry_after_secs)

    async def _serve(self) -> Ending:
        socket = await HydraWebSocket.open(
            await self._endpoint(),
            timeout_secs=self._open_timeout,
            on_congested=self._report_congestion,
            traffic=self.traffic,
        )
        self._socket, self._leaving = socket, None
        reason, phase = None, Phase.OFFLINE
        try:
            self._effects.put(Connected())
            self.perform(self._conversation.connected(self.now))
            await socket.read(self._take)
        except asyncio.CancelledError:
            reason = self._runner.stop_reason or "the session was cancelled by somebody else"
            raise
        finally:
            phase = self._conversation.phase
            self._socket = None
            if reason is None or self._is_resting:
                _, reason = self._why(socket)
            lost = self._conversation.disconnected(self.now, unheard_since=socket.unheard_since)
            self.perform(lost)
            self._effects.put(Disconnected(reason))
            await self._close(socket)
        kind, message = self._why(socket)
        return Ending(kind, message, created=phase not in (Phase.OFFLINE, Phase.CONNECTED))

    def _why(self, socket: HydraWebSocket) -> tuple[FailureKind, str]:
        """Why a WebSocket is closed."""
        match self._leaving:
            case Rest(message):
                return FailureKind.ENDED, message
            case Fail(kind, message):
                return kind, message
            case None:
                outcome = socket.outcome()
                return outcome.kind, outcome.message

    async def _close(self, socket: HydraWebSocket) -> None:
        closing, self._closing = self._closing, None
        try:
            await socket.close()
        finally:
            if closing is not None:
                closing.stop()

    def _take(self, message: bytes | bytearray, now: float) -> Pause | None:
        """Have the conversation take a message; return what to wait for before the next one."""
        try:
            event = decode(message)
            if self._show_received is not None:
                self._show_received(message, event.delta if isinstance(event, AudioDelta) else b"")
            said = self._conversation.go_on(event, now) if isinstance(event, AudioDelta) else None
            if isinstance(said, AudioChunk):
                self._effects.put(said)
            elif said is None:
                if isinstance(event, SessionCreated | SessionConfigured):
                    self._on_handshake()
                self.perform(self._conversation.receive(event, now))
            elif said < self._timers.talk.at:
                # Most audio stays in hand for a while.
                self._timers.talk.move(said)
        except Exception as error:
            # A bug in the handling of one event must not end the call (S3).
            log_bug("an event was not handled", error)
        # A slow pipeline slows the reading, and that the server.
        return self._effects.drained if self._effects.is_crowded else None

    def _tick(self) -> None:
        try:
            now, deadline = self.now, self._conversation.deadline
            is_postponed = deadline is not None and deadline > now
            self.perform([] if is_postponed else self._conversation.tick(now))
        except Exception as error:
            # Nothing else would do what was due, so another session begins.
            log_bug("what was due was not done", error)
            self._fail(_broken(type(error).__name__))

    def _on_effects_death(self, death: str) -> None:
        """End the session, because the pipeline has missed an effect; another session follows."""
        self._fail(_broken(death))

    def _report_congestion(self, secs: float) -> None:
        message = (
            f"Hydra takes no audio: {secs:.0f} s of what the user said wait to be sent, and the "
            "oldest are being dropped"
        )
        self._effects.put(Report(Severity.ERROR, message))


def _broken(cause: str) -> Fail:
    """Make the error for a session that ends because a task of this package has died."""
    return Fail(FailureKind.SERVER, f"the session with Hydra failed ({cause})")
