"""Holds one call as a plan lays it down, and keeps what both sides can say about it."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from chaos import plan as chaos
from chaos.model import Model
from chaos.runner import Evidence, Pushed, Said
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputDTMFFrame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMMessagesTransformFrame,
    LLMRunFrame,
    LLMSetToolsFrame,
    LLMUpdateSettingsFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from support.call import Call, call, recording
from support.leftovers import left_in_loop
from typing_extensions import override

from application.plan import (
    TOOL_NAMES,
    Act,
    Ask,
    Begin,
    Cough,
    Edit,
    Flush,
    Interrupt,
    Mute,
    Phrase,
    Plan,
    Press,
    Set,
    SetTools,
    Speak,
    Timed,
    Write,
)
from application.tools import FUNCTION_SECS, functions
from pipecat_hydra import HydraLLMService, HydraLLMSettings
from pipecat_hydra.emulator import Activity, FaultPlan, HydraEmulator
from pipecat_hydra.emulator import Call as ToolCall

ANSWER_SECS: Final = 12.0
"""How long the answer to what was asked last may take: there may be a reply before it, and a
function that is waited for."""

_ENDING_SECS: Final = 40.0
_SETTLING_SECS: Final = 1.0
_COUGH_SAMPLES: Final = 6_400
_KEYS_ARE_COMPLETE_SECS: Final = 2.1
_ON_ITS_WAY_SECS: Final = 0.3
_REDACTED: Final = "[redacted]"


@dataclass(repr=False)
class Record(Evidence):
    """All that is known of a call. `acts` has of what was done what `chaos` has a word for."""

    laid_down: Plan = field(default_factory=lambda: Plan.of(0))
    deeds: list[tuple[float, Act]] = field(default_factory=list[tuple[float, Act]])
    """What the user and the application did, and when."""
    in_context: list[str] = field(default_factory=list[str])
    """Words that the application has put in the context and not taken out again."""
    outside_context: dict[str, float] = field(default_factory=dict[str, float])
    """Words that no context has, and when they had been written."""
    removed: dict[str, float] = field(default_factory=dict[str, float])
    """Words that the application has taken out of the conversation, and when."""
    voice: str = "aria"
    """The voice that was asked for last."""
    instruction: str = "Be brief."
    """Likewise the instruction."""
    tools: tuple[str, ...] = TOOL_NAMES
    """Likewise the functions."""
    silence_secs: float = 0.0
    """How long the answer to what was asked last took."""


class Caller(Model):
    """A model that calls any function of the application, and others, until it is to speak."""

    def __init__(self, plan: Plan):
        super().__init__(plan.seed, longest_secs=1.5)
        self._called = (*TOOL_NAMES, "unknown", "quick")
        self.only_speaks = False

    @override
    def answer(self, heard: Any) -> Any:
        if self.only_speaks:
            return [self._say(self._next())]
        return super().answer(heard)

    @override
    def prompted(self, messages: Sequence[str]) -> Any:
        rng = self._next()
        if self.only_speaks or rng.random() < 0.5:
            return [self._say(rng)]
        return [self._call(rng)]

    @override
    def _call(self, rng: random.Random) -> ToolCall:
        return ToolCall(rng.choice(self._called), rng.choice(({}, {}, {}, "no JSON")))


async def hold(plan: Plan) -> list[Record]:
    """Hold a call, and another one with the same service if the plan says so.

    Nothing else may run in the loop: what is left there afterwards counts as the call's.
    """
    random.seed(f"delays {plan.seed}")
    runs: list[_Run] = []
    # A service keeps the functions that it was made with, which then act in the run that there is.
    tools = functions(lambda act: runs[-1].perform(act), lambda: runs[-1].new_text())
    runs.append(first := _Run(plan, tools))
    service = await first.hold()
    first.record.left += await left_in_loop()
    if (following := plan.again()) is None:
        return [first.record]
    runs.append(second := _Run(following, tools, first.record))
    await second.hold(service)
    second.record.left += await left_in_loop()
    return [first.record, second.record]


class _Run:
    """One run of a pipeline: the user who calls, and the application that is called."""

    def __init__(self, plan: Plan, tools: list[Any], before: Record | None = None):
        self._plan = plan
        self._model = Caller(plan)
        self._rng = np.random.default_rng(plan.seed)
        number = 1 if before is None else 2
        self._tools = tools
        self._functions: dict[str, Any] = dict(zip(TOOL_NAMES, tools, strict=True))
        self._words = (f"tool{plan.seed}r{number}n{nth}z" for nth in itertools.count())
        hydra = HydraEmulator(
            self._model,
            # The service has the address of the first.
            port=0 if before is None else urlsplit(before.hydra.url).port or 0,
            settings=plan.settings,
            on_activity=self._on_activity,
        )
        as_chaos = chaos.CallPlan(plan.seed, plan.shape, FaultPlan(), acts=())
        self.record = Record(as_chaos, hydra, laid_down=plan)
        if before is not None:
            # Settings are all that a service keeps.
            self.record.voice, self.record.instruction = before.voice, before.instruction
        # Performed by functions too, which run before the call is known to be there.
        self._call: Call

    async def hold(self, llm: HydraLLMService | None = None) -> HydraLLMService:
        """Hold the call with a service, or with a new one; returns the service."""
        plan, record, tools = self._plan, self.record, self._tools
        settings = HydraLLMSettings(
            voice=record.voice,
            system_instruction=record.instruction,
            generate_initial_response=plan.greets,
        )
        async with record.hydra as hydra:
            llm = llm or HydraLLMService(
                api_key=hydra.api_key,
                base_url=hydra.url,
                settings=settings,
                tools=tools if plan.shape == "bare" else None,
                function_call_timeout_secs=FUNCTION_SECS,
                no_result_timeout_secs=FUNCTION_SECS,
            )
            async with call(
                hydra, plan.shape, llm=llm, context=LLMContext(tools=tools), observed=True
            ) as talk:
                self._call = talk
                record.began = time.monotonic() - talk.transport.timeline.secs
                record.heard = talk.transport.heard
                await self._talk()
                await self._end()
            # What is under way to the server still counts.
            await asyncio.sleep(0.05)
        return llm

    def new_text(self) -> Write:
        """Lay down a text that was not written yet."""
        return Write(next(self._words), "send")

    async def _talk(self) -> None:
        plan = self._plan
        if plan.greets is None:
            await self.perform(Ask("frame"))
        acting = asyncio.gather(self._act(plan.user), self._act(plan.application))
        if plan.last is None:
            limit = random.Random(f"end {plan.seed}").uniform(0.1, 6.0)
            await asyncio.wait({acting}, timeout=limit)
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)
            return
        await acting
        self._call.transport.microphone.paused = False
        await self._answer_is_given(plan.last)

    async def _act(self, acts: Sequence[Timed]) -> None:
        for secs, act in acts:
            await asyncio.sleep(secs)
            await self.perform(act)

    async def _answer_is_given(self, how: str) -> None:
        """Ask for an answer, which has to come whatever was done before."""
        record, frames = self.record, self._call.frames
        self._model.only_speaks = True
        # Methods overtake frames that are still on their way, an interruption among them.
        await asyncio.sleep(0.02)
        match how:
            case "speech":
                await self.perform(Speak("question"))
            case "append" | "send":
                await self.perform(Write(next(self._words), how))
            case _:
                # One that comes while the model greets is what the greeting answers.
                await self._quiet()
                await self.perform(Ask("frame"))
        asked, known = time.monotonic(), len(frames.of(TTSAudioRawFrame))
        while len(frames.of(TTSAudioRawFrame)) == known:
            if time.monotonic() - asked > ANSWER_SECS:
                record.waited_in_vain.append(f"no answer to the last {how}: {ANSWER_SECS:g} s")
                return
            await frames.wait(0.5)
        record.silence_secs = frames.times[-1] - asked
        # What was asked for before may follow, and what was changed takes effect.
        await self._quiet()
        await asyncio.sleep(_SETTLING_SECS)
        await self._quiet()

    async def _quiet(self) -> None:
        """Wait until nothing of the bot has been heard for a moment."""
        line = self._call.transport
        await self._call.until(lambda: line.timeline.secs - line.heard_until_secs > 0.4)

    async def _end(self) -> None:
        record, talk = self.record, self._call
        record.usable = talk.llm.is_usable
        record.cancelled = self._plan.last is None
        record.ended = time.monotonic()
        if record.cancelled:
            await talk.worker.cancel()
        else:
            await talk.worker.queue_frame(EndFrame())
        try:
            await talk.ended(within=_ENDING_SECS)
        except TimeoutError:
            record.waited_in_vain.append(f"the pipeline did not end within {_ENDING_SECS:g} s")
        record.end_secs = time.monotonic() - record.ended
        record.pushed = [
            Pushed(at, frame, direction is FrameDirection.DOWNSTREAM)
            for at, (frame, direction) in zip(talk.frames.times, talk.frames.pushed, strict=True)
        ]

    # The acts.

    async def perform(self, act: Act) -> None:
        """Have the user or the application do something."""
        record, talk = self.record, self._call
        record.deeds.append((time.monotonic(), act))
        queue = talk.worker.queue_frame
        match act:
            case Speak(name):
                await self._say(name, self._unique(name))
            case Cough():
                await talk.transport.microphone.say(self._unique("hello")[:_COUGH_SAMPLES])
            case Write():
                await self._write(act)
            case Edit():
                self._note(chaos.Change("a context"))
                await queue(self._edit(act))
            case SetTools(names):
                record.tools = names
                # Of functions that run while the bot speaks the instruction tells.
                self._note(chaos.Change("functions"))
                await queue(LLMSetToolsFrame(tools=[self._functions[name] for name in names]))
            case Set(setting, value):
                self._note(chaos.Change(value))
                if setting == "voice":
                    record.voice = value
                else:
                    record.instruction = value
                given: dict[str, Any] = {setting: value}
                delta = HydraLLMSettings(**given)
                await queue(LLMUpdateSettingsFrame(delta=delta))
            case Interrupt(how):
                self._note(chaos.Interrupt(how))
                await (queue(InterruptionFrame()) if how == "frame" else talk.llm.cancel_response())
            case Ask(how):
                self._note(chaos.Ask(how))
                await (queue(LLMRunFrame()) if how == "frame" else talk.llm.request_response())
            case Mute("device", secs):
                talk.transport.microphone.paused = True
                await asyncio.sleep(secs)
                talk.transport.microphone.paused = False
            case Mute(_, secs):
                talk.llm.set_audio_input_paused(True)
                await asyncio.sleep(secs)
                talk.llm.set_audio_input_paused(False)
            case Phrase(word):
                self._note(chaos.Ask("frame"))
                await queue(TTSSpeakFrame(word))
            case Press(keys):
                self._note(chaos.Interrupt("frame"))
                self._note(chaos.Type("send"))
                for key in keys:
                    await queue(InputDTMFFrame(button=KeypadEntry(key)))
                    await asyncio.sleep(0.02)
                if not keys.endswith("#"):
                    await asyncio.sleep(_KEYS_ARE_COMPLETE_SECS)
                self._write_outside(act.word)
            case Begin("reset"):
                self._note(chaos.Change("a session"))
                await talk.llm.reset_conversation()
                self._forget()
            case Begin():
                self._note(chaos.Change("a session"))
                await talk.llm.renew_session()
            case Flush():
                if not await talk.worker.flush_pipeline(timeout=ANSWER_SECS):
                    record.waited_in_vain.append("the pipeline was not flushed")

    def _note(self, act: chaos.Act) -> None:
        """Note what was done in the words of `chaos`, whose checks have to know."""
        self.record.acts.append((time.monotonic(), act))

    async def _write(self, act: Write) -> None:
        talk, word = self._call, act.word
        queue = talk.worker.queue_frame
        if act.how == "interrupt":
            self._note(chaos.Type("interrupt"))
        elif act.asks:
            self._note(chaos.Type("send"))
        if self._plan.shape == "bare" or act.how in ("send", "tell", "interrupt"):
            self._write_outside(word)
        match act.how:
            case "frame":
                await queue(InputTextRawFrame(word))
            case "append" | "note" | "developer":
                self.record.in_context.append(word)
                role = "developer" if act.how == "developer" else "user"
                message: Any = {"role": role, "content": word}
                await queue(LLMMessagesAppendFrame(messages=[message], run_llm=act.asks))
            case "tell":
                await talk.llm.send_text(word, respond=False)
            case how:
                await talk.llm.send_text(word, interrupt=how == "interrupt")

    def _write_outside(self, word: str) -> None:
        self.record.outside_context[word] = time.monotonic()

    def _forget(self) -> None:
        """Note that the conversation has been reset: only what the context holds is told again."""
        for word, written in self.record.outside_context.items():
            # One that is on its way is not reset.
            if written < time.monotonic() - _ON_ITS_WAY_SECS:
                self._remove(word)

    def _edit(self, act: Edit) -> Frame:
        match act.how:
            case "redact":
                return LLMMessagesTransformFrame(transform=self._redacted)
            case "shorten":
                return LLMMessagesTransformFrame(transform=self._shortened)
            case "reset":
                return LLMMessagesTransformFrame(
                    transform=lambda before: self._replaced(before, [])
                )
            case _:
                self._note(chaos.Type("append"))
                message: Any = {"role": "user", "content": act.word}
                return LLMMessagesTransformFrame(
                    transform=lambda before: self._replaced(before, [message]), run_llm=True
                )

    def _redacted(self, messages: list[Any]) -> list[Any]:
        words = [word for word in self.record.in_context if word in str(messages)]
        if not words:
            return messages
        self._remove(words[-1])
        return [
            {**message, "content": _REDACTED} if words[-1] in str(message) else message
            for message in messages
        ]

    def _shortened(self, messages: list[Any]) -> list[Any]:
        return self._replaced(messages, messages[-1:])

    def _replaced(self, before: list[Any], after: list[Any]) -> list[Any]:
        for word in self.record.in_context:
            if word in str(before) and word not in str(after):
                self._remove(word)
        return after

    def _remove(self, word: str) -> None:
        self.record.removed.setdefault(word, time.monotonic())

    async def _say(self, name: str, pcm: np.ndarray[Any, np.dtype[np.int16]]) -> None:
        said = Said(name, pcm.tobytes(), time.monotonic())
        self.record.said.append(said)
        await self._call.transport.microphone.say(pcm)
        said.ended = time.monotonic()

    def _unique(self, name: str) -> np.ndarray[Any, np.dtype[np.int16]]:
        """A recording with a little noise, by which it can be told from any other."""
        pcm = recording(name) * self._rng.uniform(0.6, 0.9)
        return (pcm + self._rng.integers(-8, 9, len(pcm))).astype("<i2")

    def _on_activity(self, activity: Activity) -> None:
        if activity.kind == "opened":
            session = activity.session
            self.record.opened[session.id] = time.monotonic() - session.elapsed
        elif activity.kind == "closed":
            self.record.closed[activity.session.id] = time.monotonic()
