"""What the service needs to know of the pipeline around it."""

from collections.abc import Iterator

from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.turns.user_turn_processor import UserTurnProcessor

__all__ = ["has_turn_strategies", "shared_context"]


def has_turn_strategies(pipeline: FrameProcessor) -> bool:
    """Whether some processor decides user turns by the application's turn strategies.

    Those resolve proposed turn frames; without one, nothing does, and the service
    itself has to interrupt (`processors/aggregators/llm_response_universal.py`,
    `turns/user_turn_processor.py`).
    """
    return any(
        isinstance(processor, LLMUserAggregator | UserTurnProcessor)
        for processor in _walk(pipeline)
    )


def shared_context(pipeline: FrameProcessor) -> LLMContext | None:
    """The context of the pipeline's user aggregators, if they have one and the same."""
    contexts = [p.context for p in _walk(pipeline) if isinstance(p, LLMUserAggregator)]
    return contexts[0] if len({id(context) for context in contexts}) == 1 else None


def _walk(processor: FrameProcessor) -> Iterator[FrameProcessor]:
    yield processor
    for inner in processor.processors:
        yield from _walk(inner)
