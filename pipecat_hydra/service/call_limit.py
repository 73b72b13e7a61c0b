"""Ends the pipeline when the call has lasted as long as it may."""

from typing import Any

from loguru import logger
from pipecat.frames.frames import EndWorkerFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService

__all__ = ["end_call"]


async def end_call(service: LLMService[Any]) -> None:
    """End the pipeline gracefully: what the bot is saying is heard to its end.

    Args:
        service: The service whose call it is.
    """
    logger.debug(f"{service}: the call has reached max_call_secs")
    # Upstream, so that the user is heard no more while the bot says goodbye.
    frame = EndWorkerFrame(reason="the call has reached max_call_secs")
    await service.push_frame(frame, FrameDirection.UPSTREAM)
