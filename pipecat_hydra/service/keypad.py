"""Tells Hydra the keys that the user presses, as a text of the user.

A telephone's transport, or an RTVI client, gives an `InputDTMFFrame` for each key. Hydra hears
no keys. So the keys are gathered until the user has pressed the last one, or no more for a while,
and told as text, "DTMF: 123#", which Hydra is asked to answer. The first key interrupts the bot,
so that a caller need not hear a prompt to its end.

With Pipecat's `DTMFAggregator` in the pipeline the same happens there: it interrupts at the first
key, and makes a transcript of all, which the user aggregator puts in the context. Hydra is never
asked to answer a transcript, since it hears what the user says, and without aggregators the
transcript reaches nobody. So the keys are told from here in any case, with the prefix and by the
rules of the `DTMFAggregator`, and the context then holds what Hydra knows. Only the interruption
is left to it.

An application that answers keys itself has them ignored. Then the interruption that a
`DTMFAggregator` makes of the first key is stopped here, and the bot is heard on. It follows its
key at once, which tells it from all others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    Frame,
    InputDTMFFrame,
    UserMuteStartedFrame,
    UserMuteStoppedFrame,
)
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.frame_processor import FrameDirection

from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.pipecat_private import KeypadRules, keypad_rules
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.wanted_session import WantedSession

__all__ = ["Keypad", "KeypadUse"]

KeypadUse = Literal["text", "ignore"]
"""What becomes of the keys that the user presses; see `HydraLLMService`."""

# Those of Pipecat's `DTMFAggregator` by default.
_RULES: Final = KeypadRules(prefix="DTMF: ", last_key=KeypadEntry.POUND, pause_secs=2.0)


class Keypad:
    """Gathers keys and tells them, or keeps them from interrupting the bot."""

    def __init__(
        self,
        contexts: Contexts,
        session: WantedSession,
        surroundings: Surroundings,
        use: KeypadUse,
        *,
        interrupt: Callable[[], Awaitable[None]],
    ):
        """Start with no key pressed.

        `see` must be called with each frame but audio and interruptions, and
        `stops_interruption` with each interruption.

        Args:
            contexts: Puts the keys into the conversation.
            session: Is asked to answer.
            surroundings: Knows whether there is a `DTMFAggregator`.
            use: What becomes of the keys.
            interrupt: Interrupts the bot.
        """
        self._contexts = contexts
        self._session = session
        self._surroundings = surroundings
        self._use: KeypadUse = use
        self._interrupt = interrupt
        self._keys = ""
        self._timer: asyncio.TimerHandle | None = None
        self._is_muted = False
        self._may_interrupt = False

    def stops_interruption(self, direction: FrameDirection) -> bool:
        """Whether an interruption that comes now is that of a key that is to be ignored."""
        may_interrupt = self._may_interrupt and direction is FrameDirection.DOWNSTREAM
        self._may_interrupt = False
        return may_interrupt

    async def see(self, frame: Frame, direction: FrameDirection) -> None:
        """Gather the key, if a frame is one; a muted user presses none."""
        if direction is FrameDirection.DOWNSTREAM:
            self._may_interrupt = False
        match frame:
            case InputDTMFFrame(button=key):
                if self._use == "ignore":
                    self._may_interrupt = self._aggregator is not None
                elif not self._is_muted:
                    await self._press(key)
            case UserMuteStartedFrame():
                self._is_muted = True
                self.close()
            case UserMuteStoppedFrame():
                self._is_muted = False
            case _:
                pass

    def close(self) -> None:
        """Forget the keys that were not told."""
        self._keys = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _aggregator(self) -> DTMFAggregator | None:
        return self._surroundings.keypad

    @property
    def _rules(self) -> KeypadRules:
        return keypad_rules(self._aggregator) if self._aggregator is not None else _RULES

    async def _press(self, key: KeypadEntry) -> None:
        is_first = not self._keys
        self._keys += key.value
        if self._timer is not None:
            self._timer.cancel()
        rules = self._rules
        self._timer = asyncio.get_running_loop().call_later(rules.pause_secs, self._tell)
        if is_first and self._aggregator is None:
            await self._interrupt()
        # Who presses keys is there.
        await self._surroundings.wait_for_user()
        if key is rules.last_key:
            self._tell()

    def _tell(self) -> None:
        """Tell the keys, and have them answered."""
        text = self._rules.prefix + self._keys
        self.close()
        self._contexts.on_keys(text)
        self._session.ask()
