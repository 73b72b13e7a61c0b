"""What a session is told when it begins: who to be, what it can call, what was said before.

Hydra is told once, by `session.configure` (protocol §2), so all of it has to be known
then. What was said before goes into the instructions, as far as the limit on their size
has room for it, or as message items.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any, Final, Literal

from loguru import logger
from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.entries import (
    Entry,
    Kind,
    Text,
    entry_of,
    split_instructions,
    text_entry,
)
from pipecat_hydra.service.briefing.history import Turn, turns_of, with_history
from pipecat_hydra.service.briefing.ledger import Ledger, NewText
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
    items: tuple[Text, ...] = ()
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
        self._ledger = Ledger()
        self._spoken = 0
        self._has_warned_of_attachments = False

    #
    # What happens
    #

    def note(self, role: MessageRole, text: str) -> None:
        """Keep what was said, where no context does it."""
        self._ledger.keep(text_entry(role, text))

    def note_reply(self, text: str, *, resumed: bool) -> None:
        """Keep what the bot said, where no context does it.

        Args:
            text: The words.
            resumed: Whether they go on with a reply that noise interrupted, of which
                more was kept than was heard.
        """
        last = self._ledger.last_kept("assistant")
        if not (resumed and last is not None and text.strip() in last.text):
            self.note("assistant", text)

    def note_call(self, call_id: str, name: str, arguments: Any, result: str) -> None:
        """Keep what a function was called with and gave, where no context does it."""
        function = {"name": name, "arguments": arguments}
        called = {"id": call_id, "type": "function", "function": function}
        self._ledger.keep(entry_of({"role": "assistant", "tool_calls": [called]}))
        self._ledger.keep(Entry("tool", Kind.RESULT, text_entry("tool", result).text, call_id))

    def narrate(self, call_id: str) -> None:
        """Take note that Hydra was asked to speak about the result of a call."""
        self._ledger.narrate(call_id)

    def say(self, text: str) -> None:
        """Take note of what the bot has said, and the context will have once it was heard."""
        self._ledger.say(text)

    def heard(self, context: LLMContext | None) -> None:
        """Take note that the listener has heard the oldest of what was said to its end."""
        self._read(context)
        self._ledger.play()

    def interrupted(self, context: LLMContext | None) -> None:
        """Take note that the listener hears no more of what was said.

        As far as it was heard, the context has it. Messages on their way into the context
        are lost, as all data frames are but those that say of themselves that they are not.
        """
        self._read(context)
        self._ledger.interrupt()

    @property
    def spoken(self) -> int:
        """How many messages there were that the user had spoken."""
        return self._spoken

    def hear(self, text: str) -> None:
        """Take note that a message which will be in the context was spoken."""
        self._spoken += 1
        self._ledger.hear(text)

    def told(self, messages: Iterable[Any], *, lasting: bool = False) -> tuple[Text, ...]:
        """Take messages that are on their way into the context, and say what to tell of them.

        Args:
            messages: The messages, in Pipecat's universal format.
            lasting: Whether they get there though the pipeline is interrupted.

        Returns:
            The texts that the session is to be told.
        """
        entries = [entry_of(message) for message in messages]
        self._warn_of_attachments(entries)
        full = [entry for entry in entries if not entry.is_empty]
        for entry in full:
            self._ledger.expect(entry, lasting=lasting)
        # To be the bot's own words, they have to be history, or items.
        texts = [entry.as_told for entry in full if entry.kind is Kind.TEXT]
        return tuple(t for t in texts if t[0] != "assistant" or self._style == "items")

    #
    # What a context holds
    #

    def waits_for_answer(self, context: LLMContext) -> bool:
        """Whether the user has the last word in a context."""
        entries = self._adapter.entries(context)
        return bool(entries) and entries[-1].role == "user"

    def holds(self, text: str, context: LLMContext | None) -> bool:
        """Whether a text is among what is kept, here or by the context."""
        entry = text_entry("", text)
        there = self._ledger.kept() + self._adapter.entries(context)
        return any(other.text == entry.text for other in there)

    @property
    def is_reset(self) -> bool:
        """Whether the context holds nothing of what the session knows (C1)."""
        return self._ledger.is_reset

    def news(self, context: LLMContext) -> NewText:
        """Give what a context holds that Hydra has not been told, and take it for told."""
        self._read(context)
        return self._ledger.take()

    def _read(self, context: LLMContext | None) -> None:
        if context is not None:
            _, entries = split_instructions(self._adapter.entries(context))
            self._warn_of_attachments(entries)
            self._ledger.read(entries)

    def _warn_of_attachments(self, entries: Iterable[Entry]) -> None:
        if not self._has_warned_of_attachments and any(e.has_attachments for e in entries):
            self._has_warned_of_attachments = True
            logger.warning(
                f"{self._name}: Hydra takes no images, sounds or files in messages: they are left "
                "out, here and from now on; the texts beside them are told"
            )

    #
    # What a session is told
    #

    def brief(
        self,
        context: LLMContext | None,
        *,
        instruction: str | None,
        added_instruction: str | None = None,
        voice: str | None,
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
            voice: The voice; None for Hydra's default.
            service_tools: The service's own tools.
            greet: Whether the model shall speak first.
            under_way: Whether the session follows another one of the same call.
            hears_again: Whether what the user has said last is sent to it as audio.
        """
        self._read(context)
        turns = turns_of(self._ledger.history(hears_again=hears_again))
        self._ledger.begin_session()
        if under_way and not any(turn.who == "assistant" for turn in turns):
            # Of a bot without transcripts nothing is kept but that it was told to greet.
            turns.insert(0, _ALREADY_GREETED)
        configuration = SessionConfiguration(
            instructions=self._adapter.session_instruction(context, instruction, added_instruction),
            voice=voice,
            tools=self._adapter.session_tools(context, service_tools) or None,
            generate_initial_response=greet,
        )
        if self._style == "items" and turns:
            # With something to answer, the model is asked to once it has been told.
            quiet = configuration.model_copy(update={"generate_initial_response": False})
            # Whether Hydra heeds them, nobody knows.
            return Brief(quiet, self._as_items(quiet, turns), greet, complete=False)
        return self._with_history(configuration, turns)

    def _with_history(self, configuration: SessionConfiguration, turns: list[Turn]) -> Brief:
        room = CONFIGURATION_WARNING_BYTES - configuration_size(configuration)
        history = with_history(configuration.instructions, turns, budget_bytes=room)
        complete = not history.dropped and not history.shortened
        if not complete:
            self._warn(history.kept, turns)
        told = configuration.model_copy(update={"instructions": history.text})
        return Brief(told, complete=complete)

    def _as_items(self, configuration: SessionConfiguration, turns: list[Turn]) -> tuple[Text, ...]:
        """The newest turns that there is room for, which is no more than in instructions."""
        room = CONFIGURATION_WARNING_BYTES - len(encode(SessionConfigure(session=configuration)))
        items: list[Text] = [(_role(turn), turn.text) for turn in turns]
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


def _role(turn: Turn) -> MessageRole:
    return turn.who if turn.who in ("user", "assistant") else "system"
