"""Recordings of calls for tests, written by hand in the format of `pipecat_hydra.recording`.

`write_recording` writes any records. `SampleCall` lays out a call as a play: who speaks when, what
Hydra sends, what the loudspeaker plays. Then a test knows what there is to be found.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

Samples = NDArray[np.int16]

USER_RATE = 16_000
BOT_RATE = 24_000
BEGAN_AT = 1_796_074_812.345678

HEADER: dict[str, Any] = {
    "type": "header",
    "format": "pipecat-hydra recording",
    "version": 1,
    "began": "2026-11-30T21:40:12.345678Z",
    "t": 0.0,
    "package": "0.1.0",
    "python": "3.11.9",
    "pipecat": "1.14.0",
    "model": "hydra-v1.1",
    "voice": "aria",
    "url": "wss://api.smallest.ai/waves/v1/s2s",
}


def write_recording(
    folder: Path,
    records: Iterable[Mapping[str, Any]],
    *,
    header: Mapping[str, Any] = HEADER,
    end: float | None = None,
    **audio: tuple[Samples, int],
) -> Path:
    """Write a recording.

    Args:
        folder: Its folder, which is made.
        records: Its records, without `at` if it is to be worked out.
        header: Its header.
        end: When it ended; cut off if `None`.
        audio: Samples and rate of `user`, `bot` and `heard`.
    """
    folder.mkdir(parents=True)
    lines = [header, *({"at": BEGAN_AT + record["t"], **record} for record in records)]
    if end is not None:
        files = {f"{n}.flac": {"rate": rate, "samples": len(s)} for n, (s, rate) in audio.items()}
        lines.append({"type": "end", "t": end, "at": BEGAN_AT + end, "reason": "ended"})
        lines[-1]["audio"] = files
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "call.jsonl").write_text(text, encoding="utf-8")
    for name, (samples, rate) in audio.items():
        sf.write(folder / f"{name}.flac", samples, rate, subtype="PCM_16")
    return folder


def tone(secs: float, rate: int = BOT_RATE, *, hz: float = 440, level: float = 0.25) -> Samples:
    """One note."""
    moments = np.arange(round(secs * rate)) / rate
    return (level * 32767 * np.sin(2 * np.pi * hz * moments)).astype(np.int16)


class SampleCall:
    """Lays out a call on its time axis, and writes its recording.

    Attributes:
        records: The records so far, in any order.
    """

    def __init__(self, secs: float, *, session_at: float = 0.1):
        self.secs = secs
        self.records: list[dict[str, Any]] = []
        self._user = np.zeros(round(secs * USER_RATE), np.int16)
        self._heard = np.zeros(round(secs * BOT_RATE), np.int16)
        self._bot: list[Samples] = []
        self._bot_samples = 0
        self._session = 0
        self._offline: list[tuple[float, float]] = [(0.0, session_at)]
        self._turns = 0
        self.session(session_at)

    def add(self, t: float, source: str, kind: str, **fields: Any) -> None:
        """Add a record that is no event."""
        self.records.append({"t": round(t, 6), "source": source, "type": kind, **fields})

    def event(self, t: float, source: str, kind: str, *, audio: Any = None, **fields: Any) -> None:
        """Add an event of the session."""
        record = {"t": round(t, 6), "source": source, "session": self._session}
        record["event"] = {"type": kind, **fields}
        self.records.append(record if audio is None else {**record, "audio": audio})

    def session(self, t: float) -> None:
        """Open a session and configure it within 80 ms."""
        self._session += 1
        for offset, kind in enumerate(("opening", "open", "configured")):
            self.add(t + 0.04 * offset, "call", f"session_{kind}")
        configuration = {"output_audio_sample_rate": BOT_RATE}
        self.event(t + 0.08, "server", "session.configured", session=configuration)

    def drop(self, t: float, until: float, *, state_restored: bool = True) -> None:
        """Lose the connection."""
        self.add(t, "call", "session_closed", reason="code 1011", secs=t)
        self.add(t, "call", "reconnecting", message="code 1011")
        self._offline.append((t, until))
        self.session(until - 0.08)
        self.add(until, "call", "reconnected", state_restored=state_restored)

    def noise(self, level: float, seed: int = 1) -> None:
        """Lay noise under all that the user says."""
        random = np.random.default_rng(seed)
        noise = random.normal(0, level * 32767, len(self._user))
        self._user = np.clip(self._user + noise, -32768, 32767).astype(np.int16)

    def say(
        self,
        begin: float,
        pcm: Samples,
        words: str = "",
        *,
        reported: tuple[float, float] = (0.2, 0.4),
        is_discarded: bool = False,
    ) -> str:
        """Let the user speak; reports of begin and end lag by so much. Returns the item's id."""
        first = round(begin * USER_RATE)
        self._user[first : first + len(pcm)] += pcm
        self._turns += 1
        item_id, end = f"item_{self._turns}", begin + len(pcm) / USER_RATE
        started, stopped = begin + reported[0], end + reported[1]
        self.event(started, "server", "input_audio_buffer.speech_started", item_id=item_id)
        self.event(stopped, "server", "input_audio_buffer.speech_stopped", item_id=item_id)
        item: dict[str, Any] = {"id": item_id, "type": "message", "role": "user"}
        item["status"] = "incomplete" if is_discarded else "completed"
        item["content"] = [{"type": "input_audio", "text": words or None}]
        self.event(stopped, "server", "conversation.item.done", item=item)
        return item_id

    def reply(
        self,
        created: float,
        pcm: Samples,
        *,
        heard_from: float,
        cut: float | None = None,
        words: str = "",
        response_id: str = "",
        first_audio: float | None = None,
    ) -> str:
        """Let Hydra generate a reply at ten times real time, and play it, until it is cut."""
        response_id = response_id or f"resp_{len(self.records)}"
        of = {"response_id": response_id, "item_id": f"item_{response_id}"}
        self.event(created, "server", "response.created", response={"id": response_id})
        t = created + 0.05 if first_audio is None else first_audio
        for first in range(0, len(pcm), BOT_RATE // 10):
            piece = pcm[first : first + BOT_RATE // 10]
            audio = ["bot.flac", self._bot_samples, len(piece)]
            self.event(t, "server", "response.output_audio.delta", audio=audio, **of)
            self._bot.append(piece)
            self._bot_samples += len(piece)
            t += 0.01
        if words:
            self.event(t, "server", "response.output_audio_transcript.delta", delta=words, **of)
        self.event(
            t, "server", "response.done", response={"id": response_id, "status": "completed"}
        )
        self.play(pcm, heard_from, cut)
        return response_id

    def call(
        self,
        created: float,
        name: str,
        arguments: Any,
        *,
        answered: float,
        result: Any,
        call_id: str = "call_1",
        response_id: str = "resp_call",
    ) -> None:
        """Let Hydra call a function, and answer it."""
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
        self.event(created, "server", "response.created", response={"id": response_id})
        self.event(
            created + 0.05,
            "server",
            "response.function_call_arguments.done",
            response_id=response_id,
            call_id=call_id,
            name=name,
            arguments=arguments,
        )
        done = {"id": response_id, "status": "completed"}
        self.event(created + 0.06, "server", "response.done", response=done)
        output = result if isinstance(result, str) else json.dumps(result)
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.event(answered, "client", "conversation.item.create", item=item)
        self.event(answered + 0.01, "client", "response.create")

    def interrupt(self, t: float) -> None:
        """Interrupt the pipeline."""
        self.add(t, "pipeline", "interruption")

    def write(self, folder: Path, *, is_complete: bool = True, audio: bool = True) -> Path:
        """Write the recording."""
        sent, chunk = 0, USER_RATE // 50
        pieces: list[Samples] = []
        for first in range(0, len(self._user) - chunk + 1, chunk):
            t = (first + chunk) / USER_RATE
            if any(begin < t <= end + 0.08 for begin, end in self._offline):
                continue
            audio_of = ["user.flac", sent, chunk]
            self.event(t, "client", "input_audio_buffer.append", audio=audio_of)
            pieces.append(self._user[first : first + chunk])
            sent += chunk
        nothing = np.zeros(0, np.int16)
        files = {
            "user": (np.concatenate(pieces) if pieces else nothing, USER_RATE),
            "bot": (np.concatenate(self._bot) if self._bot else nothing, BOT_RATE),
            "heard": (self._heard, BOT_RATE),
        }
        records = sorted(self.records, key=lambda record: record["t"])
        end = self.secs if is_complete else None
        return write_recording(folder, records, end=end, **(files if audio else {}))

    def play(self, pcm: Samples, begin: float, cut: float | None = None) -> None:
        """Let the loudspeaker play something, until it is cut."""
        end = begin + len(pcm) / BOT_RATE if cut is None else cut
        first = round(begin * BOT_RATE)
        last = min(round(end * BOT_RATE), first + len(pcm), len(self._heard))
        self._heard[first:last] = pcm[: last - first]
        self.add(begin, "pipeline", "bot_started")
        for piece in range(first, last, BOT_RATE // 25):
            samples = min(BOT_RATE // 25, last - piece)
            audio = ["heard.flac", piece, samples]
            self.add(piece / BOT_RATE, "pipeline", "heard", audio=audio)
        self.add(last / BOT_RATE, "pipeline", "bot_stopped")
