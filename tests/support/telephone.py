"""A caller on the telephone: the provider's side of a media stream, 8 kHz and 20 ms a frame."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import soxr
from numpy.typing import NDArray
from support.call import pitch, recording
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Provider = Literal["twilio", "telnyx"]

RATE: Final = 8_000
FRAME_SECS: Final = 0.02
FRAME_SAMPLES: Final = 160
CALL_ID: Final = "CA0123456789"
STREAM_ID: Final = "MZ9876543210"

_BIAS: Final = 132
_CLIP: Final = 32_635


def encode(samples: NDArray[np.int16]) -> bytes:
    """PCM16 to µ-law, as ITU-T G.711 has it."""
    wide = samples.astype(np.int32)
    magnitude = np.minimum(np.abs(wide), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    sign = np.where(wide < 0, 0x80, 0)
    return (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()


def decode(data: bytes) -> NDArray[np.int16]:
    """µ-law to PCM16."""
    byte = ~np.frombuffer(data, np.uint8).astype(np.int32) & 0xFF
    magnitude = ((((byte & 0x0F) << 3) + _BIAS) << ((byte >> 4) & 0x07)) - _BIAS
    return np.where(byte & 0x80, -magnitude, magnitude).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Heard:
    """A piece of what the bot said: when it came, the samples at 8 kHz, and their pitch in Hz."""

    time: float
    samples: NDArray[np.int16]
    pitch: float


class Telephone:
    """One call. Until something is said, the line is silent, as a line is: frames go on."""

    def __init__(self, socket: ClientConnection, provider: Provider):
        self._socket = socket
        self._provider: Provider = provider
        self._to_say = np.zeros(0, np.int16)
        self.heard: list[Heard] = []
        self.clears: list[float] = []
        """When the bot had what was not played yet thrown away."""
        self.other: list[dict[str, Any]] = []
        """Messages that are neither audio nor `clear`."""

    async def introduce(self) -> None:
        for message in self._handshake():
            await self._send(message)

    def say(self, name: str) -> float:
        """Say a recording at 16 kHz, and tell how long it is in seconds."""
        samples = soxr.resample(recording(name), 16_000, RATE, quality="VHQ")
        self._to_say = np.concatenate([self._to_say, samples])
        return len(samples) / RATE

    async def speak(self) -> None:
        """Send a frame every 20 ms for as long as the call lasts."""
        start = time.monotonic()
        number = 0
        while True:
            frame, self._to_say = self._to_say[:FRAME_SAMPLES], self._to_say[FRAME_SAMPLES:]
            frame = np.pad(frame, (0, FRAME_SAMPLES - len(frame)))
            await self._send(self._media(number, base64.b64encode(encode(frame)).decode()))
            number += 1
            await asyncio.sleep(max(0.0, start + number * FRAME_SECS - time.monotonic()))

    async def listen(self) -> None:
        """Take what comes, until the bot hangs up."""
        async for text in self._socket:
            message = json.loads(text)
            match message["event"]:
                case "media":
                    samples = decode(base64.b64decode(message["media"]["payload"]))
                    self.heard.append(Heard(time.monotonic(), samples, pitch(samples, RATE)))
                case "clear":
                    self.clears.append(time.monotonic())
                case _:
                    self.other.append(message)

    async def hang_up(self) -> None:
        if self._provider == "twilio":
            await self._send({"event": "stop", "streamSid": STREAM_ID, "stop": {}})
        await self._socket.close()

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(message))

    def _handshake(self) -> list[dict[str, Any]]:
        if self._provider == "twilio":
            return [
                {"event": "connected", "protocol": "Call", "version": "1.0.0"},
                {
                    "event": "start",
                    "sequenceNumber": "1",
                    "streamSid": STREAM_ID,
                    "start": {
                        "streamSid": STREAM_ID,
                        "accountSid": "AC00",
                        "callSid": CALL_ID,
                        "tracks": ["inbound"],
                        "customParameters": {},
                        "mediaFormat": {
                            "encoding": "audio/x-mulaw",
                            "sampleRate": RATE,
                            "channels": 1,
                        },
                    },
                },
            ]
        return [
            {"event": "connected", "version": "1.0.0"},
            {
                "event": "start",
                "sequence_number": "1",
                "stream_id": STREAM_ID,
                "start": {
                    "call_control_id": CALL_ID,
                    "from": "+1",
                    "to": "+2",
                    "media_format": {"encoding": "PCMU", "sample_rate": RATE, "channels": 1},
                },
            },
        ]

    def _media(self, number: int, payload: str) -> dict[str, Any]:
        media = {
            "track": "inbound",
            "chunk": str(number + 1),
            "timestamp": str(number * 20),
            "payload": payload,
        }
        if self._provider == "twilio":
            return {
                "event": "media",
                "sequenceNumber": str(number + 2),
                "streamSid": STREAM_ID,
                "media": media,
            }
        return {
            "event": "media",
            "sequence_number": str(number + 2),
            "stream_id": STREAM_ID,
            "media": media,
        }


@asynccontextmanager
async def telephone(url: str, provider: Provider = "twilio") -> AsyncGenerator[Telephone]:
    """Call a bot; whoever has not hung up by the end does so then."""
    async with connect(f"{url}/ws", compression=None) as socket:
        phone = Telephone(socket, provider)
        await phone.introduce()
        tasks = [asyncio.create_task(phone.speak()), asyncio.create_task(phone.listen())]
        try:
            yield phone
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
                    raise result
