"""Decides what becomes of a fixed phrase that the application wants to be spoken.

A `TTSSpeakFrame` holds a text that a TTS service is to speak as it stands: "this call is
recorded". Flows' `tts_say` and `end_conversation` make such frames too. A TTS service takes the
frame out of the pipeline, so where one stands before Hydra, none comes here; and where one stands
behind Hydra, the frame is left to it.

Where there is no TTS service, nothing would be heard. Hydra has no verbatim speech (protocol §4),
so the best that can be had is to ask the model to say the words. The application chooses whether
that is good enough.
"""

from typing import Any, Literal

from loguru import logger
from pipecat.frames.frames import BotBackchannelFrame, TTSSpeakFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService

from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.wanted_session import WantedSession

__all__ = ["FixedPhrases", "Phrases"]

FixedPhrases = Literal["model", "warn", "ignore"]
"""What becomes of a phrase that no TTS service speaks; see `HydraLLMService`."""


class Phrases:
    """Has the model say the phrases that no TTS service speaks, or says that they are lost."""

    def __init__(
        self,
        service: LLMService[Any],
        contexts: Contexts,
        session: WantedSession,
        surroundings: Surroundings,
        mode: FixedPhrases,
    ):
        """Start with no phrase.

        Args:
            service: The service, for warnings.
            contexts: Puts the request into the conversation.
            session: Is asked to speak.
            surroundings: Knows whether a TTS service speaks the phrase.
            mode: What becomes of a phrase that none speaks.
        """
        self._service = service
        self._contexts = contexts
        self._session = session
        self._surroundings = surroundings
        self._mode: FixedPhrases = mode
        self._warned: set[str] = set()

    def take(self, frame: TTSSpeakFrame, direction: FrameDirection) -> bool:
        """Have the model say a phrase, if it is to.

        Args:
            frame: The phrase.
            direction: Where the frame is going.

        Returns:
            Whether the phrase is dealt with, so that nothing else must speak it.
        """
        if self._mode == "ignore" or self._surroundings.has_tts_ahead(direction):
            return False
        if isinstance(frame, BotBackchannelFrame):
            # The model would take it for a turn of its own.
            self._warn_once("a backchannel is not heard")
            return False
        if self._mode == "warn":
            self._warn_once("a fixed phrase is not heard")
            return False
        self._warn_once("the model is asked to say a fixed phrase, perhaps not word for word")
        request = f'Say exactly this to the user now, word for word: "{frame.text}"'
        self._contexts.put_in(request, "system")
        self._session.ask()
        return True

    def _warn_once(self, what: str) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        logger.warning(
            f"{self._service}: {what}, because no TTS service is there to speak it, and Hydra "
            "itself has no verbatim speech. Put a TTS service before Hydra in the pipeline, or "
            "choose by fixed_phrases= ('model', 'warn' or 'ignore')"
        )
