"""Reads what the pipeline writes into the conversation: contexts, messages and typed text.

The briefing keeps what a session has to be told when it begins. A session that is under
way is told each new text as it comes. This module reads the frames, hands each text to
the briefing and to the session, and decides whether the model is asked to speak.
"""

from collections import deque
from typing import Final

from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    LLMContextFrame,
    LLMMessagesAppendFrame,
)
from pipecat.processors.frame_processor import FrameDirection

from pipecat_hydra.service.briefing.briefing import Briefing
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.results import result_text
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.wire.events import MessageRole

__all__ = ["Contexts"]

# No frame says that the application has edited the context without asking for a reply. So it is
# read this often while the user's audio comes.
_LOOK_SECS: Final = 0.2
_KEYED: Final = 16


class Contexts:
    """Reads what the pipeline writes into the conversation."""

    def __init__(self, briefing: Briefing, in_force: InForce, session: WantedSession):
        """Start with no context seen.

        Args:
            briefing: Keeps what a session has to be told when it begins.
            in_force: Knows the context.
            session: Is told each new text, and asked to speak.
        """
        self._briefing = briefing
        self._in_force = in_force
        self._session = session
        self.look_at: float = 0.0
        """When to `look` next, in seconds."""
        # The keys that the user has pressed, as long as their text may come into the context.
        self._keyed: deque[str] = deque(maxlen=_KEYED)

    def look(self, now: float) -> None:
        """Look whether the application has reset the context.

        Args:
            now: The time in seconds.
        """
        if not self._session.begun:
            return
        self.look_at = now + _LOOK_SECS
        if self._briefing.look(self._in_force.context):
            self._session.replace_if_outdated()

    def on_context(self, frame: LLMContextFrame, direction: FrameDirection) -> None:
        """Tell Hydra what is new in a context; ask for an answer, unless Hydra gives it anyway."""
        if frame.speculation:
            return
        self._in_force.take_context(frame.context)
        if not self._session.begun:
            if self._briefing.waits_for_answer(frame.context):
                self._session.ask()
            else:
                self._session.run()
            return
        self._session.update_tools()
        new = self._briefing.news(frame.context)
        if new.reset:
            # The session that follows is told the whole context.
            self._session.replace_if_outdated()
        else:
            for role, text in new.typed:
                self._session.tell(text, role)
        if new.spoken or (new.narrated and direction is FrameDirection.UPSTREAM):
            # Hydra has heard the text, or was asked to speak about the result, and answers
            # by itself.
            return
        if new.typed and not (new.answered and direction is FrameDirection.UPSTREAM):
            self._session.ask()
        elif direction is FrameDirection.DOWNSTREAM:
            self._session.run()

    def on_messages(self, frame: LLMMessagesAppendFrame) -> None:
        """Tell Hydra messages that no user aggregator has put in a context."""
        told = self._briefing.told(frame.messages, lasting=not frame.interruptible)
        for role, text in told:
            self._session.tell(text, role)
        if frame.run_llm:
            self._session.ask()

    def put_in(self, text: str, role: MessageRole = "user") -> bool:
        """Put a text that no context keeps into the conversation, if there are words in it.

        Returns:
            Whether there are.
        """
        if not text.strip():
            return False
        self._briefing.note(role, text)
        self._session.tell(text, role)
        return True

    def on_keys(self, text: str) -> None:
        """Put the keys that the user has pressed into the conversation.

        A context may get the same text as a transcript, which is none of anything said aloud.
        """
        self._keyed.append(text)
        self.put_in(text)

    def on_said(self, text: str, resumed: bool) -> None:
        """Keep the words of a reply until the context has them, or for good if there is none.

        Args:
            text: The words.
            resumed: Whether they go on with a reply that noise interrupted.
        """
        if self._in_force.context is None:
            self._briefing.note_reply(text, resumed=resumed)
        else:
            self._briefing.say(text)

    def on_written(self, text: str) -> None:
        """Keep the words of a reply that was not spoken, if no context has them at once."""
        if self._in_force.context is None:
            self._briefing.note_reply(text, resumed=False)

    def on_heard(self) -> None:
        """Record that the listener has heard the oldest reply to its end."""
        self._briefing.heard(self._in_force.context)
        self._session.on_somebody_heard()
        # The application may have reset the context while the bot spoke.
        self._session.replace_if_outdated()

    def on_user_text(self, text: str) -> None:
        """Record that the user has spoken a message that will be in the context."""
        is_keyed = text in self._keyed
        if is_keyed:
            self._keyed.remove(text)
        self._briefing.hear(text, aloud=not is_keyed)

    def on_transcript(self, text: str) -> None:
        """Keep what the user has said, if no context will hold it."""
        if self._in_force.context is None:
            self._briefing.note_spoken(text)

    def on_interruption(self) -> None:
        """Forget what the listener has not heard; the context has what was heard."""
        self._briefing.interrupted(self._in_force.context)

    def on_result(self, frame: FunctionCallResultFrame) -> None:
        """Keep the result of a function call, or expect it in the context."""
        if self._in_force.context is None:
            result = result_text(frame.result)
            self._briefing.note_call(
                frame.tool_call_id, frame.function_name, frame.arguments, result
            )
        elif _is_narrated(frame):
            self._briefing.narrate(frame.tool_call_id)

    def on_cancel(self, frame: FunctionCallCancelFrame) -> None:
        """Expect in the context that a function call was cancelled."""
        if frame.run_llm:
            self._briefing.narrate(frame.tool_call_id)


def _is_narrated(frame: FunctionCallResultFrame) -> bool:
    """Whether the application wants Hydra to speak about a result."""
    run_llm = frame.properties.run_llm if frame.properties is not None else None
    return (frame.run_llm if run_llm is None else run_llm) is not False
