"""What a session is told when it begins: who to be, what it can call, what was said before.

Hydra is told once, by `session.configure` (protocol §2), so all of it has to be known
then. What was said before goes into the instructions, as far as the limit on their size
has room for it, or as message items.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any, Final, Literal

from loguru import logger
from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.context import ContextReader, NewText, key_of, text_of
from pipecat_hydra.service.briefing.history import Turn, turns_of, with_history
from pipecat_hydra.wire.codec import configuration_size, encode
from pipecat_hydra.wire.events import (
    ItemCreate,
    MessageRole,
    SessionConfiguration,
    SessionConfigure,
)
from pipecat_hydra.wire.protocol import CONFIGURATION_WARNING_BYTES

__all__ = ["Brief", "Briefing", "HistoryStyle"]

HistoryStyle = Literal["instructions", "items"]
"""How a session is told what was said before it: in its instructions, as the vendor
documents, or as message items, which is unproven."""

_OWN_MESSAGES: Final = 200
_REMEMBERED_SPEECH: Final = 8
_ALREADY_GREETED: Final = Turn("developer", "This call is under way: do not greet again.")


@dataclass(frozen=True, slots=True)
class Brief:
    """What a session is told.

    Parameters:
        configuration: What `session.configure` says.
        items: Messages to put in once it is configured, each with whose it is.
        respond: Whether to ask the model to speak after them.
        complete: Whether it says all that is known to have been said before.
    """

    configuration: SessionConfiguration
    items: tuple[tuple[MessageRole, str], ...] = ()
    respond: bool = False
    complete: bool = True


class Briefing:
    """Keeps what a session that begins, now or later, has to be told."""

    def __init__(self, name: str, adapter: HydraLLMAdapter, style: HistoryStyle):
        """Start with nothing said.

        Args:
            name: The service, for warnings.
            adapter: Reads contexts.
            style: How a session is told what was said before it.
        """
        self._name = name
        self._adapter = adapter
        self._style: HistoryStyle = style
        self._reader = ContextReader()
        # What no context keeps.
        self._own_messages: list[dict[str, Any]] = []
        self._spoken = 0
        self._last_spoken: deque[str] = deque(maxlen=_REMEMBERED_SPEECH)
        # What the bot has said and the listener has not heard yet, so that no context has it.
        self._unplayed: deque[str] = deque(maxlen=_REMEMBERED_SPEECH)

    def note(self, role: MessageRole, text: str) -> None:
        """Keep what was said, where no context does it."""
        self._keep({"role": role, "content": text})

    def note_reply(self, text: str, *, resumed: bool) -> None:
        """Keep what the bot said, where no context does it.

        Args:
            text: The words.
            resumed: Whether they go on with a reply that noise interrupted, of which
                more was kept than was heard.
        """
        replies = [text_of(m) for m in self._own_messages if m.get("role") == "assistant"]
        if not (resumed and any(text.strip() in reply for reply in replies[-1:])):
            self.note("assistant", text)

    def holds(self, text: str, context: LLMContext | None) -> bool:
        """Whether a text is among what is kept, here or by the context."""
        kept = self._own_messages + self._messages_of(context)
        return any(isinstance(m, dict) and text_of(m) == text.strip() for m in kept)

    def say(self, text: str) -> None:
        """Take note of what the bot has said, and the context will have once it was heard."""
        self._unplayed.append(_plain(text))

    def heard(self) -> None:
        """The listener has heard the oldest of what was said to its end."""
        if self._unplayed:
            self._unplayed.popleft()

    def interrupted(self, context: LLMContext | None) -> None:
        """What was said is heard no more; as far as it was, the context has it.

        Messages on their way into the context are lost on it, as all data frames are but
        those that say of themselves that they are not.
        """
        self._unplayed.clear()
        self._reader.settle(self._messages_of(context))

    def note_call(self, call_id: str, name: str, arguments: Any, result: str) -> None:
        """Keep what a function was called with and gave, where no context does it."""
        function = {"name": name, "arguments": arguments}
        called = {"id": call_id, "type": "function", "function": function}
        self._keep({"role": "assistant", "tool_calls": [called]})
        self._keep({"role": "tool", "tool_call_id": call_id, "content": result})

    def _keep(self, message: dict[str, Any]) -> None:
        self._own_messages.append(message)
        del self._own_messages[:-_OWN_MESSAGES]

    @property
    def spoken(self) -> int:
        """How many messages there were that the user had spoken."""
        return self._spoken

    def hear(self, text: str) -> None:
        """Take note that a message which will be in the context was spoken."""
        self._spoken += 1
        self._last_spoken.append(text)
        self._reader.hear(text)

    def told(self, messages: Sequence[dict[str, Any]], *, lasting: bool = False) -> None:
        """Take note that Hydra was told messages; keep them until the context has them.

        Args:
            messages: The messages.
            lasting: Whether they get there though the pipeline is interrupted.
        """
        self._reader.told(messages, lasting=lasting)
        for message in messages:
            if text_of(message):
                self._keep(message)

    def news(self, context: LLMContext) -> NewText:
        """Give what a context holds that Hydra has not been told."""
        messages = self._messages_of(context)
        news = self._reader.take(messages)
        held = set(map(key_of, messages))
        self._own_messages = [
            m for m in self._own_messages if key_of(m) not in held or self._reader.awaits(m)
        ]
        return news

    def _messages_of(self, context: LLMContext | None) -> list[Any]:
        return [] if context is None else self._adapter.get_messages(context)

    def brief(
        self,
        context: LLMContext | None,
        *,
        instruction: str | None,
        added_instruction: str | None = None,
        voice: str,
        service_tools: Any,
        greet: bool,
        under_way: bool,
        hears_again: bool = False,
    ) -> Brief:
        """Say what a session is to be told.

        Args:
            context: The context, or None in a pipeline that has none.
            instruction: The system instruction from the settings.
            added_instruction: What is said besides, be it to the system message of the
                context.
            voice: The voice.
            service_tools: The service's own tools.
            greet: Whether the model shall speak first.
            under_way: Whether the session follows another one of the same call.
            hears_again: Whether what the user has said last is sent to it as audio.
        """
        params = self._adapter.session_params(
            context,
            system_instruction=instruction,
            added_instruction=added_instruction,
            service_tools=service_tools,
        )
        if context is not None:
            self.news(context)
        turns = params["turns"]
        while hears_again and turns and self._was_spoken(turns[-1]):
            turns.pop()
        turns += turns_of(self._own_messages, whole=False) + self._unheard(turns)
        if under_way and not any(turn.who == "assistant" for turn in turns):
            # Of a bot without transcripts nothing is kept but that it was told to greet.
            turns.insert(0, _ALREADY_GREETED)
        configuration = SessionConfiguration(
            instructions=params["system_instruction"],
            voice=voice,
            tools=params["tools"] or None,
            generate_initial_response=greet,
        )
        if self._style == "items" and turns:
            # With something to answer, the model is asked to once it has been told.
            quiet = configuration.model_copy(update={"generate_initial_response": False})
            # Whether Hydra heeds them, nobody knows.
            return Brief(quiet, self._as_items(quiet, turns), greet, complete=False)
        return self._with_history(configuration, turns)

    def _was_spoken(self, turn: Turn) -> bool:
        return turn.who == "user" and turn.text in map(_plain, self._last_spoken)

    def _unheard(self, turns: list[Turn]) -> list[Turn]:
        """What was said and is not among the turns yet."""
        # The listener has heard all that was said before the user spoke last.
        latest = takewhile(lambda turn: turn.who != "user", reversed(turns))
        said = {turn.text for turn in latest if turn.who == "assistant"}
        return [Turn("assistant", text) for text in self._unplayed if text not in said]

    def _with_history(self, configuration: SessionConfiguration, turns: list[Turn]) -> Brief:
        room = CONFIGURATION_WARNING_BYTES - configuration_size(configuration)
        history = with_history(configuration.instructions, turns, budget_bytes=room)
        complete = not history.dropped and not history.shortened
        if not complete:
            self._warn(history.kept, turns)
        told = configuration.model_copy(update={"instructions": history.text})
        return Brief(told, complete=complete)

    def _as_items(
        self, configuration: SessionConfiguration, turns: list[Turn]
    ) -> tuple[tuple[MessageRole, str], ...]:
        """The newest turns that there is room for, which is no more than in instructions."""
        room = CONFIGURATION_WARNING_BYTES - len(encode(SessionConfigure(session=configuration)))
        items: list[tuple[MessageRole, str]] = [(_role(turn), turn.text) for turn in turns]
        sizes = (len(encode(ItemCreate.message(text, role=role))) for role, text in reversed(items))
        kept = sum(1 for _ in takewhile(lambda total: total <= room, accumulate(sizes)))
        if kept < len(items):
            self._warn(kept, turns)
        return tuple(items[len(items) - kept :])

    def _warn(self, kept: int, turns: list[Turn]) -> None:
        logger.warning(
            f"{self._name}: what Hydra can be told of a conversation is limited: it is told the "
            f"newest {kept} of {len(turns)} turns"
        )


def _plain(text: str) -> str:
    """The text as a turn has it."""
    return " ".join(text.split())


def _role(turn: Turn) -> MessageRole:
    return turn.who if turn.who in ("user", "assistant") else "system"
