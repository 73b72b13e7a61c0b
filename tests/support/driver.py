"""A conversation that tests drive by hand."""

import json
from collections.abc import Sequence

from support import wire

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import AudioChunk, Effect, Send, ToolCall, ToolCalls
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    ClientEvent,
    ItemCreate,
    ResponseCreate,
    ServerEvent,
    SessionConfiguration,
)

PCM = bytes(range(1, 241)) * 4
"""20 ms of reply audio at 24 kHz."""

CHUNK = b"\x01\x00" * 320
"""20 ms of user audio."""


class Driver:
    """Drives a conversation and keeps what it asked for."""

    def __init__(self, conversation: Conversation | None = None):
        self.conversation = conversation or Conversation(model="hydra-v1.1")
        self.now = 0.0

    def receive(self, *events: ServerEvent) -> list[Effect]:
        return [e for event in events for e in self.conversation.receive(event, self.now)]

    def live(self, *, greet: bool = False, rate: int | None = 24_000) -> "Driver":
        self.conversation.configure(
            SessionConfiguration(voice="aria", generate_initial_response=greet), self.now
        )
        self.conversation.connected(self.now)
        self.receive(wire.created(), wire.configured(rate))
        return self

    def interrupted(self) -> list[Effect]:
        return self.conversation.interrupted(self.now)


def sent(effects: Sequence[Effect]) -> list[ClientEvent]:
    return [e.event for e in effects if isinstance(e, Send)]


def said(effects: Sequence[Effect]) -> bytes:
    return b"".join(e.pcm for e in effects if isinstance(e, AudioChunk))


def kinds(effects: Sequence[Effect]) -> list[type[Effect]]:
    return [type(e) for e in effects]


def chunk(pcm: bytes) -> AudioChunk:
    return AudioChunk(pcm, 24_000)


def outputs(effects: Sequence[Effect]) -> list[str]:
    """The calls that are answered."""
    items = [json.loads(encode(e))["item"] for e in sent(effects) if isinstance(e, ItemCreate)]
    return [item["call_id"] for item in items if item["type"] == "function_call_output"]


def creates(effects: Sequence[Effect]) -> int:
    """How often the model is asked for a response."""
    return sum(isinstance(event, ResponseCreate) for event in sent(effects))


def calls(effects: Sequence[Effect]) -> list[ToolCall]:
    return [call for e in effects if isinstance(e, ToolCalls) for call in e.calls]


def speak(driver: Driver, chunks: int = 25) -> None:
    """The user says so many times 20 ms."""
    for _ in range(chunks):
        driver.now += 0.02
        driver.conversation.microphone(CHUNK, driver.now)
