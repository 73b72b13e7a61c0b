"""What is logged and what is not, and a server whose every string is an attack."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncGenerator, Generator
from operator import attrgetter
from typing import Any

import loguru
import pytest
from loguru import logger
from pipecat.frames.frames import (
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from rich.console import Console
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, session
from websockets.asyncio.server import ServerConnection, serve

from pipecat_hydra.cli.talk import Display
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Say, Script

HOSTILE = (
    "{0.__class__}{}{self} %s%n%(name)s ../../etc/passwd <red>x</nope> [red]y[/nope] "
    "\x1b[2J\x1b]0;owned\x07\x9b2J\r\nHydra: forged\x00\u202e end"
)


@pytest.fixture
def records() -> Generator[list["loguru.Record"]]:
    """What this package logs at DEBUG or above; the emulator, which may hear all, left out."""
    logged: list[loguru.Record] = []

    def keep(message: "loguru.Message") -> None:
        name = message.record["name"] or ""
        if name.startswith("pipecat_hydra.") and ".emulator" not in name:
            logged.append(message.record)

    handler = logger.add(keep, level="DEBUG")
    yield logged
    logger.remove(handler)


def lines(records: list["loguru.Record"]) -> list[str]:
    """The records, with all that a sink could show of the exceptions in them."""
    return [f"{r['message']} {r['exception']}" for r in records]


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


async def look_up(params: FunctionCallParams, name: str):
    """Look somebody up.

    Args:
        name: Whom.
    """
    await params.result_callback({"found": "r3sult"})


async def fail(params: FunctionCallParams):
    """Fail."""
    raise ValueError("r3sult that never was")


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_said_and_what_tools_are_told_is_not_logged(
    shape: Shape, records: list["loguru.Record"]
):
    script = Script(
        [
            [
                ToolCall("look_up", {"name": "4rgument"}),
                ToolCall("look_up", "no JSON: 4rgument"),
                ToolCall("fail", {}),
                ToolCall("nowhere", {"name": "4rgument"}),
                Say.tones(transcript="I say tr4nscript"),
            ]
        ]
    )
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, look_up, fail)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMTextFrame)
        typed: Any = {"role": "user", "content": "I write typ3d"}
        await talk.worker.queue_frame(LLMMessagesAppendFrame(messages=[typed], run_llm=True))
        await talk.llm.send_text("more that is typ3d")
        await talk.until(lambda: len(messages_of(hydra)) == 2)
        await talk.until_quiet()
    text = json.dumps([r.event for r in session(hydra).received])
    sent = json.dumps([r.event for r in session(hydra).sent])
    assert "typ3d" in text
    assert "r3sult" in text
    assert "tr4nscript" in sent
    assert "4rgument" in sent
    assert lines(records)
    for line in lines(records):
        for secret in ("typ3d", "tr4nscript", "4rgument", "r3sult"):
            assert secret not in line


def messages_of(hydra: Any) -> list[Any]:
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [item for item in items if item["type"] == "message"]


@pytest.mark.parametrize(
    ("part", "method"), [("conversation", "receive"), ("connection._effects", "on_effect")]
)
async def test_a_bug_of_ours_does_not_log_what_was_said(
    part: str, method: str, records: list["loguru.Record"], monkeypatch: pytest.MonkeyPatch
):
    def stumble(*args: Any) -> Any:
        raise ValueError("cannot handle 'tr4nscript'")

    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        monkeypatch.setattr(attrgetter(f"_run.{part}")(talk.llm), method, stumble)
        await talk.say("hello")
        await talk.until(lambda: "not handled" in "".join(lines(records)))
    (first, *_) = [line for line in lines(records) if "not handled" in line]
    assert "ValueError at " in first
    assert "test_safety.py:" in first
    assert "tr4nscript" not in "".join(lines(records))


class HostileServer:
    """Speaks Hydra's protocol; every string in it is `HOSTILE`."""

    def __init__(self, hostile: str):
        self._hostile = hostile
        self.received: list[dict[str, Any]] = []
        self.url = ""
        self.api_key = "any"
        self.audio = bytes(range(256)) * 40
        self.go_on = asyncio.Event()

    async def __call__(self, connection: ServerConnection) -> None:
        self._connection = connection
        error = dict.fromkeys(("type", "code", "message", "param", "event_id"), self._hostile)
        await self._send("warning", code=self._hostile, message=self._hostile, warning=error)
        await self._send("session.created", session_id=self._hostile)
        await self._until("session.configure")
        await self._send("session.configured", session={"voice": self._hostile})
        await self._send(self._hostile)
        await self._send("error", error=error)
        await self._send("session.updated", session=self._hostile)
        item = dict.fromkeys(("id", "type", "role", "status", "name", "output"), self._hostile)
        await self._send("conversation.item.added", item=item, previous_item_id=self._hostile)
        await self._send("conversation.item.done", item=item)
        await self._respond("1", delta=self._hostile)
        ids = {"response_id": f"{self._hostile}2", "call_id": self._hostile}
        await self._send("response.created", response={"id": ids["response_id"]})
        await self._send(
            "response.function_call_arguments.done", **ids, name=self._hostile, arguments="{}"
        )
        details = {"reason": self._hostile, "type": self._hostile, "error": error}
        ending = {"id": ids["response_id"], "status": self._hostile, "status_details": details}
        await self._send("response.done", response=ending)
        await self._until("response.create")
        await self._send("error", error={**error, "code": "tool_response_timeout"})
        await self.go_on.wait()
        await self._respond("3")
        await connection.wait_closed()

    async def _respond(self, number: str, **transcript: str) -> None:
        response = {"id": f"{self._hostile}{number}", "status": "completed"}
        ids = {"response_id": response["id"], "item_id": self._hostile}
        await self._send("response.created", response=response)
        delta = base64.b64encode(self.audio).decode()
        await self._send("response.output_audio.delta", **ids, delta=delta)
        if transcript:
            await self._send("response.output_audio_transcript.delta", **ids, **transcript)
        await self._send("response.output_audio.done", **ids)
        await self._send("response.done", response=response)

    async def _send(self, type_: str, **fields: Any) -> None:
        event = {"type": type_, "event_id": self._hostile, **fields}
        await self._connection.send(json.dumps(event))

    async def _until(self, type_: str) -> None:
        while not self.received or self.received[-1]["type"] != type_:
            self.received.append(json.loads(await self._connection.recv()))


@contextlib.asynccontextmanager
async def hostile_server(hostile: str = HOSTILE) -> AsyncGenerator[HostileServer]:
    server = HostileServer(hostile)
    async with serve(server, "127.0.0.1", 0) as running:
        server.url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/s2s"
        try:
            yield server
        finally:
            server.go_on.set()


def errors_of(talk: Call) -> list[str]:
    errors = talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
    return [error.error for error in errors]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_hostile_server_is_a_server_like_any_other(
    shape: Shape, records: list["loguru.Record"]
):
    async with hostile_server() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until(lambda: hydra.received[-1]["type"] == "response.create")
        items = [e["item"] for e in hydra.received if e["type"] == "conversation.item.create"]
        assert [item["call_id"] for item in items] == [HOSTILE]
        # What is said is the user's affair, and nobody else's.
        assert HOSTILE in "".join(frame.text for frame in talk.frames.of(LLMTextFrame))
        hydra.go_on.set()
        await talk.until_pushed(LLMFullResponseEndFrame, 3)
        heard = b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))
        assert heard == 2 * hydra.audio
        assert talk.llm.is_usable
    shown = [r["message"] for r in records] + errors_of(talk)
    assert sum("{0.__class__}" in line for line in shown) >= 6
    for line in shown:
        assert line.isprintable()


async def test_a_server_that_talks_without_end_does_not_fill_the_logs(
    records: list["loguru.Record"],
):
    async with (
        hostile_server("x" * 100_000) as hydra,
        call(hydra, settings=NO_GREETING) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
    shown = [r["message"] for r in records] + errors_of(talk)
    assert sum("xxx" in line for line in shown) >= 6
    assert max(map(len, shown)) < 3_000


def test_a_terminal_is_shown_text_and_is_given_no_orders():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=200)
    with Display(console, progress=False) as display:
        display.note(1.0, f"bot says: {HOSTILE}")
    (line,) = written.getvalue().splitlines()
    assert line.isprintable()
    assert "[red]y[/nope]" in line
    assert "{0.__class__}" in line
