"""A project of somebody who tests a bot with the pytest plugin, run in this process."""

import importlib.metadata
from typing import Final

__all__ = ["ARGUMENTS", "VIRTUAL_TIME"]

_PLUGIN: Final = "pipecat_hydra.testing.pytest_plugin"
_INSTALLED: Final = {point.value for point in importlib.metadata.entry_points(group="pytest11")}

# Where pytest-rerunfailures is installed, it leaves a thread and a socket behind.
ARGUMENTS: Final = [
    *("-p", "no:cacheprovider", "-p", "no:rerunfailures"),
    *(("-p", _PLUGIN) if _PLUGIN not in _INSTALLED else ()),
]
"""Arguments of pytest in the project."""

VIRTUAL_TIME: Final = """
    import pytest
    from support.virtual_time import VirtualTimeLoop

    @pytest.hookimpl
    def pytest_asyncio_loop_factories(item):
        return {"virtual": VirtualTimeLoop}
"""
"""What conftest.py of the project says, so that its calls wait for no wall clock."""
