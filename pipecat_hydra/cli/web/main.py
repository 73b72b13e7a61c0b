"""The way in: whether all that is needed is installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from pipecat_hydra.cli.talk import TalkError
from pipecat_hydra.cli.web.options import WebOptions

__all__ = ["serve"]

_EXTRA: Final = ("aiortc", "fastapi", "uvicorn")


async def serve(options: WebOptions, announce: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM, or until it is cancelled.

    Args:
        options: Where, and whom it talks to.
        announce: Is called with each line that the user should read.

    Raises:
        TalkError: The extra `web` is not installed, the port is taken, or an option asks
            for what cannot be.
        ScriptError: The emulator's script cannot be used.
    """
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise TalkError(f"the page needs {', '.join(missing)}: pip install 'pipecat-hydra[web]'")
    from pipecat_hydra.cli.web.server import run

    await run(options, announce)
