"""What happens in a call, laid down by a seed."""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from support.call import SHAPES, Shape

from pipecat_hydra import RetryPolicy
from pipecat_hydra.emulator import EmulatorSettings, Ending, FaultPlan, Missing

# Delays are short, so that calls are; a drop is over when a session has lived for a second.
RETRY = RetryPolicy(
    attempts_per_drop=16, first_delay_secs=0.05, longest_delay_secs=0.2, stable_secs=1.0
)

MIN_TURN_MS = 600
"""Between the shortest utterance and the longest noise of the acts below."""


@dataclass(frozen=True)
class Speak:
    """Say a recording.

    Parameters:
        recording: Which.
        then: Wait for the `"answer"` to begin, or go `"on"` at once.
    """

    recording: str
    then: Literal["answer", "on"] = "answer"


@dataclass(frozen=True)
class Cough:
    """Make a noise that is too short to be a turn."""


@dataclass(frozen=True)
class Type:
    """Write a text.

    Parameters:
        how: As a transport does, as an application does, or instead of what the bot says.
    """

    how: Literal["frame", "append", "send", "interrupt"]


@dataclass(frozen=True)
class Interrupt:
    """Interrupt the bot, as the application may.

    Parameters:
        how: By a frame in the pipeline, or by a method of the service.
    """

    how: Literal["frame", "method"]


@dataclass(frozen=True)
class Ask:
    """Have the model speak.

    Parameters:
        how: As for `Interrupt`.
    """

    how: Literal["frame", "method"]


@dataclass(frozen=True)
class Change:
    """Change what Hydra lets nobody change in a session.

    Parameters:
        voice: The new voice.
    """

    voice: str


@dataclass(frozen=True)
class Mute:
    """Let no audio of the user through for a while.

    Parameters:
        how: The microphone goes away, or the service is told to hear nothing.
        secs: How long.
    """

    how: Literal["device", "service"]
    secs: float


@dataclass(frozen=True)
class Wait:
    """Do nothing.

    Parameters:
        secs: How long.
    """

    secs: float


@dataclass(frozen=True)
class Lose:
    """Lose the connection just now.

    Parameters:
        how: In which way; see `Ending`.
    """

    how: Ending


Act = Speak | Cough | Type | Interrupt | Ask | Change | Mute | Wait | Lose

DROPS: tuple[Ending, ...] = ("reset", "eof", 1000, 1001, 1011, 1012, 1013, 4000)
"""The ways in which connections are lost."""

_VOICES = ("zoe", "maya", "elena", "ivy")


@dataclass(frozen=True)
class CallPlan:
    """One call.

    Parameters:
        seed: Where it all comes from.
        shape: The pipeline's.
        faults: What goes wrong at the server.
        acts: What the user and the application do. After the last one a turn is spoken
            that has to be answered, unless the call is cancelled.
        cancelled_after_secs: When the call is cancelled; None if it ends by itself.
        greets: Who speaks first: as told by the settings, or when asked for (None).
        emulator: How the server behaves.
        lasts_secs: How long the acts are repeated, in seconds; 0 for no more than once.
        drops_every_secs: After how many seconds the connection is lost, again and again,
            each time in another way; None for never.
    """

    seed: int
    shape: Shape
    faults: FaultPlan
    acts: tuple[Act, ...]
    cancelled_after_secs: float | None = None
    greets: bool | None = False
    emulator: dict[str, Any] = field(default_factory=dict[str, Any])
    lasts_secs: float = 0.0
    drops_every_secs: float | None = None

    @classmethod
    def of(cls, seed: int, *, violence: float = 0.5) -> "CallPlan":
        """Lay down a call.

        Args:
            seed: Another seed is another call.
            violence: How much goes wrong, from 0 to 1.
        """
        rng = random.Random(f"call {seed}")
        cancelled = rng.random() < 0.25
        plan = cls(
            seed,
            shape=SHAPES[seed % len(SHAPES)],
            faults=FaultPlan.random(seed, violence=violence),
            acts=tuple(_act(rng) for _ in range(rng.randint(2, 5))),
            cancelled_after_secs=rng.uniform(0.05, 5.0) if cancelled else None,
            greets=rng.choice((False, False, True, None)),
            emulator=any_reading(rng),
        )
        is_missing = any(isinstance(fault, Missing) for fault in plan.faults.faults)
        if is_missing and plan.emulator["calls_told"] == "output":
            # Of a call that only a missing field tells, no client can know.
            plan.emulator["calls_told"] = "items"
        return plan

    @property
    def settings(self) -> EmulatorSettings:
        """The settings of the emulator."""
        return EmulatorSettings(**self.emulator)

    def __str__(self) -> str:
        acts = ", ".join(map(str, self.acts))
        end = self.cancelled_after_secs
        ending = "to its end" if end is None else f"cancelled after {end:.2f} s"
        return (
            f"seed {self.seed}: {self.shape}, {ending}, greets={self.greets}\n"
            f"  acts: {acts}\n  faults: {self.faults}\n  emulator: {self.emulator}"
        )


def _act(rng: random.Random) -> Act:
    way = rng.random()
    if way < 0.4:
        name = rng.choice(("hello", "question", "interrupt"))
        return Speak(name, rng.choice(("answer", "answer", "on")))
    if way < 0.5:
        return Cough()
    if way < 0.6:
        return Type(rng.choice(("frame", "append", "send", "interrupt")))
    if way < 0.67:
        return Interrupt(rng.choice(("frame", "method")))
    if way < 0.72:
        return Ask(rng.choice(("frame", "method")))
    if way < 0.79:
        return Change(rng.choice(_VOICES))
    if way < 0.87:
        return Mute(rng.choice(("device", "service")), round(rng.uniform(0.3, 0.9), 2))
    if way < 0.93:
        return Lose(rng.choice(DROPS))
    return Wait(round(rng.uniform(0.1, 0.8), 2))


def any_reading(rng: random.Random) -> dict[str, Any]:
    """Draw a reading of what the protocol leaves open ([open]): settings of the emulator."""
    reading = {
        "min_turn_ms": MIN_TURN_MS,
        "early_audio": rng.choice(("drop", "end")),
        "created_delay_secs": rng.choice((0.0, 0.1)),
        "configured_delay_secs": rng.choice((0.0, 0.1, 0.4)),
        "delivery_speed": rng.choice((1.5, 3.0, 10.0, 10.0)),
        "delta_ms": rng.choice((20, 40, 100)),
        "response_latency_secs": rng.choice((0.0, 0.05, 0.3)),
        "transcripts": rng.random() < 0.5,
        "cancel_on": rng.choice(("speech_started", "turn_confirmed")),
        "stopped_on_discard": rng.random() < 0.5,
        "stopped_lag_ms": rng.choice((0, 0, 30)),
        "late_audio_after_cancel_ms": rng.choice((0, 100)),
        "name_in_every_delta": rng.random() < 0.5,
        "arguments_done_has_name": rng.random() < 0.5,
        "arguments_done_has_arguments": rng.random() < 0.5,
        "call_items": rng.random() < 0.5,
        "calls_done": rng.choice(
            (
                "before_arguments_done",
                "before_outputs",
                "after_outputs",
                "before_narration",
                "after_narration_began",
            )
        ),
        "speech_stopped": rng.random() < 0.75,
        "user_items": rng.random() < 0.75,
        "arguments_as_object": rng.random() < 0.25,
        "late_user_items": rng.random() < 0.25,
        "item_texts": rng.random() < 0.25,
        "user_item_text": rng.choice((None, None, "Words of the user.")),
        "transcript_events": rng.choice(("deltas", "deltas", "done", "both")),
        "late_transcripts": rng.random() < 0.25,
        "after_rejection": rng.choice(("wait", "close", "default_voice")),
        "calls_told": rng.choice(("events", "events", "items", "output")),
        "base64_lines": rng.random() < 0.25,
        "audio_key": rng.choice(("delta", "delta", "audio")),
    }
    if reading["calls_done"] not in ("before_arguments_done", "before_outputs"):
        # The outputs cannot come before `response.done` tells the calls.
        reading["calls_told"] = rng.choice(("events", "items"))
    return reading
