"""A conversation that tests drive by hand."""

from collections.abc import Sequence

from support import wire

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import AudioChunk, Effect, Send
from pipecat_hydra.wire.events import ClientEvent, ServerEvent, SessionConfiguration

PCM = bytes(range(1, 241)) * 4
"""20 ms of reply audio at 24 kHz."""


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
