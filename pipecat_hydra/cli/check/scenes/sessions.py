"""Scenes about connections and configurations, most of which need no audio."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Final

from pydantic import SecretStr

from pipecat_hydra.cli.check.scenes.scene import INSTRUCTIONS, Scene, Stage
from pipecat_hydra.cli.check.token import mint
from pipecat_hydra.cli.check.wire import is_full
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.wire.protocol import CONFIGURATION_WARNING_BYTES, MODELS, VOICES

__all__ = ["CONNECTION", "SESSION_SCENES"]

_UNKNOWN_MODEL: Final = "hydra-v0.0"
_UNKNOWN_VOICE: Final = "no-such-voice"
_UNLISTED_VOICES: Final = ("marin", "wren")
_ASKED_RATE: Final = 16_000
_LARGE_BYTES: Final = 40_000
_LONGEST_IDLE_SECS: Final = 45.0
_MOST_SESSIONS: Final = 32


async def _connect(stage: Stage) -> None:
    async with stage.open() as wire:
        await wire.configure(**stage.session())
        await wire.ping(5.0)


async def _use_header(stage: Stage) -> None:
    async with stage.open(auth="header") as wire:
        await wire.got("session.created", within=10.0)


async def _use_token(stage: Stage) -> None:
    token = await mint(stage.endpoint)
    for auth in ("query", "header"):
        with suppress(HydraConnectionError):
            async with stage.open(auth, auth=auth, api_key=SecretStr(token)) as wire:
                await wire.got("session.created", within=10.0)


async def _open_models(stage: Stage) -> None:
    for model in (*MODELS, _UNKNOWN_MODEL):
        with suppress(HydraConnectionError):
            async with stage.open(model, model=model) as wire:
                # No voice: which one a model has is another question.
                await wire.configure(instructions=INSTRUCTIONS)


async def _ask_for_voices(stage: Stage) -> None:
    for voice in (*VOICES, *_UNLISTED_VOICES):
        with suppress(HydraConnectionError):
            async with stage.open(voice) as wire:
                await wire.configure(**stage.session(voice=voice))


async def _be_rejected(stage: Stage) -> None:
    async with stage.open() as wire:
        answer = await wire.configure(**stage.session(voice=_UNKNOWN_VOICE))
        if answer is None or answer.type != "error":
            return
        await wire.wait(1.5)
        again = wire.mark("configured again")
        if wire.log.first("session.configured") is None and wire.is_open:
            session = stage.session()
            session.pop("voice", None)
            await wire.send("session.configure", session=session)
            await wire.got("session.configured", "error", after=again, within=2.0)


async def _send_a_bad_field(stage: Stage) -> None:
    async with stage.open() as wire:
        answer = await wire.configure(**stage.session(instructions=[_UNKNOWN_VOICE]))
        if answer is not None and answer.type == "error":
            await wire.wait(2.0)


async def _speak_too_early(stage: Stage) -> None:
    async with stage.open() as wire:
        if await wire.got("session.created", within=10.0) is None:
            return
        for _ in range(10):
            await wire.append(bytes(3_200))
        await wire.wait(1.0)
        if wire.log.errors:
            # Whether a close follows.
            await wire.wait(2.0)
        if wire.is_open:
            await wire.configure(**stage.session())


async def _ask_for_a_rate(stage: Stage) -> None:
    async with stage.open(str(_ASKED_RATE)) as wire:
        await wire.configure(**stage.session(output_audio_sample_rate=_ASKED_RATE))


async def _say_much(stage: Stage) -> None:
    for size in (CONFIGURATION_WARNING_BYTES - 200, _LARGE_BYTES):
        async with stage.open(str(size)) as wire:
            session = stage.session(generate_initial_response=True)
            padding = size - len(str(session).encode()) - len(" Know this: ")
            session["instructions"] += " Know this: " + ("the sky is blue. " * (padding // 17))
            if await wire.configure(**session) is not None:
                await wire.got("response.output_audio.delta", within=8.0)


async def _be_idle(stage: Stage) -> None:
    async with stage.open() as wire:
        if await wire.configure(**stage.session()) is not None:
            wire.mark("idle")
            await wire.wait(_LONGEST_IDLE_SECS)


async def _fill(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        for number in range(1, _MOST_SESSIONS + 1):
            wire = await stack.enter_async_context(stage.open(str(number)))
            await wire.got("session.created", "error", within=10.0)
            if is_full(wire.log):
                await wire.wait(2.0)
                return
            await asyncio.sleep(0.05)


CONNECTION: Final = Scene(
    "connection",
    "Opens a session with the key in the query, configures it, and sends a ping.",
    1,
    30,
    _connect,
)
"""The scene that comes first, and has to succeed."""

SESSION_SCENES: Final = (
    CONNECTION,
    Scene("header", "Opens a session with the key in a header.", 1, 20, _use_header),
    Scene(
        "token",
        "Mints a short-lived token, and opens a session with it in the query and in a header.",
        1,
        40,
        _use_token,
    ),
    Scene(
        "models",
        "Opens a session on each model that is known, and on one that does not exist.",
        3,
        90,
        _open_models,
    ),
    Scene(
        "voices",
        f"Configures a session with each of the {len(VOICES)} known voices, and with two others.",
        15,
        300,
        _ask_for_voices,
    ),
    Scene(
        "rejection",
        "Configures a session with a voice that does not exist, and again without one.",
        4,
        30,
        _be_rejected,
    ),
    Scene(
        "bad field",
        "Configures a session with instructions that are no text.",
        3,
        30,
        _send_a_bad_field,
    ),
    Scene(
        "early audio",
        "Sends audio before session.configure, and configures the session after it.",
        2,
        30,
        _speak_too_early,
    ),
    Scene(
        "rate",
        f"Configures a session with output_audio_sample_rate {_ASKED_RATE}.",
        1,
        20,
        _ask_for_a_rate,
    ),
    Scene(
        "size",
        f"Lets the model speak first with a configuration of about "
        f"{CONFIGURATION_WARNING_BYTES // 1000} kB, and with one of {_LARGE_BYTES // 1000} kB.",
        11,
        60,
        _say_much,
    ),
    Scene(
        "idle",
        "Configures a session, and sends nothing any more.",
        30,
        _LONGEST_IDLE_SECS + 20,
        _be_idle,
        is_patient=True,
    ),
    Scene(
        "capacity",
        f"Opens sessions until one is refused, at most {_MOST_SESSIONS}.",
        30,
        120,
        _fill,
    ),
)
"""These scenes, in the order in which they are held."""
