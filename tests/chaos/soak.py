"""Many calls one after the other, calls that are lost again and again, and silent ones.

    python -m chaos.soak                                    all of it: some minutes
    python -m chaos.soak --calls 300 --long 0 --muted 0     300 calls, and nothing else

Calls run in virtual time, so that minutes of a call, and of silence, take seconds. Executors
have threads here, as they have in an application, and the threads must end with the calls.

Run in `tests`, or by `make soak`. Exits with 1 if anything was not as it must be. The tests of
`test_soak.py` are the same, made short.
"""

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputTextRawFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.turns.user_mute import BaseUserMuteStrategy
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, recording
from support.leftovers import left_in_loop
from support.virtual_time import VirtualTimeLoop, real_monotonic

from chaos.checks import violations
from chaos.clock import INTERRUPTED, run
from chaos.leaks import open_files, open_what_stays, resident_mib, threads
from chaos.model import RATE, noise, quick
from chaos.plan import DROPS, RETRY, CallPlan, Lose, Speak, Wait
from chaos.runner import hold
from chaos.timeline import timeline
from pipecat_hydra.emulator import Call, FaultPlan, HydraEmulator, Say, Script
from pipecat_hydra.wire.protocol import IDLE_TIMEOUT_SECS

_REPLY: Final = Say(noise("soak", 0.1), RATE, "Short.")
_SCRIPT: Final = Script([Call("quick"), _REPLY], greeting=_REPLY, then="repeat")

# By then all that is made once, by whomever, has been made.
_WARM_AFTER: Final = 100
_GROWTH: Final = 1.05

# Of processor time, for any part.
_LEAST_LIMIT_SECS: Final = 120.0


@dataclass
class Result:
    """How one part went.

    Parameters:
        title: What was done.
        figures: What there was in it.
        problems: What was not as it must be.
        story: What happened, if there were any.
    """

    title: str
    figures: str = ""
    problems: list[str] = field(default_factory=list[str])
    story: str = ""

    def expect(self, holds: object, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(problem)

    def __str__(self) -> str:
        verdict = "FAILED" if self.problems else "ok"
        lines = [f"{verdict}: {self.title}: {self.figures}"]
        lines += [f"    {problem}" for problem in self.problems]
        return "\n".join([*lines, self.story] if self.story else lines)


# Many calls, one after the other.


async def short_call(number: int) -> list[str]:
    """Hold a call of a greeting, a function and an answer; returns what it leaves running.

    Every third loses its connection, every fourth is cancelled in the middle of a reply.
    """
    await _short_call(number)
    return await left_in_loop()


async def _short_call(number: int) -> None:
    shape = SHAPES[number % 2]
    tools: dict[str, Any] = {"tools": [quick]}
    if shape == "aggregators":
        tools = {"context": LLMContext(tools=[quick])}
    async with HydraEmulator(_SCRIPT) as hydra, call(hydra, shape, retry=RETRY, **tools) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        if number % 3 == 0:
            await hydra.drop("reset" if number % 2 else 1011)
            await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[1].configured)
        await talk.worker.queue_frame(InputTextRawFrame("I write."))
        await talk.until_pushed(TTSStartedFrame, 2)
        if number % 4:
            await talk.worker.queue_frame(EndFrame())
            await talk.ended()
        assert talk.frames.of(TTSAudioRawFrame)


@dataclass(frozen=True)
class Footprint:
    """What a process has at one moment.

    Parameters:
        calls: How many calls it had held by then.
        resident_mib: Memory that it occupies, in MiB.
        objects: How many Python objects the collector knows.
        files: What its file descriptors are open on.
        threads: Names of its threads.
    """

    calls: int
    resident_mib: float
    objects: int
    files: list[str]
    threads: list[str]

    @classmethod
    def take(cls, calls: int) -> "Footprint":
        """Look at this process."""
        gc.collect()
        return cls(calls, resident_mib(), len(gc.get_objects()), open_files(), threads())

    def __str__(self) -> str:
        return (
            f"after {self.calls:5} calls: {self.resident_mib:7.1f} MiB resident, "
            f"{self.objects} objects, "
            f"{len(self.files)} files, {len(self.threads)} threads"
        )


async def many_calls(
    calls: int, *, look_every: int = _WARM_AFTER, tell: Callable[[str], None] = print
) -> Result:
    """Hold calls one after the other, and compare what there is after them.

    Memory is compared with what it was after 100 calls, and so only if there are twice as many.

    Args:
        calls: How many.
        look_every: After how many to look at what there is.
        tell: Told of each look.
    """
    result = Result(f"{calls} calls, one after the other")
    began, left = real_monotonic(), 0
    await open_what_stays()
    looks = [Footprint.take(0)]
    for number in range(1, calls + 1):
        if remains := await short_call(number):
            left += len(remains)
            result.problems.append(f"call {number} left {remains}")
        if number % look_every == 0 or number == calls:
            looks.append(Footprint.take(number))
            tell(f"    {looks[-1]}, {real_monotonic() - began:.0f} s")
    first, last = looks[0], looks[-1]
    files, started = len(last.files) - len(first.files), len(last.threads) - len(first.threads)
    result.figures = f"{left} tasks and timers, {files} files and sockets, {started} threads left"
    result.expect(last.files == first.files, f"files: {first.files}, then {last.files}")
    result.expect(last.threads == first.threads, f"threads: {first.threads}, then {last.threads}")
    warm = next((look for look in looks if look.calls >= _WARM_AFTER), last)
    if last.calls >= 2 * warm.calls:
        for what, unit in (("resident_mib", "MiB resident"), ("objects", "objects")):
            before, after = getattr(warm, what), getattr(last, what)
            growth = f"{before:.5g} to {after:.5g} {unit}, {after / before - 1:+.1%}"
            result.figures += f"; {growth}"
            result.expect(after <= _GROWTH * before, f"since call {warm.calls}: {growth}")
    return result


# One call that is lost again and again.


async def long_call(shape: Shape, *, secs: float, every_secs: float) -> Result:
    """Hold a call: all that is said reaches Hydra, is answered, and each drop costs one error.

    Args:
        shape: The pipeline's.
        secs: How long the user talks.
        every_secs: After how many seconds the connection is lost, each time in another way.
    """
    plan = CallPlan(
        seed=int(secs),
        shape=shape,
        faults=FaultPlan(),
        # No longer than what a session lives for, else none would live to answer.
        acts=(Speak("hello"), Speak("question"), Wait(0.3))
        if every_secs > 5
        else (Speak("hello"),),
        emulator={"min_turn_ms": 600},
        lasts_secs=secs,
        drops_every_secs=every_secs,
    )
    evidence = await hold(plan)
    drops = [act for _, act in evidence.acts if isinstance(act, Lose)]
    # A drop between two sessions drops nothing.
    lost = [session for session in evidence.hydra.sessions if session.injected]
    pushed = [p.frame for p in evidence.pushed if isinstance(p.frame, ErrorFrame)]
    # Pipecat reports each function that fails, which some are here to do.
    errors = [e for e in pushed if not e.error.startswith("Error executing function call")]
    answered = [said for said in evidence.said if said.answered]
    back = len(evidence.told("on_reconnected"))

    result = Result(f"a call of {secs:g} s with a drop every {every_secs:g} s, {shape}")
    result.figures = (
        f"{len(drops)} drops, {len(lost)} sessions lost, {back} times reconnected, "
        f"{len(errors)} errors, {len(answered)} of {len(evidence.said)} turns answered"
    )
    result.problems += map(str, violations(evidence))
    result.expect(evidence.usable, "not usable at the end")
    result.expect(len(drops) >= secs // every_secs - 1, "not dropped as often as told")
    result.expect({drop.how for drop in drops} >= set(DROPS[: len(drops)]), "not in all ways")
    result.expect(len(errors) == len(lost) >= len(drops) - 1, "not one error for each loss")
    result.expect(back == len(lost), "not one way back for each loss")
    result.expect(len(answered) == len(evidence.said), "not every turn was answered")
    if result.problems:
        result.story = timeline(evidence)
    return result


# Nobody says anything for long.

Mute = Literal["strategy", "service", "device"]
"""A mute strategy of Pipecat's, the service's own pause, or a microphone that goes away."""
MUTES: list[Mute] = ["strategy", "service", "device"]


class _Strategy(BaseUserMuteStrategy):
    """Mutes the user when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.muted = False

    async def process_frame(self, frame: Frame) -> bool:
        return self.muted


async def muted_call(how: Mute, *, secs: float, idle_secs: float = IDLE_TIMEOUT_SECS) -> Result:
    """Mute a user: the turn spoken just before is answered, and the next one after.

    Args:
        how: What mutes.
        secs: How long.
        idle_secs: After how long without audio the server ends the session.
    """
    strategy = _Strategy()
    # The user aggregator alone: what mutes is in it.
    params = LLMUserAggregatorParams(
        user_turn_strategies=ExternalUserTurnStrategies(), user_mute_strategies=[strategy]
    )
    user = LLMContextAggregatorPair(LLMContext(), user_params=params).user()
    result = Result(f"{secs:g} s muted by the {how}, closed when idle for {idle_secs:g} s")
    async with (
        emulator(idle_timeout_secs=idle_secs) as hydra,
        call(hydra, "bare", before=[user], settings=NO_GREETING) as talk,
    ):

        def heard(name: str) -> bool:
            return recording(name).tobytes() in hydra.sessions[0].received_audio

        def mute(muted: bool) -> None:
            match how:
                case "strategy":
                    strategy.muted = muted
                case "service":
                    talk.llm.set_audio_input_paused(muted)
                case "device":
                    talk.transport.microphone.paused = muted

        # Until all of it has passed what mutes, but not the pause after it.
        await talk.say("question")
        await talk.until(lambda: heard("question"))
        mute(True)
        await talk.until_pushed(LLMFullResponseEndFrame)
        await asyncio.sleep(secs)
        mute(False)
        result.expect(not hydra.sessions[0].closed, "the session was closed meanwhile")
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        errors = talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        complaints = [error for session in hydra.sessions for error in session.errors]
        result.figures = f"{len(hydra.sessions)} session, {len(errors)} errors, 2 turns answered"
        result.expect(len(hydra.sessions) == 1, "more than one session")
        result.expect(not complaints, f"the server complained: {complaints}")
        result.expect(not errors, f"errors: {errors}")
        result.expect(heard("hello"), "what was said then did not come as it was said")
    return result


# The command line.


def _parts(
    calls: int, long_secs: float, muted_secs: float
) -> Iterator[tuple[Coroutine[Any, Any, Result], float]]:
    """The parts that are wanted, each with its length in virtual time, about, in seconds."""
    if calls:
        yield many_calls(calls), 3.0 * calls
    if long_secs:
        for shape in SHAPES:
            yield long_call(shape, secs=long_secs, every_secs=10.0), long_secs
    if muted_secs:
        for how in MUTES:
            yield muted_call(how, secs=muted_secs), muted_secs


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--calls", type=int, default=1_000, help="how many; 0 for none")
    parser.add_argument(
        "--long", type=float, default=120.0, help="seconds of the calls that are lost; 0 for none"
    )
    parser.add_argument("--muted", type=float, default=90.0, help="seconds of mute; 0 for none")
    given = parser.parse_args()
    if given.calls and os.environ.get("PYTHONMALLOC") != "malloc":
        # Python's own allocator keeps what is free in pieces of 1 MiB, which says nothing of us.
        environment = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}
        again = [sys.executable, "-m", "chaos.soak", *sys.argv[1:]]
        os.execve(sys.executable, again, environment)
    logger.remove()
    results: list[Result] = []
    try:
        for part, secs in _parts(given.calls, given.long, given.muted):
            # The virtual time passes faster than the processor's.
            limit = _LEAST_LIMIT_SECS + 2 * secs
            results.append(run(part, longest_run_secs=limit, loop=VirtualTimeLoop))
            print(results[-1], flush=True)
    except KeyboardInterrupt:
        print("interrupted")
        return INTERRUPTED
    failed = sum(bool(result.problems) for result in results)
    print(f"{len(results)} parts, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
