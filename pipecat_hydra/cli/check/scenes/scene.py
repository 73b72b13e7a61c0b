"""What a scene is, and what it is given: where to connect to, and where its logs go."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from pipecat_hydra.cli.check.log import SessionLog
from pipecat_hydra.cli.check.wire import Wire, opened
from pipecat_hydra.recording.writer import CallWriter
from pipecat_hydra.session.endpoint import AuthStyle, Endpoint

__all__ = ["FUNCTION", "INSTRUCTIONS", "Scene", "Stage"]

FUNCTION: Final = "get_weather"
"""The one function that the model may call."""

INSTRUCTIONS: Final = (
    "This is a technical test. When you speak first, count aloud from one to sixty, slowly, and "
    f"say nothing else. When you are asked about the weather, call the function {FUNCTION} at "
    "once, without a word before it, and then tell its result in one short sentence. Answer "
    "anything else in one short sentence. Speak English."
)
"""What the model is told in each scene."""

_TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "name": FUNCTION,
        "description": "Tells the weather of tomorrow in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city"],
        },
    }
]


class Stage:
    """What one scene is given, and the logs of its sessions."""

    def __init__(
        self,
        endpoint: Endpoint,
        voice: str | None,
        record: Callable[[], CallWriter] | None = None,
        *,
        turnover_secs: float = 0.0,
    ):
        """Make the stage of one scene.

        Args:
            endpoint: Where to, with which key, for which model.
            voice: The voice of the sessions; None if the server is to choose.
            record: Begins the recording of the scene, if there is to be one.
            turnover_secs: How long the server is given, after each session, to free its place.
        """
        self.endpoint = endpoint
        self.logs: list[SessionLog] = []
        self._voice = voice
        self._record = record
        self._turnover_secs = turnover_secs
        self.writer: CallWriter | None = None
        """Where the scene is recorded, from its first session on."""

    def session(self, *, voice: str | None = None, **more: Any) -> dict[str, Any]:
        """Return what to configure a session with.

        Args:
            voice: The voice, if not that of all scenes.
            more: More fields, for instance `generate_initial_response`.
        """
        voice = voice or self._voice
        told = {} if voice is None else {"voice": voice}
        return {"instructions": INSTRUCTIONS, "tools": _TOOLS, **told, **more}

    @asynccontextmanager
    async def open(
        self, label: str = "", *, auth: AuthStyle | None = None, **changes: Any
    ) -> AsyncGenerator[Wire]:
        """Open a session.

        Args:
            label: What it is for, if the scene has several.
            auth: Where the key goes, if not where it does in all scenes.
            changes: What else differs from the endpoint: `model`, `api_key`.

        Raises:
            HydraConnectionError: If no connection could be made.
        """
        endpoint = replace(self.endpoint, auth=auth or self.endpoint.auth, **changes)
        log = SessionLog(label, endpoint.model)
        self.logs.append(log)
        if self.writer is None and self._record is not None:
            self.writer = self._record()
        async with opened(endpoint, log, self.writer) as wire:
            yield wire
        await asyncio.sleep(self._turnover_secs)


@dataclass(frozen=True, slots=True)
class Scene:
    """Something that the check does with the server, from which questions are answered.

    Parameters:
        name: Its name.
        how: What it does, in words.
        cost_secs: About how many seconds of session it takes.
        limit_secs: After how many seconds it is given up.
        hold: Does it.
        is_patient: Whether it mostly waits, so that it is held beside the others.
    """

    name: str
    how: str
    cost_secs: float
    limit_secs: float
    hold: Callable[[Stage], Awaitable[None]]
    is_patient: bool = False
