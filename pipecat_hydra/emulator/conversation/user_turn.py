"""Sends the events of the user's turns (§3, §5)."""

import asyncio
from collections.abc import Callable

from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.model.turn_detection import SpeechStopped
from pipecat_hydra.emulator.wire.events import Event, new_id
from pipecat_hydra.emulator.wire.server_events import message_item


class UserTurn:
    """Announces when the user starts and stops speaking, and sends the items of the turns.

    The end of a turn may be late (`EmulatorSettings.stopped_lag_ms`): `speech_stopped` and
    `item.done` then wait until some time after the reply's first audio. They are sent at once
    when the reply ends, or when the next turn starts, before that time.

    Args:
        outlet: Sends the events.
        speech_stopped: Whether `speech_stopped` is sent at all.
        user_items: Whether the items of the turns are sent.
        item_text: Text in the items of turns that are no noise; `None` for a null text.
        late_items: Whether an item is added only when the turn ends.
        stopped_on_discard: Whether `speech_stopped` precedes the item of a discarded turn.
        stopped_lag_secs: Seconds from the reply's first audio to the end of the turn; 0 to send
            the end of the turn before the reply.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        speech_stopped: bool,
        user_items: bool,
        stopped_on_discard: bool,
        stopped_lag_secs: float,
        late_items: bool = False,
        item_text: str | None = None,
    ) -> None:
        self._outlet = outlet
        self._speech_stopped = speech_stopped
        self._user_items = user_items
        self._late_items = late_items
        self._item_text = item_text
        self._stopped_on_discard = stopped_on_discard
        self._stopped_lag_secs = stopped_lag_secs
        self._item: Event | None = None
        self._late_stop: Callable[[], None] | None = None
        self._late_stop_timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether the user speaks."""
        return self._item is not None

    def start(self, at_ms: int) -> None:
        """Send `speech_started`; `add_item` must follow."""
        self.stop_late()
        self._item = message_item(new_id("item"), "user", "in_progress")
        self._outlet.send(
            {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": at_ms,
                "item_id": self._item["id"],
            }
        )

    def add_item(self) -> None:
        """Send `item.added` of the turn that has started, unless items are late."""
        assert self._item is not None
        if self._user_items and not self._late_items:
            self._outlet.item_added(self._item)

    def discard(self, event: SpeechStopped) -> None:
        """End the turn as noise: its item is `incomplete`."""
        item_id = self._end()
        if self._stopped_on_discard:
            self._send_stopped(event, item_id)
        self._send_item_done(item_id, "incomplete")

    def stop(self, event: SpeechStopped, *, answered: bool) -> None:
        """End the turn; its end may be late if the turn is answered by a reply."""
        item_id = self._end()

        def stop() -> None:
            self._send_stopped(event, item_id)
            self._send_item_done(item_id, "completed")

        if answered and self._stopped_lag_secs:
            self._late_stop = stop
        else:
            stop()

    def reply_audio_began(self) -> None:
        """Start the time after which a late end of the turn is sent."""
        if self._late_stop is not None:
            loop = asyncio.get_running_loop()
            self._late_stop_timer = loop.call_later(self._stopped_lag_secs, self.stop_late)

    def stop_late(self) -> None:
        """Send the late end of the turn now, if it was not sent yet."""
        self.close()
        stop, self._late_stop = self._late_stop, None
        if stop is not None:
            stop()

    def close(self) -> None:
        """Cancel the timer."""
        if self._late_stop_timer is not None:
            self._late_stop_timer.cancel()

    def _end(self) -> str:
        assert self._item is not None
        item_id, self._item = self._item["id"], None
        return item_id

    def _send_item_done(self, item_id: str, status: str) -> None:
        if self._user_items:
            if self._late_items:
                self._outlet.item_added(message_item(item_id, "user", "in_progress"))
            text = self._item_text if status == "completed" else None
            self._outlet.item_done(message_item(item_id, "user", status, text))

    def _send_stopped(self, event: SpeechStopped, item_id: str) -> None:
        if not self._speech_stopped:
            return
        self._outlet.send(
            {
                "type": "input_audio_buffer.speech_stopped",
                "audio_end_ms": event.at_ms,
                "item_id": item_id,
            }
        )
