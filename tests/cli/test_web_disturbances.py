"""What a page may do to a call with the emulator: drop its connection, slow it down, cough."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import InputAudioRawFrame
from pipecat.tests.utils import run_test
from support.bots import until
from support.call import emulator, recording
from support.web import holding

from pipecat_hydra.cli.web.disturbances import DISTURBANCES, Cough, Disturbances, Line
from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator, Say, Script


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1_000):
        writer.write(piece)
    writer.close()


class TestLine:
    async def test_it_carries_both_ways_until_an_end_closes(self):
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Line(f"ws://127.0.0.1:{port}/path") as line:
                assert line.url.endswith("/path")
                near = int(line.url.rpartition(":")[2].partition("/")[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", near)
                writer.write(b"hello" * 1_000)
                writer.write_eof()
                assert await reader.read() == b"hello" * 1_000
                writer.close()

    async def test_it_cuts_what_it_carries_and_carries_again(self):
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Line(f"ws://127.0.0.1:{port}/") as line:
                near = int(line.url.rpartition(":")[2].partition("/")[0])
                for _ in range(2):
                    reader, writer = await asyncio.open_connection("127.0.0.1", near)
                    writer.write(b"hello")
                    assert await reader.read(5) == b"hello"
                    line.drop()
                    assert await reader.read() == b""
                    writer.close()

    async def test_a_far_end_that_is_not_there_closes_the_near_one(self):
        async with Line("ws://127.0.0.1:1/") as line:
            near = int(line.url.rpartition(":")[2].partition("/")[0])
            reader, writer = await asyncio.open_connection("127.0.0.1", near)
            assert await reader.read() == b""
            writer.close()

    async def test_it_is_slow_for_a_while(self):
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Line(f"ws://127.0.0.1:{port}/") as line:
                near = int(line.url.rpartition(":")[2].partition("/")[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", near)
                loop, secs = asyncio.get_running_loop(), []
                line.slow(3.0)
                for _ in range(2):
                    began = loop.time()
                    writer.write(bytes(48_000))
                    await reader.readexactly(48_000)
                    secs.append(loop.time() - began)
                    await asyncio.sleep(3)
                writer.close()
        # A second there, and what came last of it back.
        assert 0.9 < secs[0] < 2.5
        assert secs[1] < 0.2


class TestCough:
    async def test_it_is_mixed_into_one_stretch_of_the_microphone(self):
        silence = [InputAudioRawFrame(bytes(640), 16_000, 1) for _ in range(30)]
        cough = Cough()
        cough.cough()
        down, _ = await run_test(cough, frames_to_send=silence)
        heard = [frame for frame in down if isinstance(frame, InputAudioRawFrame)]
        assert len(heard) == 30
        levels = [np.abs(np.frombuffer(frame.audio, "<i2").astype(int)).max() for frame in heard]
        assert all(len(frame.audio) == 640 for frame in heard)
        assert 0.2 < 0.02 * sum(level > 0 for level in levels) < 0.4
        assert max(levels) > 3_000
        assert set(levels[16:]) == {0}

    async def test_it_adds_to_what_is_said_and_clips(self):
        loud = np.full(640, 32_000, "<i2").tobytes()  # of two channels
        cough = Cough()
        cough.cough()
        down, _ = await run_test(
            cough, frames_to_send=[InputAudioRawFrame(loud, 16_000, 2) for _ in range(20)]
        )
        pcm = b"".join(frame.audio for frame in down if isinstance(frame, InputAudioRawFrame))
        heard = np.frombuffer(pcm, "<i2")
        assert heard.max() == 32_767
        assert (heard.reshape(-1, 2)[:, 0] == heard.reshape(-1, 2)[:, 1]).all()


class TestCall:
    async def test_its_connection_is_dropped_and_comes_back(self, monkeypatch: pytest.MonkeyPatch):
        async with (
            emulator() as hydra,
            Disturbances(hydra.url) as disturbances,
            holding(hydra, monkeypatch, disturbances=disturbances) as (page, _),
        ):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            await page.send("disturb", {"what": "drop"})
            await until(lambda: page.told("note"))
            await page.microphone.say(recording("hello"))
            await page.until("bot-started-speaking", 2)
            assert len(hydra.sessions) == 2
            (told,) = page.told("disturbance")
            assert told["what"] == "drop"
            assert told["text"] == DISTURBANCES["drop"]

    async def test_a_cough_is_noise_and_the_reply_goes_on(self, monkeypatch: pytest.MonkeyPatch):
        hydra = HydraEmulator(
            Script([], greeting=Say.tones(6, "A long greeting.")),
            settings=EmulatorSettings(transcripts=True, min_turn_ms=450),
        )
        async with (
            hydra,
            Disturbances(hydra.url) as disturbances,
            holding(hydra, monkeypatch, disturbances=disturbances) as (page, _),
        ):
            await page.introduce()
            await page.until("bot-started-speaking")
            await page.send("disturb", {"what": "cough"})
            await until(lambda: page.told("discarded"))
            await page.until("bot-stopped-speaking", 2)
            assert page.types().count("user-started-speaking") == 1
            assert page.types().count("bot-started-speaking") == 2
            (session,) = hydra.sessions
            assert len(session.sent_of("response.created")) == 1

    async def test_what_there_is_not(self, monkeypatch: pytest.MonkeyPatch):
        async with (
            emulator() as hydra,
            Disturbances(hydra.url) as disturbances,
            holding(hydra, monkeypatch, disturbances=disturbances) as (page, _),
        ):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            for what in ("explode", None, ["drop"], {"what": "drop"}):
                await page.send("disturb", {"what": what})
            await page.send("disturb", "drop")
            await page.send("disturb", {"what": "slow"})
            await until(lambda: page.told("disturbance"))
            (told,) = page.told("disturbance")
            assert told["what"] == "slow"
