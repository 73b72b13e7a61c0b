"""Whether a reply can still come: what a flush and the end of the pipeline wait for.

Theory of operation. The end of the pipeline waits for the reply in flight, and so does a flush.
Neither waits for longer than it takes to see that nothing will come: a reply stalls when none of
it has come for a while; a session that was lost is waited for a moment only; and a function call
that nobody answers holds back what the model might still say. The end gives a function that runs
the time of a stall. A flush gives it none, for it may be the function that waits for the flush.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

from pipecat.services.llm_service import LLMService

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    ResponseFinished,
    TextChunk,
    ToolArguments,
    ToolCalls,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.service.pipecat_private import is_cancelled, is_function_running
from pipecat_hydra.session.connection import HydraConnection

__all__ = ["ReplyWait"]

# Shorter than what a worker waits for a flush in which nothing moves, which is 5 s.
_STALL_SECS: Final = 4.0
_LOST_SECS: Final = 2.0
_UNANSWERED_SECS: Final = 0.3
_POLL_SECS: Final = 0.1

_REPLY_EFFECTS = (
    ReplyStarted
    | VoiceStarted
    | TextChunk
    | VoiceEnded
    | ReplyEnded
    | ResponseFinished
    | ToolArguments
    | ToolCalls
)


class ReplyWait:
    """Waits until the pipeline was told all of the reply in flight, while it can come."""

    def __init__(
        self, service: LLMService[Any], connection: HydraConnection, conversation: Conversation
    ):
        """Start with no reply in flight.

        Args:
            service: The service whose pipeline waits.
            connection: Hands on what the pipeline is told.
            conversation: Knows which replies are to come.
        """
        self._service = service
        self._connection = connection
        self._conversation = conversation
        # Set when something may have ended a reply, and when a reply has come further.
        self._progress = asyncio.Event()
        self._came_further_at = 0.0
        self.waiting: int = 0
        """How many wait for a reply, and so for its audio."""

    def on_audio(self) -> None:
        """Note that the pipeline was given audio of a reply; needless while nobody waits."""
        self._came_further_at = asyncio.get_running_loop().time()
        self._progress.set()

    def on_progress(self, effect: PipelineEffect) -> None:
        """Note what the pipeline was told, which may be more of a reply."""
        if isinstance(effect, _REPLY_EFFECTS):
            self._came_further_at = self._connection.now
        self._progress.set()

    async def until_replied(self, within_secs: float, *, spare_functions: bool = True) -> bool:
        """Wait until the pipeline was told all of the reply in flight, but only while it can come.

        Args:
            within_secs: How long to wait at most, in seconds.
            spare_functions: Whether functions that run are given time for their results.

        Returns:
            Whether each reply was received whole.
        """
        self.waiting += 1
        try:
            return await self._until_replied(within_secs, spare_functions=spare_functions)
        finally:
            self.waiting -= 1

    async def _until_replied(self, within_secs: float, *, spare_functions: bool) -> bool:
        began = self._connection.now
        while self._connection.is_open and self._is_reply_to_come:
            if is_cancelled(self._service.pipeline_worker):
                # The frame that says so waits behind the end frame that waits here.
                return False
            now = self._connection.now
            if now >= min(began + within_secs, self._given_up_at(began, spare_functions)):
                return False
            self._progress.clear()
            # Some ends of a reply cause no effect for the pipeline.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), _POLL_SECS)
        return True

    @property
    def _is_reply_to_come(self) -> bool:
        is_pending = self._conversation.reply_pending or not self._connection.is_drained
        return is_pending or self._conversation.may_go_on(self._connection.now)

    def _given_up_at(self, began: float, spare_functions: bool) -> float:
        """When a reply that comes no further is waited for no more, as things stand."""
        if self._conversation.awaits_answers and not (
            spare_functions and is_function_running(self._service)
        ):
            return self._came_further_at + _UNANSWERED_SECS
        secs = _LOST_SECS if self._connection.is_lost else _STALL_SECS
        return max(began, self._came_further_at) + secs
