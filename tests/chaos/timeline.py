"""Writes what happened in a call as a table, in the order of time, to look into a violation."""

from collections.abc import Iterator

from pipecat.frames.frames import (
    BotSpeakingFrame,
    InputAudioRawFrame,
    MetricsFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
    UserSpeakingFrame,
)

from chaos.runner import Evidence
from pipecat_hydra.emulator import EmulatedSession

_DULL = (
    BotSpeakingFrame,
    InputAudioRawFrame,
    MetricsFrame,
    OutputTransportMessageUrgentFrame,
    UserSpeakingFrame,
)
_HIDDEN = {"type", "event_id", "padding", "session"}


def timeline(evidence: Evidence) -> str:
    """Write down what passed on the wire and in the pipeline; audio in a row is one line."""
    rows = [
        *((at, f"== {act}") for at, act in evidence.acts),
        *(
            (said.ended, f"== said {said.name!r}, answered: {said.answered}")
            for said in evidence.said
        ),
        (evidence.ended, "== the end is asked for"),
        *_frames(evidence),
    ]
    for session in evidence.hydra.sessions:
        rows += _events(evidence, session)
    lines = [f"{at - evidence.began:8.3f} {text}" for at, text in sorted(rows)]
    told = [f"         told {name} {arguments}" for name, arguments in evidence.story]
    return "\n".join([str(evidence.plan), *lines, *told])


def _frames(evidence: Evidence) -> Iterator[tuple[float, str]]:
    audio, at = 0, 0.0
    for pushed in evidence.pushed:
        frame = pushed.frame
        if isinstance(frame, _DULL):
            continue
        if isinstance(frame, TTSAudioRawFrame):
            audio, at = audio + len(frame.audio), at if audio else pushed.at
            continue
        if audio:
            yield at, f"           {audio} bytes of audio"
            audio = 0
        arrow = "v" if pushed.downstream else "^"
        yield pushed.at, f"         {arrow} {type(frame).__name__} {getattr(frame, 'error', '')}"
    if audio:
        yield at, f"           {audio} bytes of audio"


def _events(evidence: Evidence, session: EmulatedSession) -> Iterator[tuple[float, str]]:
    opened, name = evidence.opened[session.id], session.id[-4:]
    yield opened, f"{name} opened"
    yield evidence.closed.get(session.id, float("inf")), f"{name} closed with {session.close_code}"
    for fault in session.injected:
        yield opened + fault.time, f"{name} !! {fault.fault} {fault.detail}"
    for arrow, records in (("->", session.received), ("<-", session.sent)):
        audio, at = 0, 0.0
        for record in records:
            if record.audio_bytes:
                audio, at = audio + record.audio_bytes, at if audio else record.time
                continue
            if audio:
                yield opened + at, f"{name} {arrow} {audio} bytes of audio"
                audio = 0
            fields = {k: v for k, v in record.event.items() if k not in _HIDDEN}
            yield opened + record.time, f"{name} {arrow} {record.type} {str(fields)[:200]}"
        if audio:
            yield opened + at, f"{name} {arrow} {audio} bytes of audio"
