"""Sample functions that `--sample-tools` offers to the model, to try function calls."""

from typing import Final

from pipecat.services.llm_service import FunctionCallParams

from pipecat_hydra.service.pipecat_versions import DirectFunction

__all__ = ["SAMPLE_TOOLS", "get_weather"]

_FORECASTS: Final = {
    "paris": ("sunny", 21),
    "rome": ("rain", 17),
}
_ANYWHERE_ELSE: Final = ("cloudy", 15)


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """Get the weather forecast for tomorrow.

    Args:
        params: Takes the result.
        city: Name of the city, without its country.
    """
    sky, degrees = _FORECASTS.get(city.strip().casefold(), _ANYWHERE_ELSE)
    await params.result_callback({"city": city, "sky": sky, "degrees_celsius": degrees})


SAMPLE_TOOLS: Final[tuple[DirectFunction, ...]] = (get_weather,)
"""The functions of `pipecat-hydra talk --sample-tools`; their data is invented."""
