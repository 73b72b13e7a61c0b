"""The examples that play, record or write down a conversation."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from pipecat.runner.types import RunnerArguments
from pipecat.services.smallest.stt import SmallestSTTService
from support.bots import (
    example,
    talking,
    until,
    until_heard,
)
from support.call import RECORDINGS, emulator, recording
from websockets.asyncio.server import Server, ServerConnection, serve

from pipecat_hydra.emulator import Pause, Say, Script
from pipecat_hydra.testing import VirtualTransport, read_recording


class TestReplayWav:
    async def test_the_recording_of_the_conversation_has_both(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        bot = example("replay_wav")
        monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
        monkeypatch.setattr(bot, "QUIET_SECS", 0.9)
        conversation = tmp_path / "conversation.wav"
        arguments = ["replay_wav.py", str(RECORDINGS / "hello.wav"), str(conversation)]
        monkeypatch.setattr(sys, "argv", arguments)
        await bot.main()
        both, rate = read_recording(conversation)
        assert both.shape[1] == 2
        greeting_begins, greeting_ends, echo_begins, *_, echo_ends = runs(both[:, 1], rate)
        hello_begins, *_, hello_ends = runs(both[:, 0], rate)
        assert greeting_begins < greeting_ends < hello_begins < hello_ends < echo_begins
        # The echo is never shorter than what was said.
        assert echo_ends - echo_begins > hello_ends - hello_begins - 0.2
        assert "user left, bot right; answered after" in capsys.readouterr().out

    async def test_the_test_that_it_contains_finds_a_bot_that_is_slow(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("replay_wav")
        monkeypatch.setattr(bot, "QUIET_SECS", 1.2)
        script = Script([[Pause(1.0), Say.tones(0.4)]], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            line = await bot.replay(
                RECORDINGS / "hello.wav", api_key=hydra.api_key, base_url=hydra.url
            )
        (waited,) = bot.pauses(line)
        assert waited > 1.5

    async def test_a_bot_that_says_nothing_fails_it(self, monkeypatch: pytest.MonkeyPatch):
        bot = example("replay_wav")
        monkeypatch.setattr(bot, "LIMIT_SECS", 1.0)
        async with emulator(Script([Say.tones(0.4)], greeting=[Pause(0.1)])) as hydra:
            with pytest.raises(RuntimeError, match="says nothing"):
                await bot.replay(
                    RECORDINGS / "hello.wav", api_key=hydra.api_key, base_url=hydra.url
                )

    @pytest.mark.parametrize(
        "arguments",
        [[], ["question.wav"], ["nothing.wav", "out.wav"], ["hello.wav", "out.mp3"]],
    )
    async def test_a_wrong_command_is_told_in_one_line(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
        monkeypatch.setattr(sys, "argv", ["replay_wav.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            await example("replay_wav").main()
        assert "\n" not in str(ended.value.code)

    async def test_a_bot_that_ends_fails_it(self):
        async with emulator() as hydra:
            with pytest.raises(RuntimeError, match="has ended"):
                await example("replay_wav").replay(
                    RECORDINGS / "hello.wav", api_key="sk-wrong", base_url=hydra.url
                )


class FakePulse:
    """Writes down one sentence, whenever somebody has spoken and is silent again."""

    def __init__(self, text: str):
        self.text = text
        self.url = ""
        self._server: Server | None = None

    async def __aenter__(self) -> "FakePulse":
        self._server = await serve(self._listen, "127.0.0.1", 0)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _listen(self, connection: ServerConnection) -> None:
        voiced = silent = 0
        async for message in connection:
            if isinstance(message, str):
                continue
            loud = np.abs(np.frombuffer(message, "<i2").astype(np.int32)).max() > 500
            voiced, silent = (voiced + 1, 0) if loud else (voiced, silent + 1)
            if voiced > 10 and silent > 15:
                final = {"transcript": self.text, "is_final": True, "language": "en"}
                await connection.send(json.dumps(final))
                voiced = 0


class TestTranscripts:
    async def test_both_sides_are_written_down(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        bot = example("transcripts")
        monkeypatch.setattr(bot, "TRANSCRIPTS", tmp_path / "calls")
        line = VirtualTransport()
        script = Script([Say.tones(0.6, "I am well.")], greeting=Say.tones(0.4, "Hello!"))
        async with emulator(script, transcripts=True) as hydra, FakePulse("How are you?") as pulse:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            stt = SmallestSTTService(api_key="sk-any", base_url=pulse.url)
            run = bot.run_bot(line, RunnerArguments(), **endpoint, stt=stt)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                await until(lambda: "I am well." in markdown(tmp_path))
            # Hydra has heard it, and is not told it once more.
            assert told.messages == []
            assert len(told.sent_of("response.created")) == 2
        assert markdown(tmp_path) == (
            "**Assistant:** Hello!\n\n**User:** How are you?\n\n**Assistant:** I am well.\n"
        )
        (path,) = tmp_path.glob("calls/*.json")
        lines = json.loads(path.read_text())
        assert [line["role"] for line in lines] == ["assistant", "user", "assistant"]
        assert [line["interrupted"] for line in lines] == [False] * 3


def markdown(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("calls/*.md"))


class TestRecording:
    async def test_the_file_has_both_sides_as_they_were_heard(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        bot = example("recording")
        monkeypatch.setattr(bot, "RECORDINGS", tmp_path / "calls")
        line = VirtualTransport(sample_rate=bot.RATE)
        script = Script([Say.tones(4.0)], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            async with talking(bot.run_bot(line, RunnerArguments(), **endpoint), line):
                await until(lambda: line.heard_until_secs > 0.4)
                await line.microphone.say(at_rate("hello", bot.RATE))
                await until(lambda: line.heard_until_secs > 2.5)
                await line.microphone.say(at_rate("interrupt", bot.RATE))
                await asyncio.sleep(0.5)
        (path,) = (tmp_path / "calls").iterdir()
        recorded, rate = read_recording(path)
        assert rate == bot.RATE
        user, bot_side = recorded.T
        # The user's side is exact. On a machine that is busy there may be pauses in it.
        said = [at_rate("hello", rate)[at : at + rate // 4] for at in range(0, rate, rate // 4)]
        assert any(part.tobytes() in user.tobytes() for part in said)
        # The bot's has the greeting, and of the reply what was heard until the user interrupted.
        heard = np.count_nonzero(np.abs(bot_side.astype(np.int32)) > 150) / rate
        assert 0.5 < heard < 0.4 + 3.0
        # One begins where the other has stopped, as it was heard.
        assert runs(bot_side, rate)[0] < runs(user, rate)[0]


def at_rate(name: str, rate: int) -> NDArray[np.int16]:
    return soxr.resample(recording(name), 16_000, rate)


def runs(samples: NDArray[np.int16], rate: int) -> list[float]:
    """When somebody began and stopped to speak, alternately, in seconds."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 150)
    gaps = np.flatnonzero(np.diff(loud) > 0.6 * rate)
    edges = [loud[0], *np.stack([loud[gaps], loud[gaps + 1]], 1).ravel(), loud[-1]]
    return [float(edge) / rate for edge in edges]
