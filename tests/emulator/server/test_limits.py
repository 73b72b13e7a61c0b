"""Idle sessions (§1) and audio that comes too fast (§3, `session_ended`)."""

import asyncio

from emulator.client import SILENCE, connected, emulated, recording

from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator


async def test_an_idle_session_is_closed_without_an_error() -> None:
    async with emulated(idle_timeout_secs=0.3) as client:
        await client.configure()
        assert await client.closed() == 1000
        assert client.types == ["session.created", "session.configured"]
        assert await client.session.wait_closed() == 1000
        last = client.session.sent[-1].time
        assert client.session.elapsed - last >= 0.3


async def test_frames_keep_a_session_alive() -> None:
    async with emulated(idle_timeout_secs=1.5) as client:
        await client.configure()
        while client.session.elapsed < 2.0:
            await asyncio.sleep(0.05)
            await client.append(bytes(3_200))
            await asyncio.sleep(0.05)
            await client.send("response.cancel")
        await client.sync()
        assert not client.session.closed


async def test_a_dumped_file_ends_the_session() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.configure()
        dump = asyncio.create_task(client.say(SILENCE * 10))
        assert await client.closed() == 1000
        assert client.of("error")[0]["error"]["code"] == "session_ended"
        assert client.types[-1] == "error"
        # No more than the burst, and what drained in the meantime.
        assert 3.0 <= len(client.session.received_audio) / 32_000 < 9.0
        await asyncio.gather(dump, return_exceptions=True)


async def test_a_dump_may_close_with_another_code() -> None:
    settings = EmulatorSettings(uplink_burst_secs=0.5, session_ended_close_code=1008)
    async with HydraEmulator(settings=settings) as hydra, connected(hydra) as client:
        await client.configure()
        await client.append(SILENCE, event_id="mine")
        assert await client.closed() == 1008
        assert client.of("error")[0]["error"]["event_id"] == "mine"


async def test_twice_real_time_is_a_stream() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE, speed=2)
        await client.got("response.done")
        assert client.session.errors == []
