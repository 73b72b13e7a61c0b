"""What a page may do to a call with the emulator: drop its connection, slow it down, cough.

The connection of such a call goes through a `Line`, a relay on this machine. So a disturbance
concerns one call alone, and neither the service nor the emulator knows of it. A cough is mixed into
the microphone of the call by a `Cough`, a processor of its pipeline.
"""

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

__all__ = ["DISTURBANCES", "Cough", "Disturbances", "Line"]

DISTURBANCES: Final = {
    "drop": "The connection to the emulator was dropped.",
    "cough": "A cough was mixed into the microphone.",
    "slow": "The network is slow for 8 seconds.",
}
"""What there is, and what the page shows of it."""

_SLOW_SECS: Final = 8.0
_SLOW_BYTES_PER_SEC: Final = 48_000
"""Enough for the user's audio; too little for that of a reply, which comes at twice that."""

_PIECE_BYTES: Final = 2_400

_VOICE: Final = Path(__file__).parent / "demo" / "greeting.ogg"
_COUGH_SECS: Final = (0.05, 0.35)
"""The part of the recording that is the cough: voiced, but too short for a turn."""


class Line:
    """A relay between a call and its emulator, which can be cut and slowed.

    It carries from `__aenter__` to `__aexit__`; no task is left after that.
    """

    def __init__(self, base_url: str):
        """Create a relay.

        Args:
            base_url: The emulator's URL, `ws://`.
        """
        far = urlsplit(base_url)
        self._host, self._port, self._path = far.hostname or "", far.port or 80, far.path
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._slow_until = 0.0

    @property
    def url(self) -> str:
        """The URL to connect to in place of the emulator's."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cut what is still carried."""
        assert self._server is not None
        self._server.close()
        cut = set(self._carrying)
        self.drop()
        await asyncio.gather(*cut, return_exceptions=True)

    def drop(self) -> None:
        """Cut all connections; what is on the way is lost."""
        for carrying in self._carrying:
            carrying.cancel()

    def slow(self, secs: float = _SLOW_SECS) -> None:
        """Carry less than a reply needs, for so many seconds from now."""
        self._slow_until = time.monotonic() + secs

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying = asyncio.create_task(self._carry(reader, writer))
        self._carrying.add(carrying)
        carrying.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until an end of it closes."""
        ends = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            ends.append(far_writer)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pump(reader, far_writer))
                ways.create_task(self._pump(far_reader, writer))
        except* OSError:
            pass  # an end has reset its connection
        finally:
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            if time.monotonic() < self._slow_until:
                await asyncio.sleep(len(piece) / _SLOW_BYTES_PER_SEC)
            writer.write(piece)
            await writer.drain()
        writer.write_eof()


class Cough(FrameProcessor):
    """Stands behind the microphone, and mixes a cough into it when it is asked to."""

    def __init__(self):
        """Create the processor, which passes all on as it is."""
        super().__init__()
        self._left: NDArray[np.int16] = np.empty(0, np.int16)
        self._is_asked = False

    def cough(self) -> None:
        """Mix a cough into what comes from now on."""
        self._is_asked = True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame on, with the cough in it if it is audio."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if self._is_asked:
                self._is_asked = False
                self._left = await asyncio.to_thread(_cough_at, frame.sample_rate)
            if len(self._left):
                self._mix(frame)
        await self.push_frame(frame, direction)

    def _mix(self, frame: InputAudioRawFrame) -> None:
        heard = np.frombuffer(frame.audio, "<i2").reshape(-1, frame.num_channels).astype(np.int32)
        now, self._left = self._left[: len(heard)], self._left[len(heard) :]
        heard[: len(now)] += now[:, np.newaxis]
        frame.audio = heard.clip(-32_768, 32_767).astype("<i2").tobytes()


class Disturbances:
    """What can be done to one call, from `__aenter__` to `__aexit__`.

    Attributes:
        line: The line of the call.
        microphone: The processor behind its microphone.
    """

    def __init__(self, base_url: str):
        """Create the line and the processor.

        Args:
            base_url: The emulator's URL, `ws://`.
        """
        self.line: Line = Line(base_url)
        self.microphone: Cough = Cough()

    async def __aenter__(self) -> Self:
        """Open the line."""
        await self.line.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the line."""
        await self.line.__aexit__(exc_type, exc, traceback)

    def cause(self, what: str) -> None:
        """Disturb the call.

        Args:
            what: One of `DISTURBANCES`.
        """
        match what:
            case "drop":
                self.line.drop()
            case "slow":
                self.line.slow()
            case _:
                self.microphone.cough()


def _cough_at(rate: int) -> NDArray[np.int16]:
    """Return the samples of a cough, mono, at a rate in Hz."""
    voice, voice_rate = sf.read(_VOICE, dtype="float64")
    begin, end = (round(secs * voice_rate) for secs in _COUGH_SECS)
    burst = voice[begin:end]
    fade = round(0.03 * voice_rate)
    burst[-fade:] *= np.linspace(1, 0, fade)
    return (soxr.resample(burst, voice_rate, rate) * 32_767).astype(np.int16)
