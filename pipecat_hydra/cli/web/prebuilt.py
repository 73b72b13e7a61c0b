"""Serves Pipecat's prebuilt page beside our own, if `pipecat-ai-prebuilt` is installed.

The machine must be online: the prebuilt page loads its code for the microphone from the internet.
"""

import contextlib
import io
import uuid
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from fastapi import FastAPI

__all__ = ["PREBUILT_PATH", "add_prebuilt", "has_prebuilt"]

PREBUILT_PATH: Final = "/prebuilt"
"""Path of the page, without the slash at its end."""


def has_prebuilt() -> bool:
    """Return whether the prebuilt page is installed."""
    return find_spec("pipecat_ai_prebuilt") is not None


def add_prebuilt(app: FastAPI, offer: Callable[..., Any], candidates: Callable[..., Any]) -> None:
    """Serve the prebuilt page, and the two requests by which it calls (`pipecat/runner/run.py`).

    Args:
        app: The application to add them to.
        offer: Answers an offer.
        candidates: Takes ICE candidates.
    """
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # the package prints where it looks for its files
        page = import_module("pipecat_ai_prebuilt.frontend").PipecatPrebuiltUI

    @app.post("/start")
    async def start() -> dict[str, str]:
        return {"sessionId": str(uuid.uuid4())}

    app.post("/sessions/{session_id}/api/offer")(offer)
    app.patch("/sessions/{session_id}/api/offer")(candidates)
    app.mount(PREBUILT_PATH, page)
