"""Runs a conversation: builds the pipeline, plays the recording, and detects the end."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from pipecat.frames.frames import EndFrame, ErrorFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService, HydraRecorder
from pipecat_hydra.cli.talk.display import Display
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError, from_category, without_key
from pipecat_hydra.cli.talk.observer import TalkObserver
from pipecat_hydra.cli.talk.report import Report
from pipecat_hydra.cli.talk.tools import SAMPLE_TOOLS
from pipecat_hydra.recording import Recording, RecordingError
from pipecat_hydra.recording.recorder import RECORD_VARIABLE
from pipecat_hydra.testing import VirtualTransport, read_recording
from pipecat_hydra.wire.protocol import (
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    MODELS,
    UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE,
)

__all__ = ["DEFAULT_INSTRUCTIONS", "TalkOptions", "talk"]

DEFAULT_INSTRUCTIONS: Final = (
    "You are a warm, concise voice assistant. Reply in one short sentence."
)

START_LIMIT_SECS: Final = 30.0
"""How long the pipeline may take to start; Pipecat itself gives up after 20 s."""

END_OF_TURN_SECS: Final = 1.5
"""How much silence is played after the recording, at least, before the conversation can end.
Hydra needs up to 1.2 s to detect the end of a turn (protocol §5)."""

REPLY_LIMIT_SECS: Final = 120.0
"""Longest time to listen to the last reply."""

TAIL_SECS: Final = 0.3
"""How much silence is kept after the last reply."""

END_LIMIT_SECS: Final = 10.0

CONVERT: Final = (
    "WAV, FLAC, Ogg, MP3 and what else libsndfile knows; convert another format, such as m4a, by "
    "`ffmpeg -i IN OUT.wav`"
)

_POLL_SECS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkOptions:
    """The options of `pipecat-hydra talk`.

    Parameters:
        recording: The user's audio: a file of any format that soundfile reads.
        output: The file for the conversation, stereo PCM16.
        api_key: The Smallest AI key; `None` for the embedded emulator.
        base_url: The endpoint, without query. Not used with the emulator.
        model: The model.
        voice: Its voice; `None` for the model's default.
        instructions: The system instruction.
        limit_secs: How long to wait for an answer, in seconds.
        greet: Whether the bot speaks first; the recording starts after the greeting.
        aggregators: Whether the pipeline has context aggregators, as most pipelines do, or is
            only `[input, llm, output]`.
        sample_tools: Whether the model is offered the functions of `SAMPLE_TOOLS`.
        script: The emulator's script, a YAML file; `None` for the echo. Not used with a key.
        record: The folder in which the call's recording is kept; `None` for the one that
            `HYDRA_RECORD` names, if it does.
    """

    recording: Path
    output: Path
    api_key: str | None = None
    base_url: str = DEFAULT_BASE_URL
    model: str = DEFAULT_MODEL
    voice: str | None = None
    instructions: str = DEFAULT_INSTRUCTIONS
    limit_secs: float = 10.0
    greet: bool = False
    aggregators: bool = True
    sample_tools: bool = False
    script: Path | None = None
    record: Path | None = None

    def __repr__(self) -> str:
        """Leave out the key."""
        return f"<TalkOptions {self.recording} to {self.base_url}>"


async def talk(options: TalkOptions, display: Display) -> Report:
    """Play a recording to Hydra, or to the emulator if there is no key.

    Args:
        options: The recording, and the service to talk to.
        display: Shows what happens.

    Returns:
        The figures of the conversation. The conversation itself is written to
        `options.output`.

    Raises:
        TalkError: The conversation failed, or there was no answer. If there was no answer,
            the conversation so far is written and shown first. That is also done when this
            coroutine is cancelled.
        ScriptError: The emulator's script cannot be used.
    """
    pcm, sample_rate = _recording(options.recording)
    _check_output(options.output, options.recording)
    async with AsyncExitStack() as stack:
        if options.api_key is None:
            # Imported here, because the emulator loads Silero, which takes time.
            from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator

            # An echo has no transcript to show.
            settings = EmulatorSettings(transcripts=options.script is not None)
            emulator = HydraEmulator(options.script or "echo", settings=settings)
            answers = f"answers by {options.script}" if options.script else "echoes"
            display.line(
                f"talking to the embedded emulator, which {answers} "
                "(set SMALLEST_API_KEY for Hydra)"
            )
            hydra = await stack.enter_async_context(emulator)
            options = replace(options, base_url=hydra.url, api_key=hydra.api_key)
        # The figures come from a recording, whether or not it is to be kept.
        folder = options.record or os.environ.get(RECORD_VARIABLE, "").strip()
        if not folder:
            folder = stack.enter_context(TemporaryDirectory(prefix="pipecat-hydra-"))
        recorder = HydraRecorder(folder)
        return await _Conversation(options, display, pcm, sample_rate, recorder).run()


class _Conversation:
    """One conversation, from the first frame to the report."""

    def __init__(
        self,
        options: TalkOptions,
        display: Display,
        pcm: NDArray[np.int16],
        sample_rate: int,
        recorder: HydraRecorder,
    ):
        self._options = options
        self._display = display
        self._pcm = pcm
        self._length_secs = len(pcm) / sample_rate
        self._transport = VirtualTransport(sample_rate=sample_rate, num_channels=pcm.shape[1])
        self._recorder = recorder
        self._llm = _service(options, recorder)
        self._observer = TalkObserver(
            self._llm, self._transport.timeline, note=display.note, on_error=self._on_error
        )
        self._log = self._observer.log
        self._worker = self._build_worker()
        self._running: asyncio.Task[None] | None = None
        self._failure: TalkError | None = None
        self._last_error: TalkError | None = None
        self._has_spoken = False

    def _build_worker(self) -> PipelineWorker:
        processors: list[FrameProcessor] = [
            self._transport.input(),
            self._llm,
            self._transport.output(),
        ]
        if self._options.aggregators:
            # Hydra decides the turns. Without these strategies the aggregator would create a
            # turn model that is never used, which blocks for 40 ms.
            pair = LLMContextAggregatorPair(
                LLMContext(),
                user_params=LLMUserAggregatorParams(
                    user_turn_strategies=ExternalUserTurnStrategies()
                ),
            )
            processors = [processors[0], pair.user(), *processors[1:], pair.assistant()]
        model = MODELS.get(self._options.model)
        return PipelineWorker(
            Pipeline(processors),
            params=PipelineParams(
                # The rate of the reply, so that the reply is recorded without resampling.
                audio_out_sample_rate=(
                    model.output_sample_rate if model else UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE
                ),
                enable_metrics=True,
                enable_usage_metrics=True,
                send_initial_empty_metrics=False,
            ),
            observers=[self._observer],
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )

    async def run(self) -> Report:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._worker)
        self._running = asyncio.create_task(runner.run())
        ended_by: TalkError | asyncio.CancelledError | None = None
        try:
            await self._converse()
            await self._worker.queue_frame(EndFrame())
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._running), END_LIMIT_SECS)
        except (TalkError, asyncio.CancelledError) as error:
            ended_by = error
        finally:
            await self._worker.cancel()
            await self._running
        report = self._report(ended_by)
        if report.rows:
            self._display.report(report)
            unsaved = self._save()
            if unsaved and ended_by:
                self._display.line(f"! {unsaved}")
            ended_by = ended_by or unsaved
        if ended_by:
            raise ended_by
        return report

    def _report(self, ended_by: BaseException | None) -> Report:
        """Measure the conversation.

        Raises:
            TalkError: It was not recorded, which says more only if nothing else has ended it.
        """
        try:
            recording = Recording.open(self._recorder.folder or "")
        except RecordingError as error:
            unrecorded = TalkError(f"the conversation could not be recorded: {error}")
            raise ended_by or unrecorded from None
        return Report.of(self._log.turns, self._transport, recording)

    async def _converse(self) -> None:
        """Play the recording, and wait until the bot has finished.

        Raises:
            TalkError: The conversation failed, or there was no answer.
        """
        timeline = self._transport.timeline
        await self._until(lambda: timeline.has_started, "starting", limit_secs=START_LIMIT_SECS)
        if self._options.greet:
            await self._listen("waiting for the greeting")
        begin_secs = timeline.secs
        utterance = self._transport.microphone.queue(self._pcm)
        self._has_spoken = True
        await self._until(
            lambda: utterance.end_secs is not None,
            "playing",
            limit_secs=self._length_secs + self._options.limit_secs,
            progress_secs=lambda: timeline.secs - begin_secs,
        )
        await self._until(
            lambda: timeline.secs >= (utterance.end_secs or 0.0) + END_OF_TURN_SECS,
            "listening",
            limit_secs=END_OF_TURN_SECS + self._options.limit_secs,
        )
        await self._listen("listening")

    async def _listen(self, what: str) -> None:
        """Wait until the bot has finished its last reply, for a limited time."""
        begin_secs = self._transport.timeline.secs
        while not self._is_over():
            now = self._transport.timeline.secs
            quiet_secs = now - max(begin_secs, self._log.last_event_secs)
            if not self._log.bot_speaking and quiet_secs > self._options.limit_secs:
                raise self._no_answer()
            if now - begin_secs > self._options.limit_secs + REPLY_LIMIT_SECS:
                self._display.line("the bot goes on and on: listened to no more")
                return
            await self._poll(what, self._length_secs)

    def _is_over(self) -> bool:
        """Return whether nobody speaks, and the bot spoke last."""
        heard_secs = max(self._transport.heard_until_secs, self._log.last_event_secs)
        return (
            self._log.answered
            and not self._log.user_speaking
            and not self._log.bot_speaking
            and self._transport.timeline.secs >= heard_secs + TAIL_SECS
        )

    async def _until(
        self,
        condition: Callable[[], bool],
        what: str,
        *,
        limit_secs: float,
        progress_secs: Callable[[], float] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_secs
        while not condition():
            if loop.time() > deadline:
                raise TalkError(f"gave up {what} after {limit_secs:.0f} s")
            await self._poll(what, progress_secs() if progress_secs else self._length_secs)

    async def _poll(self, what: str, progress_secs: float) -> None:
        if self._failure:
            raise self._failure
        if self._running is None or self._running.done():
            raise TalkError("the pipeline ended by itself")
        self._display.advance(what, progress_secs, self._length_secs)
        await asyncio.sleep(_POLL_SECS)

    def _no_answer(self) -> TalkError:
        if self._last_error:
            return self._last_error
        limit = f"within {self._options.limit_secs:g} s"
        if not self._has_spoken:
            return TalkError(f"no greeting {limit}", ExitCode.NO_ANSWER)
        if not self._log.turns:
            return TalkError(
                f"no answer {limit}: no speech was heard in {self._options.recording}",
                ExitCode.NO_ANSWER,
            )
        return TalkError(
            f"no answer {limit} to turn {self._log.turns[-1].number}; it may have been taken for "
            "noise",
            ExitCode.NO_ANSWER,
        )

    def _on_error(self, frame: ErrorFrame) -> None:
        message = without_key(frame.error, self._options.api_key)
        error = from_category(frame.category, message, self._options.base_url)
        self._last_error = error
        permanent = frame.category is not None and frame.category.is_permanent
        # If the first connection fails, the user must act. If a connection is lost later, the
        # service reconnects.
        no_network = frame.category is ErrorCategory.CONNECTIVITY and not self._log.turns
        if permanent or no_network or not self._llm.is_usable:
            self._failure = self._failure or error
        else:
            self._display.line(f"! {message}")

    def _save(self) -> TalkError | None:
        """Write the conversation; return the error if that fails."""
        output = self._options.output
        try:
            self._transport.save_stereo(output)
        except (OSError, sf.SoundFileError) as error:
            return TalkError(f"cannot write {output}: {without_key(str(error), None)}")
        self._display.line(f"{output}: left the user, right the bot as heard")
        return None


def _service(options: TalkOptions, recorder: HydraRecorder) -> HydraLLMService:
    assert options.api_key is not None
    try:
        return HydraLLMService(
            api_key=options.api_key,
            base_url=options.base_url,
            settings=HydraLLMService.Settings(
                model=options.model,
                voice=options.voice,
                system_instruction=options.instructions,
                generate_initial_response=options.greet,
            ),
            tools=SAMPLE_TOOLS if options.sample_tools else None,
            recorder=recorder,
        )
    except ValueError as error:
        message = without_key(str(error), options.api_key)
        raise TalkError(message, ExitCode.USAGE) from error


def _recording(path: Path) -> tuple[NDArray[np.int16], int]:
    if not path.exists():
        raise TalkError(f"no such file: {path}", ExitCode.USAGE)
    if path.is_dir():
        raise TalkError(f"{path} is a folder, and is not audio: name a file in it", ExitCode.USAGE)
    try:
        pcm, sample_rate = read_recording(path)
    # A .raw file has no header with a rate; soundfile raises a TypeError for it.
    except (OSError, TypeError, sf.SoundFileError) as error:
        raise TalkError(
            f"{path} is not audio that can be read ({CONVERT}): {without_key(str(error), None)}",
            ExitCode.USAGE,
        ) from error
    if not len(pcm):
        raise TalkError(f"{path} holds no audio", ExitCode.USAGE)
    return pcm, sample_rate


def _check_output(path: Path, recording: Path) -> None:
    """Check that the output file can be written, before the conversation starts."""
    audio_format = path.suffix.removeprefix(".").upper()
    problem = None
    if audio_format == "RAW" or not sf.check_format(audio_format, "PCM_16"):
        problem = "name a .wav file"
    elif path.is_dir() or not path.parent.is_dir():
        problem = "no such place"
    elif not path.exists():
        problem = None if os.access(path.parent, os.W_OK) else "no file may be made there"
    elif path.samefile(recording):
        problem = "it is the recording that is to be played; name another file"
    elif not os.access(path, os.W_OK):
        problem = "the file that is there may not be written"
    if problem:
        raise TalkError(f"cannot write {path}: {problem}", ExitCode.USAGE)
