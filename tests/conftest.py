"""What all tests share."""

import sys
from collections.abc import Generator

import pytest
from loguru import logger


@pytest.fixture(autouse=True, scope="session")
def _quiet_pipecat() -> Generator[None]:
    """Pipecat logs each frame queue it links; only warnings help to read a failure."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    yield
    logger.remove()


@pytest.fixture
def warnings() -> Generator[list[str]]:
    """What is logged at WARNING or above, one string a line."""
    logged: list[str] = []
    handler = logger.add(lambda message: logged.append(str(message)), level="WARNING")
    yield logged
    logger.remove(handler)
