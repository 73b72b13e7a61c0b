"""Compares the recording of a replay with the recording that was replayed.

The frames of each lane, for instance those of the user's turns, are compared in their order.
Lanes are compared one by one, because on a busy machine two frames that have nothing to do with
each other may change places.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from pipecat_hydra.emulator.replay.differences import changed_fields
from pipecat_hydra.recording import Record, Recording
from pipecat_hydra.recording.course import LATENCIES, Course
from pipecat_hydra.recording.spread import Spread

__all__ = ["Comparison", "Lane", "Latency"]

TOLERANCE_SECS: Final = 0.5
"""How much earlier or later a frame may come without being called different."""

_LANES: Final = {
    "turns": ("user_started", "user_stopped", "turn_discarded", "user_words"),
    "interruptions": ("interruption",),
    "replies": ("response_started", "response_ended", "tts_started", "tts_stopped"),
    "words of the bot": ("bot_words",),
    "speech of the bot": ("bot_started", "bot_stopped"),
    "function calls": ("function_started", "function_ended"),
    "errors": ("error",),
}
_LONGEST: Final = 100


@dataclass(frozen=True, slots=True)
class Lane:
    """The frames of one kind in both calls.

    Parameters:
        name: Its name.
        recorded: How many the recording has.
        replayed: How many the replay has.
        apart_secs: How far apart in time those that are the same are, at most, in seconds.
        differences: What differs, in words.
    """

    name: str
    recorded: int
    replayed: int
    apart_secs: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """One latency in both calls.

    Parameters:
        name: Its name.
        recorded: Its spread in the recording; `None` if it has none.
        replayed: Its spread in the replay.
    """

    name: str
    recorded: Spread | None
    replayed: Spread | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is the same in a replay, and what is different.

    Parameters:
        sent: Differences of what was sent to the server.
        lanes: The frames.
        latencies: The latencies.
    """

    sent: tuple[str, ...]
    lanes: tuple[Lane, ...]
    latencies: tuple[Latency, ...]

    @classmethod
    def of(cls, recorded: Recording, replayed: Recording, sent: Sequence[str]) -> "Comparison":
        """Compare two recordings.

        Args:
            recorded: The recording that was replayed.
            replayed: The recording of the replay.
            sent: What the emulator says of what was sent.
        """
        lanes = [_lane(name, recorded, replayed) for name in _LANES]
        ours, theirs = Course.of(recorded).latencies, Course.of(replayed).latencies
        latencies = [
            Latency(name, Spread.of(ours.get(name, [])), Spread.of(theirs.get(name, [])))
            for name in LATENCIES
        ]
        return cls(tuple(sent), tuple(lanes), tuple(latencies))

    @property
    def differences(self) -> list[str]:
        """All differences, in words; latencies are none."""
        return [*self.sent, *(one for lane in self.lanes for one in lane.differences)]

    def lines(self) -> Iterator[str]:
        """Write the comparison for a person."""
        yield _row("", "recorded", "replayed", "")
        for lane in self.lanes:
            if lane.recorded or lane.replayed:
                same = "different" if lane.differences else f"{lane.apart_secs * 1000:.0f} ms apart"
                yield _row(lane.name, str(lane.recorded), str(lane.replayed), same)
        for latency in self.latencies:
            if latency.recorded or latency.replayed:
                ours, theirs = (_secs(one) for one in (latency.recorded, latency.replayed))
                yield _row(f"{latency.name}, median", ours, theirs, "")
        found = self.differences
        yield f"{len(found)} difference{'s' * (len(found) != 1)}{':' if found else ''}"
        for difference in found:
            yield f"  {difference}"

    def as_json(self) -> dict[str, Any]:
        """Return the comparison for a machine."""
        return {
            "same": not self.differences,
            "differences": self.differences,
            "frames": {
                lane.name: {
                    "recorded": lane.recorded,
                    "replayed": lane.replayed,
                    "apart_secs": round(lane.apart_secs, 6),
                }
                for lane in self.lanes
            },
            "latencies": {
                latency.name: {
                    "recorded": latency.recorded.p50 if latency.recorded else None,
                    "replayed": latency.replayed.p50 if latency.replayed else None,
                }
                for latency in self.latencies
            },
        }


def _lane(name: str, recorded: Recording, replayed: Recording) -> Lane:
    ours, theirs = (_of_lane(recording, name) for recording in (recorded, replayed))
    matcher = SequenceMatcher(a=[*map(_key, ours)], b=[*map(_key, theirs)], autojunk=False)
    apart, found = 0.0, list[str]()
    for what, i, i_end, j, j_end in matcher.get_opcodes():
        if what != "equal":
            found += [f"{name}: {line}" for line in _changes(ours[i:i_end], theirs[j:j_end])]
            continue
        for our, their in zip(ours[i:i_end], theirs[j:j_end], strict=True):
            shift = their.t - our.t
            apart = max(apart, abs(shift))
            if abs(shift) > TOLERANCE_SECS:
                late = "later" if shift > 0 else "earlier"
                found.append(f"{name}: {_told(our)} at {our.t:.2f} s is {abs(shift):.2f} s {late}")
    return Lane(name, len(ours), len(theirs), apart, tuple(found))


def _changes(ours: Sequence[Record], theirs: Sequence[Record]) -> Iterator[str]:
    paired = min(len(ours), len(theirs))
    for our, their in zip(ours[:paired], theirs[:paired], strict=True):
        if our.type == their.type:
            for change in changed_fields(dict(our.data), dict(their.data)):
                yield f"{our.type} at {our.t:.2f} s: {change}"
        else:
            yield (
                f"expected {_told(our)} at {our.t:.2f} s, "
                f"and there is {_told(their)} at {their.t:.2f} s"
            )
    for our in ours[paired:]:
        yield f"{_told(our)} at {our.t:.2f} s is missing"
    for their in theirs[paired:]:
        yield f"{_told(their)} at {their.t:.2f} s is additional"


def _of_lane(recording: Recording, name: str) -> list[Record]:
    kinds = _LANES[name]
    return [r for r in recording.records if r.source == "pipeline" and r.type in kinds]


def _key(record: Record) -> str:
    return record.type + json.dumps(dict(record.data), sort_keys=True, default=str)


def _told(record: Record) -> str:
    """Name a frame, with what is in it."""
    if not record.data:
        return record.type
    text = json.dumps(dict(record.data), ensure_ascii=False, default=str)
    return f"{record.type} {text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}"


def _secs(spread: Spread | None) -> str:
    return "none" if spread is None else f"{spread.p50:.3f} s"


def _row(*cells: str) -> str:
    first, *others = cells
    return f"{first:<22}{''.join(f'{other:>12}' for other in others[:2])}  {others[2]}".rstrip()
