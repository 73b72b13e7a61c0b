"""What a user and an application do in a call, laid down by a seed.

Both act beside each other, each after a pause of its own. Each text that the application writes
is one word that is written nowhere else, so that it can be found in what Hydra was told.
"""

import random
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from chaos.plan import any_reading
from support.call import SHAPES, Shape

from pipecat_hydra.emulator import EmulatorSettings

VOICES = ("zoe", "maya", "elena", "ivy")
TOOL_NAMES = (
    "quick",
    "slow",
    "fails",
    "later",
    "silent",
    "returns",
    "never",
    "types",
    "stops",
    "asks",
    "resets",
)

_FOLLOWING: Final = 1_000_000
"""How far from the seed of a call that of the following call is, so that no word is in both."""


@dataclass(frozen=True)
class Speak:
    """The user says a recording."""

    recording: str


@dataclass(frozen=True)
class Cough:
    """The user makes a noise that is too short to be a turn."""


@dataclass(frozen=True)
class Write:
    """Write a text.

    Parameters:
        word: The text.
        how: By the frame of a transport; as a message, answered or not; by the method,
            answered, not answered, or instead of what the bot says; or as a message of the
            developer.
    """

    word: str
    how: Literal["frame", "append", "note", "send", "tell", "interrupt", "developer"]

    @property
    def asks(self) -> bool:
        return self.how not in ("note", "tell")


@dataclass(frozen=True)
class Edit:
    """Rewrite the context: blot a text out, begin anew, keep the newest, or write another.

    Parameters:
        how: In which way.
        word: The text that takes the place of the others.
    """

    how: Literal["redact", "reset", "shorten", "replace"]
    word: str


@dataclass(frozen=True)
class SetTools:
    """Set the functions that the model may call."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Set:
    """Change a setting that is frozen in a session."""

    setting: Literal["voice", "system_instruction"]
    value: str


@dataclass(frozen=True)
class Interrupt:
    """Interrupt the bot, by a frame or by the method."""

    how: Literal["frame", "method"]


@dataclass(frozen=True)
class Ask:
    """Have the model speak, by a frame or by the method."""

    how: Literal["frame", "method"]


@dataclass(frozen=True)
class Mute:
    """Let nothing of the user through for a while: the device, or the service."""

    how: Literal["device", "service"]
    secs: float


@dataclass(frozen=True)
class Phrase:
    """Have a text spoken as it is, which the model is asked to do."""

    word: str


@dataclass(frozen=True)
class Press:
    """The user presses keys; the last is `#`, or no key follows for a while."""

    keys: str

    @property
    def word(self) -> str:
        """What of the keys is found nowhere else."""
        return self.keys.removesuffix("#")


@dataclass(frozen=True)
class Begin:
    """Have a new session follow, which is told the conversation, or is not."""

    how: Literal["renew", "reset"]


@dataclass(frozen=True)
class Flush:
    """Wait until the pipeline has done what is in it."""


Act = (
    Speak
    | Cough
    | Write
    | Edit
    | SetTools
    | Set
    | Interrupt
    | Ask
    | Mute
    | Phrase
    | Press
    | Begin
    | Flush
)

Last = Literal["speech", "append", "send", "run"]
"""How an answer is asked for in the end."""

Timed = tuple[float, Act]
"""An act, and how long is waited before it, in seconds."""


@dataclass(frozen=True)
class Plan:
    """One call.

    Parameters:
        seed: Where it all comes from.
        shape: The pipeline's.
        user: What the user does.
        application: What the application does meanwhile.
        greets: Who speaks first: as told by the settings, or when asked for (None).
        last: How an answer is asked for after all that; None if the call is cancelled instead.
        runs_again: Whether the service is used for another call then.
        emulator: How the server behaves.
    """

    seed: int
    shape: Shape
    user: tuple[Timed, ...]
    application: tuple[Timed, ...]
    greets: bool | None
    last: Last | None
    runs_again: bool
    emulator: dict[str, Any]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """Lay down a call; another seed is another call."""
        rng = random.Random(f"application {seed}")
        cancelled = rng.random() < 0.2
        greets = rng.choice((False, False, True, None))
        ways: list[Last] = ["speech", "speech", "append", "send"]
        if greets is not False:  # else it is not the model that speaks first
            ways.append("run")
        return cls(
            seed,
            shape=SHAPES[seed % len(SHAPES)],
            user=tuple(_timed(rng, _user_act(rng)) for _ in range(rng.randint(0, 3))),
            application=tuple(
                _timed(rng, _application_act(rng, f"word{seed}n{nth}z"))
                for nth in range(rng.randint(2, 7))
            ),
            greets=greets,
            last=None if cancelled else rng.choice(ways),
            runs_again=rng.random() < 0.15,
            # Without the items of user turns nothing may tell that noise is over.
            emulator={**any_reading(rng), "user_items": True},
        )

    def again(self) -> "Plan | None":
        """Lay down the call that follows with the same service, if one does."""
        if not self.runs_again:
            return None
        following = replace(
            Plan.of(self.seed + _FOLLOWING),
            seed=self.seed,
            shape=self.shape,
            greets=self.greets,  # for the service keeps its settings
            runs_again=False,
        )
        is_greeting = following.last == "run" and self.greets is False
        return replace(following, last="send") if is_greeting else following

    @property
    def settings(self) -> EmulatorSettings:
        """The settings of the emulator."""
        return EmulatorSettings(**self.emulator)

    def __str__(self) -> str:
        ending = f"ends after an answer to {self.last}" if self.last else "cancelled"
        lines = [f"seed {self.seed}: {self.shape}, {ending}, greets={self.greets}"]
        for name, acts in (("user", self.user), ("application", self.application)):
            lines.append(f"  {name}: " + ", ".join(f"{secs:.2f} s {act}" for secs, act in acts))
        again = self.again()
        following = [f"then, with the same service, {again}"] if again else []
        return "\n".join([*lines, f"  emulator: {self.emulator}", *following])


def _timed(rng: random.Random, act: Act) -> Timed:
    """Many acts come at once, or hard upon each other; some let the bot speak."""
    secs = rng.choice((0.0, rng.uniform(0.0, 0.1), rng.uniform(0.1, 1.0), rng.uniform(0.5, 2.5)))
    return round(secs, 3), act


def _user_act(rng: random.Random) -> Act:
    if rng.random() < 0.25:
        return Cough()
    return Speak(rng.choice(("hello", "hello", "question", "interrupt")))


def _application_act(rng: random.Random, word: str) -> Act:
    way = rng.random()
    if way < 0.3:
        ways = ("frame", "append", "note", "send", "tell", "interrupt", "developer")
        return Write(word, rng.choice(ways))
    if way < 0.42:
        return Edit(rng.choice(("redact", "redact", "reset", "shorten", "replace")), word)
    if way < 0.5:
        return SetTools(tuple(sorted(rng.sample(TOOL_NAMES, rng.randint(0, 4)))))
    if way < 0.58:
        if rng.random() < 0.5:
            return Set("voice", rng.choice(VOICES))
        return Set("system_instruction", f"Instruction {word}.")
    if way < 0.69:
        return Interrupt(rng.choice(("frame", "method")))
    if way < 0.76:
        return Ask(rng.choice(("frame", "method")))
    if way < 0.83:
        return Mute(rng.choice(("device", "service")), round(rng.uniform(0.2, 1.0), 2))
    if way < 0.88:
        return Press(f"{rng.randrange(10**8):08}{rng.choice(('#', ''))}")
    if way < 0.94:
        return Begin(rng.choice(("renew", "reset")))
    return rng.choice((Phrase(word), Flush()))
