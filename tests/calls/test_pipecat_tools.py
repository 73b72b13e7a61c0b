"""Pipecat's observers, controllers and mute strategies, at work with the service."""

import asyncio
import inspect
import re
from typing import Any

import pytest
from loguru import logger
from pipecat.frames.frames import (
    LLMRunFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.observers.loggers.metrics_log_observer import MetricsLogObserver
from pipecat.observers.user_bot_latency_observer import LatencyBreakdown, UserBotLatencyObserver
from pipecat.processors.audio.audio_buffer_processor import AudioBufferProcessor, TurnAudioData
from pipecat.processors.frame_processor import FrameDirection
from pipecat.turns.user_mute import (
    AlwaysUserMuteStrategy,
    FunctionCallUserMuteStrategy,
    MuteUntilFirstBotCompleteUserMuteStrategy,
)
from pipecat.turns.user_mute.base_user_mute_strategy import BaseUserMuteStrategy
from support.bots import Bot, running, script, until
from support.call import emulator, recording

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, Noise, Say

needs_vad_frames = pytest.mark.skipif(
    "vad_frames" not in inspect.signature(HydraLLMService).parameters,
    reason="the service cannot tell of Hydra's voice activity detection yet",
)


class TestTurnTracking:
    async def test_turns_are_counted_and_an_interrupted_one_is_told_so(self):
        ended: list[tuple[int, bool]] = []
        async with emulator(script(Say.tones(5.0), Say.tones(0.4))) as hydra:
            async with running(Bot(hydra)) as bot:
                tracker = bot.worker.turn_tracking_observer
                assert tracker is not None

                @tracker.event_handler("on_turn_ended")
                async def on_turn_ended(
                    tracker: Any, number: int, secs: float, interrupted: bool
                ) -> None:
                    ended.append((number, interrupted))

                await bot.greet()
                await bot.say("hello")
                await until(lambda: bot.line.timeline.secs - bot.line.heard_until_secs < 0.1)
                await bot.say("interrupt")
                await bot.until_answered(3)
            await until(lambda: len(ended) == 3)
        # The greeting, the answer that was cut off, and the one that was not.
        assert [number for number, _ in ended] == [1, 2, 3]
        assert ended[1] == (2, True)


class TestMetrics:
    async def test_what_the_observer_logs_is_what_hydra_took(self):
        lines: list[str] = []
        handler = logger.add(
            lambda message: lines.append(message.record["message"]),
            level="DEBUG",
            filter=lambda record: "metrics_log_observer" in (record["name"] or ""),
        )
        observer = MetricsLogObserver(include_metrics={TTFBMetricsData, LLMUsageMetricsData})
        try:
            async with emulator(script(Say.tones(0.4)), response_latency_secs=0.4) as hydra:
                async with running(Bot(hydra, observers=[observer])) as bot:
                    await bot.greet()
                    await bot.say("hello")
                    await bot.until_answered(2)
                done = bot.told.sent_of("response.done")
        finally:
            logger.remove(handler)
        waits = [
            float(match[1]) for line in lines if (match := re.search(r"TTFB.*: ([\d.]+)s at", line))
        ]
        assert waits[-1] == pytest.approx(0.4, abs=0.3)
        assert waits[-1] >= 0.39
        usage = done[-1].event["response"]["usage"]
        assert f"prompt: {usage['input_tokens']}, completion: {usage['output_tokens']}" in lines[-1]
        assert all("HydraLLMService" in line for line in lines)


class VADFrames(BaseObserver):
    def __init__(self):
        super().__init__(observe_every_push=False)
        self.seen: list[VADUserStartedSpeakingFrame | VADUserStoppedSpeakingFrame] = []

    async def on_push_frame(self, data: FramePushed):
        if data.direction == FrameDirection.DOWNSTREAM and isinstance(
            data.frame, VADUserStartedSpeakingFrame | VADUserStoppedSpeakingFrame
        ):
            self.seen.append(data.frame)


@needs_vad_frames
class TestLatency:
    async def test_what_is_measured_is_what_the_user_waited(self):
        measured: list[float] = []
        breakdowns: list[LatencyBreakdown] = []
        observer, frames = UserBotLatencyObserver(), VADFrames()

        @observer.event_handler("on_latency_measured")
        async def on_latency_measured(observer: Any, secs: float) -> None:
            measured.append(secs)

        @observer.event_handler("on_latency_breakdown")
        async def on_latency_breakdown(observer: Any, breakdown: LatencyBreakdown) -> None:
            breakdowns.append(breakdown)

        async with emulator(script(Say.tones(0.4)), response_latency_secs=0.3) as hydra:
            bot = Bot(hydra, observers=[observer, frames], service={"vad_frames": True})
            async with running(bot):
                await bot.greet()
                ended_at = await bot.say("hello")
                await until(lambda: bot.line.heard_until_secs > ended_at)
                began_at = next(h.start_secs for h in bot.line.heard if h.start_secs > ended_at)
                await bot.until_answered(2)
        # One turn, from the end of the words, which the emulator hears 0.6 s later.
        (waited,) = measured
        assert waited == pytest.approx(began_at - ended_at, abs=0.25)
        started, stopped = frames.seen
        assert isinstance(started, VADUserStartedSpeakingFrame)
        assert isinstance(stopped, VADUserStoppedSpeakingFrame)
        assert stopped.stop_secs == pytest.approx(0.6, abs=0.2)
        assert breakdowns[-1].total_secs == pytest.approx(waited, abs=0.01)
        assert "endpointing_wait" in [part.key for part in breakdowns[-1].contributions]


class TestIdle:
    @staticmethod
    def noticed(bot: Bot) -> list[float]:
        """When it was noticed that the user says nothing."""
        idle: list[float] = []

        @bot.user.event_handler("on_user_turn_idle")
        async def on_user_turn_idle(aggregator: Any) -> None:
            idle.append(bot.line.timeline.secs)

        return idle

    async def test_a_user_who_says_nothing_is_noticed_after_the_bot_has_spoken(self):
        async with emulator(script(greeting_secs=1.2)) as hydra:
            bot = Bot(hydra, user={"user_idle_timeout": 0.6})
            idle = self.noticed(bot)
            async with running(bot):
                await bot.greet()
                await until(lambda: idle)
                heard_until = bot.line.heard_until_secs
        assert len(idle) == 1
        assert idle[0] - heard_until == pytest.approx(0.6, abs=0.35)

    async def test_noise_does_not_end_the_watch(self):
        async with emulator(script(Noise())) as hydra:
            bot = Bot(hydra, user={"user_idle_timeout": 1.2})
            idle = self.noticed(bot)
            async with running(bot):
                await bot.greet()
                ended = await bot.say("hello")
                await until(lambda: idle)
        assert len(idle) == 1
        assert idle[0] > ended


class TestRecordedTurns:
    async def test_each_turn_has_its_audio(self):
        recorder = AudioBufferProcessor(
            sample_rate=16_000, enable_turn_audio=True, auto_start_recording=True
        )
        said: list[TurnAudioData] = []
        heard: list[TurnAudioData] = []

        @recorder.event_handler("on_user_turn_audio")
        async def on_user_turn_audio(recorder: Any, turn: TurnAudioData) -> None:
            said.append(turn)

        @recorder.event_handler("on_bot_turn_audio")
        async def on_bot_turn_audio(recorder: Any, turn: TurnAudioData) -> None:
            heard.append(turn)

        async with (
            emulator(script(Say.tones(0.6))) as hydra,
            running(Bot(hydra, recorder=recorder)) as bot,
        ):
            await bot.greet()
            await bot.say("hello")
            # A turn is over when the bot has been silent for 2.5 s.
            await until(lambda: len(heard) == 2 and said)
        assert [turn.turn_number for turn in heard] == [1, 2]
        assert len(heard[1].audio) / 2 / 16_000 == pytest.approx(0.6, abs=0.15)
        (turn,) = said
        # With up to a second from before the turn, and what Hydra waits to be sure.
        assert turn.turn_number == 2
        assert recording("hello")[4_000:12_000].tobytes() in turn.audio


class TestMute:
    @pytest.mark.parametrize(
        "strategy", [AlwaysUserMuteStrategy, MuteUntilFirstBotCompleteUserMuteStrategy]
    )
    async def test_a_user_who_is_muted_does_not_interrupt_and_is_heard_later(
        self, strategy: type[BaseUserMuteStrategy]
    ):
        async with emulator(script(Say.tones(0.4), greeting_secs=3.0)) as hydra:
            bot = Bot(hydra, user={"user_mute_strategies": [strategy()]})
            async with running(bot):
                await bot.worker.queue_frame(LLMRunFrame())
                await until(lambda: bot.line.heard_until_secs > 0.3)
                await bot.say("hello")
                await bot.until_quiet()
                # Nothing of it came to Hydra, and the greeting was heard to its end.
                assert bot.told.sent_of("input_audio_buffer.speech_started") == []
                assert not any(bot.told.received_audio[16_000:])
                assert len(bot.line.heard_pcm) >= len(bot.told.sent_audio())
                await bot.say("hello")
                await bot.until_answered(2)
            assert bot.told.errors == []

    async def test_nobody_interrupts_a_function(self):
        finished: list[str] = []

        async def look_up(params: Any, what: str):
            """Look something up.

            Args:
                params: Takes the result.
                what: What to look up.
            """
            await asyncio.sleep(1.5)
            finished.append(what)
            await params.result_callback({"found": what})

        turn = [Call("look_up", {"what": "it"}, "call"), Say.tones(0.4)]
        async with emulator(script(turn)) as hydra:
            bot = Bot(
                hydra,
                tools=[look_up],
                user={"user_mute_strategies": [FunctionCallUserMuteStrategy()]},
            )
            async with running(bot):
                await bot.greet()
                await bot.say("hello")
                await bot.told.wait_for_sent("response.function_call_arguments.done", within=10)
                await bot.line.microphone.say(recording("hello"))
                await bot.until_answered(3)
            assert finished == ["it"]
            assert len(bot.told.sent_of("input_audio_buffer.speech_started")) == 1
            assert bot.told.errors == []
