"""`pipecat-hydra check`: the command, its report, and servers that cannot be asked."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.command import KEY, Shell, assert_failed, run
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from pipecat_hydra.cli.check.emulated import CheckedModel
from pipecat_hydra.cli.check.questions import QUESTIONS
from pipecat_hydra.cli.check.run import CheckOptions, Findings, check
from pipecat_hydra.cli.check.scenes import SCENES
from pipecat_hydra.emulator import (
    Binary,
    Drop,
    EmulatorSettings,
    Fault,
    Full,
    Garbage,
    Hang,
    HydraEmulator,
    RejectVoice,
    Unknown,
)
from pipecat_hydra.recording import Recording

ALL = sorted(set(QUESTIONS) - {"capacity"})


def emulator(*faults: Fault, **settings: Any) -> HydraEmulator:
    return HydraEmulator(
        CheckedModel(), api_key=KEY, settings=EmulatorSettings(**settings), faults=faults
    )


async def found(hydra: HydraEmulator) -> Findings:
    options = CheckOptions(api_key=hydra.api_key, base_url=hydra.url)
    return await check(options, on_scene=lambda _: None, on_end=lambda _: None)


@asynccontextmanager
async def stranger(
    serve_one: Callable[[ServerConnection], Any],
    admit: Callable[[ServerConnection, Request], Response | None] | None = None,
) -> AsyncGenerator[str]:
    """A WebSocket server that is not Hydra."""
    async with serve(serve_one, "127.0.0.1", 0, process_request=admit) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        yield f"ws://{host}:{port}/waves/v1/s2s"


class TestCommand:
    def test_all_is_as_assumed_on_the_emulator(self, tmp_path: Path):
        report = tmp_path / "check.md"
        result = run("check", "--emulator", "-o", report)
        assert result.exit_code == 0, result.output
        assert f"{len(ALL)} questions: " in result.stdout
        assert " 0 otherwise, " in result.stdout
        text = report.read_text("utf-8")
        assert all(f"`{id}`" in text for id in ALL)
        assert "Nothing that was seen." in text

    def test_what_differs_is_told_first_and_exits_with_1(self, tmp_path: Path):
        report = tmp_path / "check.md"
        with Shell() as shell:
            hydra = shell.serve(emulator(user_item_text="hello", early_audio="end"))
            result = shell.run("check", "--url", hydra.url, "-o", report, key=KEY)
        assert result.exit_code == 1
        assert "otherwise: it is answered by an error" in result.stdout
        text = report.read_text("utf-8")
        differing, _, _ = text.partition("## All answers")
        assert "**early-audio**" in differing
        assert "**user-texts**" in differing
        assert "**pings**" not in differing
        assert KEY not in result.output + text

    def test_data_is_all_that_is_printed_with_json(self):
        with Shell() as shell:
            hydra = shell.serve(emulator(unknown_types="ignore"))
            result = shell.run("check", "--url", hydra.url, "--json", key=KEY)
        data = json.loads(result.stdout)
        assert result.exit_code == 1
        assert data["is_complete"]
        assert data["model"] == "hydra-v1.1"
        assert sorted(question["id"] for question in data["questions"]) == ALL
        (unknown,) = [one for one in data["questions"] if one["verdict"] == "otherwise"]
        assert unknown["id"] == "unknown-types"
        assert unknown["sure"] == "likely"
        assert data["counts"]["otherwise"] == 1
        assert KEY not in result.output

    def test_one_question_needs_few_sessions(self):
        with Shell() as shell:
            hydra = shell.serve(emulator())
            result = shell.run("check", "--url", hydra.url, "--only", "cancel", key=KEY)
            assert len(hydra.sessions) == 2
        assert result.exit_code == 0
        assert "1 questions: 1 as assumed" in result.stdout

    def test_capacity_is_asked_on_request_alone(self):
        with Shell() as shell:
            hydra = shell.serve(emulator(max_sessions=3))
            arguments = ("check", "--url", hydra.url, "--only", "pings", "--capacity")
            result = shell.run(*arguments, key=KEY)
        assert result.exit_code == 0
        assert "3: then server_full, code 1013" in result.stdout

    def test_the_cost_is_told_and_nothing_is_opened(self):
        result = run("check", "--cost", "--url", "ws://127.0.0.1:9")
        assert result.exit_code == 0
        assert "minutes of session; nothing was opened" in result.stdout
        assert all(name in result.stdout for name in SCENES if name != "capacity")

    def test_the_questions_are_listed(self):
        result = run("check", "--list")
        assert result.exit_code == 0
        assert all(id in result.stdout for id in ALL)

    def test_a_question_that_there_is_not_is_named(self):
        result = run("check", "--only", "ping", key=KEY)
        assert result.exit_code == 2
        assert "did you mean 'pings'?" in result.stderr

    def test_without_a_key_it_says_what_to_do(self):
        assert_failed(run("check"), 2, "set SMALLEST_API_KEY to one of yours, or try")

    def test_a_url_that_is_none_is_refused(self):
        assert_failed(run("check", "--url", "127.0.0.1:9", key=KEY), 2, "write ws://127.0.0.1:9")

    def test_a_report_that_cannot_be_written_is_told_before_it_costs_anything(self, tmp_path: Path):
        result = run("check", "-o", tmp_path / "missing" / "check.md", key=KEY)
        assert_failed(result, 2, "the report cannot be written: ")

    def test_ctrl_c_shows_what_is_known_so_far(self, tmp_path: Path):
        report = tmp_path / "check.md"
        with Shell() as shell:
            hydra = shell.serve(emulator())
            arguments = ("check", "--url", hydra.url, "-o", report)
            result = shell.run(*arguments, key=KEY, interrupt_after="reply: ")
        assert result.exit_code == 130
        assert "interrupted; " in result.stdout
        assert "it was not asked" in result.stdout
        assert "hydra-v1.0 48000 Hz" in result.stdout
        assert "interrupted; " in report.read_text("utf-8")

    def test_recordings_are_kept_without_the_key(self, tmp_path: Path):
        with Shell() as shell:
            hydra = shell.serve(emulator())
            arguments = ("check", "--url", hydra.url, "--record", tmp_path, "--only", "cancel")
            result = shell.run(*arguments, "--only", "stopped", key=KEY)
        assert result.exit_code == 0
        recordings = {r.header["scene"]: r for r in map(Recording.open, tmp_path.iterdir())}
        assert set(recordings) == {"connection", "cancel", "turn"}
        turn = recordings["turn"]
        types = [record.type for record in turn.records]
        assert "input_audio_buffer.speech_stopped" in types
        assert types[0] == "session_opening"
        assert sum(r.audio is not None for r in turn.records if r.source == "client") > 50
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or KEY.encode() not in path.read_bytes()


class TestServersThatCannotBeAsked:
    def test_a_key_that_is_refused(self):
        with Shell() as shell:
            hydra = shell.serve(emulator())
            result = shell.run("check", "--url", hydra.url, key="sk-wrong-and-secret")
        assert_failed(result, 2, "refused the API key (HTTP 401")
        assert "wrong-and-secret" not in result.output

    def test_nobody_listens(self):
        assert_failed(run("check", "--url", "ws://127.0.0.1:9", key=KEY), 2, "cannot be reached")

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (Hang("upgrade"), "did not answer within 10 s"),
            (Hang("created"), "session.created did not come within 10 s (nothing came)"),
            (
                Hang("configured"),
                "session.configured did not come within 10 s (what came is session.created)",
            ),
            (Drop(1008, received=1), "ended the connection with code 1008 before session.conf"),
            (Drop("reset", during="upgrade"), "Check base_url"),
            (Full(), "at capacity (server_full): try again later"),
        ],
        ids=str,
    )
    def test_a_server_that_hangs_drops_or_is_full(self, fault: Fault, message: str):
        with Shell() as shell:
            hydra = shell.serve(emulator(fault))
            result = shell.run("check", "--url", hydra.url, key=KEY)
        assert_failed(result, 2, message)

    def test_a_server_that_quotes_the_key(self):
        async def complain(connection: ServerConnection) -> None:
            await connection.send('{"type": "session.created"}')
            error = {"code": "internal_error", "message": f"no session for {KEY}"}
            await connection.send(json.dumps({"type": "error", "error": error}))
            await connection.wait_closed()

        with Shell() as shell:
            url = shell.serve(stranger(complain))
            result = shell.run("check", "--url", url, key=KEY)
        assert_failed(result, 2, "rejects the session: ")
        assert "no session for [REDACTED]" in result.stderr

    def test_a_server_of_something_else(self):
        async def greet(connection: ServerConnection) -> None:
            await connection.send("hello")
            await connection.send('{"type": "welcome"}')
            await connection.wait_closed()

        with Shell() as shell:
            url = shell.serve(stranger(greet))
            result = shell.run("check", "--url", url, key=KEY)
        message = "does not speak Hydra's protocol: session.created did not come within 10 s"
        assert_failed(result, 2, message)
        assert "(what came is (no JSON object), welcome)" in result.stderr


class TestFailures:
    @pytest.mark.parametrize(
        "fault",
        [
            Drop("reset", during="response", secs=0.1, first=2),
            Drop("eof", during="user_speech", secs=0.2, first=2),
            Drop("reset", during="tool_call", first=2),
            Drop("reset", during="upgrade", first=2),
            Drop("reset", during="configured", secs=0.5, first=2),
        ],
        ids=str,
    )
    async def test_a_connection_that_is_lost_makes_no_answer_wrong(self, fault: Fault):
        async with emulator(fault) as hydra:
            findings = await found(hydra)
        answers = findings.answers()
        # A session that is idle, or whose call is open, ends as the server ends it.
        wrong = {id for id, answer in answers.items() if answer.verdict == "otherwise"}
        assert wrong <= {"idle"}
        assert any(answer.verdict == "not seen" for answer in answers.values())
        assert findings.is_complete

    @pytest.mark.parametrize("kind", [Garbage, Binary, Unknown])
    async def test_what_nobody_knows_is_passed_over(self, kind: type[Fault]):
        async with emulator(kind(probability=0.3)) as hydra:  # pyright: ignore[reportCallIssue]
            answers = (await found(hydra)).answers()
        assert {id for id, answer in answers.items() if answer.verdict == "otherwise"} == set()

    async def test_a_scene_that_hangs_is_given_up(self):
        async with emulator(Hang("configured", first=5)) as hydra:
            findings = await found(hydra)
        assert findings.is_complete
        assert findings.answers()["narration"].verdict == "not seen"

    async def test_a_voice_that_is_rejected_costs_no_other_answer(self):
        async with emulator(RejectVoice(times=1)) as hydra:
            findings = await found(hydra)
        assert findings.voice is None
        assert "voice" not in (hydra.sessions[1].configuration or {})
        answers = findings.answers()
        assert {id for id, answer in answers.items() if answer.verdict == "otherwise"} == set()

    async def test_a_server_that_takes_the_key_in_a_header_alone_is_asked_all(self):
        """The vendor's clients authenticate so."""
        async with emulator() as hydra:

            def admit(connection: ServerConnection, request: Request) -> Response | None:
                if request.headers.get("Authorization") == f"Bearer {KEY}":
                    return None
                return connection.respond(HTTPStatus.UNAUTHORIZED, "no key\n")

            async with stranger(_forward_to(hydra), admit) as url:
                options = CheckOptions(
                    questions=[QUESTIONS[id] for id in ("auth-query", "auth-header", "cancel")],
                    api_key=KEY,
                    base_url=url,
                )
                findings = await check(options, on_scene=lambda _: None, on_end=lambda _: None)
        verdicts = {id: answer.verdict for id, answer in findings.answers().items()}
        assert verdicts == {
            "auth-query": "otherwise",
            "auth-header": "as assumed",
            "cancel": "as assumed",
        }
        assert findings.endpoint.auth == "header"


def _forward_to(hydra: HydraEmulator) -> Callable[[ServerConnection], Any]:
    """Serve a connection by passing on what an emulator says, and what it is told."""

    async def forward(connection: ServerConnection) -> None:
        url = f"{hydra.url}?api_key={hydra.api_key}"
        async with connect(url, compression=None) as upstream:

            async def back() -> None:
                async for message in upstream:
                    await connection.send(message)

            passing = asyncio.create_task(back())
            try:
                async for message in connection:
                    await upstream.send(message)
            finally:
                passing.cancel()

    return forward


def test_the_guide_says_of_each_question_what_its_answer_means():
    guide = Path(__file__).parent.parent.parent / "docs" / "guides" / "check.md"
    rows = re.findall(r"^\| `([\w-]+)` \| \S", guide.read_text("utf-8"), re.MULTILINE)
    assert rows == list(QUESTIONS)
