"""Holds the scenes, and keeps what they have seen, so that it can be judged at any moment.

The first scene opens a session. If that fails there is nothing to be asked, and the check ends
with the reason. After that no failure ends the check: each scene has a time limit, and what it
does not see is not seen. Scenes that mostly wait are held beside the others. All others are held
one after the other, because an account may have only a few sessions at a time.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from loguru import logger
from pydantic import SecretStr

from pipecat_hydra.cli.check.emulated import CheckedModel
from pipecat_hydra.cli.check.log import SessionLog
from pipecat_hydra.cli.check.questions import QUESTIONS, Answer, Logs, Question
from pipecat_hydra.cli.check.scenes import CONNECTION, SCENES, Scene, Stage
from pipecat_hydra.cli.check.token import TokenError
from pipecat_hydra.cli.check.wire import CREATED_SECS, is_full
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError
from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.recording import HydraRecorder
from pipecat_hydra.recording.writer import CallWriter
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.wire.protocol import DEFAULT_BASE_URL, DEFAULT_MODEL, MODELS, VOICE_PARAM

__all__ = ["CAPACITY", "CheckOptions", "Findings", "check", "cost_secs", "scenes_of"]

CAPACITY: Final = "capacity"
"""The scene, and the question, that opens sessions until one is refused; only on request."""

_SHOWN_CHARS: Final = 120
# A server closes a session a moment before it has room for another one.
_TURNOVER_SECS: Final = 0.3


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to ask, and whom.

    Parameters:
        questions: What is asked.
        api_key: The key; may be empty for the emulator.
        base_url: The endpoint.
        is_emulated: Whether an embedded emulator is asked instead.
        model: The model of all sessions that are not about models.
        voice: Their voice; the model's default one if None.
        record: The folder that recordings are kept in; None for nowhere.
    """

    questions: Sequence[Question] = tuple(
        question for question in QUESTIONS.values() if question.id != CAPACITY
    )
    api_key: str = field(default="", repr=False)
    base_url: str = DEFAULT_BASE_URL
    is_emulated: bool = False
    model: str = DEFAULT_MODEL
    voice: str | None = None
    record: Path | None = None


@dataclass(slots=True)
class Findings:
    """What was asked, and what has been seen so far.

    Parameters:
        endpoint: Where the questions are asked. Where the key goes is found out on the way.
        questions: What is asked.
        voice: The voice of the sessions; None if the server is to choose.
        record: The folder that the recordings are kept in; None for nowhere.
        logs: The logs of each scene.
        failures: Why scenes failed.
        held: The scenes that are over.
    """

    endpoint: Endpoint
    questions: Sequence[Question]
    voice: str | None = None
    record: Path | None = None
    logs: dict[str, list[SessionLog]] = field(default_factory=dict[str, list[SessionLog]])
    failures: dict[str, str] = field(default_factory=dict[str, str])
    held: list[str] = field(default_factory=list[str])

    @property
    def scenes(self) -> list[Scene]:
        """The scenes that the questions need, in order."""
        return scenes_of(self.questions)

    @property
    def session_secs(self) -> float:
        """How long sessions were open so far, in seconds."""
        return sum(log.secs for logs in self.logs.values() for log in logs)

    @property
    def is_complete(self) -> bool:
        """Whether all scenes are over."""
        return all(scene.name in self.held for scene in self.scenes)

    def answers(self) -> dict[str, Answer]:
        """Return the answers as far as they are known, without the key."""
        logs = Logs(self.logs, self.failures)
        return {question.id: self._masked(question.answer(logs)) for question in self.questions}

    def _masked(self, answer: Answer) -> Answer:
        mask = self.endpoint.without_key
        return replace(answer, text=mask(answer.text), evidence=tuple(map(mask, answer.evidence)))


def scenes_of(questions: Sequence[Question]) -> list[Scene]:
    """Return the scenes that some questions need, in the order in which they are held."""
    needed = {CONNECTION.name, *(name for question in questions for name in question.scenes)}
    return [scene for name, scene in SCENES.items() if name in needed]


def cost_secs(questions: Sequence[Question]) -> float:
    """Return about how many seconds of session it costs to ask some questions."""
    return sum(scene.cost_secs for scene in scenes_of(questions))


async def check(
    options: CheckOptions,
    *,
    on_scene: Callable[[Scene], None],
    on_end: Callable[[Findings], None],
) -> Findings:
    """Ask the questions.

    Args:
        options: What to ask, and whom.
        on_scene: Called when a scene begins.
        on_end: Called at the end with what was found, also if the check is interrupted.

    Returns:
        What was found.

    Raises:
        TalkError: There is no server that could be asked, or it refuses the key.
    """
    async with _asked(options) as endpoint:
        findings = Findings(endpoint, options.questions, _voice(options), options.record)
        try:
            await _ask(findings, on_scene)
        except asyncio.CancelledError:
            on_end(findings)
            raise
    on_end(findings)
    return findings


@asynccontextmanager
async def _asked(options: CheckOptions) -> AsyncGenerator[Endpoint]:
    """Serve an emulator if that is to be asked, and yield where to connect to."""
    if not options.is_emulated:
        try:
            yield Endpoint(options.base_url, options.model, SecretStr(options.api_key))
        except ValueError as error:
            raise TalkError(str(error), ExitCode.USAGE) from None
        return
    async with HydraEmulator(CheckedModel()) as hydra:
        yield Endpoint(hydra.url, options.model, SecretStr(hydra.api_key))


def _voice(options: CheckOptions) -> str | None:
    """The voice to ask for; None if the server is to choose, as of a model that is not known."""
    known = MODELS.get(options.model)
    return options.voice or (known.default_voice if known is not None else None)


async def _ask(findings: Findings, on_scene: Callable[[Scene], None]) -> None:
    on_scene(CONNECTION)
    await _connect(findings)
    others = [scene for scene in findings.scenes if scene is not CONNECTION]
    async with asyncio.TaskGroup() as patient:
        for scene in others:
            if scene.is_patient:
                on_scene(scene)
                patient.create_task(_hold(scene, findings))
        for scene in others:
            if not scene.is_patient and scene.name != CAPACITY:
                on_scene(scene)
                await _hold(scene, findings)
    # Where there is room for one session only, the patient scenes have kept out the others.
    for scene in others:
        if scene.name == CAPACITY or any(map(is_full, findings.logs.get(scene.name, ()))):
            await asyncio.sleep(_TURNOVER_SECS)
            on_scene(scene)
            await _hold(scene, findings, turnover_secs=_TURNOVER_SECS)


async def _connect(findings: Findings) -> None:
    """Hold the first scene, in the ways there are, until one leads to a session."""
    await _hold(CONNECTION, findings)
    log = findings.logs[CONNECTION.name][0]
    if log.failure_kind is FailureKind.AUTHENTICATION:
        in_query = findings.logs[CONNECTION.name]
        findings.endpoint = replace(findings.endpoint, auth="header")
        await _hold(CONNECTION, findings)
        # How the key was refused is an answer too.
        findings.logs[CONNECTION.name] = [*in_query, *findings.logs[CONNECTION.name]]
        log = findings.logs[CONNECTION.name][-1]
    elif any(error.get("error", "param") == VOICE_PARAM for error in log.errors):
        findings.voice = None
        await _hold(CONNECTION, findings)
        log = findings.logs[CONNECTION.name][-1]
    if log.first("session.configured") is None:
        raise TalkError(findings.endpoint.without_key(_why_not(log, findings)), ExitCode.USAGE)


def _why_not(log: SessionLog, findings: Findings) -> str:
    """Say why no session could be had."""
    if log.failure:
        return log.failure
    host = findings.endpoint.host
    if is_full(log):
        return f"Hydra at {host} is at capacity (server_full): try again later"
    if log.errors:
        return f"Hydra at {host} rejects the session: {log.errors[0]}"
    missing = "session.created"
    if log.first(missing) is not None:
        missing = "session.configured"
    came = ", ".join(dict.fromkeys(entry.type[:_SHOWN_CHARS] for entry in log.server()))
    what = f"what came is {came}" if came else "nothing came"
    if log.closed_at is not None:
        how = f" with code {log.close_code}" if log.close_code is not None else ""
        return f"{host} ended the connection{how} before {missing} ({what}). Check --url"
    return (
        f"{host} does not speak Hydra's protocol: {missing} did not come within "
        f"{CREATED_SECS:g} s ({what}). Check --url"
    )


async def _hold(scene: Scene, findings: Findings, *, turnover_secs: float = 0.0) -> None:
    """Hold a scene, whatever becomes of it."""
    findings.failures.pop(scene.name, None)
    stage = Stage(
        findings.endpoint,
        findings.voice,
        _recorder(scene, findings),
        turnover_secs=turnover_secs,
    )
    findings.logs[scene.name] = stage.logs
    reason = "ended"
    try:
        async with asyncio.timeout(scene.limit_secs):
            await scene.hold(stage)
    except TimeoutError:
        reason = f"it took longer than {scene.limit_secs:g} s"
    except (HydraConnectionError, TokenError) as error:
        reason = str(error)
    except asyncio.CancelledError:
        reason = "interrupted"
        raise
    except Exception as error:
        # A mistake in a scene costs no more than its answers.
        logger.opt(exception=error).debug("the scene {!r} failed", scene.name)
        reason = f"the scene failed ({type(error).__name__})"
    finally:
        if reason != "ended":
            findings.failures[scene.name] = findings.endpoint.without_key(reason)
        if stage.writer is not None:
            stage.writer.end(reason)
            await asyncio.get_running_loop().run_in_executor(None, stage.writer.close)
    findings.held.append(scene.name)


def _recorder(scene: Scene, findings: Findings) -> Callable[[], CallWriter] | None:
    """Return what begins the recording of a scene; its sessions must not overlap."""
    folder, endpoint = findings.record, findings.endpoint
    if folder is None or scene.name == CAPACITY:
        return None

    def begin() -> CallWriter:
        recorder = HydraRecorder(folder)
        writer = recorder.begin(model=endpoint.model, url=endpoint.base_url, scene=scene.name)
        writer.hide(endpoint.api_key.get_secret_value())
        return writer

    return begin
