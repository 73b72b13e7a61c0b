"""All frames of whole calls, against the schema of the protocol: `docs/protocol.schema.json`."""

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chaos.plan import any_reading
from emulator.client import connected, recording
from jsonschema import Draft202012Validator
from pipecat.frames.frames import LLMSetToolsFrame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.services.llm_service import FunctionCallParams
from support.call import SHAPES, Shape, call, emulator
from support.call import Call as Talk
from support.frames import SCHEMA, Frame, Side, assert_documented, faults, tapped, types
from support.functions import tools

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.emulator import Call, Say, Script
from pipecat_hydra.emulator.wire.client_events import ClientEvent as EmulatedClientEvent
from pipecat_hydra.wire.events import ClientEvent, KnownServerEvent

shapes = pytest.mark.parametrize("shape", SHAPES)


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """Get the weather.

    Args:
        city: Where.
    """
    await params.result_callback({"weather": f"sun in {city}"})


async def get_time(params: FunctionCallParams) -> None:
    """Get the time."""
    await params.result_callback("noon")


async def talks(shape: Shape, **settings: Any) -> None:
    """A greeting, an answer, a barge-in, two functions, and functions that change."""
    script = Script(
        [
            Say.tones(0.6, "It is noon in Paris, and the sun is out."),
            Say.tones(20.0, "That is a long story."),
            Say.tones(0.6, "As you like."),
            [
                Call("get_weather", {"city": "Paris"}),
                Call("get_time"),
                Say.tones(0.6, "Sun at {outputs[1]}."),
            ],
        ],
        Say.tones(0.6, "Hello."),
    )
    greets = HydraLLMSettings(model="hydra", generate_initial_response=True, voice="zoe")
    given = tools(shape, get_weather, get_time)
    async with (
        emulator(script, **settings) as hydra,
        call(hydra, shape, settings=greets, **given) as talk,
    ):
        await talk.until_pushed(TTSStoppedFrame, 1)
        await talk.until_quiet()
        await talk.say("hello")
        await talk.until(lambda: len(hydra.sessions[0].sent_of("response.done")) == 2)
        await talk.until_quiet()
        await talk.say("question")
        heard = len(talk.frames.of(TTSAudioRawFrame))
        await talk.until_pushed(TTSAudioRawFrame, heard + 1)
        await talk.say("interrupt")
        await talk.until(lambda: len(hydra.sessions[0].history) >= 7)
        await talk.until_quiet()
        await talk.say("question")
        await talk.until(lambda: hydra.sessions[0].narrations)
        await talk.until_quiet()
        await talk.worker.queue_frame(LLMSetToolsFrame(tools=[get_time]))
        await talk.until(lambda: hydra.sessions[0].sent_of("session.updated"))


def names(talk: Talk) -> set[str]:
    return {type(frame).__name__ for frame, _ in talk.frames.pushed}


async def writes(shape: Shape, **settings: Any) -> None:
    """Typed text, whose answer is cancelled, and more of it, after a voice that was rejected."""
    script = Script([Say.tones(20.0, "You wrote {message}"), Say.tones(0.6, "Well.")])
    wrong = HydraLLMSettings(voice="wren", generate_initial_response=False)
    async with (
        emulator(script, **{**settings, "after_rejection": "wait"}) as hydra,
        call(hydra, shape, settings=wrong) as talk,
    ):
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[1].configured)
        await talk.llm.send_text("Tell me a story.")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.until(lambda: "BotStartedSpeakingFrame" in names(talk))
        await talk.llm.cancel_response()
        await talk.until(lambda: hydra.sessions[1].received_of("response.cancel"))
        await talk.llm.send_text("Stop it.", role="system")
        await talk.until(lambda: len(hydra.sessions[1].sent_of("response.created")) == 2)
        await talk.until_quiet()


async def functions(shape: Shape, **settings: Any) -> None:
    """Two functions, asked for by text."""
    script = Script(
        [[Call("get_weather", {"city": "Paris"}), Call("get_time"), Say.tones(0.6, "{output}")]]
    )
    quiet = HydraLLMSettings(generate_initial_response=False)
    given = tools(shape, get_weather, get_time)
    async with (
        emulator(script, **settings) as hydra,
        call(hydra, shape, settings=quiet, **given) as talk,
    ):
        await talk.until(lambda: hydra.sessions and hydra.sessions[0].configured)
        await talk.llm.send_text("How is the weather?")
        await talk.until(lambda: any(session.narrations for session in hydra.sessions))
        await talk.until_quiet()


CALLS: list[Callable[..., Awaitable[None]]] = [talks, writes, functions]


@shapes
async def test_all_events_of_whole_calls_are_documented_and_each_type_is_seen(shape: Shape) -> None:
    with tapped() as frames:
        for hold in CALLS:
            await hold(shape, transcript_events="both")
    assert_documented(frames)
    assert len(frames) > 200
    sides: tuple[Side, ...] = ("client", "server")
    for side in sides:
        seen = {frame.event["type"] for frame in frames if frame.side == side}
        assert seen == types(side)


@pytest.mark.parametrize("seed", range(6))
@shapes
async def test_calls_in_other_readings_are_documented(shape: Shape, seed: int) -> None:
    # An encoding of audio that the protocol does not know is in no schema of it.
    documented = {"audio_key": "delta", "base64_lines": False}
    reading = any_reading(random.Random(f"schema {seed}")) | documented
    with tapped() as frames:
        for hold in (writes, functions):
            await hold(shape, **reading)
    assert_documented(frames)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_sessions": 0},
        {"early_audio": "end"},
        {"tool_timeout_secs": 0.5},
        {"item_texts": True, "user_item_text": "Hello."},
        {"honour_output_rate": True},
        {"late_audio_after_done_ms": 300, "late_audio_after_cancel_ms": 300},
        {"calls_told": "items"},
    ],
    ids=str,
)
async def test_what_the_emulator_says_to_any_client_is_documented(settings: dict[str, Any]) -> None:
    """Errors of all kinds, and readings that the calls above do not have."""
    script = Script([Say.tones(5.0, "It is noon."), [Call("look", {"at": [1, 2]}), Say.tones(0.6)]])
    with tapped() as frames:
        async with (
            emulator(script, delivery_speed=2.0, **settings) as hydra,
            connected(hydra) as one,
        ):
            if settings.get("early_audio") == "end":
                await one.append(bytes(640))
            if "early_audio" in settings or "max_sessions" in settings:
                await one.closed()
            else:
                await converse(one)
    server = [frame for frame in frames if frame.side == "server"]
    assert_documented(server)
    assert server


async def converse(one: Any) -> None:
    await one.configure(output_audio_sample_rate=16_000, generate_initial_response=True)
    await one.got("response.done")
    await one.send("response.cancel", bad=True)
    await one.send("session.update", session={"voice": "aria"})
    await one.send("no.such.event", event_id="mine")
    await one.append(bytes(10))
    await one.websocket.send("{")
    for count in (2, 3):
        await one.say(recording("hello"), bytes(32_000), speed=1.0)
        await one.got("response.created", count)
        await one.say(recording("interrupt"), bytes(32_000), speed=1.0)
        await one.got("response.done", count)
    await one.until(lambda: one.session.calls)
    await one.until(lambda: one.of("response.done")[-1]["response"]["status"] != "in_progress")


# The schema itself.


def test_the_schema_is_one_and_has_every_type() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert types("client") == {_type(one) for one in ClientEvent.__args__}
    assert types("client") == {_type(one) for one in EmulatedClientEvent.__args__}
    assert types("server") == {_type(one) for one in KnownServerEvent.__args__}


def _type(event: Any) -> str:
    return event.model_fields["type"].annotation.__args__[0]


@pytest.mark.parametrize(
    ("side", "event", "wrong"),
    [
        ("client", {"type": "ping"}, "no event of the type 'ping'"),
        ("client", {"type": "session.created"}, "no event of the type 'session.created'"),
        ("client", {"type": "session.configure"}, "'session' is a required property"),
        (
            "client",
            {"type": "session.configure", "session": {"instrutcions": "x"}},
            "'instrutcions' was unexpected",
        ),
        (
            "client",
            {"type": "session.update", "session": {"tools": [], "voice": "aria"}},
            "'voice' was unexpected",
        ),
        ("client", {"type": "input_audio_buffer.append", "audio": "AAAA"}, "is too short"),
        (
            "client",
            {"type": "input_audio_buffer.append", "audio": "A" * 400 + "\n" + "A" * 400},
            "does not match",
        ),
        (
            "client",
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c", "output": {}},
            },
            "is not valid under any of the given schemas",
        ),
        ("server", [], "no event of the type None"),
        (
            "server",
            {"type": "session.created", "session_id": "x"},
            "'event_id' is a required property",
        ),
        (
            "server",
            {
                "type": "response.done",
                "event_id": "sv_1",
                "response": {"id": "r", "status": "over"},
            },
            "'over' is not one of",
        ),
        (
            "server",
            {
                "type": "error",
                "event_id": "sv_1",
                "error": {"type": "t", "code": "no_such_code", "message": ""},
            },
            "'no_such_code' is not one of",
        ),
    ],
)
def test_what_is_wrong_is_found(side: Side, event: Any, wrong: str) -> None:
    assert wrong in "".join(faults(side, event))
    with pytest.raises(AssertionError):
        assert_documented([Frame(side, json.dumps(event))])
