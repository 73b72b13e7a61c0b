"""Who speaks: the user's turns, the model's responses, and what one does to the other.

The methods only change state and send events, so that each is one step; the response in
flight is the one thing that runs by itself, in a task of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from pipecat_hydra.emulator.conversation.delivery import CancelReason, Delivery
from pipecat_hydra.emulator.conversation.function_call import FunctionCall
from pipecat_hydra.emulator.conversation.ledger import NarrationRecord
from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.conversation.tool_calls import Taken, ToolCalls
from pipecat_hydra.emulator.model.responders import Dialogue, Heard, Reply
from pipecat_hydra.emulator.model.turn_detection import (
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TurnEvent,
)
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.events import (
    Event,
    FunctionCallOutput,
    Message,
    ProtocolError,
    message_item,
    new_id,
)
from pipecat_hydra.emulator.wire.logs import log_failure
from pipecat_hydra.wire.protocol import ErrorCode

T = TypeVar("T")


class TurnTaking:
    """The conversation of one session, from `session.configured` on.

    Args:
        outlet: Where events go.
        record: Keeps what the model knows and does.
        dialogue: What the model says.
        settings: The emulator's.
        sample_rate: Output rate in Hz.
        mute: Send no audio (§2, size).
    """

    def __init__(
        self,
        outlet: Outlet,
        record: EmulatedSession,
        dialogue: Dialogue,
        settings: EmulatorSettings,
        *,
        sample_rate: int,
        mute: bool,
    ) -> None:
        self._outlet = outlet
        self._record = record
        self._dialogue = dialogue
        self._settings = settings
        self._sample_rate = sample_rate
        self._mute = mute
        self._tools = ToolCalls(
            record, timeout_secs=settings.tool_timeout_secs, on_timeout=self._tools_timed_out
        )
        self._output_refused = False
        self._messages: list[str] = []
        self._asked: deque[Callable[[], None]] = deque()
        self._user_item: Event | None = None
        self._noise = False
        self._late_stop: Callable[[], None] | None = None
        self._late_stop_timer: asyncio.TimerHandle | None = None
        self._delivery: Delivery | None = None
        self._held: Delivery | None = None  # generated, with `response.done` to come (§6)
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
                if not self._noise:
                    self._cancel("interrupted")  # if the first sound did not (`cancel_on`)
            case SpeechStopped():
                self._speech_stopped(event)

    def post_output(self, item: FunctionCallOutput) -> None:
        """Take a tool's output.

        Raises:
            ProtocolError: No such call waits for it.
        """
        self._output_refused = True
        self._tools.answer(item.call_id, item.output)
        self._output_refused = False
        self._finish_held_if_answered()
        self._respond_if_asked()

    def post_message(self, item: Message) -> None:
        """Take a text; it is answered at the next `response.create`."""
        honoured = self._settings.honour_messages
        self._record.note_message(item, honoured=honoured)
        if honoured:
            self._messages.append(item.text)

    def create_response(self) -> None:
        """Narrate tool outputs, answer messages, or speak up if the settings allow it (§4).

        Raises:
            ProtocolError: There is nothing to narrate yet, or a response is in flight.
        """
        refused, self._output_refused = self._output_refused, False
        if (taken := self._tools.take()) is not None:
            self._asked.append(lambda: self._narrate(taken))
        elif self._messages or not (refused or self._tools.pending):
            if not self._messages and not self._settings.respond_to_create:
                return
            self._prompt()
        else:
            # Also after an output that came too late: there is no narration of it (§3).
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "no tool output waits for it")
        self._respond_if_asked()

    def cancel_response(self, response_id: str | None) -> None:
        """Cancel the response in flight; a no-op if it is another, or there is none (§4)."""
        delivery = self._delivery
        if delivery is None or not delivery.created:
            delivery = self._held
        if delivery is None or response_id not in (None, delivery.response_id):
            return
        if delivery is self._held:
            self._cancel_held("client_cancelled")
        else:
            self._cancel("client_cancelled")
        self._respond_if_asked()

    async def close(self) -> None:
        """Stop whatever runs."""
        self._tools.close()
        if self._late_stop_timer is not None:
            self._late_stop_timer.cancel()
        self._delivery = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # A response tells how it goes on (`DeliveryOwner`).

    def beginning(self) -> None:
        """End the response that called the tools, if it is time (`calls_done`)."""
        if self._settings.calls_done != "after_narration_began":
            self._finish_held()

    def began(self) -> None:
        """End the response that called the tools at the latest here."""
        self._finish_held()

    def audio_began(self) -> None:
        """Send a late `speech_stopped` when its lag has passed."""
        if self._late_stop is not None:
            lag_secs = self._settings.stopped_lag_ms / 1000
            loop = asyncio.get_running_loop()
            self._late_stop_timer = loop.call_later(lag_secs, self._stop_late)

    def said(self, text: str) -> None:
        """Remember what the model said."""
        self._record.note_history("assistant", "speech", text)

    def tool_called(self, response_id: str, call: FunctionCall) -> None:
        """Remember the call, and give the client the usual time to answer."""
        self._tools.called(response_id, call.call_id, call.name, call.arguments)

    def delivered(self) -> None:
        """Go on with what was asked meanwhile."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None and delivery.created and not delivery.done:
            self._held = delivery
            self._finish_held_if_answered()  # outputs may have come while it was generated
        self._stop_late()
        self._respond_if_asked()

    # The user's turn.

    def _speech_started(self, event: SpeechStarted) -> None:
        self._stop_late()
        self._noise = bool(self._ask(self._dialogue.is_noise))
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
        if self._noise or not event.confirmed:
            if self._settings.stopped_on_discard:
                self._outlet.send(stopped)
            self._outlet.item_done(message_item(item_id, "user", "incomplete"))
            self._respond_if_asked()
            return

        def stop() -> None:
            self._outlet.send(stopped)
            self._outlet.item_done(message_item(item_id, "user", "completed"))

        self._output_refused = False
        self._record.note_history("user", "speech")
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

    def _ask(self, question: Callable[[], T]) -> T | None:
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
            self._finish_held()  # a narration that failed before it began
            self.delivered()

    def _cancel(self, reason: CancelReason) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            for task in self._tasks:
                task.cancel()
            delivery.cancel(reason)
            self._stop_late()
        self._cancel_held(reason)

    def _cancel_held(self, reason: CancelReason) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.cancel(reason)

    def _finish_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.finish()

    def _finish_held_if_answered(self) -> None:
        if self._settings.calls_done != "after_outputs" or self._held is None:
            return
        if not self._tools.waits(self._held.response_id):
            self._finish_held()

    def _respond_if_asked(self) -> None:
        while self._asked and self._delivery is None and self._user_item is None:
            self._asked.popleft()()

    def _narrate(self, taken: Taken) -> None:
        self._start(self._ask(lambda: self._dialogue.narrate(taken.outputs)))
        if self._delivery is None:
            self._finish_held()  # there is no narration to wait for
        self._record.note_narration(
            NarrationRecord(
                taken.asked_at,
                taken.last_output_at,
                taken.outputs,
                taken.missing,
                self._delivery.response_id if self._delivery is not None else None,
            )
        )

    def _prompt(self) -> None:
        if self._delivery is not None or self._held is not None or self._asked:
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "a response is already in progress")
        if not self._messages and self._settings.respond_to_create == "error":
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "there is nothing to respond to")
        messages, self._messages = self._messages, []
        self._asked.append(
            lambda: self._start(self._ask(lambda: self._dialogue.prompted(messages)))
        )

    def _tools_timed_out(self, response_id: str) -> None:
        self._outlet.error(
            ProtocolError(
                ErrorCode.TOOL_RESPONSE_TIMEOUT,
                "tool outputs and response.create did not come in time",
            )
        )
        if self._held is not None and self._held.response_id == response_id:
            self._held.fail(ErrorCode.TOOL_RESPONSE_TIMEOUT)
            self._held = None
            self._respond_if_asked()
