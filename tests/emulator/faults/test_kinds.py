"""The table of faults: what each takes, which connections it holds for, what it sets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipecat_hydra.emulator import (
    Binary,
    Drop,
    Duplicate,
    EmulatorSettings,
    Encoding,
    Fault,
    FaultError,
    Full,
    Giant,
    Hang,
    Jitter,
    LateAudio,
    LateEnd,
    Missing,
    OddSplits,
    Rate,
    Refuse,
    RejectConfiguration,
    RejectVoice,
    SlowReader,
)


def test_connections_are_chosen_by_number() -> None:
    def holders(fault: Fault) -> list[int]:
        return [number for number in range(1, 8) if fault.holds(number)]

    assert holders(Full()) == [1, 2, 3, 4, 5, 6, 7]
    assert holders(Full(times=2)) == [1, 2]
    assert holders(Full(first=6)) == [6, 7]
    assert holders(Full(first=3, times=2)) == [3, 4]


@pytest.mark.parametrize(
    ("make", "option", "allowed", "refused"),
    [
        (Full, "first", 1, 0),
        (Full, "times", 1, 0),
        (Refuse, "status", 400, 399),
        (Refuse, "status", 511, 499),  # no status of HTTP
        (Refuse, "retry_after", 0, -1),
        (Hang, "secs", 0, -0.1),
        (Drop, "how", 1003, 999),
        (Drop, "how", 1007, 1006),
        (Drop, "how", 4999, 5000),
        (Drop, "secs", 0.1, -0.1),
        (Drop, "sent", 1, 0),
        (Drop, "received", 1, 0),
        (SlowReader, "secs", 0, -0.1),
        (SlowReader, "after_secs", 0, -0.1),
        (Rate, "hz", 1, 0),
        (LateAudio, "ms", 0, -1),
        (LateEnd, "ms", 0, -1),
        (Duplicate, "probability", 0, -0.1),
        (Duplicate, "probability", 1, 1.1),
        (Missing, "fields", ("item_id",), ()),
        (Missing, "fields", ("error.type",), ("item_id", "type")),
        (Binary, "size", 0, -1),
        (Jitter, "secs", 0, -0.1),
        (Giant, "size", 1, 0),
        (Giant, "sent", 1, 0),
    ],
)
def test_a_value_beyond_its_limit_is_refused(
    make: Callable[..., Fault], option: str, allowed: Any, refused: Any
) -> None:
    assert getattr(make(**{option: allowed}), option) == allowed
    with pytest.raises(FaultError, match=f"^{make().kind}: {option} cannot be "):
        make(**{option: refused})


@pytest.mark.parametrize("make", [Refuse, Hang, Drop, SlowReader, Rate, Missing, Jitter, Giant])
def test_each_kind_checks_its_connections_too(make: Callable[..., Fault]) -> None:
    with pytest.raises(FaultError, match="first cannot be 0"):
        make(first=0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sent": 1, "during": "response"}, "an event is not counted during a moment"),
        ({"received": 1, "secs": 0.1}, "an event is not counted during a moment"),
        ({"sent": 1, "received": 1}, "sent and received exclude each other"),
        ({"of": "response.done"}, "of needs sent or received"),
        ({"during": "upgrade", "how": 1011}, "there is no close frame before the upgrade"),
        (
            {"during": "upgrade", "how": "session_ended"},
            "there is no event before the upgrade",
        ),
    ],
)
def test_options_of_a_drop_that_contradict_each_other_are_refused(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(FaultError, match=f"^drop: {problem}$"):
        Drop(**options)


def test_a_drop_counts_events_or_waits_for_a_moment() -> None:
    assert Drop(sent=1).counts
    assert Drop(received=2, of="response.create").counts
    assert not Drop(during="upgrade", how="eof").counts


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        (Rate(48_000), {"output_sample_rate": 48_000}),
        (LateAudio(120), {"late_audio_after_cancel_ms": 120}),
        (OddSplits(), {"odd_splits": True}),
        (LateEnd(90), {"late_audio_after_done_ms": 90, "late_transcripts": True}),
        (LateEnd(90, texts=False), {"late_audio_after_done_ms": 90}),
        (Encoding(), {"audio_key": "audio", "base64_lines": True}),
        (Encoding("delta", lines=False), {}),
        (RejectConfiguration(), {}),
        (RejectVoice(), {}),
    ],
)
def test_a_fault_changes_its_own_setting_and_no_other(
    fault: Fault, changed: dict[str, Any]
) -> None:
    settings = EmulatorSettings()
    assert fault.adjust(settings) == replace(settings, **changed)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Full(), "full"),
        (Full(first=2, times=3), "full:first=2,times=3"),
        (Refuse(429, 2, times=1), "refuse:status=429,retry_after=2,times=1"),
        (Rate(first=1), "rate:first=1"),
        (Missing(1, fields=("a", "b")), "missing:probability=1,fields=a+b"),
    ],
)
def test_a_fault_is_written_with_what_is_not_its_default(fault: Fault, text: str) -> None:
    assert str(fault) == text
