"""Finds the processors of the pipeline that concern the service.

Only a processor on the service's own path concerns it (T5). A `Pipeline` is a sequence:
what stands before or after the service, or before or after what the service is in, is on
its path. Every other compound processor, a `ParallelPipeline` or a service switcher, has
branches. The branches beside the one that holds the service are not on its path, and no
frame that the service pushes comes there. A compound processor that stands as a whole before
or after the service is on its path with all its branches.

A processor that decides user turns, or keeps a context, may be on the path and still
belong to another LLM service: its context frames go down to the first LLM service in each
branch and no further. It is the service's own if the service is among the first, or if
there is none at all. So the user aggregator above a `ParallelPipeline` belongs to the LLM
services of all branches, and that of a text LLM which stands before Hydra is not Hydra's.

A TTS service ahead of the service speaks the phrases that come by. Such a frame goes into all
branches of a `ParallelPipeline`, so a TTS service in a branch beside the service speaks them too.
A service switcher lets the frame into the active branch only.

The context of an aggregator that belongs to another LLM service is foreign. A frame with
it may reach the service all the same, since an assistant aggregator pushes its context down
after each reply. The service ignores such a frame.

Positions do not change in a call and are found once. These things can change and are read each
time: the context of an aggregator, its strategies, and which service of a switcher is active.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline, PipelineSink
from pipecat.pipeline.service_switcher import ServiceSwitcher
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMAssistantAggregator,
    LLMUserAggregator,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.transports.base_output import BaseOutputTransport as OutputTransport
from pipecat.turns.user_start import MinWordsUserTurnStartStrategy, WakePhraseUserTurnStartStrategy
from pipecat.turns.user_stop import BaseUserTurnStopStrategy
from pipecat.turns.user_turn_processor import UserTurnProcessor

from pipecat_hydra.service.pipecat_private import (
    TurnDecider,
    resolves_proposed_starts,
    restart_idle_timer,
    start_strategies,
    stop_strategies,
)

__all__ = ["OutputTransport", "Surroundings"]

_Switcher: TypeAlias = ServiceSwitcher[Any]

_WAITING_STRATEGIES: Final = (MinWordsUserTurnStartStrategy, WakePhraseUserTurnStartStrategy)


@dataclass(frozen=True, slots=True)
class _Positions:
    """The processors that were found around the service.

    Parameters:
        holders: Each processor that the service is in, and the service itself.
        switchers: Those of the holders that are service switchers.
        deciders: The service's own processors that decide user turns: those above it and
            then those below it, the nearest first.
        is_below_aggregator: Whether one of those above it is a user aggregator.
        others: The user aggregators of the pipeline that are not the service's own.
        is_tts_above: Whether a TTS service stands above it.
        is_tts_below: Whether a TTS service stands below it.
        is_tts_beside: Whether a TTS service stands in a branch beside it that frames go into
            at the same time.
        is_stt_above: Whether an STT service stands above it.
        keypad: The nearest processor above it that makes texts of keys.
        output: The nearest output transport below it.
        below: The processors that its frames come to on their way down.
    """

    holders: tuple[FrameProcessor, ...]
    switchers: tuple[_Switcher, ...]
    deciders: tuple[TurnDecider, ...]
    is_below_aggregator: bool
    others: tuple[LLMUserAggregator, ...]
    is_tts_above: bool = False
    is_tts_below: bool = False
    is_tts_beside: bool = False
    is_stt_above: bool = False
    keypad: DTMFAggregator | None = None
    output: OutputTransport | None = None
    below: tuple[FrameProcessor, ...] = ()


class Surroundings:
    """Knows the processors on the service's own path, and asks them what concerns the service."""

    def __init__(self, service: FrameProcessor):
        """Start without a look at the pipeline; the first question finds the processors.

        Args:
            service: The service. It must be set up when the first question is asked.
        """
        self._service = service
        self._positions: _Positions | None = None
        self._has_warned = False

    @property
    def context(self) -> LLMContext | None:
        """The context of the service's own user aggregator; the nearest if it has several."""
        contexts = [aggregator.context for aggregator in self._own_aggregators]
        return contexts[0] if contexts else None

    def is_foreign(self, context: LLMContext) -> bool:
        """Whether a context belongs only to aggregators of other LLM services."""
        if any(aggregator.context is context for aggregator in self._own_aggregators):
            return False
        return any(aggregator.context is context for aggregator in self._found.others)

    @property
    def is_below_aggregator(self) -> bool:
        """Whether the service's own user aggregator stands above it, where frames go upstream."""
        return self._found.is_below_aggregator

    @property
    def is_before_tts(self) -> bool:
        """Whether a TTS service stands below the service and gets all text that it pushes."""
        return self._found.is_tts_below

    def has_tts_ahead(self, direction: FrameDirection) -> bool:
        """Whether a TTS service speaks the phrases that go in a direction from here."""
        if direction is FrameDirection.UPSTREAM:
            return self._found.is_tts_above
        return self._found.is_tts_below or self._found.is_tts_beside

    @property
    def has_transcriber(self) -> bool:
        """Whether an STT service gives the pipeline the words of the user."""
        return self._found.is_stt_above

    @property
    def keypad(self) -> DTMFAggregator | None:
        """The processor above the service that makes texts of the keys that the user presses."""
        return self._found.keypad

    @property
    def output(self) -> OutputTransport | None:
        """The output transport that plays what the service says."""
        return self._found.output

    @property
    def decides_turns(self) -> bool:
        """Whether a processor decides the service's turns by the application's strategies.

        Such a processor resolves proposed turns (`turns/user_turn_processor.py`,
        `processors/aggregators/llm_response_universal.py`). Without one, the service itself
        has to interrupt.
        """
        return bool(self._found.deciders)

    @property
    def ignores_proposals(self) -> bool:
        """Whether the turn strategies that are in force ignore proposed starts.

        Strategies with voice activity or transcripts of their own ignore them. Where no
        processor decides turns, one that cannot be seen from here may resolve the proposal,
        such as a user aggregator of the worker that this one is bridged to.
        """
        deciders = self._found.deciders
        return self.decides_turns and not any(map(resolves_proposed_starts, deciders))

    def uses_stop_strategy(self, kind: type[BaseUserTurnStopStrategy]) -> bool:
        """Whether a strategy of this kind decides when the service's turns stop."""
        strategies = [one for decider in self._found.deciders for one in stop_strategies(decider)]
        return any(isinstance(strategy, kind) for strategy in strategies)

    @property
    def is_switched_away(self) -> bool:
        """Whether a service switcher has given the call to another service.

        A switcher filters the frames to an inactive service, and none of those that the
        service pushes (`pipeline/service_switcher.py`).
        """
        found = self._positions or self._found
        for switcher in found.switchers:
            if switcher.strategy.active_service not in found.holders:
                return True
        return False

    @property
    def may_user_audio_be_wanted(self) -> bool:
        """Whether a processor below the service may do something with the user's audio.

        Pipecat's own output transports and assistant aggregators do not. Of another processor,
        and of a way that is not straight, nobody knows.
        """
        found, worker = self._found, self._service.pipeline_worker
        way = found.holders[:-1]
        is_straight = bool(way) and all(isinstance(holder, Pipeline) for holder in way)
        is_watched = any(issubclass(InputAudioRawFrame, t) for t in worker.reached_downstream_types)
        return not is_straight or is_watched or not all(map(_is_deaf, found.below))

    def warn_of_waiting_strategies(self) -> None:
        """Warn once of turn strategies that wait for words, because Hydra does not."""
        waiting = {
            type(strategy).__name__
            for decider in self._found.deciders
            for strategy in start_strategies(decider)
            if isinstance(strategy, _WAITING_STRATEGIES)
        }
        if self._has_warned or not waiting:
            return
        self._has_warned = True
        logger.warning(
            f"{self._service}: {', '.join(sorted(waiting))} waits for the words of an STT service. "
            "Hydra hears the user by itself, and answers each turn with or without those words: "
            "the strategy can only decide whether and when the user interrupts the bot, later than "
            "ExternalUserTurnStrategies would. To keep Hydra from hearing the user, mute the user "
            "or pause the audio (set_audio_input_paused)"
        )

    async def wait_for_user(self) -> None:
        """Restart the timers of user idleness, after a turn that nobody answers.

        The turn has stopped them. For a text LLM, Pipecat restarts them by itself
        (`turns/user_idle_controller.py`).
        """
        for decider in self._found.deciders:
            await restart_idle_timer(decider)

    @property
    def _own_aggregators(self) -> list[LLMUserAggregator]:
        return [one for one in self._found.deciders if isinstance(one, LLMUserAggregator)]

    @property
    def _found(self) -> _Positions:
        if self._positions is None:
            self._positions = _find(self._service.pipeline_worker.pipeline, self._service)
        return self._positions


def _find(pipeline: FrameProcessor, service: FrameProcessor) -> _Positions:
    """Find the processors around a service."""
    holders = _way_to(service, pipeline)
    if not holders:
        # A processor holds the service and does not show what it is made of. No context can be
        # told to be foreign.
        return _Positions((), (), (), is_below_aggregator=False, others=())
    above, below = (
        [
            processor
            for neighbour in _neighbours(holders, down=down)
            for processor in _inner(neighbour, down=down)
        ]
        for down in (False, True)
    )
    deciders_above, deciders_below = (
        [
            processor
            for processor in processors
            if isinstance(processor, LLMUserAggregator | UserTurnProcessor)
            and _belongs_to(service, processor, pipeline)
        ]
        for processors in (above, below)
    )
    own = (*deciders_above, *deciders_below)
    switchers: list[_Switcher] = [one for one in holders if isinstance(one, ServiceSwitcher)]
    return _Positions(
        holders=tuple(holders),
        below=tuple(below),
        switchers=tuple(switchers),
        deciders=own,
        is_below_aggregator=any(isinstance(one, LLMUserAggregator) for one in deciders_above),
        others=tuple(
            processor
            for processor in _inner(pipeline, down=True)
            if isinstance(processor, LLMUserAggregator) and processor not in own
        ),
        is_tts_above=_is_tts_in(above),
        is_tts_below=_is_tts_in(below),
        is_tts_beside=_is_tts_in(_beside(holders)),
        is_stt_above=_is_stt_in(above),
        keypad=next((one for one in above if isinstance(one, DTMFAggregator)), None),
        output=next((one for one in below if isinstance(one, OutputTransport)), None),
    )


def _is_deaf(processor: FrameProcessor) -> bool:
    """Whether it is known that a processor only passes user audio on."""
    is_known = isinstance(processor, OutputTransport | LLMAssistantAggregator | PipelineSink)
    return is_known and type(processor).__module__.startswith("pipecat.")


def _is_tts_in(processors: Iterable[FrameProcessor]) -> bool:
    # Who has such a service has imported it. By itself it brings some ninety modules, which spell
    # numbers in all languages, into every bot.
    module = sys.modules.get("pipecat.services.tts_service")
    return module is not None and any(isinstance(one, module.TTSService) for one in processors)


def _is_stt_in(processors: Iterable[FrameProcessor]) -> bool:
    module = sys.modules.get("pipecat.services.stt_service")
    return module is not None and any(isinstance(one, module.STTService) for one in processors)


def _beside(way: list[FrameProcessor]) -> Iterator[FrameProcessor]:
    """Yield the processors of the branches that get the frames that the end of a way gets."""
    for holder, inner in pairwise(way):
        if not isinstance(holder, Pipeline | ServiceSwitcher):
            for branch in holder.processors:
                if branch is not inner:
                    yield from _inner(branch, down=True)


def _way_to(target: FrameProcessor, processor: FrameProcessor) -> list[FrameProcessor]:
    """Return the processors that hold a target, outermost first, and the target itself.

    Returns:
        Nothing if this processor does not hold the target.
    """
    if processor is target:
        return [processor]
    for inner in processor.processors:
        if way := _way_to(target, inner):
            return [processor, *way]
    return []


def _neighbours(way: list[FrameProcessor], *, down: bool) -> Iterator[FrameProcessor]:
    """Yield the processors above or below the end of a way, the nearest first."""
    for holder, inner in reversed([*pairwise(way)]):
        if isinstance(holder, Pipeline):
            at = holder.processors.index(inner)
            yield from holder.processors[at + 1 :] if down else holder.processors[:at][::-1]


def _inner(processor: FrameProcessor, *, down: bool) -> Iterator[FrameProcessor]:
    """Yield the processors that a processor is made of, in the order in which a frame goes."""
    if not processor.processors:
        yield processor
    for inner in processor.processors if down else processor.processors[::-1]:
        yield from _inner(inner, down=down)


def _belongs_to(service: FrameProcessor, decider: TurnDecider, pipeline: FrameProcessor) -> bool:
    """Return whether a decider's frames come to a service first, or to no LLM service at all."""
    llms, _ = _first_llms(_neighbours(_way_to(decider, pipeline), down=True))
    return service in llms or not llms


def _first_llms(processors: Iterable[FrameProcessor]) -> tuple[list[FrameProcessor], bool]:
    """Find the LLM services that a frame meets first on its way through a sequence.

    Returns:
        The LLM services, and whether there is also a way that leads past all of them.
    """
    met: list[FrameProcessor] = []
    for processor in processors:
        if isinstance(processor, LLMService):
            return [*met, processor], False
        if isinstance(processor, Pipeline):
            inner, leads_past = _first_llms(processor.processors)
        else:
            branches = [_first_llms([branch]) for branch in processor.processors]
            inner = [llm for llms, _ in branches for llm in llms]
            leads_past = not branches or any(past for _, past in branches)
        met += inner
        if not leads_past:
            return met, False
    return met, True
