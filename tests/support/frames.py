"""What goes over the sockets of emulators, frame by frame, and whether it is as documented."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from websockets.asyncio.server import ServerConnection

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "protocol.schema.json").read_text(encoding="utf-8")
)
"""The events of the protocol, both ways."""

Side = Literal["client", "server"]


@dataclass(frozen=True)
class Frame:
    """One WebSocket frame, and who sent it."""

    side: Side
    payload: str | bytes

    @property
    def event(self) -> Any:
        return json.loads(self.payload)


@contextmanager
def tapped() -> Iterator[list[Frame]]:
    """Keep each frame that any server of websockets in this process receives or sends."""
    frames: list[Frame] = []
    send, recv = ServerConnection.send, ServerConnection.recv

    async def tapped_send(self: ServerConnection, message: Any, *args: Any, **kwargs: Any) -> None:
        await send(self, message, *args, **kwargs)
        frames.append(Frame("server", message))

    async def tapped_recv(self: ServerConnection, *args: Any, **kwargs: Any) -> Any:
        message = await recv(self, *args, **kwargs)
        frames.append(Frame("client", message))
        return message

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerConnection, "send", tapped_send)
        patch.setattr(ServerConnection, "recv", tapped_recv)
        yield frames


def types(side: Side) -> set[str]:
    """The types of events that one side is known to send."""
    return set(SCHEMA["$defs"][side])


def faults(side: Side, event: Any) -> list[str]:
    """What is wrong with an event, by the schema."""
    kind = event.get("type") if isinstance(event, dict) else None
    if kind not in types(side):
        return [f"a {side} sends no event of the type {kind!r}"]
    validator = _VALIDATORS[side, kind]
    return [f"{kind}: {error.json_path}: {error.message}" for error in validator.iter_errors(event)]


def assert_documented(frames: Iterable[Frame]) -> None:
    """Fail if a frame is not as the schema says."""
    for frame in frames:
        wrong = faults(frame.side, frame.event)
        assert not wrong, f"{wrong} in {frame.payload!r:.2000}"


def _validator(side: Side, kind: str) -> Draft202012Validator:
    # The validator of one type says what is wrong, where that of all says that none matches.
    return Draft202012Validator({"$ref": f"#/$defs/{side}/{kind}", "$defs": SCHEMA["$defs"]})


_SIDES: tuple[Side, ...] = ("client", "server")
_VALIDATORS = {(side, kind): _validator(side, kind) for side in _SIDES for kind in types(side)}
