"""Turn-taking: starts and cancels the model's responses as the user speaks and the client asks.

A turn of the user cancels the response in flight and, at its end, starts the next one.
`response.create` starts a response too: the narration of tool outputs, or the reply to messages.
It waits while the user speaks or another response is in flight. A response that calls tools may
be held: all of it was sent but `response.done`, which comes when `EmulatorSettings.calls_done`
says (§6).

The methods change state and send events without waiting, so that each is one step. Only the
response in flight runs by itself, in a task of its own.
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
from pipecat_hydra.emulator.conversation.user_turn import UserTurn
from pipecat_hydra.emulator.model.responders import Dialogue, Heard
from pipecat_hydra.emulator.model.steps import Reply
from pipecat_hydra.emulator.model.turn_detection import (
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TurnEvent,
)
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.client_events import FunctionCallOutput, Message
from pipecat_hydra.emulator.wire.events import ProtocolError
from pipecat_hydra.emulator.wire.logs import log_failure
from pipecat_hydra.wire.protocol import ErrorCode

T = TypeVar("T")


class TurnTaking:
    """The conversation of one session, from `session.configured` on.

    Args:
        outlet: Sends the events.
        record: Records what the model knows and does.
        dialogue: Decides what the model says.
        settings: The settings of the session.
        sample_rate: Output rate in Hz.
        mute: Send no audio, because the configuration is too large (§2).
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
        self._user = UserTurn(
            outlet,
            speech_stopped=settings.speech_stopped,
            user_items=settings.user_items,
            late_items=settings.late_user_items,
            item_text=settings.user_item_text,
            stopped_on_discard=settings.stopped_on_discard,
            stopped_lag_secs=settings.stopped_lag_ms / 1000,
        )
        self._noise = False
        self._untold = False  # the user's turn has no events (`tell_interruptions`)
        self._delivery: Delivery | None = None
        self._held: Delivery | None = None  # sent, but for `response.done` (§6)
        self._tasks: set[asyncio.Task[None]] = set()

    def greet(self) -> None:
        """Start the greeting."""
        self._start(self._ask(self._dialogue.greet), latency_secs=0)

    def turn_event(self, event: TurnEvent) -> None:
        """Process an event of turn detection."""
        match event:
            case SpeechStarted():
                self._speech_started(event)
            case SpeechConfirmed():
                if not (self._noise or self._untold):
                    self._cancel("interrupted")  # unless `speech_started` did (`cancel_on`)
            case SpeechStopped():
                self._speech_stopped(event)

    def post_output(self, item: FunctionCallOutput) -> None:
        """Process the output of a tool call.

        Raises:
            ProtocolError: No call of this id waits for an output.
        """
        self._output_refused = True
        self._tools.answer(item.call_id, item.output)
        self._output_refused = False
        self._finish_held_if_answered()
        self._respond_if_asked()

    def post_message(self, item: Message) -> None:
        """Process a message item; the next `response.create` answers it."""
        honoured = self._settings.honour_messages
        self._record.note_message(item, honoured=honoured)
        if honoured:
            self._messages.append(item.text)

    def create_response(self) -> None:
        """Process `response.create` (§4): narrate tool outputs, else answer messages, else speak.

        Raises:
            ProtocolError: There is nothing to respond to, or a response is in flight.
        """
        refused, self._output_refused = self._output_refused, False
        if (taken := self._tools.take()) is not None:
            self._asked.append(lambda: self._narrate(taken))
        elif self._messages or not (refused or self._tools.pending):
            if not self._messages and not self._settings.respond_to_create:
                return
            self._prompt()
        else:
            # This includes an output that came too late and was refused (§3).
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "no tool output waits for it")
        self._respond_if_asked()

    def cancel_response(self, response_id: str | None) -> None:
        """Cancel the response in flight, unless its id is another; without one do nothing (§4)."""
        delivery = self._delivery
        if delivery is None or not delivery.created or delivery.done:
            delivery = self._held
        if delivery is None or response_id not in (None, delivery.wire_id):
            return
        if delivery is self._held:
            self._cancel_held("client_cancelled")
        else:
            self._cancel("client_cancelled")
        self._respond_if_asked()

    async def close(self) -> None:
        """Cancel all tasks and timers."""
        self._tools.close()
        self._user.close()
        self._delivery = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The methods of `DeliveryOwner`, which a response calls.

    def beginning(self) -> None:
        """Finish a held response before the narration begins, unless `calls_done` says later."""
        if self._settings.calls_done != "after_narration_began":
            self._finish_held()

    def began(self) -> None:
        """Finish a held response after the narration began."""
        self._finish_held()

    def audio_began(self) -> None:
        """Let the late end of the user's turn follow."""
        self._user.reply_audio_began()

    def said(self, text: str) -> None:
        """Record what the model said."""
        self._record.note_history("assistant", "speech", text)

    def tool_called(self, response_id: str, call: FunctionCall) -> None:
        """Record a tool call, and start the time limit for its output."""
        self._tools.called(response_id, call.call_id, call.name, call.arguments)

    def delivered(self) -> None:
        """Start the next response that was asked for, if there is one."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None and delivery.created and not delivery.done:
            self._held = delivery
            self._finish_held_if_answered()  # outputs may have come already
        self._user.stop_late()
        self._respond_if_asked()

    # The user's turn.

    def _speech_started(self, event: SpeechStarted) -> None:
        self._user.stop_late()
        self._noise = bool(self._ask(self._dialogue.is_noise))
        replying = self._delivery is not None and self._delivery.created
        self._untold = replying and not self._settings.tell_interruptions
        if self._untold:
            return
        self._user.start(event.at_ms)
        if self._settings.cancel_on == "speech_started":
            self._cancel("interrupted")
        self._user.add_item()

    def _speech_stopped(self, event: SpeechStopped) -> None:
        if self._noise or not event.confirmed:
            if not self._untold:
                self._user.discard(event)
            self._respond_if_asked()
            return
        self._output_refused = False
        self._record.note_history("user", "speech")
        heard = Heard(event.audio)
        reply = self._ask(lambda: self._dialogue.answer(heard))
        if self._untold:
            self._supersede()
        else:
            self._user.stop(event, answered=bool(reply))
        self._start(reply, heard_secs=heard.secs)
        self._respond_if_asked()

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
        )
        task = asyncio.create_task(
            self._run(self._delivery, latency_secs), name="hydra-emulator-response"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, delivery: Delivery, latency_secs: float) -> None:
        try:
            await delivery.run(latency_secs)
        except Exception as exception:
            log_failure("A response of the emulator failed", exception)
            self._outlet.error(ProtocolError(ErrorCode.INTERNAL, "the response failed"))
            delivery.fail()
            self._finish_held()  # if a narration failed before it began
            self.delivered()

    def _cancel(self, reason: CancelReason) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            for task in self._tasks:
                task.cancel()
            delivery.cancel(reason)
            self._user.stop_late()
        self._cancel_held(reason)

    def _supersede(self) -> None:
        """Give up the response in flight without a word; the next `response.created` tells."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            for task in self._tasks:
                task.cancel()
            delivery.abandon()

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
        while self._asked and self._delivery is None and not self._user.open:
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
        generating = self._delivery is not None and not self._delivery.done
        if generating or self._held is not None or self._asked:
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
