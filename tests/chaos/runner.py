"""Holds one call as a plan lays it down, and keeps what both sides can say about it."""

import asyncio
import bisect
import itertools
import logging
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    LLMUpdateSettingsFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from support.call import Call, call, recording
from support.leftovers import left_in_loop

from chaos.model import TOOLS, Model
from chaos.plan import (
    DROPS,
    RETRY,
    Act,
    Ask,
    CallPlan,
    Change,
    Cough,
    Interrupt,
    Lose,
    Mute,
    Speak,
    Type,
    Wait,
)
from pipecat_hydra import HydraLLMService, HydraLLMSettings
from pipecat_hydra.emulator import Activity, HydraEmulator
from pipecat_hydra.testing import HeardAudio

# All keys have it, and nothing else has: to be searched for in what is logged.
KEY_MARK: Final = "ch4os-s3cret"

ANSWER_SECS: Final = 15.0
_CALL_SECS: Final = 120.0
_COUGH_SAMPLES: Final = 6_400

_EVENTS = (
    "on_connected",
    "on_session_started",
    "on_disconnected",
    "on_reconnecting",
    "on_reconnected",
    "on_capacity",
    "on_given_up",
)


@dataclass
class Said:
    """Something that the user said.

    Parameters:
        name: The recording.
        pcm: Its samples, which no other utterance has: mono PCM16 LE at 16 kHz.
        began: When, by the monotonic clock.
        ended: Likewise; infinite while it is said.
        answered: Whether an answer was waited for, and came.
    """

    name: str
    pcm: bytes = field(repr=False)
    began: float
    ended: float = float("inf")
    answered: bool | None = None


@dataclass
class Pushed:
    """A frame that the service pushed.

    Parameters:
        at: When, by the monotonic clock.
        frame: The frame.
        downstream: Which way.
    """

    at: float
    frame: Frame
    downstream: bool


# Asyncio asks for the representation of what a task returned, and this would be megabytes.
@dataclass(repr=False)
class Evidence:
    """All that is known of a call. Times are those of the monotonic clock, in seconds."""

    plan: CallPlan
    hydra: HydraEmulator
    opened: dict[str, float] = field(default_factory=dict[str, float])
    """When the socket of each session opened, by the session's id."""
    closed: dict[str, float] = field(default_factory=dict[str, float])
    """When it closed."""
    pushed: list[Pushed] = field(default_factory=list[Pushed])
    heard: list[HeardAudio] = field(default_factory=list[HeardAudio])
    began: float = 0.0
    """Where the listener's timeline begins."""
    said: list[Said] = field(default_factory=list[Said])
    acts: list[tuple[float, Act]] = field(default_factory=list[tuple[float, Act]])
    story: list[tuple[str, tuple[Any, ...]]] = field(
        default_factory=list[tuple[str, tuple[Any, ...]]]
    )
    """What the application was told of the connection."""
    waited_in_vain: list[str] = field(default_factory=list[str])
    cancelled: bool = False
    ended: float = float("inf")
    """When the end of the call was asked for."""
    end_secs: float = float("inf")
    """How long it then took."""
    usable: bool = False
    left: list[str] = field(default_factory=list[str])
    """Tasks, timers, sockets, threads and files that were still there afterwards."""
    logged: list[str] = field(default_factory=list[str])
    """Lines of the log, and frames as they are logged, that show the key."""

    def told(self, name: str) -> list[tuple[Any, ...]]:
        """What the application was told by one event."""
        return [arguments for told, arguments in self.story if told == name]


@contextmanager
def watched_logs() -> Generator[list[str]]:
    """Collect the log lines that show a key, locals in tracebacks included (S4).

    At TRACE, Pipecat logs the text of each frame several times, which takes a seventh of the
    computing of a call: `hold` looks at the frames instead.
    """
    leaked: list[str] = []

    def look(message: object) -> None:
        if KEY_MARK in (line := str(message)):
            leaked.append(line)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            look(self.format(record))

    sink = logger.add(look, level="DEBUG", format="{message}", backtrace=True, diagnose=True)
    root, handler = logging.getLogger(), Handler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield leaked
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        logger.remove(sink)


async def hold(plan: CallPlan) -> Evidence:
    """Hold a call; returns when nothing of it runs any more, or should.

    Nothing else may run in the loop: what is left there afterwards counts as the call's.
    """
    # The delays between attempts to reconnect are drawn from here.
    random.seed(f"delays {plan.seed}")
    with watched_logs() as leaked:
        evidence = await _User(plan).call()
        evidence.left += await left_in_loop()
    texts = (str(pushed.frame) for pushed in evidence.pushed)
    evidence.logged = [*leaked, *(text for text in texts if KEY_MARK in text)]
    return evidence


class _User:
    """Whoever calls, and the application that is called."""

    def __init__(self, plan: CallPlan):
        self._plan = plan
        self._rng = np.random.default_rng(plan.seed)

    async def call(self) -> Evidence:
        plan = self._plan
        hydra = HydraEmulator(
            Model(plan.seed),
            api_key=f"sk-{KEY_MARK}-{plan.seed}",
            settings=plan.settings,
            faults=plan.faults,
            on_activity=self._on_activity,
        )
        evidence = self._evidence = Evidence(plan, hydra)
        async with hydra:
            await self._talk(hydra)
            # What is under way to the server still counts.
            await asyncio.sleep(0.05)
        return evidence

    async def _talk(self, hydra: HydraEmulator) -> None:
        plan, evidence = self._plan, self._evidence
        arguments: dict[str, Any] = {"tools": TOOLS}
        if plan.shape == "aggregators":
            arguments = {"context": LLMContext(tools=TOOLS)}
        settings = HydraLLMSettings(
            system_instruction="Be brief.", generate_initial_response=plan.greets
        )
        async with call(
            hydra,
            plan.shape,
            settings=settings,
            observed=True,
            retry=RETRY,
            open_timeout_secs=1.5,
            handshake_timeout_secs=2.5,
            **arguments,
        ) as talk:
            self._call = talk
            evidence.began = time.monotonic() - talk.transport.timeline.secs
            evidence.heard = talk.transport.heard
            self._listen(talk.llm)
            acting = asyncio.create_task(self._act())
            limit = plan.cancelled_after_secs or plan.lasts_secs + _CALL_SECS
            _, late = await asyncio.wait({acting}, timeout=limit)
            evidence.cancelled = bool(late)
            if plan.cancelled_after_secs is None and late:
                evidence.waited_in_vain.append(f"the acts took more than {limit:g} s")
            acting.cancel()
            await asyncio.wait({acting})
            await self._end(talk)
            if not acting.cancelled():
                await acting

    async def _end(self, talk: Call) -> None:
        evidence = self._evidence
        evidence.usable = talk.llm.is_usable
        evidence.ended = time.monotonic()
        if evidence.cancelled:
            await talk.worker.cancel()
        else:
            await talk.worker.queue_frame(EndFrame())
        try:
            await asyncio.wait_for(asyncio.shield(talk.running), 60)
        except TimeoutError:
            evidence.waited_in_vain.append("the pipeline did not end within 60 s")
        evidence.end_secs = time.monotonic() - evidence.ended
        evidence.pushed = [
            Pushed(at, frame, direction is FrameDirection.DOWNSTREAM)
            for at, (frame, direction) in zip(talk.frames.times, talk.frames.pushed, strict=True)
        ]

    # The acts.

    async def _act(self) -> None:
        if self._plan.greets is None:
            await self._call.run_llm()
        dropping = asyncio.create_task(self._keep_dropping())
        enough = time.monotonic() + self._plan.lasts_secs
        try:
            for act in self._plan.acts:
                await self._note_and_perform(act)
            while time.monotonic() < enough:
                for act in self._plan.acts:
                    await self._note_and_perform(act)
        finally:
            dropping.cancel()
            await asyncio.wait({dropping})
        await self._note_and_perform(Speak("question"))

    async def _keep_dropping(self) -> None:
        ways = itertools.cycle(DROPS)
        enough = time.monotonic() + self._plan.lasts_secs
        while (secs := self._plan.drops_every_secs) and time.monotonic() + secs <= enough:
            await asyncio.sleep(secs)
            await self._note_and_perform(Lose(next(ways)))

    async def _note_and_perform(self, act: Act) -> None:
        self._evidence.acts.append((time.monotonic(), act))
        await self._perform(act)

    async def _perform(self, act: Act) -> None:
        talk, llm = self._call, self._call.llm
        queue: Callable[[Frame], Any] = talk.worker.queue_frame
        match act:
            case Speak(name, then):
                await self._speak(name, wait=then == "answer")
            case Cough():
                pcm = self._unique("hello")[:_COUGH_SAMPLES]
                await talk.transport.microphone.say(pcm)
            case Type("frame"):
                await queue(InputTextRawFrame("I write."))
            case Type("append"):
                message: Any = {"role": "user", "content": "I write."}
                await queue(LLMMessagesAppendFrame(messages=[message], run_llm=True))
            case Type(how):
                await llm.send_text("I write.", interrupt=how == "interrupt")
            case Interrupt("frame"):
                await queue(InterruptionFrame())
            case Interrupt():
                await llm.cancel_response()
            case Ask("frame"):
                await queue(LLMRunFrame())
            case Ask():
                await llm.request_response()
            case Change(voice):
                delta = HydraLLMSettings(voice=voice)
                await queue(LLMUpdateSettingsFrame(delta=delta))
            case Mute("device", secs):
                talk.transport.microphone.paused = True
                await asyncio.sleep(secs)
                talk.transport.microphone.paused = False
            case Mute(_, secs):
                # What is still on its way to the service would rightly not be heard.
                await asyncio.sleep(0.1)
                llm.set_audio_input_paused(True)
                await asyncio.sleep(secs)
                llm.set_audio_input_paused(False)
            case Wait(secs):
                await asyncio.sleep(secs)
            case Lose(how):
                await self._evidence.hydra.drop(how)

    async def _speak(self, name: str, *, wait: bool) -> None:
        pcm = self._unique(name)
        said = Said(name, pcm.tobytes(), time.monotonic())
        self._evidence.said.append(said)
        utterance = await self._call.transport.microphone.say(pcm)
        assert utterance.start_secs is not None
        assert utterance.end_secs is not None
        said.began = self._evidence.began + utterance.start_secs
        said.ended = self._evidence.began + utterance.end_secs
        if not wait:
            return
        said.answered = False
        deadline = time.monotonic() + ANSWER_SECS
        while not self._spoke_since(said.ended):
            if time.monotonic() > deadline:
                self._evidence.waited_in_vain.append(f"no answer to {name!r}: {ANSWER_SECS:g} s")
                return
            await self._call.frames.wait(deadline - time.monotonic())
        said.answered = True

    def _unique(self, name: str) -> np.ndarray[Any, np.dtype[np.int16]]:
        """A recording with a little noise, by which it can be told from any other."""
        pcm = recording(name) * self._rng.uniform(0.6, 0.9)
        return (pcm + self._rng.integers(-8, 9, len(pcm))).astype("<i2")

    def _spoke_since(self, since: float) -> bool:
        frames = self._call.frames
        began = bisect.bisect_left(frames.times, since)
        # Of an answer that a lost session cuts at once, a resampler may give no audio.
        answers = TTSStartedFrame | TTSAudioRawFrame
        return any(isinstance(frame, answers) for frame, _ in frames.pushed[began:])

    # What is noted.

    def _listen(self, llm: HydraLLMService) -> None:
        for name in _EVENTS:
            llm.add_event_handler(name, self._teller(name))

    def _teller(self, name: str) -> Callable[..., Any]:
        async def tell(_: HydraLLMService, *arguments: Any) -> None:
            self._evidence.story.append((name, arguments))

        return tell

    def _on_activity(self, activity: Activity) -> None:
        if activity.kind == "opened":
            session = activity.session
            self._evidence.opened[session.id] = time.monotonic() - session.elapsed
        elif activity.kind == "closed":
            self._evidence.closed[activity.session.id] = time.monotonic()
