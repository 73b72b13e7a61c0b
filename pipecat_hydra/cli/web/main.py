"""The entry point of `web`: checks that the extra is installed, then runs the server."""

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
        options: The address, and the service to talk to.
        announce: Called with each line for the user.

    Raises:
        TalkError: The extra `web` is not installed, the port is in use, or an option is not
            valid.
        ScriptError: The emulator's script cannot be used.
    """
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise TalkError(f"the page needs {', '.join(missing)}: pip install {' '.join(missing)}")
    from pipecat_hydra.cli.web.server import run

    await run(options, announce)
