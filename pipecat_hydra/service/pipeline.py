"""What the service needs to know of the pipeline around it."""

from collections.abc import Iterator
from typing import Any

from pipecat.pipeline.service_switcher import ServiceSwitcher
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.turns.user_turn_processor import UserTurnProcessor

__all__ = [
    "Switcher",
    "has_turn_strategies",
    "is_active",
    "shared_context",
    "switchers_around",
    "wait_for_user",
]

Switcher = ServiceSwitcher[Any]


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


def switchers_around(pipeline: FrameProcessor, service: FrameProcessor) -> list[Switcher]:
    """The service switchers that a service is in.

    They filter what an inactive service is sent, and nothing of what it pushes
    (`pipeline/service_switcher.py`).
    """
    switchers: list[Switcher] = [p for p in _walk(pipeline) if isinstance(p, ServiceSwitcher)]
    return [switcher for switcher in switchers if _holds(switcher, service)]


def is_active(switcher: Switcher, service: FrameProcessor) -> bool:
    """Whether a switcher gives its work to a service, or to what that is in."""
    return _holds(switcher.strategy.active_service, service)


async def wait_for_user(pipeline: FrameProcessor) -> None:
    """Have the timers of user idleness begin again, after a turn that nobody answers.

    The turn has stopped them. Where an LLM of text answers, Pipecat does this by itself
    (`turns/user_idle_controller.py`).
    """
    for processor in _walk(pipeline):
        if isinstance(processor, LLMUserAggregator | UserTurnProcessor):
            await processor._user_idle_controller.wait_for_user()  # pyright: ignore[reportPrivateUsage]


def _holds(processor: FrameProcessor, service: FrameProcessor) -> bool:
    return any(inner is service for inner in _walk(processor))


def _walk(processor: FrameProcessor) -> Iterator[FrameProcessor]:
    yield processor
    for inner in processor.processors:
        yield from _walk(inner)
