"""Clients that behave as those of other people do, by what is known of them (protocol §1 to §6).

None of them knows anything of this package. Each takes a URL as its original does, with only the
host changed, and does what its original does on the wire: when it configures a session and with
which fields, how it streams audio, how it answers calls, and which fields it reads. What a client
reads it reads without a default where its original does, so that a field that is missing fails.
"""

import asyncio
import base64
import json
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

INPUT_RATE = 16_000

Event = dict[str, Any]
Tool = Callable[[str, dict[str, Any]], str]


async def send(websocket: ClientConnection, kind: str, **fields: Any) -> None:
    await websocket.send(json.dumps({"type": kind, **fields}))


async def append(websocket: ClientConnection, pcm: bytes) -> None:
    audio = base64.b64encode(pcm).decode()
    await send(websocket, "input_audio_buffer.append", audio=audio)


async def stream(websocket: ClientConnection, pcm: bytes, piece_ms: int) -> None:
    """Send audio at real time, in pieces of so many milliseconds; the last may be shorter."""
    size = INPUT_RATE * piece_ms // 1000 * 2
    for start in range(0, len(pcm), size):
        await append(websocket, pcm[start : start + size])
        await asyncio.sleep(piece_ms / 1000)


class QuickstartError(Exception):
    """The quickstart ends at the first error."""


class Quickstart:
    """The vendor's Python quickstart: a recording in, a recording out.

    It configures the session as soon as the socket is open, and speaks without waiting for an
    answer. It asks for 16 kHz both ways and takes the reply for that, sends 1.2 s of zeros after
    the recording, and ends at the first `response.done` or `error`.
    """

    def __init__(self, url: str, *, voice: str = "aria") -> None:
        self._url = url
        self._voice = voice
        self.printed = ""
        self.reply = b""

    async def run(self, pcm: bytes, output: Path) -> None:
        async with connect(self._url) as websocket:
            session = {
                "instructions": "Keep replies short.",
                "voice": self._voice,
                "input_audio_sample_rate": INPUT_RATE,
                "output_audio_sample_rate": INPUT_RATE,
            }
            await send(websocket, "session.configure", session=session)
            speaking = asyncio.create_task(self._speak(websocket, pcm))
            try:
                async for message in websocket:
                    if self._is_over(json.loads(message)):
                        break
            finally:
                speaking.cancel()
        with wave.open(str(output), "wb") as file:
            file.setparams((1, 2, INPUT_RATE, 0, "NONE", "not compressed"))
            file.writeframes(self.reply)

    async def _speak(self, websocket: ClientConnection, pcm: bytes) -> None:
        await stream(websocket, pcm, 100)
        await stream(websocket, bytes(12 * 3_200), 100)

    def _is_over(self, event: Event) -> bool:
        match event["type"]:
            case "input_audio_buffer.speech_started" | "input_audio_buffer.speech_stopped":
                self.printed += f"[{event['type'].rpartition('.')[2]}]"
            case "response.output_audio.delta":
                self.reply += base64.b64decode(event.get("delta") or event.get("audio") or "")
            case "response.output_audio_transcript.delta":
                self.printed += event.get("delta", "")
            case "error":
                raise QuickstartError(event)
            case _:
                pass
        return event["type"] == "response.done"


class Browser:
    """The vendor's browser client.

    It configures the session when `session.created` comes, and opens the microphone when
    `session.configured` comes, in pieces of 30 ms. It stops playback at `speech_started`, takes
    the rate from the echo, shows a bubble for each item, and asks for a narration once, 220 ms
    after the last output.
    """

    def __init__(self, url: str, key: str, *, origin: str, voice: str, tool: Tool) -> None:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        query["api_key"] = key
        query.setdefault("model", "hydra")
        self._url = parts._replace(query=urlencode(query)).geturl()
        self._origin = origin
        self._voice = voice
        self._tool = tool
        self._calls: dict[str, Event] = {}
        self._asking: asyncio.TimerHandle | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._microphone = asyncio.Event()
        self._changed = asyncio.Condition()
        self.session_id = ""
        self.rate = 24_000
        self.playing = b""
        self.stopped = 0
        self.bubbles: dict[str, Event] = {}
        self.finished: list[str] = []
        self.errors: list[str] = []

    async def run(self, behave: Callable[["Browser"], Awaitable[None]]) -> None:
        """Connect, and let a user behave until the user leaves."""
        async with connect(self._url, additional_headers={"Origin": self._origin}) as websocket:
            self._websocket = websocket
            reading = asyncio.create_task(self._read())
            try:
                async with asyncio.timeout(60):
                    await self._microphone.wait()
                    await behave(self)
            finally:
                await websocket.close()
                await reading

    async def say(self, pcm: bytes) -> None:
        """Speak into the microphone, which goes on for a second."""
        pcm += bytes(32_000)
        whole = len(pcm) // 960 * 960  # a microphone gives whole pieces only
        await stream(self._websocket, pcm[:whole], 30)

    async def show(self, text: str) -> None:
        """Tell the model what is on the screen, as a port of this client does."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "system", "content": content}
        await send(self._websocket, "conversation.item.create", item=item)

    async def until(self, condition: Callable[[], object]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def _read(self) -> None:
        try:
            async for message in self._websocket:
                await self._take(json.loads(message))
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass

    async def _take(self, event: Event) -> None:
        match event["type"]:
            case "session.created":
                self.session_id = event["session_id"]
                await self._configure()
            case "session.configured":
                self.rate = event["session"]["output_audio_sample_rate"] or self.rate
                self._microphone.set()
            case "input_audio_buffer.speech_started":
                self.playing = b""
                self.stopped += 1
            case "response.output_audio.delta":
                self.playing += base64.b64decode(event["delta"])
            case "conversation.item.added" | "conversation.item.done":
                self._show_item(event["item"])
            case "response.done":
                self._finish(event["response"])
            case "response.function_call_arguments.delta":
                call = self._calls.setdefault(event["call_id"], {"name": "", "arguments": ""})
                call["name"] = event.get("name") or call["name"]
                call["arguments"] += event["delta"]
            case "response.function_call_arguments.done":
                await self._call(event)
            case "error":
                self.errors.append(event["error"]["code"])
            case _:
                pass

    async def _configure(self) -> None:
        tools = [
            {
                "name": name,
                "description": name,
                "parameters": {"type": "object"},
                "type": "function",
            }
            for name in ("get_weather", "get_time")
        ]
        session = {
            "instructions": "You are a companion.",
            "voice": self._voice,
            "tools": tools,
            "generate_initial_response": True,
        }
        await send(self._websocket, "session.configure", session=session)

    def _show_item(self, item: Event) -> None:
        if item.get("role") not in ("user", "assistant"):
            return
        text = next((part["text"] for part in item["content"]), None)
        if item["role"] == "user" and item["status"] == "incomplete" and not text:
            del self.bubbles[item["id"]]  # noise
        else:
            self.bubbles[item["id"]] = {"role": item["role"], "status": item["status"]}

    def _finish(self, response: Event) -> None:
        self.finished.append(response["status"])
        if response["status"] != "completed":
            cut_off = response["output"][0]
            self.bubbles[cut_off["id"]]["status"] = cut_off["status"]

    async def _call(self, event: Event) -> None:
        call = self._calls.pop(event["call_id"])
        arguments = json.loads(event.get("arguments") or call["arguments"] or "{}")
        output = self._tool(event.get("name") or call["name"], arguments)
        item = {"type": "function_call_output", "call_id": event["call_id"], "output": output}
        await send(self._websocket, "conversation.item.create", item=item)
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.get_running_loop().call_later(0.22, self._ask)

    def _ask(self) -> None:
        asking = asyncio.create_task(send(self._websocket, "response.create"))
        self._asked.add(asking)
        asking.add_done_callback(self._asked.discard)


class Snippets:
    """The snippets of the vendor's documentation, put together as a reader would.

    A recording is streamed in pieces of 20 ms, and nothing after it. The arguments of a call are
    read from its last event alone, and the narration is asked for 200 ms after the last output.
    """

    def __init__(self, url: str, *, headers: dict[str, str] | None = None, voice: str) -> None:
        self._url = url
        self._headers = headers
        self._voice = voice
        self._narration: asyncio.Task[None] | None = None
        self.types: list[str] = []
        self.reply = b""
        self.called: list[str] = []

    async def run(self, pcm: bytes, *, replies: int, within: float = 10.0) -> None:
        """Configure, send a recording, and read until so many responses are done."""
        async with connect(self._url, additional_headers=self._headers, max_size=None) as websocket:
            speaking: asyncio.Task[None] | None = None
            try:
                async with asyncio.timeout(within):
                    async for message in websocket:
                        event = json.loads(message)
                        self.types.append(event["type"])
                        if event["type"] == "session.created":
                            session = {"instructions": "Be brief.", "voice": self._voice}
                            await send(websocket, "session.configure", session=session)
                        elif event["type"] == "session.configured":
                            speaking = asyncio.create_task(stream(websocket, pcm, 20))
                        else:
                            await self._take(websocket, event)
                        if self.types.count("response.done") == replies:
                            break
            finally:
                for task in (speaking, self._narration):
                    if task is not None:
                        task.cancel()

    async def _take(self, websocket: ClientConnection, event: Event) -> None:
        match event["type"]:
            case "response.output_audio.delta":
                self.reply += base64.b64decode(event["delta"])
            case "response.function_call_arguments.done":
                arguments = json.loads(event["arguments"])
                self.called.append(f"{event['name']}({arguments})")
                item = {
                    "type": "function_call_output",
                    "call_id": event["call_id"],
                    "output": json.dumps({"called": event["name"]}),
                }
                await send(websocket, "conversation.item.create", item=item)
                if self._narration is not None:
                    self._narration.cancel()
                self._narration = asyncio.create_task(self._narrate(websocket))
            case _:
                pass

    async def _narrate(self, websocket: ClientConnection) -> None:
        await asyncio.sleep(0.2)
        await send(websocket, "response.create")


class Benchmark:
    """EVA-Bench's client: a telephone line, whose audio comes only while somebody speaks.

    It takes the first two events for `session.created` and `session.configured`, whatever they
    are. It sends 100 ms of silence when it has sent no audio for 5 s, gives an output the role of
    the user, and asks for a narration at once, with an empty `response`.
    """

    def __init__(self, url: str, *, voice: str, tools: list[Event] | None = None) -> None:
        self._url = url
        self._voice = voice
        self._tools = tools
        self._text = ""
        self._last_sent = 0.0
        self.reply = b""
        self.said: list[str] = []
        self.tokens: list[tuple[int, int]] = []
        self.errors: list[str] = []

    async def run(self, behave: Callable[["Benchmark"], Awaitable[None]]) -> None:
        async with connect(self._url, max_size=None) as websocket:
            self._websocket = websocket
            await asyncio.wait_for(websocket.recv(), 10)
            session: Event = {
                "instructions": "You are an airline's agent.",
                "voice": self._voice,
                "generate_initial_response": True,
                "input_audio_format": "pcm16",
                "output_audio_format": "pcm16",
            }
            if self._tools:
                session["tools"] = self._tools
            await send(websocket, "session.configure", session=session)
            second = json.loads(await asyncio.wait_for(websocket.recv(), 10))
            second.get("session", {}).get("tools", [])
            self._last_sent = asyncio.get_running_loop().time()
            tasks = [asyncio.create_task(work()) for work in (self._read, self._keep_alive)]
            try:
                await behave(self)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def say(self, pcm: bytes) -> None:
        """Speak, and be silent for a second."""
        await stream(self._websocket, pcm + bytes(32_000), 20)
        self._last_sent = asyncio.get_running_loop().time()

    async def heard(self, replies: int) -> None:
        async with asyncio.timeout(10):
            while len(self.said) < replies:
                await asyncio.sleep(0.05)

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(5)
            if loop.time() - self._last_sent >= 5:
                await append(self._websocket, bytes(3_200))
                self._last_sent = loop.time()

    async def _read(self) -> None:
        async for message in self._websocket:
            event = json.loads(message)
            match event["type"]:
                case "response.output_audio.delta":
                    self.reply += base64.b64decode(event["delta"])
                case "response.output_audio_transcript.delta":
                    self._text = f"{self._text} {event['delta']}" if self._text else event["delta"]
                case "response.function_call_arguments.done":
                    await self._call(event)
                case "response.done":
                    usage = event["response"]["usage"]
                    self.tokens.append((usage["input_tokens"], usage["output_tokens"]))
                    if self._text:
                        self.said.append(self._text)
                        self._text = ""
                case "error":
                    self.errors.append(event["error"]["message"])
                case _:
                    pass

    async def _call(self, event: Event) -> None:
        output = json.dumps({"ok": json.loads(event["arguments"] or "{}")})
        item = {
            "type": "function_call_output",
            "role": "user",
            "call_id": event["call_id"],
            "output": output,
        }
        await send(self._websocket, "conversation.item.create", item=item)
        await send(self._websocket, "response.create", response={})
