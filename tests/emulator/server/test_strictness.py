"""Protocol §3 and §4: what the server rejects, and how."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from emulator.client import Client, connected

from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.configure()
        yield client


async def rejected(client: Client, frame: str | bytes) -> dict[str, Any]:
    """Send a frame, and return the error that answers it; the session must live on."""
    await client.websocket.send(frame)
    error = (await client.got("error"))["error"]
    await client.send("session.update", session={"tools": [{"name": "alive"}]})
    await client.got("session.updated")
    assert error["message"]
    return error


@pytest.mark.parametrize("frame", ["{", "[]", "null", '"text"', "[" * 100_000, b"{}"])
async def test_what_is_no_event_is_an_invalid_frame(client: Client, frame: str | bytes) -> None:
    error = await rejected(client, frame)
    assert error["code"] == "invalid_frame"
    assert "event_id" not in error


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": None},
        {"type": ["x"]},
        {"type": "input_audio_buffer.commit"},
        {"type": "ping"},
    ],
)
async def test_unknown_types_are_invalid_frames(client: Client, event: dict[str, Any]) -> None:
    error = await rejected(client, json.dumps({**event, "event_id": "mine"}))
    assert error["code"] == "invalid_frame"
    assert error["event_id"] == "mine"


async def test_unknown_types_may_be_ignored() -> None:
    settings = EmulatorSettings(unknown_types="ignore")
    async with HydraEmulator(settings=settings) as hydra, connected(hydra) as client:
        await client.configure()
        await client.send("input_audio_buffer.commit")
        error = await rejected(client, '{"type": null, "event_id": "mine"}')
        assert error["event_id"] == "mine"  # what has no type is no event
        assert len(client.of("error")) == 1


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("%%%%", "audio is not valid base64"),
        ("AAA", "audio is not valid base64"),
        ("AAAA\n", "audio is not valid base64"),
        (base64.b64encode(bytes(641)).decode(), "audio is not PCM16"),
        (base64.b64encode(bytes(40)).decode(), "audio frame too small (40 bytes, need 320)"),
        (base64.b64encode(bytes(318)).decode(), "audio frame too small (318 bytes, need 320)"),
        ("", "audio frame too small (0 bytes, need 320)"),
    ],
)
async def test_bad_audio_is_invalid_audio(client: Client, audio: str, message: str) -> None:
    event = {"type": "input_audio_buffer.append", "event_id": "mine", "audio": audio}
    error = await rejected(client, json.dumps(event))
    assert error["code"] == "invalid_audio"
    assert error["param"] == "audio"
    assert error["message"].startswith(message)
    assert error["event_id"] == "mine"
    assert client.session.received_audio == b""


async def test_smallest_append_is_accepted(client: Client) -> None:
    await client.append(bytes(320))
    await client.sync()
    assert client.of("error") == []
    assert client.session.received_audio == bytes(320)
    (record,) = client.session.received_of("input_audio_buffer.append")
    assert record.audio_bytes == 320
    assert "audio" not in record.event


@pytest.mark.parametrize("tools", [{"tools": []}, {}], ids=["with tools", "without tools"])
@pytest.mark.parametrize("extra", ["voice", "instructions", "temperature"])
async def test_update_takes_tools_only(client: Client, extra: str, tools: dict[str, Any]) -> None:
    session: dict[str, Any] = {**tools, extra: "aria"}
    update: dict[str, Any] = {"type": "session.update", "event_id": "mine", "session": session}
    error = await rejected(client, json.dumps(update))
    assert error["code"] == "invalid_frame"
    assert error["param"] == f"session.update.session.{extra}"
    assert error["event_id"] == "mine"


async def test_update_is_echoed_unless_it_changes_nothing(client: Client) -> None:
    tools = [{"type": "function", "name": "look"}]
    await client.send("session.update", session={"tools": tools})
    assert (await client.got("session.updated"))["session"] == {"tools": tools}
    await client.send("session.update", session={"tools": tools})
    await client.sync()
    assert len(client.of("session.updated")) == 1


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "session.update", "session": {}}, "session.update.session.tools"),
        ({"type": "session.configure"}, "session.configure.session"),
        (
            {"type": "session.configure", "session": {"instructions": None}},
            "session.configure.session.instructions",
        ),
        (
            {"type": "session.configure", "session": {"input_audio_format": "mulaw"}},
            "session.configure.session.input_audio_format",
        ),
        (
            {"type": "session.configure", "session": {"generate_initial_response": "yes"}},
            "session.configure.session.generate_initial_response",
        ),
        ({"type": "input_audio_buffer.append"}, "input_audio_buffer.append.audio"),
        ({"type": "response.cancel", "responseId": "x"}, "response.cancel.responseId"),
        ({"type": "response.create", "response": "x"}, "response.create.response"),
        ({"type": "conversation.item.create"}, "conversation.item.create.item"),
        (
            {"type": "conversation.item.create", "item": {"type": "function_call"}},
            "conversation.item.create.item",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c", "output": {"a": 1}},
            },
            "conversation.item.create.item.function_call_output.output",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "function_call_output",
                    "role": "tool",
                    "call_id": "c",
                    "output": "",
                },
            },
            "conversation.item.create.item.function_call_output.role",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": []},
            },
            "conversation.item.create.item.message.content",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_x", "output": ""},
            },
            "conversation.item.create.item.call_id",
        ),
    ],
)
async def test_bad_fields_are_invalid_requests(
    client: Client, event: dict[str, Any], param: str
) -> None:
    error = await rejected(client, json.dumps({**event, "event_id": "mine"}))
    assert error["code"] == "invalid_request_error"
    assert error["param"] == param
    assert error["event_id"] == "mine"


async def test_nothing_but_configure_before_configured() -> None:
    settings = EmulatorSettings(configured_delay_secs=0.2)
    async with HydraEmulator(settings=settings) as hydra, connected(hydra) as client:
        await client.send("session.configure", session={})
        await client.send("response.create", event_id="mine")
        error = (await client.got("error"))["error"]
        assert error["code"] == "invalid_request_error"
        assert error["event_id"] == "mine"
        await client.send("response.cancel")  # a no-op
        await client.got("session.configured")
        assert len(client.of("error")) == 1
