"""A client on WebRTC, without a browser."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aioice.ice import get_host_addresses
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from pipecat.transports.smallwebrtc.transport import RawAudioTrack
from support.bots import until
from support.call import recording
from support.command import LONG_SECS

needs_network = pytest.mark.skipif(
    not get_host_addresses(use_ipv4=True, use_ipv6=True),
    reason="this machine has no network but loopback, over which no WebRTC connection is made",
)

CLIENT_READY = {
    "label": "rtvi-ai",
    "type": "client-ready",
    "id": "1",
    "data": {"version": "2.2.0", "about": {"library": "test"}},
}
"""The first message of a client that speaks RTVI."""


class Browser:
    """Calls a bot as a page does, and keeps what comes over the data channel."""

    def __init__(self, url: str, offer_path: str = "/api/offer", **more: Any):
        self._url = url + offer_path
        self._more = more
        self._peer = RTCPeerConnection()
        self._microphone = RawAudioTrack(16_000)
        self._peer.addTrack(self._microphone)
        self._channel = self._peer.createDataChannel("rtvi")
        self._channel.on("open", self._introduce)
        self._channel.on("message", lambda text: self.messages.append(json.loads(text)))
        self._peer.on("track", self._listen)
        self._listening: set[asyncio.Task[None]] = set()
        self.messages: list[dict[str, Any]] = []
        self.heard_peak = 0
        self.answer: dict[str, str] = {}

    async def call(self) -> None:
        await self._peer.setLocalDescription(await self._peer.createOffer())
        offer = self._peer.localDescription
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                self._url, json={"sdp": offer.sdp, "type": offer.type, **self._more}
            ) as response,
        ):
            assert response.status == 200, await response.text()
            self.answer = await response.json()
        description = RTCSessionDescription(self.answer["sdp"], self.answer["type"])
        await self._peer.setRemoteDescription(description)

    def say(self, name: str) -> None:
        samples = recording(name)
        self._microphone.add_audio_bytes(samples[: len(samples) // 160 * 160].tobytes())

    async def hang_up(self) -> None:
        await self._peer.close()
        for task in self._listening:
            task.cancel()

    @property
    def state(self) -> str:
        return self._peer.connectionState

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    def data(self, kind: str) -> list[Any]:
        return [message["data"] for message in self.messages if message["type"] == kind]

    async def until(self, kind: str, count: int = 1) -> None:
        await until(lambda: self.types().count(kind) >= count, self.types, within=LONG_SECS)

    def _introduce(self) -> None:
        self._channel.send(json.dumps(CLIENT_READY))

    def _listen(self, track: MediaStreamTrack) -> None:
        async def listen() -> None:
            try:
                while True:
                    frame: Any = await track.recv()
                    self.heard_peak = max(self.heard_peak, int(abs(frame.to_ndarray()).max()))
            except MediaStreamError:
                pass

        self._listening.add(asyncio.create_task(listen()))
