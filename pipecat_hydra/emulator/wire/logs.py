"""What the emulator logs, and how it keeps keys and users' words out of it."""

import logging
import traceback

from loguru import logger

websockets_logger = logging.getLogger("pipecat_hydra.emulator.websockets")
"""For the WebSocket library, which at DEBUG logs request lines, and with them keys in URLs."""
websockets_logger.setLevel(logging.WARNING)


def log_failure(what: str, exception: BaseException) -> None:
    """Log an exception with its traceback.

    Loguru's own way adds the values of variables, which may be what a user said.
    """
    logger.error("{}\n{}", what, "".join(traceback.format_exception(exception)))
