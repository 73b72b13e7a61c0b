"""`check` tells how a server reads the protocol: under each setting of the emulator it is right.

Each field of `EmulatorSettings` is a point that the protocol leaves open. The whole check is held
under each value: the question that asks about it has the right answer, and no other is wrong.
"""

from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pipecat.audio.vad.vad_analyzer import VADParams

from pipecat_hydra.cli.check.emulated import CheckedModel
from pipecat_hydra.cli.check.questions import QUESTIONS, Answer
from pipecat_hydra.cli.check.run import CAPACITY, CheckOptions, check
from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator

# What cannot be seen on an emulator with its default settings.
UNSEEN = frozenset({"auth-token", "transcript-events", "transcript-order"})

ASKED_ABOUT_NOTHING = {
    "allowed_origins": "it concerns web pages, and the check is none",
    "vad": "it tunes the emulator's ear, and is no reading of the protocol",
    "response_latency_secs": "a duration, about which nothing is assumed",
    "delta_ms": "deltas may have any length",
    "arguments_delta_chars": "arguments may be split anywhere",
    "arguments_delta_secs": "a duration, about which nothing is assumed",
    "record": "what the emulator keeps is not seen on the wire",
}
"""Settings that no question is about, and why. They are tried too: they change no answer."""


@dataclass(frozen=True)
class Reading:
    """A value of a setting, and what the check is to find out under it.

    Parameters:
        knob: The setting.
        value: Its value.
        told: The answers that are not as assumed, and a part of their text.
        unseen: What cannot be seen because of it, beside `UNSEEN`.
        seen: What can be seen because of it.
        same: An answer that is as assumed also under this value, and a part of its text.
        more: Other settings without which the value has no effect.
    """

    knob: str
    value: Any
    told: dict[str, str] = field(default_factory=dict[str, str])
    unseen: frozenset[str] | set[str] = frozenset()
    seen: frozenset[str] | set[str] = frozenset()
    same: dict[str, str] = field(default_factory=dict[str, str])
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return f"{self.knob}={self.value}"


_TRANSCRIPTS: dict[str, Any] = {
    "more": {"transcripts": True},
    "seen": {"transcript-events", "transcript-order"},
}
_NO_NOISE = {"noise-stopped", "noise-cancels"}
_NO_ARGUMENTS = {"call-name", "call-delta-names", "call-arguments"}
_LATE_DONE = {
    "before_arguments_done": "before the calls are whole",
    "after_outputs": "once the calls are answered",
    "before_narration": "before the narration begins",
    "after_narration_began": "after the narration has begun",
}

READINGS = [
    # Connection
    Reading("allowed_origins", ("http://localhost:3000",)),
    Reading("redirect_status", 307, {"redirect": "yes"}),
    Reading("redirect_status", 308, {"redirect": "yes"}),
    Reading("max_sessions", 1, same={CAPACITY: "1: then server_full, code 1013"}),
    Reading("max_sessions", 3, same={CAPACITY: "3: then server_full, code 1013"}),
    Reading("idle_timeout_secs", 10.0, {"idle": "after 10 s, with code 1000"}),
    Reading("idle_timeout_secs", 300.0, {"idle": "not within 45 s"}),
    Reading("session_ended_close_code", None, {"session-ended": "stays open"}),
    Reading("session_ended_close_code", 4000, same={"session-ended": "code 4000"}),
    # Handshake
    Reading("created_delay_secs", 6.0, {"handshake": "after 6.0 s"}),
    Reading("configured_delay_secs", 6.0, {"handshake": "after 6.0 s"}),
    Reading("early_audio", "end", {"early-audio": "an error"}),
    Reading("configuration_limit_bytes", 8_000, {"size": "below 15800 bytes"}),
    Reading("configuration_limit_bytes", 100_000, {"size": "at 40000 bytes"}),
    Reading(
        "voices",
        "by_model",
        {"voices": "14 of 24 are rejected: vaughn", "voices-unlisted": "marin is rejected"},
    ),
    Reading(
        "voices",
        "any",
        {"voices-unlisted": "wren is accepted", "voice-unknown": "it is accepted"},
        unseen={"after-rejection"},
    ),
    Reading("after_rejection", "retry", {"after-rejection": "another session.configure is"}),
    Reading("after_rejection", "close", {"after-rejection": "closed"}),
    Reading("after_rejection", "default_voice", {"after-rejection": "with another voice"}),
    Reading(
        "echo_output_rate",
        False,
        {"rate-told": "no"},
        unseen={"rates", "rate-requested"},
    ),
    Reading(
        "output_sample_rate",
        16_000,
        {"rates": "hydra-v1.1 16000 Hz, hydra-v1.0 16000 Hz"},
        unseen={"rate-requested"},
    ),
    Reading("honour_output_rate", True, {"rate-requested": "yes: 16000 Hz"}),
    # The user's audio and turns
    Reading("vad", VADParams(confidence=0.7, start_secs=0.2, stop_secs=0.8, min_volume=0.0)),
    Reading("min_turn_ms", 0, {"noise": "a turn of the user"}, unseen=_NO_NOISE),
    Reading("gap_ends_turn_secs", 0.5, {"gap": "yes"}),
    Reading("gap_ends_turn_secs", 1.5, {"gap": "yes"}),
    Reading("cancel_on", "turn_confirmed", {"noise-cancels": "no"}),
    Reading(
        "tell_interruptions",
        False,
        {"interruption": "only the next response.created"},
        unseen=_NO_NOISE,
    ),
    Reading("stopped_on_discard", False, {"noise-stopped": "no"}),
    Reading(
        "speech_stopped",
        False,
        {"stopped": "no", "noise-stopped": "no"},
        unseen={"stopped-order"},
    ),
    Reading(
        "user_items",
        False,
        {"user-items": "no", "noise": "neither discarded nor answered"},
        unseen={"user-items-order", "user-texts", *_NO_NOISE},
    ),
    Reading("late_user_items", True, {"user-items-order": "when the turn ends"}),
    Reading("stopped_lag_ms", 300, {"stopped-order": "after it"}),
    Reading("uplink_speed", 1.0, {"pre-roll": "no"}, unseen={"dump"}),
    Reading("uplink_burst_secs", 1.0, {"stall": "no"}, unseen={"pre-roll", "dump"}),
    Reading("uplink_burst_secs", 600.0, {"dump": "yes"}, unseen={"session-ended"}),
    # Replies
    Reading("response_latency_secs", 1.0),
    Reading("response_ids", "reused", {"response-ids": "used again"}),
    Reading("response_ids", "absent", {"response-ids": "none"}),
    Reading("delivery_speed", 1.0, {"speed": "1.0 times"}),
    Reading("delivery_speed", 3.0, same={"speed": "3.0 times"}),
    Reading(
        "delivery_speed",
        float("inf"),
        same={"speed": "at once"},
        unseen={"interruption", "noise-cancels"},
    ),
    Reading("delta_ms", 10),
    Reading("delta_ms", 1_000),
    Reading("odd_splits", True, {"whole-samples": "no"}),
    Reading("audio_key", "audio", {"audio-field": "audio"}),
    Reading("base64_lines", True, {"base64-lines": "yes"}),
    Reading("late_audio_after_cancel_ms", 400, {"late-audio": "10 events"}),
    Reading("late_audio_after_done_ms", 400, {"done-order": "no"}),
    # Their text
    Reading(
        "transcripts",
        True,
        {"transcripts": "yes"},
        seen=_TRANSCRIPTS["seen"],
        same={"transcript-events": "deltas", "transcript-order": "before it"},
    ),
    Reading("transcripts", False),
    Reading(
        "transcript_events",
        "done",
        {"transcripts": "yes", "transcript-events": "done"},
        **_TRANSCRIPTS,
    ),
    Reading(
        "transcript_events",
        "both",
        {"transcripts": "yes", "transcript-events": "deltas and done"},
        **_TRANSCRIPTS,
    ),
    Reading(
        "late_transcripts",
        True,
        {"transcripts": "yes", "transcript-order": "after it"},
        **_TRANSCRIPTS,
    ),
    Reading("item_texts", True, {"reply-texts": "yes"}),
    Reading("user_item_text", "Hello there", {"user-texts": "yes"}),
    # Requests
    Reading("unknown_types", "ignore", {"unknown-types": "ignored"}),
    Reading("respond_to_create", False, {"create": "nothing"}),
    Reading("respond_to_create", "error", {"create": "an error"}),
    Reading("honour_messages", False, {"messages": "does not do"}),
    # Function calls
    Reading("calls_told", "items", {"calls-told": "items alone"}, unseen=_NO_ARGUMENTS),
    Reading(
        "calls_told",
        "output",
        {"calls-told": "only the output of response.done", "call-items": "no"},
        unseen=_NO_ARGUMENTS,
    ),
    Reading("call_items", False, {"call-items": "no"}),
    Reading("arguments_delta_chars", 1),
    Reading("arguments_delta_chars", 1_000, unseen={"call-delta-names"}),
    Reading("arguments_delta_secs", 0.3),
    Reading("name_in_every_delta", True, {"call-delta-names": "in each"}),
    Reading("arguments_done_has_name", False, {"call-name": "no"}),
    Reading("arguments_done_has_arguments", False, {"call-arguments": "no"}),
    Reading("arguments_as_object", True, {"call-arguments-form": "an object"}),
    *(
        Reading("calls_done", value, {"call-done-order": text})
        for value, text in _LATE_DONE.items()
    ),
    Reading("tool_timeout_secs", 5.0, {"tool-timeout": "after 5 s"}),
    Reading("tool_timeout_secs", 60.0, same={"tool-timeout": "not within 40 s"}),
    Reading("record", False),
]


async def answers(settings: EmulatorSettings, *, capacity: bool = False) -> dict[str, Answer]:
    """Hold the whole check."""
    questions = [q for q in QUESTIONS.values() if capacity or q.id != CAPACITY]
    async with HydraEmulator(CheckedModel(), settings=settings) as hydra:
        options = CheckOptions(questions=questions, api_key=hydra.api_key, base_url=hydra.url)
        findings = await check(options, on_scene=lambda _: None, on_end=lambda _: None)
    return findings.answers()


async def test_nothing_differs_from_what_is_assumed_by_default():
    found = await answers(EmulatorSettings(), capacity=True)
    assert {id for id, answer in found.items() if answer.verdict == "otherwise"} == set()
    assert {id for id, answer in found.items() if answer.verdict == "not seen"} == UNSEEN


@pytest.mark.parametrize("reading", READINGS, ids=str)
async def test_each_reading_is_told_and_no_other_answer_is_wrong(reading: Reading):
    settings = EmulatorSettings(**{reading.knob: reading.value, **reading.more})
    found = await answers(settings, capacity=reading.knob == "max_sessions")
    differing = {id: a.text for id, a in found.items() if a.verdict == "otherwise"}
    assert set(differing) == set(reading.told)
    for id, text in (*reading.told.items(), *reading.same.items()):
        assert text in found[id].text
    unseen = {id for id, answer in found.items() if answer.verdict == "not seen"}
    assert unseen == (UNSEEN - reading.seen) | reading.unseen
    # What is concluded rests on something, unless it rests on that nothing came.
    judged = [answer for answer in found.values() if answer.verdict != "not seen"]
    assert all(answer.evidence or answer.sure == "likely" for answer in judged)


def test_each_setting_of_the_emulator_has_a_question_or_a_reason():
    told = {reading.knob for reading in READINGS if reading.told or reading.same}
    assert told | set(ASKED_ABOUT_NOTHING) == {field.name for field in fields(EmulatorSettings)}
    assert not told & set(ASKED_ABOUT_NOTHING)
    assert {reading.knob for reading in READINGS} >= set(ASKED_ABOUT_NOTHING)


@pytest.mark.parametrize("name", [field.name for field in fields(EmulatorSettings)])
def test_each_choice_of_a_setting_is_tried(name: str):
    default = getattr(EmulatorSettings(), name)
    tried = {repr(reading.value) for reading in READINGS if reading.knob == name}
    choices = _choices(get_type_hints(EmulatorSettings)[name])
    assert {repr(choice) for choice in choices if choice != default} <= tried


def _choices(hint: Any) -> set[Any]:
    """The values of a type that has only a few."""
    if hint is bool:
        return {True, False}
    if hint is NoneType:
        return set()
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {choice for part in get_args(hint) for choice in _choices(part)}
