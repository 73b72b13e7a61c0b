"""Functions that the model can call from the web page."""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from pipecat.services.llm_service import FunctionCallParams

from pipecat_hydra.cli.talk.tools import SAMPLE_TOOLS
from pipecat_hydra.service.pipecat_versions import DirectFunction

__all__ = ["TOOLS", "get_time"]


async def get_time(params: FunctionCallParams, time_zone: str) -> None:
    """Get the date and the time of day in a time zone.

    Args:
        params: Takes the result.
        time_zone: Name of the time zone as IANA has it, for example Europe/Rome.
    """
    try:
        now = datetime.now(ZoneInfo(time_zone))
    # A name that is not a path, or names a directory, raises other exceptions.
    except (LookupError, ValueError, OSError):
        await params.result_callback({"error": f"There is no time zone {time_zone!r}."})
        return
    await params.result_callback(
        {"time_zone": time_zone, "date": f"{now:%A, %d %B %Y}", "time": f"{now:%H:%M}"}
    )


TOOLS: Final[tuple[DirectFunction, ...]] = (*SAMPLE_TOOLS, get_time)
"""The sample functions of `pipecat-hydra talk`, with invented data, and the real time."""
