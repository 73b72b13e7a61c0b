"""The examples with words that are not the model's: announcements, keys, and silence."""

import asyncio

import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import InputDTMFFrame
from pipecat.runner.types import RunnerArguments
from support.bots import example, loud_secs, talking, until, until_ended
from support.call import emulator, recording, session

from pipecat_hydra.emulator import Call, EmulatedSession, Say, Script
from pipecat_hydra.testing import VirtualTransport

RATE = 24_000


async def until_quiet(line: VirtualTransport) -> None:
    await until(lambda: line.heard_until_secs and line.timeline.secs - line.heard_until_secs > 0.5)


def texts(told: EmulatedSession) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in told.messages]


class TestAnnouncements:
    async def test_the_announcement_is_heard_before_the_greeting_and_hydra_knows_nothing_of_it(
        self, warnings: list[str]
    ):
        bot = example("announcements")
        line = VirtualTransport()
        script = Script([Say.tones(0.6)], greeting=Say.tones(1.0))
        async with emulator(script) as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                tts=bot.StandInTTS(),
                api_key=hydra.api_key,
                base_url=hydra.url,
            )
            async with talking(run, line):
                await until_quiet(line)
                told = session(hydra)
                announced = len(bot.ANNOUNCEMENT) * 0.06
                heard = line.heard_pcm.strip(b"\0")
                assert len(heard) / 2 / RATE == pytest.approx(announced + 1.0, abs=0.2)
                assert heard.endswith(told.sent_audio().strip(b"\0"))
                assert bot.ANNOUNCEMENT not in str(told.received_of("session.configure"))
                assert told.messages == []
                await line.microphone.say(recording("hello"))
                await told.wait_for_sent("response.done", count=2, within=10)
        assert "fixed" not in "".join(warnings)

    async def test_the_announcement_is_heard_to_its_end_whoever_speaks(self):
        bot = example("announcements")
        line = VirtualTransport()
        script = Script([Say.tones(0.6)], greeting=Say.tones(3.0))
        async with emulator(script) as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                tts=bot.StandInTTS(),
                api_key=hydra.api_key,
                base_url=hydra.url,
            )
            async with talking(run, line):
                await until(lambda: line.heard_pcm)
                await line.microphone.say(recording("hello"))
                await until(lambda: session(hydra).sent_of("response.done"))
                await until_quiet(line)
                assert loud_secs(line.heard_pcm) > len(bot.ANNOUNCEMENT) * 0.06 * 0.9


class TestKeypad:
    async def test_keys_cut_the_menu_and_are_answered(self):
        line = VirtualTransport()
        script = Script(
            [[Call("get_order", {"number": "123"}, "order"), Say.tones(0.6)]],
            greeting=Say.tones(8.0),
        )
        async with emulator(script) as hydra:
            run = example("keypad").run_bot(
                line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url
            )
            async with talking(run, line):
                await until(lambda: line.heard_until_secs > 1.0)
                told = session(hydra)
                for key in "123#":
                    frame = InputDTMFFrame(button=KeypadEntry(key))
                    await line.input().push_frame(frame)
                    await asyncio.sleep(0.2)
                await until(lambda: told.calls and told.call("order").output)
                await until_quiet(line)
                assert texts(told) == [("user", "DTMF: 123#")]
                assert "arrives tomorrow" in (told.call("order").output or "")
                assert loud_secs(line.heard_pcm) < 4.0
                assert told.errors == []


class TestStillThere:
    async def test_a_silent_user_is_asked_once_and_then_the_bot_hangs_up(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("still_there")
        monkeypatch.setattr(bot, "SILENCE_SECS", 2.0)
        line = VirtualTransport()
        script = Script([Say.tones(0.5), Say.tones(1.5)], greeting=Say.tones(0.5))
        async with emulator(script) as hydra:
            run = bot.run_bot(line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url)
            running = asyncio.create_task(run)
            await line.timeline.started()
            await until_ended(running, within=30)
            told = session(hydra)
            assert texts(told) == [("system", bot.QUESTION), ("system", bot.FAREWELL)]
            # The farewell is heard to its end.
            assert loud_secs(line.heard_pcm) == pytest.approx(2.5, abs=0.2)

    async def test_who_answers_is_asked_again_and_not_hung_up_on(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("still_there")
        monkeypatch.setattr(bot, "SILENCE_SECS", 2.0)
        line = VirtualTransport()
        script = Script([Say.tones(0.5)] * 3, greeting=Say.tones(0.5))
        async with emulator(script) as hydra:
            run = bot.run_bot(line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await told.wait_for_sent("response.done", count=2, within=10)
                await until_quiet(line)
                await line.microphone.say(recording("hello"))
                await told.wait_for_sent("response.done", count=4, within=20)
                assert texts(told) == [("system", bot.QUESTION)] * 2
