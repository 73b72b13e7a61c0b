"""Composes what a session is told when it begins: instructions, tools and earlier turns.

Hydra is told once, by `session.configure` (protocol §2), so everything has to be known by
then. The earlier turns go into the instructions, as many of them as the limit on their size
has room for, or follow as message items.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from loguru import logger
from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.briefing.entries import (
    Entry,
    Kind,
    Text,
    entry_of,
    split_instructions,
    text_entry,
)
from pipecat_hydra.service.briefing.history import Turn, fit, text_size, turns_of, with_history
from pipecat_hydra.service.briefing.ledger import Ledger, NewText
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    ItemCreate,
    MessageRole,
    SessionConfiguration,
)

__all__ = ["Brief", "Briefing", "HistoryStyle"]

HistoryStyle = Literal["instructions", "items"]
"""How a session is told what was said before it: in its instructions, as the vendor
documents, or as message items, which is unproven."""

_LOOKS_WITHIN: Final = 10

_ALREADY_GREETED: Final = Turn("developer", "This call is under way: do not greet again.")


@dataclass(frozen=True, slots=True)
class Brief:
    """What a session is told.

    Parameters:
        configuration: What `session.configure` says.
        items: Messages to put in once it is configured, each with whose it is.
        respond: Whether to ask the model to speak after them.
        complete: Whether it holds all earlier turns that are known.
    """

    configuration: SessionConfiguration
    items: tuple[Text, ...] = ()
    respond: bool = False
    complete: bool = True


class Briefing:
    """Keeps the conversation so far, and composes what a session is told of it."""

    def __init__(
        self, name: str, adapter: HydraLLMAdapter, style: HistoryStyle, budget: SessionBudget
    ):
        """Start with nothing said.

        Args:
            name: The service, for warnings.
            adapter: Reads contexts.
            style: How a session is told what was said before it.
            budget: How much a session may be told; learns what it is told when it begins.
        """
        self._budget = budget
        self._name = name
        self._adapter = adapter
        self._style: HistoryStyle = style
        self._ledger = Ledger()
        self._spoken = 0
        self._has_warned_of_attachments = False
        # The ids of the messages at the last look, and how many looks there were.
        self._looked_at: tuple[int, ...] = ()
        self._looks = 0
        # Whether the session that follows begins a conversation of its own.
        self._begins_anew = False

    #
    # What happens
    #

    def note(self, role: MessageRole, text: str) -> None:
        """Keep a message that no context keeps."""
        self._ledger.keep(text_entry(role, text))

    def note_spoken(self, text: str) -> None:
        """Keep what the user has said, which no context keeps."""
        self._spoken += 1
        self._budget.transcribed()
        if not self.is_reset:
            self.note("user", text)

    def note_reply(self, text: str, *, resumed: bool) -> None:
        """Keep the words of a reply that no context keeps.

        Args:
            text: The words.
            resumed: Whether they go on with a reply that noise interrupted, of which
                more was kept than was heard.
        """
        if self.is_reset:
            return
        last = self._ledger.last_kept("assistant")
        if not (resumed and last is not None and text.strip() in last.text):
            self.note("assistant", text)

    def note_call(self, call_id: str, name: str, arguments: Any, result: str) -> None:
        """Keep a function call and its result, which no context keeps."""
        if self.is_reset:
            return
        function = {"name": name, "arguments": arguments}
        called = {"id": call_id, "type": "function", "function": function}
        self._ledger.keep(entry_of({"role": "assistant", "tool_calls": [called]}))
        self._ledger.keep(Entry("tool", Kind.RESULT, text_entry("tool", result).text, call_id))

    def narrate(self, call_id: str) -> None:
        """Record that Hydra was asked to speak about the result of a call."""
        self._ledger.narrate(call_id)

    def say(self, text: str) -> None:
        """Record words of the bot that the context will hold once they were heard."""
        if not self.is_reset:
            self._ledger.say(text)

    def heard(self, context: LLMContext | None) -> None:
        """Record that the listener has heard the oldest reply that was recorded to its end."""
        self._read(context)
        self._ledger.play()

    def interrupted(self, context: LLMContext | None) -> None:
        """Record that the listener hears no more of the replies so far.

        The context has the words that were heard. Messages on their way into the context are
        lost, as are all data frames that can be interrupted.
        """
        self._read(context)
        self._ledger.interrupt()

    @property
    def spoken(self) -> int:
        """How many messages the user has spoken."""
        return self._spoken

    def hear(self, text: str, *, aloud: bool = True) -> None:
        """Record that the user has spoken a message that will be in the context.

        Args:
            text: The message.
            aloud: Whether it was a turn that Hydra heard.
        """
        if aloud:
            self._spoken += 1
            self._budget.transcribed()
        self._ledger.hear(text)

    def told(self, messages: Iterable[Any], *, lasting: bool = False) -> tuple[Text, ...]:
        """Record messages that are on their way into the context; return the texts to tell.

        Args:
            messages: The messages, in Pipecat's universal format.
            lasting: Whether they get there even if the pipeline is interrupted.

        Returns:
            The texts that the session is to be told.
        """
        entries = [entry_of(message) for message in messages]
        self._warn_of_attachments(entries)
        full = [entry for entry in entries if not entry.is_empty]
        for entry in full:
            self._ledger.expect(entry, lasting=lasting)
        # Words of the bot can only be told as history or as items.
        texts = [entry.as_told for entry in full if entry.kind is Kind.TEXT]
        return tuple(t for t in texts if t[0] != "assistant" or self._style == "items")

    def reset(self) -> None:
        """Forget all that no context keeps; the session that follows begins anew.

        What the session that is open still says and does belongs to the old conversation.
        """
        self._ledger.reset()
        self._begins_anew = True

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
        """Whether the conversation was reset since the session began (C1)."""
        return self._ledger.is_reset

    def look(self, context: LLMContext | None) -> bool:
        """Compare a context with what is known of it; `is_reset` is true if it was reset.

        A context of the same messages is read only every so many times, because it is read for what
        was changed within a message, and that costs more the longer the context is.

        Returns:
            Whether the context was read.
        """
        messages = tuple(map(id, context.messages)) if context is not None else ()
        self._looks += 1
        if messages == self._looked_at and self._looks % _LOOKS_WITHIN:
            return False
        self._looked_at = messages
        self._read(context)
        return True

    def news(self, context: LLMContext) -> NewText:
        """Return the texts in a context that Hydra has not been told, and count them as told."""
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
        """Compose what a session is told when it begins.

        Args:
            context: The context, or None in a pipeline that has none.
            instruction: The system instruction from the settings.
            added_instruction: Is appended to the instruction, or to the system message of the
                context.
            voice: The voice; None for Hydra's default.
            service_tools: The service's own tools.
            greet: Whether the model shall speak first.
            under_way: Whether the session follows another one of the same call.
            hears_again: Whether the user's last words are sent to it again as audio.
        """
        self._read(context)
        turns = turns_of(self._ledger.history(hears_again=hears_again))
        summarised = self._ledger.begins_with_summary
        self._ledger.begin_session()
        begins_anew, self._begins_anew = self._begins_anew, False
        if under_way and not begins_anew and not any(turn.who == "assistant" for turn in turns):
            # Without transcripts of the bot, the history holds only the request to greet.
            turns.insert(1 if summarised else 0, _ALREADY_GREETED)
        configuration = SessionConfiguration(
            instructions=self._adapter.session_instruction(context, instruction, added_instruction),
            voice=voice,
            tools=self._adapter.session_tools(context, service_tools) or None,
            generate_initial_response=greet,
        )
        if self._style == "items" and turns:
            # The model is asked to speak after the items.
            quiet = configuration.model_copy(update={"generate_initial_response": False})
            self._budget.begin(quiet, quiet)
            # It is unknown whether Hydra heeds items, so the brief is never complete.
            items = self._as_items(quiet, turns, summarised)
            return Brief(quiet, items, greet, complete=False)
        return self._with_history(configuration, turns, summarised)

    def _with_history(
        self, configuration: SessionConfiguration, turns: list[Turn], summarised: bool
    ) -> Brief:
        room = self._budget.history_room(configuration)
        history = with_history(
            configuration.instructions,
            turns,
            budget_bytes=text_size(configuration.instructions or "") + room,
            keep_first=summarised,
        )
        complete = not history.dropped and not history.shortened
        if not complete:
            self._warn(history.kept, turns)
        told = configuration.model_copy(update={"instructions": history.text})
        self._budget.begin(configuration, told)
        return Brief(told, complete=complete)

    def _as_items(
        self, configuration: SessionConfiguration, turns: list[Turn], summarised: bool
    ) -> tuple[Text, ...]:
        """Return the newest turns as items, as many as instructions would have room for."""
        items: list[Text] = [(_role(turn), turn.text) for turn in turns]
        sizes = [len(encode(ItemCreate.message(text, role=role))) for role, text in items]
        room = self._budget.history_room(configuration)
        first, newest = fit(sizes, room, keep_first=summarised)
        kept = items[:first] + items[len(items) - newest :]
        if len(kept) < len(items):
            self._warn(len(kept), turns)
        return tuple(kept)

    def _warn(self, kept: int, turns: list[Turn]) -> None:
        logger.warning(
            f"{self._name}: what Hydra can be told of a conversation is limited: it is told the "
            f"newest {kept} of {len(turns)} turns"
        )


def _role(turn: Turn) -> MessageRole:
    return turn.who if turn.who in ("user", "assistant") else "system"
