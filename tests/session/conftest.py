"""A Redis server for the tests of what processes share."""

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from support.capacity import RedisServer


@pytest.fixture
def redis_server() -> Generator[RedisServer]:
    """A Redis server that runs, in a folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
