"""What becomes of a call when the connection is lost, or cannot be had (S2, A1, T2, F1)."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    InputTextRawFrame,
    LLMFullResponseEndFrame,
    LLMUpdateSettingsFrame,
)
from pipecat.utils.errors import ErrorCategory
from support.call import NO_GREETING, SHAPES, Server, Shape, call, emulator, recording
from support.network import HalfOpen
from support.reconnects import (
    QUICK,
    Story,
    configured,
    errors,
    heard,
    opened_and_closed,
    reconnected,
)

from pipecat_hydra import HydraLLMService, HydraLLMSettings, RetryPolicy
from pipecat_hydra.emulator import (
    Drop,
    Ending,
    Fault,
    Full,
    Hang,
    HydraEmulator,
    Refuse,
    RejectVoice,
    Say,
    Script,
)

shapes = pytest.mark.parametrize("shape", SHAPES)


# In a live call


@dataclass
class Line:
    """Hydra, as it is reached over a network."""

    url: str
    api_key: str


@shapes
async def test_what_is_said_into_a_network_that_is_gone_is_heard_and_answered(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
):
    """Nobody tells of speech, nor of the loss, until some pings are not answered (A1)."""
    monkeypatch.setattr("pipecat_hydra.session.heartbeat._PING_INTERVAL_SECS", 1.0)
    async with (
        emulator() as hydra,
        HalfOpen(hydra.url) as network,
        call(Line(network.url, hydra.api_key), shape, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        network.go_away()
        await talk.say("question")
        await reconnected(talk, story)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        _, second = hydra.sessions
        assert recording("question").tobytes() in second.received_audio
        assert recording("hello").tobytes()[-6_400:] not in second.received_audio
        assert len(errors(talk)) == 1
        opened_and_closed(talk)


@pytest.mark.parametrize(
    ("how", "category"),
    [
        ("reset", ErrorCategory.CONNECTIVITY),
        ("eof", ErrorCategory.CONNECTIVITY),
        (1000, ErrorCategory.CONNECTIVITY),
        (1001, ErrorCategory.CONNECTIVITY),
        (1003, ErrorCategory.CONNECTIVITY),
        (1008, ErrorCategory.CONNECTIVITY),
        (1011, ErrorCategory.SERVER),
        (1012, ErrorCategory.SERVER),
        (1013, ErrorCategory.RATE_LIMIT),
        (4000, ErrorCategory.CONNECTIVITY),
    ],
)
async def test_a_call_goes_on_after_a_drop_between_turns(how: Ending, category: ErrorCategory):
    async with (
        emulator(Script([Say.tones(0.3)], then="repeat")) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await hydra.drop(how)
        await reconnected(talk, story)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()

        (error,) = errors(talk)
        assert error.category is category
        assert talk.llm.is_usable
        ((reason,),) = story.of("on_disconnected")
        assert reason == error.error
        assert story.attempts == [1]
        assert all(0.0 <= delay <= 0.2 for _, delay in story.of("on_reconnecting"))
        assert len(story.of("on_capacity")) == (how == 1013)
        # Hydra sends no transcript, so the new session cannot know what the user said.
        assert story.of("on_reconnected") == [(False,)]
        first, second = hydra.sessions
        assert recording("question").tobytes() in second.received_audio
        assert recording("hello").tobytes() not in second.received_audio
        assert second.configuration is not None
        assert second.configuration["generate_initial_response"] is False
        assert heard(talk) == first.sent_audio() + second.sent_audio()
        opened_and_closed(talk)


# What stands in the way of a new connection


@pytest.mark.parametrize(
    ("faults", "attempts"),
    [
        ([Refuse(500, first=2, times=2)], 3),
        ([Refuse(503, first=2, times=2)], 3),
        ([Refuse(408, first=2, times=1)], 2),
        ([Refuse(429, first=2, times=2)], 3),
        ([Refuse(429, retry_after=1, first=2, times=1)], 2),
        ([Full(first=2, times=2)], 3),
        ([Hang("upgrade", first=2, times=1)], 2),
        ([Hang("created", first=2, times=1)], 2),
        ([Hang("configured", first=2, times=1)], 2),
        ([Drop("reset", during="upgrade", first=2, times=2)], 3),
        ([Drop("eof", first=2, times=2)], 3),
        ([Drop(1000, first=2, times=2)], 3),
        ([Drop(1000, sent=1, of="session.created", first=2, times=2)], 3),
        ([Drop("reset", received=1, of="session.configure", first=2, times=2)], 3),
    ],
    ids=lambda value: "+".join(map(str, value)) if isinstance(value, list) else "",
)
async def test_it_is_tried_until_it_works(faults: Sequence[Fault], attempts: int):
    timeouts: dict[str, Any] = {"open_timeout_secs": 2.0, "handshake_timeout_secs": 2.0}
    async with (
        HydraEmulator(faults=faults) as hydra,
        call(hydra, "bare", settings=NO_GREETING, retry=QUICK, **timeouts) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await hydra.drop("eof")
        # Spoken while there is no connection.
        await talk.say("question")
        await reconnected(talk, story)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        (error,) = errors(talk)
        assert error.category is ErrorCategory.CONNECTIVITY
        assert story.attempts == list(range(1, attempts + 1))
        assert len(story.of("on_reconnected")) == 1
        # The drop itself, and what stood in the way of each attempt but the last.
        assert len(hydra.injected) == attempts
        for _, delay in story.of("on_reconnecting"):
            assert delay <= 0.1 + (1.0 if "retry_after" in str(faults) else 0.0)
        assert len(story.of("on_capacity")) == sum(
            isinstance(fault.fault, Full) or "429" in str(fault.fault) for fault in hydra.injected
        )
        _, *_, last = configured(hydra)
        assert recording("question").tobytes() in last.received_audio
        assert heard(talk).endswith(last.sent_audio())
        assert talk.llm.is_usable
        opened_and_closed(talk)


class Elsewhere:
    """A server that is somewhere else than it is said to be."""

    def __init__(self, url: str):
        self.url = url
        self.api_key = "sk-emulator"


@pytest.mark.parametrize("how", ["dns", "tls", "port"])
async def test_what_cannot_be_reached_is_reported_once_tried_and_given_up(how: str):
    async with emulator() as hydra:
        url = {
            "dns": "wss://nowhere.invalid/waves/v1/s2s",
            "tls": hydra.url.replace("ws://", "wss://"),
            "port": "ws://127.0.0.1:9/waves/v1/s2s",
        }[how]
        retry = RetryPolicy(attempts_per_drop=3, first_delay_secs=0.02, longest_delay_secs=0.02)
        server: Server = Elsewhere(url)
        async with call(server, settings=NO_GREETING, retry=retry) as talk:
            story = Story(talk.llm)
            await talk.until(lambda: story.of("on_given_up"))
            await talk.until(lambda: len(errors(talk)) == 2)
            await talk.say("hello")
            lost, given_up = errors(talk)
            assert lost.category is given_up.category is ErrorCategory.CONNECTIVITY
            assert not talk.llm.is_usable
            assert story.attempts == [1, 2, 3]
            assert not story.of("on_connected")
            assert not hydra.sessions


@pytest.mark.parametrize(
    ("fault", "category"),
    [
        (Refuse(401), ErrorCategory.AUTHENTICATION),
        (Refuse(403), ErrorCategory.AUTHENTICATION),
        (Refuse(404), ErrorCategory.INVALID_REQUEST),
    ],
    ids=str,
)
async def test_what_is_of_no_use_is_not_tried_again(fault: Fault, category: ErrorCategory):
    async with (
        HydraEmulator(faults=[fault]) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.until(lambda: errors(talk))
        await talk.say("hello")
        (error,) = errors(talk)
        assert error.category is category
        assert not talk.llm.is_usable
        assert not story.attempts
        assert [reason for (reason,) in story.of("on_given_up")] == [error.error]
        assert len(hydra.injected) == 1


async def test_a_key_that_is_refused_on_the_way_ends_it():
    async with (
        HydraEmulator(faults=[Refuse(401, first=2)]) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        await hydra.drop("eof")
        await talk.until(lambda: story.of("on_given_up"))
        await talk.until(lambda: len(errors(talk)) == 2)
        assert [error.category for error in errors(talk)] == [
            ErrorCategory.CONNECTIVITY,
            ErrorCategory.AUTHENTICATION,
        ]
        assert story.attempts == [1]
        assert not talk.llm.is_usable


@pytest.mark.parametrize(
    "drop",
    [Drop(1000), Drop(1011), Drop("reset", during="configured")],
    ids=["accepts and closes", "accepts and fails", "configures and resets"],
)
async def test_a_server_that_accepts_and_closes_makes_nothing_loop(drop: Drop):
    retry = RetryPolicy(attempts_per_drop=4, first_delay_secs=0.02, longest_delay_secs=0.02)
    async with (
        HydraEmulator(faults=[drop]) as hydra,
        call(hydra, settings=NO_GREETING, retry=retry) as talk,
    ):
        story = Story(talk.llm)
        await talk.until(lambda: story.of("on_given_up"))
        connections = len(hydra.sessions)
        await talk.until(lambda: not talk.llm.is_usable)
        await talk.say("hello")
        assert story.attempts == [1, 2, 3, 4]
        assert len(hydra.sessions) == connections <= 6


async def test_the_budget_of_a_full_server_is_a_rate_limit():
    retry = RetryPolicy(attempts_per_drop=2, first_delay_secs=0.02, longest_delay_secs=0.02)
    async with (
        HydraEmulator(faults=[Full()]) as hydra,
        call(hydra, settings=NO_GREETING, retry=retry) as talk,
    ):
        story = Story(talk.llm)
        await talk.until(lambda: len(errors(talk)) == 2)
        assert {error.category for error in errors(talk)} == {ErrorCategory.RATE_LIMIT}
        assert [attempt for attempt, _ in story.of("on_capacity")] == [1, 2]
        assert not talk.llm.is_usable


# The rest of a call


async def test_a_token_is_minted_for_each_connection():
    minted: list[str] = []

    async def mint() -> str:
        minted.append(f"wat_{len(minted)}")
        return hydra.api_key

    async with (
        emulator() as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK, api_key=mint) as talk,
    ):
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        await hydra.drop()
        await reconnected(talk, story)
        assert minted == ["wat_0", "wat_1"]


async def test_the_new_session_has_the_settings_that_are_in_force():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        hydra.faults = [Refuse(503, times=2)]
        await hydra.drop()
        await talk.until(lambda: story.attempts)
        delta = HydraLLMSettings(voice="zoe", system_instruction="Be brief.")
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await reconnected(talk, story)
        told = configured(hydra)[1].configuration
        assert told is not None
        assert told["voice"] == "zoe"
        assert told["instructions"].startswith("Be brief.")
        await asyncio.sleep(0.3)
        assert len(configured(hydra)) == 2


async def test_new_settings_give_a_service_that_was_given_up_another_chance():
    async with (
        HydraEmulator(faults=[RejectVoice(times=2)]) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        await talk.until(lambda: not talk.llm.is_usable)
        delta = HydraLLMSettings(voice="zoe")
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.until(lambda: configured(hydra))
        assert talk.llm.is_usable
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)


async def test_a_cancel_ends_the_waiting_at_once():
    retry = RetryPolicy(first_delay_secs=60.0, longest_delay_secs=60.0, secs_per_drop=600.0)
    before = asyncio.all_tasks()
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=retry) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        hydra.faults = [Refuse(503)]
        await hydra.drop()
        await talk.until(lambda: story.attempts)
        began = time.monotonic()
        await talk.worker.cancel()
        await talk.ended()
        assert time.monotonic() - began < 5
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)


async def test_an_end_does_not_wait_for_a_server_that_is_down():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        hydra.faults = [Refuse(503)]
        await hydra.drop()
        await talk.until(lambda: story.attempts)
        await talk.worker.queue_frame(InputTextRawFrame("Are you there?"))
        await talk.worker.queue_frame(EndFrame())
        # Five seconds without any progress, and some for a busy machine.
        await talk.ended()


@pytest.mark.parametrize(
    "name",
    ["open_timeout_secs", "handshake_timeout_secs", "unused_timeout_secs", "idle_timeout_secs"],
)
def test_a_limit_of_no_time_is_refused(name: str):
    limits: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=name):
        HydraLLMService(api_key="sk-none", **limits)


async def test_frames_flow_while_there_is_no_connection():
    retry = RetryPolicy(first_delay_secs=60.0, longest_delay_secs=60.0, secs_per_drop=600.0)
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=retry) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        await hydra.drop()
        await talk.until(lambda: story.attempts)
        before = len(talk.frames.pushed)
        await talk.say("hello")
        assert len(talk.frames.pushed) - before > 20


async def test_the_application_is_told_the_story_of_a_call():
    async with emulator() as hydra, call(hydra, "bare", settings=NO_GREETING, retry=QUICK) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        await hydra.drop(1001)
        await reconnected(talk, story)
        ids = [session.id for session in hydra.sessions]
    names = [name for name, _ in story.told]
    assert names[-9:] == [
        "on_session_started",
        "on_session_ended",
        "on_disconnected",
        "on_reconnecting",
        "on_connected",
        "on_session_started",
        "on_reconnected",
        "on_session_ended",
        "on_disconnected",
    ]
    assert [session_id for (session_id,) in story.of("on_session_started")] == ids
    assert story.of("on_disconnected")[-1] == ("the pipeline has ended",)


# Sessions that nobody uses


async def test_a_bot_started_long_before_its_caller_costs_no_error():
    async with (
        emulator(idle_timeout_secs=1.5) as hydra,
        call(hydra, "bare", start_audio_paused=True, settings=NO_GREETING) as talk,
    ):
        first = await hydra.wait_for_session()
        assert await first.wait_closed() == 1000
        await asyncio.sleep(0.3)
        # It costs nothing until somebody calls.
        assert len(hydra.sessions) == 1
        talk.llm.set_audio_input_paused(False)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert recording("hello").tobytes() in hydra.sessions[1].received_audio
        assert not errors(talk)


async def test_a_session_that_nobody_uses_is_closed_by_us():
    quiet = {"start_audio_paused": True, "unused_timeout_secs": 0.2, "settings": NO_GREETING}
    async with emulator() as hydra, call(hydra, **quiet) as talk:
        story = Story(talk.llm)
        first = await hydra.wait_for_session()
        assert await first.wait_closed() == 1000
        await talk.until(lambda: story.of("on_disconnected"))
        await talk.worker.queue_frame(InputTextRawFrame("Hello?"))
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert not errors(talk)
        assert not story.attempts


async def test_a_session_in_which_nothing_happens_is_closed_and_opened_again():
    async with (
        emulator() as hydra,
        call(hydra, "bare", settings=NO_GREETING, idle_timeout_secs=0.6) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        talk.llm.set_audio_input_paused(True)
        await talk.until(lambda: story.of("on_disconnected"))
        assert await hydra.sessions[0].wait_closed() == 1000
        talk.llm.set_audio_input_paused(False)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert recording("question").tobytes() in hydra.sessions[1].received_audio
        assert not errors(talk)
        assert not story.attempts
        told = hydra.sessions[1].configuration
        assert told is not None
        assert "do not greet" in told["instructions"].lower()


async def test_a_key_refused_before_anybody_calls_is_told_at_once():
    async with (
        HydraEmulator(faults=[Refuse(401)]) as hydra,
        call(hydra, start_audio_paused=True) as talk,
    ):
        await talk.until(lambda: errors(talk))
        assert not talk.llm.is_usable


async def test_a_server_out_of_reach_before_anybody_calls_costs_no_error(warnings: list[str]):
    async with (
        HydraEmulator(faults=[Refuse(503, times=1)]) as hydra,
        call(hydra, start_audio_paused=True, settings=NO_GREETING) as talk,
    ):
        await talk.until(lambda: any("503" in line for line in warnings))
        assert not errors(talk)
        talk.llm.set_audio_input_paused(False)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert not errors(talk)


async def test_silence_takes_the_place_of_a_paused_microphone_in_any_session():
    """A turn that was spoken just before the pause and the loss is answered after both."""
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        await talk.transport.microphone.say(np.concatenate([recording("question")[:-1600]]))
        talk.llm.set_audio_input_paused(True)
        await hydra.drop()
        await reconnected(talk, story)
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert heard(talk) == hydra.sessions[1].sent_audio()
