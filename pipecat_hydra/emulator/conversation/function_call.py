"""Sends the events of one function call: its item, its arguments in pieces, its end (§6)."""

import asyncio
from typing import Any

from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.model.steps import Call
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.events import Event, new_id


class FunctionCall:
    """One function call of a response.

    Args:
        call: The tool and its arguments.
        response: The fields that name the response which makes the call.
        outlet: Sends the events.
        settings: Size and speed of the pieces, and which optional fields and events are sent.
    """

    def __init__(
        self, call: Call, response: Event, outlet: Outlet, settings: EmulatorSettings
    ) -> None:
        self.call_id: str = call.call_id or new_id("call")
        self.name: str = call.name
        self.arguments: str = call.text
        # Raw text stays text: it may be no JSON.
        self._object: Any = call.text if isinstance(call.arguments, str) else dict(call.arguments)
        self._outlet = outlet
        self._settings = settings
        self._item_id = new_id("item")
        self._ids = {**response, "item_id": self._item_id, "call_id": self.call_id}
        self._sent = ""
        self.streamed: bool = False
        """Whether all arguments were sent."""

    @property
    def item(self) -> Event:
        """The item of the call, with the arguments that were sent; incomplete if not all were."""
        if not self.streamed:
            return self._item("incomplete", self._sent)
        return self._item("completed", self._whole_arguments)

    async def stream(self) -> None:
        """Send the start of the call and its arguments; `complete` must follow."""
        if self._has_items:
            self._outlet.item_added(self._item("in_progress", ""))
        if self._settings.calls_told == "events":
            await self._stream_arguments()
        self.streamed = True

    def complete(self) -> None:
        """Send the end of the call."""
        if self._settings.calls_told == "events":
            self._send_arguments_done()
        if self._has_items:
            self._outlet.item_done(self.item)

    async def _stream_arguments(self) -> None:
        size = self._settings.arguments_delta_chars
        # A call with empty arguments has one delta too, for its name.
        for start in range(0, max(1, len(self.arguments)), size):
            if start:
                await asyncio.sleep(self._settings.arguments_delta_secs)
                await self._outlet.room()
            fragment = self.arguments[start : start + size]
            self._sent += fragment
            named = start == 0 or self._settings.name_in_every_delta
            self._outlet.send(
                {
                    "type": "response.function_call_arguments.delta",
                    **self._ids,
                    **({"name": self.name} if named else {}),
                    "delta": fragment,
                }
            )

    def _send_arguments_done(self) -> None:
        done: Event = {"type": "response.function_call_arguments.done", **self._ids}
        if self._settings.arguments_done_has_name:
            done["name"] = self.name
        if self._settings.arguments_done_has_arguments:
            done["arguments"] = self._whole_arguments
        self._outlet.send(done)

    @property
    def _has_items(self) -> bool:
        told = self._settings.calls_told
        return told == "items" or (told == "events" and self._settings.call_items)

    @property
    def _whole_arguments(self) -> Any:
        return self._object if self._settings.arguments_as_object else self.arguments

    def _item(self, status: str, arguments: Any) -> Event:
        return {
            "id": self._item_id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": arguments,
        }
