"""The logical session over real sockets: opening, effects in order, closing."""

import asyncio
from typing import Any

import pytest
from loguru import logger
from support.call import emulator, session
from support.connections import QUICK, Listener, chunk, connection, dial, goes_to_rest

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Connected,
    Discard,
    Disconnected,
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Ready,
    ReplyEnded,
    ReplyStarted,
    Rested,
    Retrying,
    SessionStarted,
    VoiceStarted,
)
from pipecat_hydra.emulator import Drop, HydraEmulator, Refuse
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.wire.events import (
    SessionConfiguration,
)


async def test_a_session_from_opening_to_closing():
    before = asyncio.all_tasks()
    async with emulator() as hydra, connection(hydra) as (made, conversation, listener):
        assert not made.is_open
        made.open()
        made.open()
        await listener.until(ReplyEnded)
        assert made.is_open
        order = [type(e) for e in listener.effects if not isinstance(e, AudioChunk)]
        assert order[:5] == [Connected, SessionStarted, Ready, ReplyStarted, VoiceStarted]
        pcm = b"".join(e.pcm for e in listener.of(AudioChunk))
        assert pcm == session(hydra).sent_audio()
        await made.close()
        await made.close()
        assert not made.is_open
        assert conversation.phase is Phase.OFFLINE
        assert await session(hydra).wait_closed() == 1000
        assert not listener.of(Lost)
    assert asyncio.all_tasks() <= before


async def test_a_close_tells_the_pipeline_what_was_left_open():
    async with emulator(delivery_speed=0.5) as hydra, connection(hydra) as (made, _, listener):
        made.open()
        await listener.until(AudioChunk)
        await made.close()
        (ended,) = listener.of(ReplyEnded)
        assert ended.interrupted


async def test_a_session_that_is_lost_is_had_again():
    async with emulator() as hydra, connection(hydra) as (made, conversation, listener):
        made.open()
        await listener.until(ReplyEnded)
        await hydra.stop()
        (lost,) = await listener.until(Lost)
        assert lost.configured
        await listener.until(Retrying, 2)
        await hydra.start()
        await listener.until(Ready, 2)
        assert len(hydra.sessions) == 2
        # One report; and no second greeting.
        assert len(listener.of(Lost)) == 1
        assert len(listener.of(Disconnected)) == 1
        assert hydra.sessions[1].configuration == {
            "voice": "aria",
            "generate_initial_response": False,
        }
        assert [retrying.attempt for retrying in listener.of(Retrying)][:2] == [1, 2]
        assert conversation.sessions == 2


async def test_what_cannot_be_had_is_given_up():
    retry = RetryPolicy(attempts_per_drop=3, first_delay_secs=0.01, longest_delay_secs=0.01)
    async with emulator() as hydra, connection(hydra, retry=retry) as (made, _, listener):
        await hydra.stop()
        made.open()
        (given_up,) = await listener.until(GivenUp)
        assert given_up.kind is FailureKind.CONNECTIVITY
        assert not made.is_open
        assert not made.is_wanted
        assert len(listener.of(Lost)) == 1
        assert len(listener.of(Retrying)) == 3
        made.open()
        assert not made.is_open
        made.renew()
        made.open()
        await listener.until(GivenUp, 2)
        assert len(listener.of(Retrying)) == 6


async def test_each_loss_of_a_session_that_lived_for_a_while_is_a_new_one():
    retry = RetryPolicy(attempts_per_drop=1, first_delay_secs=0.01, stable_secs=0.05)
    async with emulator() as hydra, connection(hydra, retry=retry) as (made, _, listener):
        made.open()
        for times in range(1, 4):
            await listener.until(Ready, times)
            await asyncio.sleep(0.1)
            await hydra.drop()
            await listener.until(Lost, times)
        await listener.until(Ready, 4)
        assert [retrying.attempt for retrying in listener.of(Retrying)] == [1, 1, 1]
        assert not listener.of(GivenUp)


async def test_a_refusal_is_told_once_and_not_tried_again():
    async with emulator() as hydra, connection(hydra, key="wrong") as (made, _, listener):
        made.open()
        (given_up,) = await listener.until(GivenUp)
        assert given_up.kind is FailureKind.AUTHENTICATION
        assert not listener.of(Lost)
        assert not listener.of(Retrying)
        assert not made.is_open


async def test_a_key_that_cannot_be_had_is_tried_again():
    attempts = 0

    async def endpoint() -> Endpoint:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise HydraConnectionError(FailureKind.CONNECTIVITY, "no key")
        return await dial(hydra)()

    async with emulator() as hydra:
        conversation = Conversation(model="hydra-v1.1")
        conversation.configure(SessionConfiguration(), 0.0)
        listener = Listener()
        made = HydraConnection(endpoint, conversation, on_effect=listener, retry=QUICK)
        made.open()
        await listener.until(Ready)
        assert [lost.message for lost in listener.of(Lost)] == ["no key"]
        await made.close()


async def test_what_nobody_uses_is_not_tried_again():
    async with emulator() as hydra, connection(hydra) as (made, _, listener):
        await hydra.stop()
        made.prewarm()
        (rested,) = await listener.until(Rested)
        assert rested.failed
        assert not made.is_open
        assert not listener.of(Lost)
        await hydra.start()
        made.open()
        await listener.until(Ready)
        assert made.is_wanted


async def test_a_session_at_rest_is_opened_again_on_demand():
    async with (
        emulator() as hydra,
        connection(hydra, greet=False, idle_timeout_secs=0.2) as (made, conversation, listener),
    ):
        made.open()
        (rested,) = await listener.until(Rested)
        assert not rested.failed
        assert not made.is_wanted
        assert await hydra.sessions[0].wait_closed() == 1000
        assert [d.reason for d in listener.of(Disconnected)] == [rested.message]
        made.perform(conversation.microphone(b"\x01\x00" * 320, made.now))
        made.open()
        await listener.until(Ready, 2)
        assert not listener.of(Lost)
        assert not listener.of(Retrying)
        second = hydra.sessions[1]
        await second.wait_until(lambda: b"\x01\x00" * 320 in second.received_audio)


async def test_a_demand_while_a_session_goes_to_rest_is_met():
    async with (
        emulator() as hydra,
        connection(hydra, greet=False, idle_timeout_secs=0.2) as (made, _, listener),
    ):
        made.open()
        await listener.until(Ready)
        await goes_to_rest(made)
        made.open()
        await listener.until(Ready, 2)


async def test_a_demand_after_all_was_given_up_changes_nothing():
    retry = RetryPolicy(attempts_per_drop=0)
    async with (
        HydraEmulator(faults=[Refuse(503, times=1)]) as hydra,
        connection(hydra, greet=False, retry=retry) as (made, _, listener),
    ):
        made.open()
        await listener.until(GivenUp)
        made.open()
        assert not made.is_wanted
        made.renew()
        made.open()
        await listener.until(Ready)


async def test_an_outage_that_begins_with_a_close_that_was_due_is_told():
    """The first use of a session and its idle close have crossed; but then none can be had."""
    faults = [Drop(1000, sent=1, of="session.created", times=1), Refuse(503, first=2, times=2)]
    async with (
        HydraEmulator(faults=faults) as hydra,
        connection(hydra, greet=False) as (made, _, listener),
    ):
        made.open()
        await listener.until(Ready)
        assert len(listener.of(Lost)) == 1
        assert "503" in listener.of(Lost)[0].message


async def test_a_close_that_crossed_with_the_first_use_is_nobodys_fault():
    faults = [Drop(1000, sent=1, of="session.created", times=1)]
    async with (
        HydraEmulator(faults=faults) as hydra,
        connection(hydra, greet=False) as (made, _, listener),
    ):
        made.open()
        await listener.until(Ready)
        assert not listener.of(Lost)


async def test_a_session_at_rest_is_not_replaced():
    async with (
        emulator() as hydra,
        connection(hydra, greet=False, idle_timeout_secs=0.2) as (made, _, listener),
    ):
        made.open()
        await listener.until(Ready)
        await goes_to_rest(made)
        assert not made.is_connected
        await made.replace()
        await listener.until(Rested)
        assert len(hydra.sessions) == 1
        made.open()
        await listener.until(Ready, 2)
        await hydra.drop()
        await listener.until(Lost)


async def test_a_close_ends_the_waiting_for_another_attempt():
    retry = RetryPolicy(first_delay_secs=60.0, longest_delay_secs=60.0, secs_per_drop=600.0)
    async with emulator() as hydra, connection(hydra, retry=retry) as (made, _, listener):
        await hydra.stop()
        made.open()
        await listener.until(Retrying)
        async with asyncio.timeout(5):
            await made.close(drain=False)
        assert not made.is_open


async def test_a_handler_that_fails_ends_nothing():
    messages: list[str] = []
    handler = logger.add(messages.append, level="ERROR")
    async with emulator() as hydra, connection(hydra) as (made, _, listener):
        listener.fault = RuntimeError("broken handler")
        made.open()
        await listener.until(ReplyEnded)
    logger.remove(handler)
    assert any("RuntimeError" in message for message in messages)


async def test_a_slow_pipeline_slows_the_server_and_not_the_memory():
    async with (
        emulator(delta_ms=1, delivery_speed=float("inf")) as hydra,
        connection(hydra) as (made, _, listener),
    ):
        made.open()
        await listener.until(VoiceStarted)
        listener.gate.clear()
        await asyncio.sleep(0.2)
        assert len(made._effects._effects) < 300
        listener.gate.set()
        await listener.until(ReplyEnded)
        pcm = b"".join(e.pcm for e in listener.of(AudioChunk))
        assert pcm == session(hydra).sent_audio()


async def test_what_waits_of_a_reply_can_be_discarded():
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        listener.gate.clear()
        made.perform([ReplyStarted("r"), chunk(b"ab"), ReplyEnded("r", True)])
        made.perform([Discard(), chunk(b"cd")])
        listener.gate.set()
        await listener.until(ReplyEnded)
        await listener.until(AudioChunk)
        assert listener.of(AudioChunk) == [chunk(b"cd")]


async def test_nothing_comes_between_what_is_done_between_effects():
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        seen = len(listener.effects)
        async with made.between_effects():
            made.perform([chunk(b"ab")])
            await asyncio.sleep(0.02)
            assert len(listener.effects) == seen
        await listener.until(AudioChunk)


async def test_within_an_effect_what_is_done_between_effects_is_done_at_once():
    """A processor in direct mode answers a frame before the pushing of it returns."""
    done = asyncio.Event()

    async def handler(effect: PipelineEffect) -> None:
        if isinstance(effect, Ready):
            async with made.between_effects():
                done.set()

    async with emulator() as hydra:
        conversation = Conversation(model="hydra-v1.1")
        conversation.configure(SessionConfiguration(), 0.0)
        made = HydraConnection(dial(hydra), conversation, on_effect=handler)
        made.open()
        await asyncio.wait_for(done.wait(), 5)
        await made.close()


async def test_what_is_sent_without_a_connection_is_not_sent():
    async with emulator() as hydra, connection(hydra) as (made, conversation, _):
        made.perform(conversation.microphone(b"\x01\x00" * 320, made.now))
        made.perform(conversation.request_response(made.now))
        assert not hydra.sessions


@pytest.mark.parametrize("slow", ["created_delay_secs", "configured_delay_secs"])
async def test_a_handshake_that_hangs_is_tried_again_and_given_up(slow: str):
    retry = RetryPolicy(attempts_per_drop=1, first_delay_secs=0.01)
    async with (
        emulator(**{slow: 30.0}) as hydra,
        connection(hydra, retry=retry, handshake_timeout_secs=0.2) as (made, _, listener),
    ):
        made.open()
        (given_up,) = await listener.until(GivenUp)
        assert given_up.kind is FailureKind.TIMEOUT
        assert [lost.kind for lost in listener.of(Lost)] == [FailureKind.TIMEOUT]
        assert len(hydra.sessions) == 2


async def test_a_close_that_is_cancelled_leaves_nothing_behind():
    """CancelFrame may come in the middle of the teardown of an EndFrame."""
    before = asyncio.all_tasks()
    async with emulator() as hydra, connection(hydra) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await made.close()
        await session(hydra).wait_closed()
        assert not made.is_open
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)


async def test_a_connection_that_is_closed_stays_so():
    async with emulator() as hydra, connection(hydra) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        await made.close()
        made.open()
        assert not made.is_open
        assert len(hydra.sessions) == 1


async def test_a_session_is_replaced_by_one_only():
    async with (
        emulator() as hydra,
        connection(hydra, greet=False) as (made, conversation, listener),
    ):
        made.open()
        await listener.until(Ready)
        attempt = made._runner._attempt
        assert attempt is not None
        # Somebody asks for a connection just as the old one is gone.
        attempt._task.add_done_callback(lambda _: made.open())
        conversation.configure(SessionConfiguration(voice="zoe"), made.now)
        await made.replace()
        await listener.until(Ready, 2)
        assert not listener.of(Lost)
        assert [s.configuration["voice"] for s in hydra.sessions if s.configuration] == [
            "aria",
            "zoe",
        ]


async def test_a_failure_nobody_foresaw_is_told(monkeypatch: pytest.MonkeyPatch):
    async with emulator() as hydra, connection(hydra) as (made, conversation, listener):

        def broken(now: float) -> list[Any]:
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(conversation, "connected", broken)
        made.open()
        (lost,) = await listener.until(Lost)
        assert lost.kind is FailureKind.SERVER
        (given_up,) = await listener.until(GivenUp)
        assert given_up.kind is FailureKind.SERVER


async def test_audio_that_came_at_once_waits_no_longer_than_its_pace_demands():
    voiced = b"\x01\x00"
    async with emulator() as hydra, connection(hydra, greet=False) as (made, _, listener):
        made.open()
        await listener.until(Ready)
        await asyncio.sleep(1.0)
        # From now on the timer is set for when the microphone falls quiet.
        made.hear(voiced * 320, made.now)
        await asyncio.sleep(0.1)
        for _ in range(60):
            made.hear(voiced * 320, made.now)
        await asyncio.sleep(0.1)
        # Half a second went at once, and two tenths at twice real time.
        assert session(hydra).received_audio.count(voiced) >= 0.65 * 16_000
