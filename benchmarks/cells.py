"""A cell: what is held, how the pipelines around it are built, and what was measured.

The harness writes a `Cell` as a line of JSON to the process that holds it, and reads a `Held`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

__all__ = ["EXTRAS", "LEAN", "Cell", "Held", "Shape"]

EXTRAS: Final = ("RTVI", "turn tracking", "metrics", "idle observer")
"""What Pipecat's worker does beside running the pipeline."""

LEAN: Final = ()


@dataclass(frozen=True)
class Shape:
    """How a pipeline is built.

    Parameters:
        extras: What the worker has of `EXTRAS`: all, or in a lean worker none.
        bare: Without context aggregators.
        microphone_rate: In Hz.
        clicks: Whether the microphone clicks; else it is silent.
        speaks: Whether the user speaks from the first frame on.
        noise: Whether it hears noise that is as dear to compress as speech.
        run: Whether the application asks the model for the first words.
        past_turns: How many turns the context has already.
        tools: Whether there is a function to call.
        traced: Whether turns are traced.
    """

    extras: Sequence[str] = EXTRAS
    bare: bool = False
    microphone_rate: int = 16_000
    clicks: bool = False
    speaks: bool = False
    noise: bool = False
    run: bool = True
    past_turns: int = 0
    tools: bool = False
    traced: bool = False


@dataclass(frozen=True)
class Cell:
    """What a process holds, and for how long.

    Parameters:
        peer: Name of the peer.
        sessions: How many at once.
        secs: How long is measured.
        warm_up_secs: How long is not, before that.
        shapes: How the pipelines are built; session N has the one at N modulo their number.
        stagger_secs: Time from one session's start to the next one's.
        watch: Whether the arrival of deltas is watched, of one session alone.
        count_calls: Whether Python calls are counted, first of the microphone and then of replies.
        uvloop: Whether the event loop is uvloop's.
        recorded: Whether the calls are recorded.
        forget: Whether what came during the warm-up is left out.
        url: Of the server, without the session's number.
        server: Process id of the server.
        core: Which core the process runs on.
    """

    peer: str
    sessions: int = 1
    secs: float = 3.0
    warm_up_secs: float = 1.0
    shapes: list[Shape] = field(default_factory=lambda: [Shape()])
    stagger_secs: float = 0.0
    watch: bool = False
    count_calls: bool = False
    uvloop: bool = False
    recorded: bool = False
    forget: bool = True
    url: str = ""
    server: int = 0
    core: int = 0

    def text(self) -> str:
        """The cell as a line of JSON."""
        return json.dumps(asdict(self))

    @property
    def longest_secs(self) -> float:
        """After which time it counts as hanging; a core that is full takes its time to end."""
        planned = self.secs + self.warm_up_secs + self.sessions * self.stagger_secs
        return 60.0 + 3 * planned

    @staticmethod
    def read(text: str) -> "Cell":
        """The cell of a line of JSON."""
        given = json.loads(text)
        return Cell(**{**given, "shapes": [Shape(**shape) for shape in given["shapes"]]})


@dataclass
class Held:
    """What the process measured of a cell; all times are of the clock that processes share.

    Parameters:
        began: When measuring began.
        secs: How long it took.
        cpu: Processor seconds for a minute of one session.
        recorder_cpu: What of that the threads of recorders took.
        foreign: Processor seconds that other processes took, for each second.
        rss_mib: Memory of the process at the end.
        started: For each session, when its pipeline was started.
        first_deltas: For each session, when a marked delta, as a rule the first of a reply, was
            sent, and when it came to the output.
        interruptions: For each session, when they were at the output.
        turns: For each session, when the user began to speak, if no server knows it.
        clicks: For each session, when the microphone clicked.
        pushes: From the arrival of first deltas to their push, in ms.
        calls: Python calls for a microphone frame and a delta.
        recorded_bytes: Size of the recordings of all sessions.
    """

    began: float = 0.0
    secs: float = 0.0
    cpu: float = 0.0
    recorder_cpu: float = 0.0
    foreign: float = 0.0
    rss_mib: float = 0.0
    started: list[float] = field(default_factory=list)
    first_deltas: list[list[tuple[float, float]]] = field(default_factory=list)
    interruptions: list[list[float]] = field(default_factory=list)
    turns: list[list[float]] = field(default_factory=list)
    clicks: list[list[float]] = field(default_factory=list)
    pushes: list[float] = field(default_factory=list)
    calls: dict[str, float] = field(default_factory=dict)
    recorded_bytes: int = 0
