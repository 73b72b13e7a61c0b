"""Protocol §1 and §2: the upgrade and what comes before the first audio."""

import asyncio
import json
from typing import Any

import pytest
from emulator.client import SILENCE, connected, emulated, fast, recording
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator, Say


async def refused(url: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, **options).__aenter__()
    return caught.value.response.status_code


async def test_bad_or_missing_key_is_401() -> None:
    async with HydraEmulator(api_key="sk-right") as hydra:
        assert await refused(hydra.url) == 401
        assert await refused(f"{hydra.url}?api_key=sk-wrong") == 401
        for value in ("Bearer sk-wrong", "Basic sk-right", "Bearer", "Bearer sk-\xe9"):
            headers = {"Authorization": value}
            assert await refused(hydra.url, additional_headers=headers) == 401
        both = {"Authorization": "Bearer sk-right"}
        assert await refused(f"{hydra.url}?api_key=sk-wrong", additional_headers=both) == 401
        assert hydra.sessions == []


async def test_bearer_token_is_accepted() -> None:
    async with HydraEmulator(api_key="sk-right") as hydra:
        headers = {"Authorization": "Bearer sk-right"}
        async with connect(hydra.url, additional_headers=headers) as websocket:
            assert json.loads(await websocket.recv())["type"] == "session.created"


async def test_other_path_is_404_and_unknown_model_400() -> None:
    async with HydraEmulator() as hydra:
        key = f"api_key={hydra.api_key}"
        assert await refused(f"{hydra.url}/more?{key}") == 404
        assert await refused(f"{hydra.url}?model=hydra-v9&{key}") == 400


async def test_model_defaults_to_the_current_one() -> None:
    async with (
        HydraEmulator() as hydra,
        connect(f"{hydra.url}?api_key={hydra.api_key}") as websocket,
    ):
        await websocket.recv()
        assert hydra.sessions[0].model == "hydra-v1.1"


async def test_deprecated_model_warns_before_created() -> None:
    async with HydraEmulator() as hydra, connected(hydra, "hydra") as client:
        created = await client.got("session.created")
        assert client.types == ["warning", "session.created"]
        assert client.events[0]["code"] == "model_deprecated"
        assert created["session_id"] == client.session.id


async def test_every_event_has_an_id_of_its_own() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.configure(generate_initial_response=True)
        await client.got("response.done")
        ids = [event["event_id"] for event in client.events]
        assert all(name.startswith("sv_") for name in ids)
        assert len(set(ids)) == len(ids)


async def test_configured_echoes_what_is_in_force() -> None:
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    async with HydraEmulator() as hydra, connected(hydra) as client:
        session = await client.configure(instructions="Be brief.", tools=tools)
        assert session == {
            "instructions": "Be brief.",
            "voice": "aria",
            "tools": tools,
            "generate_initial_response": False,
            "input_audio_format": "pcm16",
            "input_audio_sample_rate": 16_000,
            "output_audio_format": "pcm16",
            "output_audio_sample_rate": 24_000,
        }
        assert client.session.configuration == {
            "instructions": "Be brief.",
            "voice": "aria",
            "tools": tools,
        }
        assert client.session.unknown_fields == ()


@pytest.mark.parametrize(
    ("model", "rate"), [("hydra-v1.1", 24_000), ("hydra-v1.0", 48_000), ("hydra", 48_000)]
)
async def test_output_rate_goes_by_model(model: str, rate: int) -> None:
    pcm = bytes(range(256)) * 30
    async with (
        HydraEmulator([Say(pcm, rate)], settings=EmulatorSettings(**fast())) as hydra,
        connected(hydra, model) as client,
    ):
        await client.send("session.configure", session={})
        session = (await client.got("session.configured"))["session"]
        assert session["output_audio_sample_rate"] == rate
        assert session["voice"] == "sterling"
        await client.send("response.create")
        await client.got("response.done")
        assert client.audio() == pcm  # the same rate: byte for byte


async def test_output_rate_can_be_other_and_untold() -> None:
    settings = {"output_sample_rate": 16_000, "echo_output_rate": False}
    async with emulated([Say(bytes(3_200), 16_000)], **settings) as client:
        assert "output_audio_sample_rate" not in await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        assert len(client.audio()) == 3_200


async def test_unknown_voice_is_rejected_and_nothing_configured() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        session = {"voice": "wren"}  # of a roster that was replaced (protocol §2)
        await client.send("session.configure", event_id="mine", session=session)
        error = (await client.got("error"))["error"]
        assert error["code"] == "invalid_request_error"
        assert error["param"] == "session.configure.session.voice"
        assert error["event_id"] == "mine"
        await client.send("session.configure", session={"voice": "aria"})
        await client.sync()
        assert client.types == ["session.created", "error"]
        assert not client.session.configured


@pytest.mark.parametrize("after", ["retry", "close", "default_voice"])
async def test_what_follows_a_rejected_voice_can_be_other(after: str) -> None:
    settings = EmulatorSettings(after_rejection=after)  # type: ignore[arg-type]
    async with HydraEmulator(settings=settings) as hydra, connected(hydra) as client:
        await client.send("session.configure", session={"voice": "wren"})
        assert (await client.got("error"))["error"]["param"] == "session.configure.session.voice"
        if after == "close":
            assert await client.closed() == 1000
            return
        if after == "retry":
            await client.send("session.configure", session={"voice": "leo"})
        session = (await client.got("session.configured"))["session"]
        assert session["voice"] == ("leo" if after == "retry" else "sterling")
        await client.send("response.create")
        await client.got("response.done")


async def test_unknown_fields_of_configure_pass_silently_but_are_told_to_the_test() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.send(
            "session.configure", session={"instrutcions": "x", "voice": "leo"}, more=1
        )
        session = (await client.got("session.configured"))["session"]
        assert "instrutcions" not in session
        assert client.session.unknown_fields == ("more", "session.instrutcions")
        assert client.session.errors == []


async def test_only_the_first_configure_counts() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.configure(instructions="first")
        await client.send("session.configure", session={"voice": "leo"})
        await client.sync()
        assert client.types == ["session.created", "session.configured"]
        assert client.session.configuration == {"instructions": "first", "voice": "aria"}


async def test_handshake_can_be_slow_and_early_audio_is_dropped() -> None:
    async with emulated(created_delay_secs=0.2, configured_delay_secs=0.2) as client:
        await client.send("session.configure", session={"voice": "aria"})
        await client.say(recording("hello"), SILENCE)
        await client.got("session.configured")
        await client.say(SILENCE)
        await client.sync()
        session = client.session
        assert client.types == ["session.created", "session.configured"]
        assert session.sent_of("session.created")[0].time >= 0.2
        assert session.sent_of("session.configured")[0].time >= 0.4
        assert session.early_audio_events > 0
        assert session.received_audio == SILENCE


async def test_early_audio_may_end_the_session() -> None:
    settings = EmulatorSettings(early_audio="end")
    async with HydraEmulator(settings=settings) as hydra, connected(hydra) as client:
        await client.append(bytes(640), event_id="mine")
        assert await client.closed() == 1000
        error = client.of("error")[0]["error"]
        assert (error["code"], error["event_id"]) == ("session_ended", "mine")


async def test_a_session_that_ended_may_stay_open_and_deaf() -> None:
    settings = EmulatorSettings(early_audio="end", session_ended_close_code=None)
    async with HydraEmulator(settings=settings) as hydra, connected(hydra) as client:
        await client.append(bytes(640))
        assert (await client.got("error"))["error"]["code"] == "session_ended"
        await client.send("session.configure", session={"voice": "aria"})
        await client.send("no.such.event")
        await asyncio.sleep(5)
        assert client.types == ["session.created", "error"]
        assert not client.session.closed


async def test_a_full_server_says_so_and_closes() -> None:
    settings = EmulatorSettings(max_sessions=1)
    async with HydraEmulator(settings=settings) as hydra:
        async with connected(hydra) as first:
            await first.got("session.created")
            async with connected(hydra) as second:
                assert await second.closed() == 1013
                assert second.types == ["error"]
                assert second.events[0]["error"]["code"] == "server_full"
            await first.configure()
        await hydra.sessions[0].wait_closed()
        async with connected(hydra) as third:
            await third.got("session.created")


async def test_a_configuration_too_large_gets_no_audio() -> None:
    async with emulated(transcripts=True) as client:
        await client.configure(instructions="x" * 18_000, generate_initial_response=True)
        done = await client.got("response.done")
        assert done["response"]["status"] == "completed"
        assert client.of("response.output_audio.delta") == []
        assert client.session.configuration_bytes > 18_000
