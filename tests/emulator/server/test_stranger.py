"""A client by somebody else, who knows the protocol and nothing of this package."""

import asyncio
import base64
import json
import wave
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from pipecat_hydra.emulator import HydraEmulator

HELLO = Path(__file__).parents[2] / "recordings" / "hello.wav"


async def converse(url: str, key: str, question: Path, answer: Path, *, at_once: bool) -> None:
    configuration = {
        "type": "session.configure",
        "session": {"instructions": "Say back what you hear.", "voice": "aria"},
    }
    async with connect(f"{url}?model=hydra-v1.1&api_key={key}", max_size=None) as websocket:
        if at_once:
            await websocket.send(json.dumps(configuration))
        created = json.loads(await websocket.recv())
        assert created["type"] == "session.created"
        if not at_once:
            await websocket.send(json.dumps(configuration))
        configured = json.loads(await websocket.recv())
        assert configured["type"] == "session.configured"
        rate = configured["session"]["output_audio_sample_rate"]

        async def stream() -> None:
            with wave.open(str(question)) as file:
                pcm = file.readframes(file.getnframes())
            pcm += bytes(38_400)  # 1.2 s of zeros end the turn
            for start in range(0, len(pcm), 3_200):
                piece = pcm[start : start + 3_200].ljust(3_200, b"\0")
                audio = base64.b64encode(piece).decode("ascii")
                await websocket.send(
                    json.dumps({"type": "input_audio_buffer.append", "audio": audio})
                )
                await asyncio.sleep(0.1)

        streaming = asyncio.create_task(stream())
        reply = b""
        async for message in websocket:
            event = json.loads(message)
            if event["type"] == "response.output_audio.delta":
                reply += base64.b64decode(event["delta"])
            elif event["type"] == "response.done":
                break
        await streaming

    with wave.open(str(answer), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(reply)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after session.created"])
async def test_a_stranger_holds_a_conversation(tmp_path: Path, at_once: bool) -> None:
    answer = tmp_path / "answer.wav"
    async with HydraEmulator() as hydra:
        await converse(hydra.url, hydra.api_key, HELLO, answer, at_once=at_once)

    assert hydra.sessions[0].errors == []
    with wave.open(str(answer)) as file:
        assert file.getframerate() == 24_000
        secs = file.getnframes() / file.getframerate()
    assert 0.9 < secs < 1.6  # "hello there how are you" is 1.13 s long
