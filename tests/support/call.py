"""Whole calls for tests: a real pipeline, the service, the emulator, a user who speaks."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    Frame,
    LLMRunFrame,
    TranscriptionFrame,
    TTSStartedFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies, UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService, HydraLLMSettings
from pipecat_hydra.emulator import EmulatedSession, EmulatorSettings, HydraEmulator, Responder
from pipecat_hydra.testing import (
    VirtualTransport,
    VirtualTransportParams,
    read_recording,
)

RECORDINGS = Path(__file__).parent.parent / "recordings"

Shape = Literal["aggregators", "bare"]
SHAPES: list[Shape] = ["aggregators", "bare"]

NO_GREETING = HydraLLMSettings(generate_initial_response=False)

# What is no frame is looked for this often, in seconds of virtual time.
_LOOK_SECS = 0.02

F = TypeVar("F", bound=Frame)


class Server(Protocol):
    """Whatever a service can be pointed at."""

    @property
    def url(self) -> str: ...

    @property
    def api_key(self) -> str: ...


def recording(name: str) -> NDArray[np.int16]:
    """Speech, 16 kHz mono."""
    pcm, rate = read_recording(RECORDINGS / f"{name}.wav")
    assert rate == 16_000
    return pcm[:, 0]


class Frames(BaseObserver):
    """Keeps the frames that a processor pushes, in order."""

    def __init__(self, source: FrameProcessor):
        super().__init__()
        self._source = source
        self.pushed: list[tuple[Frame, FrameDirection]] = []
        self.times: list[float] = []
        """When each of them was pushed, by the monotonic clock."""
        # What was found of each kind so far, and how many frames were looked at for it.
        self._found: dict[Any, tuple[int, list[Any]]] = {}
        self._news = asyncio.Event()

    async def on_push_frame(self, data: FramePushed):
        if data.source is self._source:
            self.pushed.append((data.frame, data.direction))
            self.times.append(time.monotonic())
            self._news.set()

    async def wait(self, secs: float) -> None:
        """Wait for the next frame, but no longer than some seconds."""
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(secs):
                await self._news.wait()

    def of(self, *kinds: type[F], direction: FrameDirection = FrameDirection.DOWNSTREAM) -> list[F]:
        """The frames of these kinds that were pushed in a direction so far, in order."""
        seen, found = self._found.get((kinds, direction), (0, []))
        new = self.pushed[seen:]
        found = [*found, *(f for f, d in new if isinstance(f, kinds) and d == direction)]
        self._found[kinds, direction] = len(self.pushed), found
        return found

    def names(self, *kinds: type[Frame]) -> list[str]:
        """Class names of the frames of these kinds that went downstream, in order."""
        return [type(frame).__name__ for frame in self.of(*kinds)]


class Ears(FrameProcessor):
    """An STT service in place: says what the user said when the user stops."""

    def __init__(self, *texts: str):
        super().__init__()
        self.texts = list(texts)

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, UserStoppedSpeakingFrame) and direction is FrameDirection.UPSTREAM:
            await self.push_frame(TranscriptionFrame(self.texts.pop(0), "user", "now"))
        await self.push_frame(frame, direction)


class Call:
    """A call in progress."""

    def __init__(
        self,
        transport: VirtualTransport,
        llm: HydraLLMService,
        worker: PipelineWorker,
        frames: Frames,
        context: LLMContext | None,
        running: "asyncio.Task[None]",
        server: Server,
    ):
        self.transport = transport
        self.llm = llm
        self.worker = worker
        self.frames = frames
        self.context = context
        self.running = running
        self._server = server

    async def say(self, name: str) -> None:
        """Say a recording, and wait until it is said."""
        await self.transport.microphone.say(recording(name))

    async def run_llm(self) -> None:
        """Ask for the model to speak, as a bot does when its client connects."""
        await self.worker.queue_frame(LLMRunFrame())

    async def until(self, condition: Callable[[], Any], *, within: float = 15.0) -> None:
        """Wait until something holds, which is looked at with each frame that is pushed."""
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                pushed = [type(f).__name__ for f, _ in self.frames.pushed]
                counts = {name: pushed.count(name) for name in dict.fromkeys(pushed)}
                raise TimeoutError(
                    f"it did not happen; the service pushed {counts}; {_history(self._server)}"
                )
            await self.frames.wait(_LOOK_SECS)

    async def until_pushed(self, kind: type[Frame], count: int = 1, **kwargs: Any) -> None:
        """Wait until the service has pushed so many frames of a kind downstream."""
        await self.until(lambda: len(self.frames.of(kind)) >= count, **kwargs)

    async def ended(self, *, within: float = 15.0) -> None:
        """Wait until the pipeline ends by itself; `wait_for` alone would end it, and not fail."""
        await asyncio.wait_for(asyncio.shield(self.running), within)

    async def until_quiet(self) -> None:
        """Wait until each reply that was begun has been played, or cut off."""

        def played() -> bool:
            kinds = [type(frame) for frame, _ in self.frames.pushed]
            starts = [n for n, kind in enumerate(kinds) if kind is TTSStartedFrame]
            stops = [n for n, kind in enumerate(kinds) if kind is BotStoppedSpeakingFrame]
            # The last stop is that of the last reply: there may be one too many, of a piece
            # of an interrupted reply that Pipecat's output played after it had stopped.
            return len(stops) >= len(starts) and (not starts or stops[-1] > starts[-1])

        await self.until(played)


@asynccontextmanager
async def call(
    hydra: Server,
    shape: Shape = "aggregators",
    *,
    microphone: bytes | NDArray[np.int16] = b"",
    microphone_rate: int = 16_000,
    microphone_channels: int = 1,
    microphone_frame_ms: int = 20,
    out_rate: int = 24_000,
    settings: HydraLLMService.Settings | None = None,
    context: LLMContext | None = None,
    before: Sequence[FrameProcessor] = (),
    before_aggregator: Sequence[FrameProcessor] = (),
    behind: Sequence[FrameProcessor] = (),
    llm: HydraLLMService | None = None,
    strategies: UserTurnStrategies | None = None,
    observed: bool = False,
    **service: Any,
) -> AsyncGenerator[Call]:
    """Run a call in one of the two pipeline shapes; at the end it is cancelled if it still runs.

    The service is made with the arguments, unless one is given. Pipecat's observers, RTVI among
    them, take part where the call is to be `observed`: they look at each frame, change none, and
    are a fifth of what a call costs.
    """
    transport = VirtualTransport(
        microphone,
        sample_rate=microphone_rate,
        num_channels=microphone_channels,
        params=VirtualTransportParams(
            audio_out_sample_rate=out_rate, audio_in_frame_ms=microphone_frame_ms
        ),
    )
    arguments: dict[str, Any] = {"api_key": hydra.api_key, "base_url": hydra.url, **service}
    llm = llm or HydraLLMService(settings=settings, **arguments)
    processors: list[FrameProcessor] = [
        transport.input(),
        *before,
        llm,
        *behind,
        transport.output(),
    ]
    processors[1:1] = before_aggregator
    if shape == "aggregators":
        context = context or LLMContext()
        strategies = strategies or ExternalUserTurnStrategies()
        pair = LLMContextAggregatorPair(
            context, user_params=LLMUserAggregatorParams(user_turn_strategies=strategies)
        )
        processors.insert(1 + len(before_aggregator), pair.user())
        processors.append(pair.assistant())
    frames = Frames(llm)
    worker = PipelineWorker(
        Pipeline(processors),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
        observers=[frames],
        idle_timeout_secs=None,
        enable_rtvi=observed,
        enable_turn_tracking=observed,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await transport.timeline.started()
        yield Call(transport, llm, worker, frames, context, running, hydra)
    finally:
        if not running.done():
            await worker.cancel()
        await running


def _history(server: Server) -> str:
    """What the sessions of an emulator have heard and said, and when, to see why one failed."""
    told: list[str] = []
    for one in server.sessions if isinstance(server, HydraEmulator) else ():
        loud = np.abs(np.frombuffer(one.received_audio, "<i2").astype(np.int32)) > 500
        edges = np.flatnonzero(np.diff(np.flatnonzero(loud), prepend=-8_000) > 3_200)
        sounds = [round(float(at) / 16_000, 2) for at in np.flatnonzero(loud)[edges]]
        sent = [f"{r.time:.2f} {r.type}" for r in one.sent if not r.audio_bytes]
        told.append(
            f"session {one.id} heard {len(loud) / 16_000:.2f} s with sounds at {sounds} "
            f"and sent {sent}"
        )
    return "; ".join(told)


def emulator(responder: Responder | Literal["echo"] = "echo", /, **settings: Any) -> HydraEmulator:
    """A local Hydra with these settings."""
    return HydraEmulator(responder, settings=EmulatorSettings(**settings))


def configuration(hydra: HydraEmulator) -> dict[str, Any]:
    """What the one session was configured with."""
    told = session(hydra).configuration
    assert told is not None
    return told


def pitch(samples: NDArray[Any], rate: int) -> float:
    """The strongest frequency in Hz."""
    windowed = samples.astype(np.float64) * np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(windowed, 4 * len(samples)))
    return float(np.argmax(spectrum) * rate / (4 * len(samples)))


def session(hydra: HydraEmulator) -> EmulatedSession:
    """The one session that was served."""
    (only,) = hydra.sessions
    return only
