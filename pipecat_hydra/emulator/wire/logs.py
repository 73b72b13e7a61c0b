"""Logging without API keys and without what users say."""

import logging
import traceback

from loguru import logger

websockets_logger: logging.Logger = logging.getLogger("pipecat_hydra.emulator.websockets")
"""The logger for the WebSocket library. At DEBUG the library logs request lines, whose URLs may
hold keys, so this logger starts at WARNING."""
websockets_logger.setLevel(logging.WARNING)


def log_failure(what: str, exception: BaseException) -> None:
    """Log an exception with its traceback, but without the values of variables.

    Loguru's own format adds the values, which may be what a user said.
    """
    logger.error("{}\n{}", what, "".join(traceback.format_exception(exception)))
