"""Keeps out of Hydra what asks a text LLM whether the user has finished a turn.

With `FilterIncompleteUserTurnStrategies` a text LLM is instructed to begin each reply with a mark
that says whether the user's turn was complete; only such a mark ends the turn. The strategies ask
for that by an update of the LLM's settings. Hydra decides by itself when a turn is complete, and
what it says is heard and not read, so the instructions would only be spoken about. They are not
taken over, and a warning says what to use instead. The turn would then stay open for seconds, and
a barge-in within it would be ignored; so the answer of Hydra is what ends it.

`EagerUserTurnStrategies` have a text LLM answer before the turn is over. They do no harm, and have
no effect.
"""

import asyncio
from dataclasses import replace
from typing import Any, Final, TypeVar

from loguru import logger
from pipecat.frames.frames import UserTurnInferenceCompletedFrame
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_stop import EagerUserTurnStopStrategy
from pipecat.utils.types import NOT_GIVEN, is_given

from pipecat_hydra.service.surroundings import Surroundings

__all__ = ["TurnCompletion"]

# How long a proposed stop may take to reach the strategies.
_TAKEN_UP_SECS: Final = 0.05

_Delta = TypeVar("_Delta", bound=LLMSettings)


class TurnCompletion:
    """Answers in Hydra's place the strategies that ask a text LLM about the user's turns."""

    def __init__(self, service: LLMService[Any], surroundings: Surroundings):
        """Start with no such strategy.

        Args:
            service: The service that is asked.
            surroundings: Knows the turn strategies.
        """
        self._service = service
        self._surroundings = surroundings
        self._is_asked = False
        self._warned: set[str] = set()

    def started(self) -> None:
        """Warn of strategies that have no effect; the pipeline has started."""
        if self._surroundings.uses_stop_strategy(EagerUserTurnStopStrategy):
            self._warn_once("EagerUserTurnStrategies have")

    def without(self, delta: _Delta) -> _Delta:
        """Take out of an update of the settings what is for a text LLM."""
        asks = delta.filter_incomplete_user_turns
        if not is_given(asks) and not is_given(delta.user_turn_completion_config):
            return delta
        if is_given(asks):
            self._is_asked = bool(asks)
            if asks:
                self._warn_once("FilterIncompleteUserTurnStrategies have")
        return replace(
            delta, filter_incomplete_user_turns=NOT_GIVEN, user_turn_completion_config=NOT_GIVEN
        )

    def turn_is_over(self) -> None:
        """Tell the strategies that the user's turn is over: Hydra answers, or it was noise."""
        if self._is_asked:
            self._service.create_task(self._tell(), "turn completion")

    async def _tell(self) -> None:
        # The frame is a system frame, and would overtake the proposed stop of the turn, which is
        # not. While the user is known to speak, it is ignored.
        await asyncio.sleep(_TAKEN_UP_SECS)
        await self._service.broadcast_frame(UserTurnInferenceCompletedFrame)

    def _warn_once(self, what: str) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        logger.warning(
            f"{self._service}: {what} no effect: they need an LLM that answers in text, and Hydra "
            "itself decides when the user has finished. Use ExternalUserTurnStrategies()"
        )
