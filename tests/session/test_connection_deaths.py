"""Tasks of a connection that die or are cancelled, and what fails in them (P2)."""

import asyncio
from typing import Any

import pytest
from support.call import emulator, session
from support.connections import QUICK, Listener, connection, dial, goes_to_rest

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    Disconnected,
    Fail,
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Ready,
    ReplyEnded,
    Report,
    Rest,
    Rested,
    Send,
    Severity,
)
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.session.websocket import HydraWebSocket
from pipecat_hydra.wire.events import (
    FunctionTool,
    InputAudioAppend,
    ResponseCreate,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
)


def tasks_of_the_session() -> dict[str, "asyncio.Task[Any]"]:
    names = {task.get_name(): task for task in asyncio.all_tasks()}
    emulators = "hydra-emulator"
    return {n: t for n, t in names.items() if n.startswith("hydra-") and emulators not in n}


TASKS = ["hydra-connection", "hydra-effects", "hydra-websocket-pinger"]


async def test_the_tasks_of_a_live_session_are_these():
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        assert sorted(tasks_of_the_session()) == TASKS


@pytest.mark.parametrize("names", [*([name] for name in TASKS), TASKS], ids="+".join)
async def test_a_task_that_dies_is_reported_and_costs_one_session(
    names: list[str], warnings: list[str]
):
    async with emulator() as hydra, connection(hydra, greet=False) as (made, conversation, heard):
        made.open()
        await heard.until(Ready)
        for name in names:
            tasks_of_the_session()[name].cancel()
        await heard.until(Ready, 2)
        (lost,) = heard.of(Lost)
        assert lost.kind is FailureKind.SERVER
        assert lost.configured
        assert "cancelled by somebody else" in lost.message
        assert len(heard.of(Disconnected)) == 1
        assert any(f"the task {names[0]} died" in line for line in warnings)
        assert sorted(tasks_of_the_session()) == TASKS
        # And the new session works.
        made.perform(conversation.microphone(b"\x01\x00" * 320, made.now))
        second = hydra.sessions[1]
        await second.wait_until(lambda: b"\x01\x00" * 320 in second.received_audio)


async def test_an_effect_whose_handler_is_cancelled_costs_the_session_and_not_the_call():
    async with emulator() as hydra:
        conversation = Conversation(model="hydra-v1.1")
        conversation.configure(SessionConfiguration(), 0.0)
        listener = Listener()
        cancelled = 0

        async def handler(effect: PipelineEffect) -> None:
            nonlocal cancelled
            await listener(effect)
            if isinstance(effect, Ready) and not cancelled:
                cancelled += 1
                raise asyncio.CancelledError

        made = HydraConnection(dial(hydra), conversation, on_effect=handler, retry=QUICK)
        made.open()
        await listener.until(Ready, 2)
        assert [lost.kind for lost in listener.of(Lost)] == [FailureKind.SERVER]
        await made.close()


async def test_a_handler_that_is_cancelled_each_time_makes_nothing_loop():
    retry = RetryPolicy(attempts_per_drop=3, first_delay_secs=0.01, longest_delay_secs=0.01)
    async with emulator() as hydra:
        conversation = Conversation(model="hydra-v1.1")
        conversation.configure(SessionConfiguration(), 0.0)
        listener = Listener()

        async def handler(effect: PipelineEffect) -> None:
            await listener(effect)
            raise asyncio.CancelledError

        made = HydraConnection(dial(hydra), conversation, on_effect=handler, retry=retry)
        made.open()
        await listener.until(GivenUp)
        assert len(listener.of(Lost)) == 1
        assert len(hydra.sessions) == 4
        await made.close()


async def test_a_key_source_that_is_cancelled_is_tried_again():
    """`Keyring` takes care of that itself; another source of endpoints may not."""
    attempts = 0

    async def endpoint() -> Endpoint:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise asyncio.CancelledError
        return await dial(hydra)()

    async with emulator() as hydra:
        conversation = Conversation(model="hydra-v1.1")
        conversation.configure(SessionConfiguration(), 0.0)
        listener = Listener()
        made = HydraConnection(endpoint, conversation, on_effect=listener, retry=QUICK)
        made.open()
        await listener.until(Ready)
        assert [lost.kind for lost in listener.of(Lost)] == [FailureKind.SERVER]
        await made.close()


@pytest.mark.parametrize("how", ["cancelled", "fails"])
async def test_a_session_whose_polite_close_dies_is_closed_all_the_same(
    how: str, monkeypatch: pytest.MonkeyPatch
):
    close = HydraWebSocket.close

    async def broken(socket: HydraWebSocket) -> None:
        monkeypatch.setattr(HydraWebSocket, "close", close)
        raise RuntimeError("not foreseen")

    async with (
        emulator() as hydra,
        connection(hydra, greet=False, idle_timeout_secs=0.2) as (made, _, listener),
    ):
        made.open()
        await listener.until(Ready)
        if how == "fails":
            monkeypatch.setattr(HydraWebSocket, "close", broken)
        await goes_to_rest(made)
        if how == "cancelled":
            tasks_of_the_session()["hydra-closing"].cancel()
        (rested,) = await listener.until(Rested)
        assert not rested.failed
        assert not made.is_open
        assert not made.is_connected
        assert not listener.of(Lost)


async def test_what_fails_after_a_session_went_to_rest_changes_nothing():
    async with (
        emulator() as hydra,
        connection(hydra, greet=False, idle_timeout_secs=0.2) as (made, _, listener),
    ):
        made.open()
        await listener.until(Ready)
        await goes_to_rest(made)
        made.perform([Fail(FailureKind.SERVER, "too late")])
        (rested,) = await listener.until(Rested)
        assert "too late" not in rested.message
        made.perform([Fail(FailureKind.SERVER, "no session"), Rest("no session")])
        made.open()
        await listener.until(Ready, 2)
        assert not listener.of(Lost)


async def test_a_deadline_that_cannot_be_met_costs_the_session(monkeypatch: pytest.MonkeyPatch):
    async with emulator() as hydra, connection(hydra, greet=False) as (made, conversation, heard):
        made.open()
        await heard.until(Ready)
        tick = conversation.tick

        def broken(now: float) -> list[Any]:
            monkeypatch.setattr(conversation, "tick", tick)
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(conversation, "tick", broken)
        made.perform(conversation.microphone(b"\x01\x00" * 320, made.now))
        await heard.until(Ready, 2)
        (lost,) = heard.of(Lost)
        assert lost.message == "the session with Hydra failed (RuntimeError)"


async def test_a_close_that_does_not_drain_aborts_the_connection():
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        await made.close(drain=False)
        assert not made.is_open
        # No close frame was sent.
        assert await session(hydra).wait_closed() != 1000


async def test_after_a_close_no_timer_is_left():
    async with emulator() as hydra, connection(hydra) as (made, conversation, listener):
        made.open()
        await listener.until(Ready)
        made.perform(conversation.microphone(b"\x01\x00" * 320, made.now))
        assert made._timers.talk._handle is not None
        await made.close()
        made.perform(conversation.microphone(b"\x01\x00" * 320, made.now))
        assert made._timers.talk._handle is None


async def test_an_event_that_is_taken_badly_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, warnings: list[str]
):
    async with emulator() as hydra, connection(hydra, greet=False) as (made, conversation, heard):
        receive = conversation.receive

        def broken(event: Any, now: float) -> list[Any]:
            monkeypatch.setattr(conversation, "receive", receive)
            receive(event, now)
            raise RuntimeError("what a user said")

        made.open()
        await heard.until(Ready)
        monkeypatch.setattr(conversation, "receive", broken)
        made.perform([Send(ResponseCreate())])
        await heard.until(ReplyEnded)
        assert not heard.of(Lost)
        assert any("an event was not handled: RuntimeError" in line for line in warnings)
        assert "what a user said" not in "".join(warnings)


@pytest.mark.parametrize("configures", [True, False])
async def test_what_cannot_be_written_as_json_is_told(configures: bool):
    tool = FunctionTool(name="f", parameters={"x": {1, 2}})
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, heard):
        made.open()
        await heard.until(Ready)
        if configures:
            wrong = SessionConfigure(session=SessionConfiguration(tools=(tool,)))
            made.perform([Send(wrong)])
            (given_up,) = await heard.until(GivenUp)
            assert given_up.kind is FailureKind.CONFIGURATION
            assert "session.configure cannot be written as JSON" in given_up.message
            return
        made.perform([Send(SessionUpdate.of((tool,)))])
        (report,) = await heard.until(Report)
        assert report.severity is Severity.ERROR
        assert "session.update cannot be written as JSON" in report.message


async def test_audio_that_is_dropped_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipecat_hydra.session.websocket._MAX_WAITING_AUDIO_SECS", 0.05)
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, heard):
        made.open()
        await heard.until(Ready)
        assert made._socket is not None
        made._socket._connection.pause_writing()
        made.perform([Send(InputAudioAppend(audio=bytes(640)))] * 10)
        (report,) = await heard.until(Report)
        assert "Hydra takes no audio" in report.message
