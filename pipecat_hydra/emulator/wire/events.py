"""What client and server events have in common: their form, their ids, the error of a bad one."""

import uuid
from typing import Any

Event = dict[str, Any]
"""One event, decoded from JSON."""


class ProtocolError(Exception):
    """A client event is wrong; the server answers with an `error` event.

    Parameters:
        code: `error.code` on the wire.
        message: `error.message`.
        param: `error.param`, the path of the wrong field.
        event_id: `error.event_id`, the id of the client event, if it had one.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.event_id = event_id


def new_id(prefix: str) -> str:
    """Make an id in the form of Hydra's: `item_…`, `resp_…`, `call_…`, `sv_…`."""
    return f"{prefix}_{uuid.uuid4().hex[:24]}"
