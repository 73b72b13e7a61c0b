"""Writes recordings of calls event by event, and plays them to a small client."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from emulator.client import Client, connected
from pipecat_hydra.emulator import HydraEmulator

Samples = NDArray[np.int16]

USER_RATE = 16_000
BOT_RATE = 24_000
FRAME = USER_RATE // 50
DELTA = "response.output_audio.delta"


def tone(secs: float, rate: int = BOT_RATE, *, hz: float = 440) -> Samples:
    moments = np.arange(round(secs * rate)) / rate
    return (8_000 * np.sin(2 * np.pi * hz * moments)).astype(np.int16)


def quiet(secs: float) -> Samples:
    return np.zeros(round(secs * USER_RATE), np.int16)


def voice(secs: float) -> Samples:
    """What counts as sound of the user."""
    return tone(secs, USER_RATE, hz=200)


class Play:
    """A recorded call, event by event; each has its time in seconds."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.user = quiet(0)
        self.bot = np.zeros(0, np.int16)
        self.session = 0

    def call(self, t: float, kind: str, **fields: Any) -> None:
        self.rows.append({"t": t, "source": "call", "type": kind, **fields})

    def opens(self, t: float, *, after: float = 0.0) -> None:
        self.session += 1
        self.call(t - after, "session_opening")
        self.call(t, "session_open")

    def _event(self, t: float, source: str, kind: str, audio: Any, fields: Any) -> None:
        row = {"t": t, "source": source, "session": self.session, "event": {"type": kind, **fields}}
        self.rows.append(row if audio is None else {**row, "audio": audio})

    def server(self, t: float, kind: str, **fields: Any) -> None:
        self._event(t, "server", kind, None, fields)

    def client(self, t: float, kind: str, **fields: Any) -> None:
        self._event(t, "client", kind, None, fields)

    def begins(self, t: float = 0.0, **session: Any) -> None:
        """A session that is opened and configured at once."""
        self.opens(t)
        self.server(t, "session.created", session_id=f"session_{self.session}")
        self.client(t, "session.configure", session={"voice": "aria", **session})
        self.server(t, "session.configured", session={})

    def says(self, t: float, *pieces: Samples) -> float:
        """The user's audio in frames of 20 ms from a time on; returns when it ends."""
        pcm = np.concatenate(pieces)
        for first in range(0, len(pcm), FRAME):
            t += FRAME / USER_RATE
            audio = ["user.flac", len(self.user) + first, len(pcm[first : first + FRAME])]
            self._event(t, "client", "input_audio_buffer.append", audio, {"audio": ""})
        self.user = np.concatenate([self.user, pcm])
        return t

    def speaks(self, t: float, pcm: Samples, response_id: str) -> None:
        """A piece of the bot's audio."""
        audio = ["bot.flac", len(self.bot), len(pcm)]
        self._event(t, "server", DELTA, audio, {"response_id": response_id, "delta": ""})
        self.bot = np.concatenate([self.bot, pcm])

    def replies(self, t: float, response_id: str, *, until: float) -> None:
        """A response without audio."""
        self.server(t, "response.created", response={"id": response_id})
        self.server(until, "response.done", response={"id": response_id, "status": "completed"})

    def calls(self, t: float, call_id: str) -> None:
        """A response that calls a function."""
        of = {"response_id": f"resp_{call_id}", "call_id": call_id}
        self.server(t, "response.created", response={"id": of["response_id"]})
        self.server(t, "response.function_call_arguments.done", name="f", arguments="{}", **of)
        self.server(t, "response.done", response={"id": of["response_id"]})

    def answers(self, t: float, call_id: str, output: str) -> None:
        """The output of a function."""
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.client(t, "conversation.item.create", item=item)

    def write(self, folder: Path, *, audio: bool = True) -> Path:
        folder /= "call"
        folder.mkdir()
        header = {"type": "header", "format": "pipecat-hydra recording", "version": 1, "t": 0.0}
        rows = [{"at": row["t"], **row} for row in sorted(self.rows, key=lambda row: row["t"])]
        lines = [header, *rows, {"type": "end", "t": rows[-1]["t"], "reason": "ended"}]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "call.jsonl").write_text(text, encoding="utf-8")
        if audio:
            sf.write(folder / "user.flac", self.user, USER_RATE, subtype="PCM_16")
            sf.write(folder / "bot.flac", self.bot, BOT_RATE, subtype="PCM_16")
        return folder


class ReplayClient:
    """A client of a replay."""

    def __init__(self, hydra: HydraEmulator, client: Client) -> None:
        self.hydra = hydra
        self.client = client

    async def says(self, *pieces: Samples, frame: int = FRAME) -> None:
        """Send audio at real time."""
        pcm = np.concatenate(pieces)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for first in range(0, len(pcm), frame):
            piece = pcm[first : first + frame]
            # Some event loops wait for whole milliseconds, which would add up.
            await asyncio.sleep(began + (first + len(piece)) / USER_RATE - loop.time())
            await self.client.append(piece.tobytes())

    async def answers(self, call_id: str, output: str) -> None:
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        await self.client.send("conversation.item.create", item=item)

    def sent_at(self, kind: str) -> list[float]:
        """When the server sent each event of a type, in seconds since the session opened."""
        return [record.time for record in self.hydra.sessions[-1].sent_of(kind)]

    @property
    def differences(self) -> list[str]:
        return [difference.what for difference in self.hydra.differences]


@asynccontextmanager
async def replayed(folder: Path, **kwargs: Any) -> AsyncGenerator[ReplayClient]:
    """Play a recording to a client."""
    async with (
        HydraEmulator.from_recording(folder, **kwargs) as hydra,
        connected(hydra) as client,
    ):
        yield ReplayClient(hydra, client)
