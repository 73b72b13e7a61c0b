"""Clients of other people talk to the emulator as they are, but for the URL (`strangers`)."""

import asyncio
import uuid
import wave
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from emulator.client import recording
from emulator.strangers import Benchmark, Browser, Quickstart, QuickstartError, Snippets, send
from pipecat_hydra.emulator import Call, EmulatorSettings, HydraEmulator, Say, Script

HELLO = recording("hello")
PAGE = "http://localhost:3000"
"""Where the vendor's browser client is served."""

NOON = Say.tones(1.0, "It is noon in Paris.")


def emulator(responder: Any = "echo", **settings: Any) -> HydraEmulator:
    return HydraEmulator(responder, settings=EmulatorSettings(**settings))


def url(hydra: HydraEmulator, model: str = "hydra") -> str:
    return f"{hydra.url}?model={model}&api_key={hydra.api_key}"


class TestQuickstart:
    async def test_its_recording_has_the_rate_that_it_asked_for(self, tmp_path: Path) -> None:
        async with emulator([NOON], honour_output_rate=True) as hydra:
            client = Quickstart(url(hydra))
            await client.run(HELLO, tmp_path / "reply.wav")
            assert hydra.sessions[0].errors == []
            assert hydra.sessions[0].output_sample_rate == 16_000
        with wave.open(str(tmp_path / "reply.wav")) as file:
            assert file.getnframes() / file.getframerate() == pytest.approx(1.0, abs=0.01)
        assert client.printed == "[speech_started][speech_stopped]It is noonin Paris."

    async def test_a_server_that_ignores_the_rate_speaks_slowly(self, tmp_path: Path) -> None:
        async with emulator([NOON]) as hydra:
            await Quickstart(url(hydra)).run(HELLO, tmp_path / "reply.wav")
            assert hydra.sessions[0].output_sample_rate == 48_000
        with wave.open(str(tmp_path / "reply.wav")) as file:
            assert file.getnframes() / file.getframerate() == pytest.approx(3.0, abs=0.01)

    @pytest.mark.parametrize(
        "settings",
        [
            {"configured_delay_secs": 0.2},
            {"audio_key": "audio"},
            {"base64_lines": True},
            {"delta_ms": 1000},
        ],
        ids=str,
    )
    async def test_it_takes_other_readings(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        async with emulator([NOON], honour_output_rate=True, **settings) as hydra:
            client = Quickstart(url(hydra))
            await client.run(HELLO, tmp_path / "reply.wav")
            assert client.reply == hydra.sessions[0].sent_audio()
        assert len(client.reply) == 32_000

    async def test_its_voice_of_an_old_roster_is_rejected(self, tmp_path: Path) -> None:
        async with emulator() as hydra:
            with pytest.raises(QuickstartError, match=r"session\.configure\.session\.voice"):
                await Quickstart(url(hydra), voice="wren").run(HELLO, tmp_path / "reply.wav")
        async with emulator(voices="any") as hydra:
            await Quickstart(url(hydra), voice="wren").run(HELLO, tmp_path / "reply.wav")
            assert hydra.sessions[0].errors == []


def look_up(name: str, arguments: dict[str, Any]) -> str:
    return f"{name} {arguments}"


def browser(hydra: HydraEmulator, voice: str = "aria") -> Browser:
    return Browser(hydra.url, hydra.api_key, origin=PAGE, voice=voice, tool=look_up)


class TestBrowser:
    async def test_a_page_is_refused_unless_it_is_named(self) -> None:
        async def leave(client: Browser) -> None:
            await client.until(lambda: client.finished)

        async with emulator() as hydra:
            with pytest.raises(InvalidStatus) as caught:
                await browser(hydra).run(leave)
            assert hydra.sessions == []
        response = caught.value.response
        assert response.status_code == 403
        assert response.body is not None
        assert "--allow-origin" in response.body.decode()
        async with emulator(allowed_origins=(PAGE,)) as hydra:
            client = browser(hydra)
            await client.run(leave)
            assert hydra.sessions[0].model == "hydra"
        assert client.errors == []
        assert str(uuid.UUID(client.session_id)) == client.session_id

    @pytest.mark.parametrize("voice", ["aria", "maya", "marin", "sterling", "kai", "zoe"])
    async def test_its_voices_are_accepted(self, voice: str) -> None:
        async def leave(client: Browser) -> None:
            await client.until(lambda: client.finished)

        async with emulator(allowed_origins=(PAGE,)) as hydra:
            client = browser(hydra, voice)
            await client.run(leave)
            assert client.errors == []
            assert client.rate == hydra.sessions[0].output_sample_rate == 48_000
            assert client.playing == hydra.sessions[0].sent_audio()

    async def test_an_interrupted_bubble_stays_incomplete(self) -> None:
        async def interrupt(client: Browser) -> None:
            await client.until(lambda: client.finished == ["completed"])
            await client.say(HELLO)
            await client.until(lambda: client.playing)
            await client.say(HELLO)
            await client.until(lambda: len(client.finished) == 3)

        long = Say.tones(30.0, "A long story.")
        async with emulator([long, NOON], allowed_origins=(PAGE,), delivery_speed=3.0) as hydra:
            client = browser(hydra)
            await client.run(interrupt)
            assert hydra.sessions[0].errors == []
        assert client.finished == ["completed", "cancelled", "completed"]
        assert client.stopped == 2
        shown = [(bubble["role"], bubble["status"]) for bubble in client.bubbles.values()]
        assert shown == [
            ("assistant", "completed"),
            ("user", "completed"),
            ("assistant", "incomplete"),
            ("user", "completed"),
            ("assistant", "completed"),
        ]

    async def test_two_calls_are_narrated_once(self) -> None:
        async def ask(client: Browser) -> None:
            await client.until(lambda: client.finished)
            await client.show("The user looks at a map.")
            await client.say(HELLO)
            await client.until(lambda: len(client.finished) == 3)

        calls = [Call("get_weather", {"city": "Paris"}), Call("get_time"), NOON]
        async with emulator([calls], allowed_origins=(PAGE,)) as hydra:
            await browser(hydra).run(ask)
            (narration,) = hydra.sessions[0].narrations
            assert hydra.sessions[0].errors == []
        assert narration.missing == ()
        assert [o.output for o in narration.outputs] == [
            "get_weather {'city': 'Paris'}",
            "get_time {}",
        ]


class TestSnippets:
    async def test_a_recording_without_silence_is_answered_after_a_gap(self) -> None:
        async with emulator(gap_ends_turn_secs=0.8) as hydra:
            client = Snippets(url(hydra, "hydra-v1.1"), voice="aria")
            await client.run(HELLO, replies=1)
            assert client.reply == hydra.sessions[0].sent_audio()
            assert hydra.sessions[0].errors == []
            assert len(hydra.sessions[0].received_audio) == len(HELLO)
        assert client.types.count("input_audio_buffer.speech_stopped") == 1

    async def test_only_silence_ends_a_turn_by_default(self) -> None:
        async with emulator() as hydra:
            client = Snippets(url(hydra, "hydra-v1.1"), voice="aria")
            with pytest.raises(TimeoutError):
                await client.run(HELLO, replies=1)
        assert client.types[-1] != "input_audio_buffer.speech_stopped"

    async def test_calls_are_narrated_once(self) -> None:
        turn = [Call("get_weather", {"city": "Paris"}), Call("get_time"), NOON]
        async with emulator([turn], gap_ends_turn_secs=0.8) as hydra:
            client = Snippets(url(hydra, "hydra-v1.1"), voice="maya")
            await client.run(HELLO, replies=2)
            (narration,) = hydra.sessions[0].narrations
            assert hydra.sessions[0].errors == []
        assert client.called == ["get_weather({'city': 'Paris'})", "get_time({})"]
        assert [o.output for o in narration.outputs] == [
            '{"called": "get_weather"}',
            '{"called": "get_time"}',
        ]

    async def test_the_key_may_be_in_a_header_alone(self) -> None:
        async with emulator(gap_ends_turn_secs=0.8) as hydra:
            headers = {"Authorization": f"Bearer {hydra.api_key}"}
            client = Snippets(f"{hydra.url}?model=hydra", headers=headers, voice="zoe")
            await client.run(HELLO, replies=1)
        assert client.types[0] == "warning"


class TestBenchmark:
    async def test_a_call_with_long_silence_lives_on(self) -> None:
        async def be_silent(client: Benchmark) -> None:
            await client.heard(1)
            await asyncio.sleep(65)
            await client.say(HELLO)
            await client.heard(2)

        greeting = Say.tones(0.6, "Welcome on board. What can I do for you?")
        async with emulator(Script([NOON], greeting)) as hydra:
            client = Benchmark(url(hydra), voice="sterling")
            await client.run(be_silent)
            assert hydra.sessions[0].errors == []
            assert hydra.sessions[0].output_sample_rate == 48_000
            assert client.reply == hydra.sessions[0].sent_audio()
        assert client.said == ["Welcome on board. What can I do for you?", "It is noon in Paris."]
        assert all(output_tokens > 0 for _, output_tokens in client.tokens)
        assert client.errors == []

    async def test_an_output_has_the_role_of_the_user(self) -> None:
        async def ask(client: Benchmark) -> None:
            await client.heard(1)
            await client.say(HELLO)
            await client.heard(2)

        script = Script([[Call("rebook", {"flight": "PA 1"}), NOON]], Say.tones(0.6, "Welcome."))
        tools = [{"type": "function", "name": "rebook", "parameters": {"type": "object"}}]
        async with emulator(script, voices="any") as hydra:
            client = Benchmark(url(hydra), voice="wren", tools=tools)
            await client.run(ask)
            session = hydra.sessions[0]
            (item,) = session.received_of("conversation.item.create")
            assert item.event["item"]["role"] == "user"
            assert [o.output for n in session.narrations for o in n.outputs] == [
                '{"ok": {"flight": "PA 1"}}'
            ]
        assert client.said == ["Welcome.", "It is noon in Paris."]
        assert client.errors == []


@pytest.mark.parametrize(
    ("model", "settings", "accepted", "rejected"),
    [
        ("hydra", {}, ["zoe", "vaughn", "marin"], ["wren", "tate", "Aria", ""]),
        ("hydra-v1.1", {}, ["zoe", "vaughn", "marin"], ["wren"]),
        ("hydra-v1.1", {"voices": "by_model"}, ["zoe", "kai"], ["vaughn", "sterling", "marin"]),
        ("hydra-v1.0", {"voices": "by_model"}, ["vaughn", "sterling"], ["zoe", "marin"]),
        ("hydra", {"voices": "by_model"}, ["vaughn", "zoe"], ["wren", "marin"]),
        ("hydra-v1.1", {"voices": "any"}, ["wren", "marin", "no such voice"], []),
    ],
)
async def test_voices_go_by_the_roster_that_is_set(
    model: str, settings: dict[str, Any], accepted: list[str], rejected: list[str]
) -> None:
    async with emulator(**settings) as hydra:
        for voice in (*accepted, *rejected):
            async with connect(url(hydra, model)) as websocket:
                await send(websocket, "session.configure", session={"voice": voice})
                async for message in websocket:
                    if "session.configured" in str(message) or '"error"' in str(message):
                        break
            await hydra.sessions[-1].wait_closed()
            assert hydra.sessions[-1].configured == (voice in accepted)
