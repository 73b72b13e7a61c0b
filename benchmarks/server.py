"""The server of a cell: holds a scenario with each session that connects, and notes when.

Run as `python -m benchmarks.server PLAN`, where PLAN is JSON. It prints its port, serves until its
standard input ends, and then prints what it noted of each session. The number of a session is the
last part of the path that the client connects to.

All peers get the same events at the same times, with the same fields. The protocols differ in the
handshake alone: Hydra is configured once, by `session.configure`; the others whenever they like, by
`session.update`, xAI's once a conversation is created. Audio that the client sends is not looked
into, but where the scenario asks for it.

A network that takes its time is played by waiting: a message is handled, and sent, one way later
than it could be, and the upgrade is answered two round trips later, as after TCP's and its own.
"""

import asyncio
import base64
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from benchmarks.marks import OUTPUT_RATE, marked, tone

__all__ = ["DELTA_SECS", "Noted", "Plan", "Server", "Session"]

DELTA_SECS = 0.04
DELTA_BYTES = round(OUTPUT_RATE * DELTA_SECS) * 2
# Ten times faster than it is spoken.
PAUSE_SECS = DELTA_SECS / 10


@dataclass
class Plan:
    """What a server does.

    Parameters:
        scenario: Name of a function in `benchmarks.scenarios`.
        dialect: `"hydra"`, `"realtime"` for OpenAI's protocol and Inworld's, or `"xai"`.
        one_way_secs: How long a message travels; session N has the one at N modulo their number.
        orders: Of a tool call: when `response.done` comes; chosen likewise.
    """

    scenario: str
    dialect: str = "hydra"
    one_way_secs: list[float] = field(default_factory=lambda: [0.0])
    orders: list[str] = field(default_factory=lambda: ["before"])

    def text(self) -> str:
        """The plan as an argument of the command."""
        return json.dumps(asdict(self))


@dataclass
class Noted:
    """What a server notes of a session; all times are of the clock that all processes share.

    Parameters:
        configured: When what configures the session arrives at the client.
        turns: When each `speech_started` is sent.
        asked: When the model is first asked to speak.
        clicks: When an append with a click, or a part of one, has come.
        tools: A tool turn each: time from the last call's arguments, and from the last output, to
            the request to go on, in ms (`None`: it did not come), and the number of requests.
    """

    configured: float = 0.0
    turns: list[float] = field(default_factory=list)
    asked: float = 0.0
    clicks: list[float] = field(default_factory=list)
    tools: list[tuple[float | None, float | None, int]] = field(default_factory=list)


class Session:
    """One session: what a scenario sends and waits for."""

    def __init__(self, connection: ServerConnection, plan: Plan, number: int):
        """Take over an open connection."""
        self.plan = plan
        self.number = number
        self.noted = Noted()
        self.events: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
        self.marks_all = False
        """Whether all deltas say when they were sent."""
        self.on_audio: Callable[[bytes, float], None] | None = None
        self._one_way = plan.one_way_secs[number % len(plan.one_way_secs)]
        self._connection = connection
        self._configured = asyncio.Event()
        self._late: asyncio.Queue[tuple[float, str]] = asyncio.Queue()
        self._replies = itertools.count()

    async def hold(self, scenario: Callable[["Session"], Awaitable[None]]) -> None:
        """Hold the scenario until the client goes away."""
        tasks = [asyncio.create_task(self._deliver()), asyncio.create_task(self._play(scenario))]
        await self._listen()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _play(self, scenario: Callable[["Session"], Awaitable[None]]) -> None:
        with suppress(ConnectionClosed):
            await self.send("session.created", session_id=f"sess_{self.number}", session={})
            if self.plan.dialect == "xai":
                conversation = {"id": "conv_0", "object": "realtime.conversation"}
                await self.send("conversation.created", conversation=conversation)
            await self._configured.wait()
            await scenario(self)

    async def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        await self.send_text(json.dumps({"type": kind, "event_id": "sv_0", **fields}))

    async def send_text(self, text: str) -> None:
        """Send an event that is JSON already."""
        if self._one_way:
            self._late.put_nowait((time.monotonic() + self._one_way, text))
        else:
            await self._connection.send(text)

    async def reply(self, deltas: int) -> None:
        """Send a whole response, of which the first delta says when it was sent."""
        number = next(self._replies)
        response, item = f"resp_{number}", f"answer_{number}"
        ids = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        await self.response_created(response)
        message = {"id": item, "type": "message", "role": "assistant", "content": []}
        await self.send("conversation.item.added", item=message)
        event = {"type": "response.output_audio.delta", "event_id": "sv_0", **ids}
        unmarked = json.dumps({**event, "delta": _base64(tone(DELTA_BYTES))})
        for sent in range(deltas):
            if sent == 0 or self.marks_all:
                pcm = marked(time.monotonic(), DELTA_BYTES)
                await self.send_text(json.dumps({**event, "delta": _base64(pcm)}))
            else:
                await self.send_text(unmarked)
            await asyncio.sleep(PAUSE_SECS)
        await self.send("response.output_audio.done", **ids)
        await self.response_done(response)

    async def user_turn(self, number: int, secs: float) -> None:
        """Let the user speak for some seconds."""
        await self.speech_started(f"turn_{number}")
        await asyncio.sleep(secs)
        await self.speech_stopped(f"turn_{number}")

    async def speech_started(self, item: str) -> None:
        """Say that the user speaks."""
        self.noted.turns.append(time.monotonic())
        await self.send("input_audio_buffer.speech_started", item_id=item, audio_start_ms=0)

    async def speech_stopped(self, item: str) -> None:
        """Say that the user has spoken."""
        await self.send("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=0)
        message = {"id": item, "type": "message", "role": "user", "status": "completed"}
        await self.send("conversation.item.done", item={**message, "content": []})

    async def response_created(self, response: str) -> None:
        """Say that a response begins."""
        info = {"id": response, "object": "realtime.response", "status": "in_progress"}
        await self.send("response.created", response={**info, "output": []})

    async def response_done(self, response: str) -> None:
        """Say that a response is generated."""
        info = {"id": response, "object": "realtime.response", "status": "completed"}
        await self.send("response.done", response={**info, "output": []})

    async def wait_for(self, kind: str, timeout_secs: float | None) -> float | None:
        """Wait for an event, and say when it came; forget those before it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_secs):
                while True:
                    came, now = await self.events.get()
                    if came == kind:
                        return now
        return None

    async def tool_turn(self, number: int, order: str, *, timeout_secs: float) -> None:
        """Call a function, and wait for its output and for the request to narrate it.

        Args:
            number: Of the turn.
            order: When `response.done` comes: `"before"` the output can come, `"after"` it, or
                only with the `"narration"`.
            timeout_secs: How long the request may take.
        """
        response, call = f"calling_{number}", f"call_{number}"
        arguments = '{"city": "Paris"}'
        item = {"id": f"function_{number}", "type": "function_call", "call_id": call}
        function = {"name": "get_weather", "arguments": arguments}
        await self.response_created(response)
        await self.send("conversation.item.added", item={**item, **function})
        ids = {"response_id": response, "item_id": item["id"], "output_index": 0, "call_id": call}
        called = time.monotonic()
        await self.send("response.function_call_arguments.done", **ids, **function)
        if order == "before":
            await self.response_done(response)
        answered = await self.wait_for("conversation.item.create", timeout_secs)
        if order == "after":
            await self.response_done(response)
        asked = await self.wait_for("response.create", timeout_secs)
        if order == "narration":
            await self.response_done(response)
        await self.reply(5)
        # A second request comes late, or not at all.
        again = await self.wait_for("response.create", 0.25)
        self.noted.tools.append(
            (
                None if asked is None else 1000 * (asked - called),
                None if asked is None or answered is None else 1000 * (asked - answered),
                (asked is not None) + (again is not None),
            )
        )

    async def _deliver(self) -> None:
        """Send what travels, each message when its time has come."""
        while True:
            due, text = await self._late.get()
            await asyncio.sleep(due - time.monotonic())
            await self._connection.send(text)

    async def _listen(self) -> None:
        """Read what the client sends; handle it when it would have come."""
        arriving: asyncio.Queue[tuple[float, str]] = asyncio.Queue()

        async def handle() -> None:
            while True:
                due, text = await arriving.get()
                await asyncio.sleep(due - time.monotonic())
                await self._received(text, due)

        handling = asyncio.create_task(handle()) if self._one_way else None
        with suppress(ConnectionClosed):
            async for message in self._connection:
                now = time.monotonic() + self._one_way
                text = message if isinstance(message, str) else message.decode()
                if handling is None:
                    await self._received(text, now)
                else:
                    arriving.put_nowait((now, text))
        if handling is not None:
            handling.cancel()

    async def _received(self, text: str, now: float) -> None:
        # OpenAI's service puts an `event_id` before the type.
        if "input_audio_buffer.append" in text[:120]:
            if self.on_audio is not None:
                self.on_audio(base64.b64decode(json.loads(text)["audio"]), now)
            return
        event: dict[str, Any] = json.loads(text)
        if event["type"] in ("session.configure", "session.update"):
            await self._configure(event, now)
        else:
            self._note(event["type"], now)

    async def _configure(self, event: dict[str, Any], now: float) -> None:
        """Answer a configuration; Hydra's may ask for the first words too."""
        echo = {"output_audio_sample_rate": OUTPUT_RATE, **event["session"]}
        hydra = event["type"] == "session.configure"
        await self.send("session.configured" if hydra else "session.updated", session=echo)
        self.noted.configured = self.noted.configured or now + self._one_way
        self._configured.set()
        if event["session"].get("generate_initial_response"):
            self._note("response.create", now)

    def _note(self, kind: str, now: float) -> None:
        if kind == "response.create" and not self.noted.asked:
            self.noted.asked = now
        self.events.put_nowait((kind, now))


class Server:
    """Listens, and holds the scenario of a plan with whoever connects."""

    def __init__(self, plan: Plan, scenario: Callable[[Session], Awaitable[None]]):
        """Start with no session."""
        self.port = 0
        self.noted: dict[int, Noted] = {}
        self._plan = plan
        self._scenario = scenario
        self._serving = serve(
            self._session,
            "127.0.0.1",
            0,
            compression=None,
            max_size=None,
            process_request=self._travel,
        )

    async def __aenter__(self) -> Self:
        """Listen."""
        server = await self._serving
        self.port = next(iter(server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._serving.__aexit__(None, None, None)

    async def _travel(self, connection: ServerConnection, request: Request) -> Response | None:
        one_way = self._plan.one_way_secs[_number(request.path) % len(self._plan.one_way_secs)]
        await asyncio.sleep(4 * one_way)
        return None

    async def _session(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        number = _number(connection.request.path)
        session = Session(connection, self._plan, number)
        self.noted[number] = session.noted
        await session.hold(self._scenario)


def _base64(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


def _number(path: str) -> int:
    return int(path.partition("?")[0].rpartition("/")[2])


async def main() -> None:
    """Serve until the standard input ends; print the port, and at last what was noted."""
    # A server knows the scenarios, and they know a session.
    from benchmarks.scenarios import SCENARIOS

    plan = Plan(**json.loads(sys.argv[1]))
    async with Server(plan, SCENARIOS[plan.scenario]) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps({number: asdict(noted) for number, noted in server.noted.items()}))


if __name__ == "__main__":
    asyncio.run(main())
