"""The options of `pipecat-hydra web`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipecat_hydra.wire.protocol import DEFAULT_BASE_URL, DEFAULT_MODEL

__all__ = ["DEFAULT_INSTRUCTIONS", "WebOptions"]

DEFAULT_INSTRUCTIONS: Final = (
    "You are a warm, concise voice assistant. Reply in one or two short sentences. Use your "
    "functions for the weather and for the time."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """The address of the page, and the service that it talks to.

    Parameters:
        host: Address or name to listen on.
        port: TCP port; 0 for any that is free.
        allowed_hosts: Host names that requests may use, besides localhost, IP addresses and the
            names of this machine.
        api_key: The Smallest AI key; `None` for the embedded emulator.
        base_url: The endpoint, without query. Not used with the emulator.
        model: The model.
        voice: Its voice; `None` for the model's default.
        instructions: The system instruction.
        script: The emulator's script, a YAML file; `None` for the script of the package.
            Not used with a key.
        record: Folder in which the calls are recorded for good; `None` to record them for their
            pages only, until the server ends.
    """

    host: str = "127.0.0.1"
    port: int = 0
    allowed_hosts: tuple[str, ...] = ()
    api_key: str | None = None
    base_url: str = DEFAULT_BASE_URL
    model: str = DEFAULT_MODEL
    voice: str | None = None
    instructions: str = DEFAULT_INSTRUCTIONS
    script: Path | None = None
    record: Path | None = None

    def __repr__(self) -> str:
        """Leave out the key."""
        return f"<WebOptions {self.host}:{self.port}, {self.base_url}>"
