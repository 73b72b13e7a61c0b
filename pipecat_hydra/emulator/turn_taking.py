"""Who speaks: the user's turns, the model's responses, and what one does to the other.

The methods only change state and send events, so that each is one step; the response in
flight is the one thing that runs by itself, in a task of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal

from pipecat_hydra.emulator.delivery import CancelReason, Delivery
from pipecat_hydra.emulator.logs import log_failure
from pipecat_hydra.emulator.outlet import Outlet
from pipecat_hydra.emulator.responders import Dialogue, Heard, Reply
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.tools import ToolCalls
from pipecat_hydra.emulator.turns import (
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TurnEvent,
)
from pipecat_hydra.emulator.wire import (
    Event,
    FunctionCallOutput,
    Message,
    ProtocolError,
    message_item,
    new_id,
)
from pipecat_hydra.protocol import ErrorCode


class TurnTaking:
    """The conversation of one session, from `session.configured` on.

    Args:
        outlet: Where events go.
        dialogue: What the model says.
        settings: The emulator's.
        sample_rate: Output rate in Hz.
        mute: Send no audio (§2, size).
    """

    def __init__(
        self,
        outlet: Outlet,
        dialogue: Dialogue,
        settings: EmulatorSettings,
        *,
        sample_rate: int,
        mute: bool,
    ) -> None:
        self._outlet = outlet
        self._dialogue = dialogue
        self._settings = settings
        self._sample_rate = sample_rate
        self._mute = mute
        self._tools = ToolCalls()
        self._tool_timer: asyncio.TimerHandle | None = None
        self._messages: list[str] = []
        self._asked: deque[Literal["narrate", "prompted"]] = deque()
        self._user_item: Event | None = None
        self._late_stop: Callable[[], None] | None = None
        self._late_stop_timer: asyncio.TimerHandle | None = None
        self._delivery: Delivery | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def greet(self) -> None:
        """Speak first."""
        self._start(self._ask(self._dialogue.greet), latency_secs=0)

    def turn_event(self, event: TurnEvent) -> None:
        """Take what turn detection found."""
        match event:
            case SpeechStarted():
                self._speech_started(event)
            case SpeechConfirmed():
                self._cancel("interrupted")  # if the first sound did not (`cancel_on`)
            case SpeechStopped():
                self._speech_stopped(event)

    def post_output(self, item: FunctionCallOutput) -> None:
        """Take a tool's output.

        Raises:
            ProtocolError: No such call waits for it.
        """
        self._tools.answer(item.call_id, item.output)

    def post_message(self, item: Message) -> None:
        """Take a text; it is answered at the next `response.create`."""
        self._messages.append(item.text)

    def create_response(self) -> None:
        """Narrate tool outputs, or speak up if the settings allow it (§4).

        Raises:
            ProtocolError: There is nothing to narrate yet, or a response is in flight.
        """
        if self._tools.pending:
            if not self._tools.answered and not self._asked:
                raise ProtocolError(ErrorCode.INVALID_REQUEST, "no tool output was posted")
            self._asked.append("narrate")
        elif self._asked and self._asked[-1] == "narrate":
            self._asked.append("narrate")  # one create per call: half an answer each (§6)
        elif not self._settings.respond_to_create:
            return
        elif self._delivery is not None:
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "a response is already in progress")
        else:
            self._asked.append("prompted")
        self._respond_if_asked()

    def cancel_response(self, response_id: str | None) -> None:
        """Cancel the response in flight; a no-op if it is another, or there is none (§4)."""
        delivery = self._delivery
        if delivery is None or not delivery.created:
            return
        if response_id in (None, delivery.response_id):
            self._cancel("client_cancelled")
            self._respond_if_asked()

    async def close(self) -> None:
        """Stop whatever runs."""
        for timer in (self._tool_timer, self._late_stop_timer):
            if timer is not None:
                timer.cancel()
        self._delivery = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # A response tells how it goes on (`DeliveryOwner`).

    def audio_began(self) -> None:
        """Send a late `speech_stopped` when its lag has passed."""
        if self._late_stop is not None:
            lag_secs = self._settings.stopped_lag_ms / 1000
            loop = asyncio.get_running_loop()
            self._late_stop_timer = loop.call_later(lag_secs, self._stop_late)

    def tool_called(self, call_id: str, name: str) -> None:
        """Remember the call, and give the client the usual time to answer."""
        self._tools.called(call_id, name)
        self._watch_tools()

    def delivered(self) -> None:
        """Go on with what was asked meanwhile."""
        self._delivery = None
        self._stop_late()
        self._respond_if_asked()

    # The user's turn.

    def _speech_started(self, event: SpeechStarted) -> None:
        self._stop_late()
        self._user_item = message_item(new_id("item"), "user", "in_progress")
        self._outlet.send(
            {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": event.at_ms,
                "item_id": self._user_item["id"],
            }
        )
        if self._settings.cancel_on == "speech_started":
            self._cancel("interrupted")
        self._outlet.item_added(self._user_item)

    def _speech_stopped(self, event: SpeechStopped) -> None:
        assert self._user_item is not None
        item_id, self._user_item = self._user_item["id"], None
        stopped: Event = {
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": event.at_ms,
            "item_id": item_id,
        }
        if not event.confirmed:
            if self._settings.stopped_on_discard:
                self._outlet.send(stopped)
            self._outlet.item_done(message_item(item_id, "user", "incomplete"))
            self._respond_if_asked()
            return

        def stop() -> None:
            self._outlet.send(stopped)
            self._outlet.item_done(message_item(item_id, "user", "completed"))

        heard = Heard(event.audio)
        reply = self._ask(lambda: self._dialogue.answer(heard))
        if reply and self._settings.stopped_lag_ms:
            self._late_stop = stop
        else:
            stop()
        self._start(reply, heard_secs=heard.secs)
        self._respond_if_asked()

    def _stop_late(self) -> None:
        if self._late_stop_timer is not None:
            self._late_stop_timer.cancel()
        stop, self._late_stop = self._late_stop, None
        if stop is not None:
            stop()

    # The model's response.

    def _ask(self, question: Callable[[], Reply | None]) -> Reply | None:
        try:
            return question()
        except Exception as exception:
            log_failure("The emulator's responder failed", exception)
            self._outlet.error(ProtocolError(ErrorCode.INTERNAL, "the responder failed"))
            return None

    def _start(
        self, reply: Reply | None, *, heard_secs: float = 0, latency_secs: float | None = None
    ) -> None:
        if not reply:
            return
        self._cancel("interrupted")
        if latency_secs is None:
            latency_secs = self._settings.response_latency_secs
        self._delivery = Delivery(
            reply,
            self._outlet,
            self,
            self._settings,
            sample_rate=self._sample_rate,
            mute=self._mute,
            heard_secs=heard_secs,
            latency_secs=latency_secs,
        )
        task = asyncio.create_task(self._run(self._delivery), name="hydra-emulator-response")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, delivery: Delivery) -> None:
        try:
            await delivery.run()
        except Exception as exception:
            log_failure("A response of the emulator failed", exception)
            self._outlet.error(ProtocolError(ErrorCode.INTERNAL, "the response failed"))
            delivery.fail()
            self.delivered()

    def _cancel(self, reason: CancelReason) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is None:
            return
        for task in self._tasks:
            task.cancel()
        delivery.cancel(reason)
        self._stop_late()

    def _respond_if_asked(self) -> None:
        while self._asked and self._delivery is None and self._user_item is None:
            if self._asked.popleft() == "narrate":
                self._start(self._ask(self._narrate))
            else:
                self._start(self._ask(self._reply_to_messages))

    def _narrate(self) -> Reply | None:
        outputs = self._tools.take()
        self._watch_tools()
        return self._dialogue.narrate(outputs)

    def _reply_to_messages(self) -> Reply | None:
        messages, self._messages = self._messages, []
        return self._dialogue.prompted(messages)

    def _watch_tools(self) -> None:
        if self._tool_timer is not None:
            self._tool_timer.cancel()
            self._tool_timer = None
        if self._tools.pending:
            loop = asyncio.get_running_loop()
            self._tool_timer = loop.call_later(self._settings.tool_timeout_secs, self._give_up)

    def _give_up(self) -> None:
        if self._asked:
            return  # outputs are there; another response is in flight before theirs
        self._tools.abandon()
        self._outlet.error(
            ProtocolError(
                ErrorCode.TOOL_RESPONSE_TIMEOUT,
                "tool outputs and response.create did not come in time",
            )
        )
