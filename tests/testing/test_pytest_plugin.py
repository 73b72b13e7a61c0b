"""The pytest plugin: what a project sees that tests its bot with it."""

import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from support.plugin_project import ARGUMENTS, VIRTUAL_TIME

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent
RECORDINGS = ROOT / "tests" / "recordings"
BOTS = '''
    """Bots of all the shapes that applications have."""

    from pipecat.frames.frames import LLMRunFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import (
        LLMContextAggregatorPair,
        LLMUserAggregatorParams,
    )
    from pipecat.runner.types import RunnerArguments
    from pipecat.runner.utils import create_transport
    from pipecat.transports.base_transport import TransportParams
    from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
    from pipecat.workers.runner import WorkerRunner

    from pipecat_hydra import HydraLLMService


    async def get_weather(params, city: str):
        """Get the weather.

        Args:
            city: Name of the city.
        """
        await params.result_callback({"city": city, "sky": "clear"})


    def processors(transport):
        pair = LLMContextAggregatorPair(
            LLMContext(tools=[get_weather]),
            user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
        )
        llm = HydraLLMService()
        return [transport.input(), pair.user(), llm, transport.output(), pair.assistant()]


    def bare(transport):
        return [transport.input(), HydraLLMService(tools=[get_weather]), transport.output()]


    def pipeline(transport):
        return Pipeline(processors(transport))


    async def worker(transport):
        return PipelineWorker(pipeline(transport), params=PipelineParams(enable_metrics=True))


    async def runs(transport):
        """Runs its pipeline, and ends when the client has gone."""
        task = await worker(transport)

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport, client):
            await task.cancel()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(task)
        await runner.run()


    async def greets(transport, runner_args: RunnerArguments):
        task = await worker(transport)

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport, client):
            await task.queue_frame(LLMRunFrame())

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport, client):
            await task.cancel()

        runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
        await runner.add_workers(task)
        await runner.run()


    async def bot(runner_args: RunnerArguments):
        """What Pipecat's runner calls."""
        transport = await create_transport(runner_args, {"webrtc": lambda: TransportParams()})
        await greets(transport, runner_args)


    async def bot_without_annotations(runner_args):
        """The same, as it is often written."""
        await bot(runner_args)


    async def goes_on(transport):
        """Does not end when the client has gone."""
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(await worker(transport))
        await runner.run()


    async def ends_at_once(transport):
        pass


    async def breaks(transport):
        raise LookupError("no such account")
'''

WEATHER = """
    import pytest
    from bots import *
    from pipecat_hydra.emulator import Call, EmulatorSettings, Say, Script
    from pipecat_hydra.testing import BargeIn, CallError, Recorded

    WEATHER = Script(
        [
            [Call("get_weather", {"city": "Paris"}), Say.tones(1.5, "It is clear in Paris.")],
            Say.tones(1.0, "You are welcome."),
        ],
        greeting=Say.tones(0.8, "Hello."),
    )
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with bots and recordings, whose tests run in virtual time."""
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest(VIRTUAL_TIME)
    pytester.makepyfile(bots=BOTS)
    for name in ("question", "hello", "interrupt"):
        shutil.copy(RECORDINGS / f"{name}.wav", pytester.path)
    return pytester


def run(project: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    """Run tests of the project in this process."""
    project.makepyfile(test_bot=dedent(WEATHER) + dedent(test))
    return project.runpytest_inprocess(*ARGUMENTS, *arguments)


def passes(project: pytest.Pytester, test: str, *arguments: str) -> None:
    run(project, test, *arguments).assert_outcomes(passed=1)


def fails(project: pytest.Pytester, test: str, *lines: str) -> pytest.RunResult:
    """Run a test that fails, with lines among its messages."""
    result = run(project, test)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *{line}" for line in lines])
    return result


@pytest.mark.parametrize(
    "bot", ["bare", "processors", "pipeline", "worker", "runs", "lambda line: processors(line)"]
)
def test_a_bot_of_any_shape_is_called(project: pytest.Pytester, bot: str):
    passes(
        project,
        f"""
        @pytest.mark.hydra([Say.tones(1.5, "It is noon.")])
        async def test_it(call, hydra):
            result = await call("question.wav", bot={bot})
            assert [words.text for words in result.words] == ["It is noon."]
            assert len(result.turns) == len(result.replies) == 1
            assert 1.3 < result.replies[0].heard_secs < 1.7
            assert result.latencies["answer"][0] < 1.2
            result.assert_ended_by("user")
            result.assert_no_errors()
            assert len(hydra.sessions) == 1 and hydra.sessions[0].closed
        """,
    )


@pytest.mark.parametrize("bot", ["greets", "bot", "bot_without_annotations"])
def test_a_bot_for_the_runner_that_speaks_first_is_heard_out(project: pytest.Pytester, bot: str):
    passes(
        project,
        f"""
        @pytest.mark.hydra(WEATHER)
        async def test_it(call):
            result = await call("question.wav", "hello.wav", bot={bot})
            assert [words.text for words in result.words] == [
                "Hello.", "It is clear in Paris.", "You are welcome."
            ]
            greeting, *answers = result.replies
            assert not any(reply.is_cut for reply in result.replies)
            assert result.turns[0].said_from > greeting.heard_until
            assert result.turns[1].said_from > answers[0].heard_until
        """,
    )


def test_the_function_create_transport_is_as_before_after_the_test(project: pytest.Pytester):
    result = run(
        project,
        """
        import bots
        from pipecat.runner import utils

        @pytest.mark.hydra(WEATHER)
        async def test_it(call):
            await call(bot=bot)

        def test_after():
            assert bots.create_transport is utils.create_transport
            assert utils.create_transport.__module__ == "pipecat.runner.utils"
        """,
    )
    result.assert_outcomes(passed=2)


def test_functions_are_told_with_arguments_and_result(project: pytest.Pytester):
    passes(
        project,
        """
        @pytest.mark.hydra(WEATHER)
        async def test_it(call):
            result = await call("question.wav", bot=processors)
            tool = result.assert_called("get_weather", city="Paris")
            assert tool.result == {"city": "Paris", "sky": "clear"}
            result.assert_called("get_weather")
            result.assert_not_called("get_time")
            result.assert_said("clear in  paris")
            result.assert_tool_turn_within(1.5)
        """,
    )


def test_a_recording_may_interrupt(project: pytest.Pytester):
    passes(
        project,
        """
        @pytest.mark.hydra([Say.tones(6.0, "A long story."), Say.tones(0.5, "Yes?")])
        async def test_it(call):
            result = await call("question.wav", BargeIn("interrupt.wav", after=1.5), bot=bare)
            story, answer = result.replies
            assert story.is_cut
            said_from = result.turns[1].said_from
            assert abs(said_from - story.heard_from - 1.5) < 0.3
            result.assert_barge_in_within(0.6)
            result.assert_said("Yes?")
        """,
    )


def test_what_is_left_of_an_interrupted_reply_is_not_taken_for_the_answer(
    project: pytest.Pytester,
):
    passes(
        project,
        """
        from pipecat.audio.vad.vad_analyzer import VADParams
        import soundfile

        # The bot is interrupted late, and goes on after the user's last sound.
        SLOW = VADParams(confidence=0.7, start_secs=0.5, stop_secs=1.2, min_volume=0.0)

        @pytest.mark.hydra([Say.tones(6.0), Say.tones(0.5, "Yes?")], vad=SLOW, min_turn_ms=100)
        async def test_it(call):
            stop, rate = soundfile.read("hello.wav")
            result = await call("question.wav", BargeIn(stop[: int(0.58 * rate)]), bot=bare)
            (one,) = result.course.interruptions
            assert one.silent_at > result.turns[1].said_until
            result.assert_said("Yes?")
            assert len(result.replies) == 2
        """,
    )


def test_a_pause_stands_for_the_answer(project: pytest.Pytester):
    passes(
        project,
        """
        @pytest.mark.hydra([Say.tones(3.0), Say.tones(0.5)])
        async def test_it(call):
            result = await call("question.wav", 2, "interrupt.wav", 0.1, bot=bare)
            assert result.replies[0].is_cut
            # The user hangs up before there is an answer to the second recording.
            assert len(result.replies) == 1
        """,
    )


def test_samples_may_be_given(project: pytest.Pytester):
    passes(
        project,
        """
        import soundfile

        async def test_it(call):
            samples, rate = soundfile.read("question.wav")
            same = (samples * 32767).astype("int16")
            result = await call(samples, same, Recorded(same[::2], rate // 2), bot=bare)
            lengths = [turn.said_until - turn.said_from for turn in result.turns]
            assert len(lengths) == 3
            assert max(lengths) - min(lengths) < 0.1
        """,
    )


def test_both_voices_are_there(project: pytest.Pytester):
    passes(
        project,
        """
        import soundfile

        @pytest.mark.hydra([Say.tones(1.0)])
        async def test_it(call, tmp_path):
            result = await call("question.wav", bot=bare)
            result.audio.save(tmp_path / "call.wav")
            samples, rate = soundfile.read(tmp_path / "call.wav")
            assert rate == result.audio.rate == 24_000
            reply = result.replies[0]
            user, bot = samples[int(reply.heard_from * rate) : int(reply.heard_until * rate)].T
            assert abs(bot).max() > 0.05 > 0.001 > abs(user).max()
        """,
    )


def test_fixtures_may_be_overridden(project: pytest.Pytester):
    passes(
        project,
        """
        from pipecat_hydra.emulator import Refuse

        @pytest.fixture
        def hydra_script():
            return [Say.tones(0.5, "Overridden.")]

        @pytest.fixture
        def hydra_settings():
            return EmulatorSettings(response_latency_secs=1.0)

        @pytest.fixture
        def hydra_faults():
            return [Refuse(503, times=1)]

        async def test_it(call, hydra):
            result = await call("question.wav", bot=bare)
            result.assert_said("Overridden.")
            assert result.latencies["answer"][0] > 1.0
            assert hydra.injected_of("refuse") if hasattr(hydra, "injected_of") else hydra.injected
        """,
    )


def test_the_marker_names_script_file_settings_and_faults(project: pytest.Pytester):
    (project.path / "script.yaml").write_text(
        "turns:\n  - tones: 0.5\n    transcript: By a file.\n"
    )
    passes(
        project,
        """
        from pipecat_hydra.emulator import Refuse

        @pytest.mark.hydra("script.yaml", faults=[Refuse(503, times=1)], output_sample_rate=16_000)
        async def test_it(call, hydra):
            result = await call("question.wav", bot=bare)
            result.assert_said("By a file.")
            assert hydra.sessions[0].output_sample_rate == 16_000
            assert hydra.injected
        """,
    )


def test_the_environment_leads_to_the_emulator_during_the_test(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SMALLEST_API_KEY", "sk-real")
    monkeypatch.delenv("HYDRA_BASE_URL", raising=False)
    result = run(
        project,
        """
        import os

        async def test_it(hydra):
            assert os.environ["SMALLEST_API_KEY"] == hydra.api_key != "sk-real"
            assert os.environ["HYDRA_BASE_URL"] == hydra.url

        def test_after():
            assert os.environ["SMALLEST_API_KEY"] == "sk-real"
            assert "HYDRA_BASE_URL" not in os.environ
        """,
    )
    result.assert_outcomes(passed=2)


def test_the_strict_mode_of_pytest_asyncio_will_do(project: pytest.Pytester):
    passes(
        project,
        """
        @pytest.mark.asyncio
        async def test_it(call):
            (await call("question.wav", bot=bare)).assert_answered_within(1.5)
        """,
        "-o",
        "asyncio_mode=strict",
    )


def test_a_loop_of_the_session_will_do(project: pytest.Pytester):
    passes(
        project,
        """
        @pytest.mark.asyncio(loop_scope="session")
        async def test_it(call):
            (await call("question.wav", bot=bare)).assert_answered_within(1.5)
        """,
    )


@pytest.mark.realtime
def test_anyio_will_do(project: pytest.Pytester):
    project.makeconftest("")
    passes(
        project,
        """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_it(call):
            (await call("question.wav", bot=bare)).assert_answered_within(1.5)
        """,
        "-p",
        "no:asyncio",
        "-o",
        "asyncio_mode=strict",
    )


def test_the_course_is_compared_with_a_file(project: pytest.Pytester):
    test = """
        @pytest.mark.hydra(WEATHER)
        async def test_it(call):
            result = await call("question.wav", bot=processors)
            result.assert_course("courses/weather.txt")
    """
    fails(project, test, "there is no file *weather.txt: pytest --hydra-update writes it")
    passes(project, test, "--hydra-update")
    course = project.path / "courses" / "weather.txt"
    assert course.read_text() == (
        "# The course of a call; pytest --hydra-update writes it.\n"
        "user speaks\n"
        'bot calls get_weather({"city": "Paris"})\n'
        'get_weather gives {"city": "Paris", "sky": "clear"}\n'
        'bot says "It is clear in Paris."\n'
        "user hangs up\n"
    )
    passes(project, test)
    course.write_text(course.read_text().replace("Paris", "Rome"))
    fails(
        project,
        test,
        "the call went otherwise than before; *",
        '-bot calls get_weather({"city": "Rome"})',
        '+bot calls get_weather({"city": "Paris"})',
    )


def test_failures_show_the_call(project: pytest.Pytester):
    result = fails(
        project,
        """
        @pytest.mark.hydra(WEATHER)
        async def test_it(call):
            result = await call("question.wav", bot=processors)
            result.assert_called("get_weather", city="Berlin")
        """,
        "AssertionError: get_weather was not called with city='Berlin': it was called with "
        "city='Paris'",
        "The call:",
        "*.?? s  user speaks  (*.?? s long)",
        '*.?? s  bot calls get_weather({"city": "Paris"})',
        '*.?? s  get_weather gives {"city": "Paris", "sky": "clear"}  (0.?? s after the call)',
        '*.?? s  bot says "It is clear in Paris."  (?.?? s after the user, 1.?? s long)',
        "*.?? s  user hangs up",
        "To see and hear it: pipecat-hydra report *",
    )
    # The line of the test is shown, and none of ours.
    result.stdout.fnmatch_lines(['>*result.assert_called("get_weather", city="Berlin")'])
    result.stdout.no_fnmatch_line("*result.py*")


@pytest.mark.parametrize(
    ("assertion", "message"),
    [
        ('assert_called("get_time")', "get_time was not called; get_weather was"),
        ('assert_not_called("get_weather")', "get_weather was called with city='Paris'"),
        ('assert_said("rain")', 'the bot did not say "rain"; it said "It is clear in Paris."'),
        (
            "assert_tool_turn_within(0.01)",
            "tool_turn took ?.?? s, which is ?.?? s more than 0.01 s",
        ),
        ("assert_answered_within(1)", "no turn of the user was answered"),
        ("assert_barge_in_within(1)", "the bot was never interrupted"),
        ('assert_ended_by("bot")', "the call did not end by the bot: user hangs up"),
    ],
)
def test_each_assertion_says_what_was_instead(
    project: pytest.Pytester, assertion: str, message: str
):
    fails(
        project,
        f"""
        @pytest.mark.hydra(WEATHER)
        async def test_it(call):
            (await call("question.wav", bot=processors)).{assertion}
        """,
        f"AssertionError: {message}*",
    )


def test_errors_are_listed(project: pytest.Pytester):
    fails(
        project,
        """
        from pipecat_hydra.emulator import Refuse

        @pytest.mark.hydra(faults=[Refuse(403)])
        async def test_it(call):
            (await call("question.wav", 1, bot=bare)).assert_no_errors()
        """,
        "AssertionError: 2 errors:",
        "*403*",
    )


def test_a_bot_that_does_not_answer_fails_the_call(project: pytest.Pytester):
    fails(
        project,
        """
        from pipecat_hydra.emulator import Noise

        @pytest.mark.hydra([Noise()])
        async def test_it(call):
            await call("question.wav", bot=bare, limit_secs=3)
        """,
        "*CallError: the bot did not answer question.wav within 3 s",
        "* s  user makes a noise, which is no turn*",
    )


def test_a_bot_that_does_not_speak_first_fails_a_call_that_waits_for_it(project: pytest.Pytester):
    fails(
        project,
        """
        async def test_it(call):
            await call("question.wav", bot=bare, greeting=True, limit_secs=3)
        """,
        "*CallError: the bot did not speak first within 3 s",
    )


def test_what_the_bot_raises_is_raised(project: pytest.Pytester):
    fails(
        project,
        """
        async def test_it(call):
            await call("question.wav", bot=breaks)
        """,
        "LookupError: no such account",
    )


def test_a_bot_that_ends_before_it_has_started_is_told(project: pytest.Pytester):
    fails(
        project,
        """
        async def test_it(call):
            await call("question.wav", bot=ends_at_once)
        """,
        "*CallError: the bot ended before its pipeline had started*",
    )


def test_a_bot_that_goes_on_is_cancelled_and_told(project: pytest.Pytester):
    fails(
        project,
        """
        async def test_it(call):
            result = await call("question.wav", bot=goes_on)
            result.assert_ended_by("user")
        """,
        "AssertionError: the call did not end by the user: user hangs up, and the bot goes on*",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('"nothing.wav", bot=bare', "FileNotFoundError: there is no file nothing.wav in *"),
        ('"bots.py", bot=bare', "ValueError: *bots.py is not audio that can be read*"),
        ('3, "question.wav", bot=bare', "ValueError: a pause of 3 s must follow a recording*"),
        ("None, bot=bare", "TypeError: None cannot be said: *"),
        ('"question.wav", bot=None', "TypeError: bot=None is no function: *"),
        ('"question.wav", bot=lambda line: 5', "TypeError: the bot returned 5: *"),
        ('"question.wav", bot=lambda line, key: []', "TypeError: the bot has a parameter 'key'*"),
        ('"question.wav", bot=lambda: []', "TypeError: the bot takes neither a transport *"),
    ],
)
def test_what_cannot_be_used_is_told(project: pytest.Pytester, arguments: str, message: str):
    fails(
        project,
        f"""
        async def test_it(call):
            await call({arguments})
        """,
        message,
    )


def test_a_call_in_a_loop_of_its_own_is_told(project: pytest.Pytester):
    fails(
        project,
        """
        import asyncio

        def test_it(call):
            asyncio.run(call("question.wav", bot=bare))
        """,
        "RuntimeError: the call is held in another event loop than that of the fixture `hydra`*",
    )


def test_a_test_without_a_plugin_for_coroutines_is_told_what_to_install(
    project: pytest.Pytester,
):
    project.makeconftest("")
    result = run(project, "def test_it(call): pass", "-p", "no:asyncio", "-o", "asyncio_mode=")
    result.stdout.fnmatch_lines(["*pip install pytest-asyncio*"])
    result.assert_outcomes(errors=1)


def test_a_run_that_does_not_use_it_does_not_import_pipecat(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "pipecat_hydra.testing.pytest_plugin" in sys.modules
            heavy = {"pipecat", "numpy", "websockets", "loguru", "pydantic", "soundfile"}
            assert not heavy & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess(*ARGUMENTS).assert_outcomes(passed=1)


def test_the_package_needs_no_pytest():
    code = "import pipecat_hydra.testing, sys; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
