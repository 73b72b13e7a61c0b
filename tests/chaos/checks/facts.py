"""What more than one check asks of the evidence of a call.

`Facts` reads the evidence once: when each session opened and closed, up to when the client is sure
to have got what was sent, which stretch of which response each audio frame in the pipeline is, and
where in each session the user's words are. What is costly is found when a check first asks for it.

An utterance is compared in blocks of 20 ms. No two utterances of a call have a block in common,
nor have two responses a stretch, so that each piece of audio tells where it belongs. Audio of
another rate than the pipeline's was resampled, and is told by its likeness.
"""

from functools import cached_property

import numpy as np
import soxr
from pipecat.frames.frames import (
    Frame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)

from chaos.plan import Interrupt, Type
from chaos.runner import Evidence, Pushed, Said
from chaos.wire import Reading, Response, Stretch, stretches
from pipecat_hydra.emulator import Drop, EmulatedSession, Jitter
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

INPUT_BYTES_PER_SEC = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE
BLOCK = 640
"""Bytes in a block of an utterance."""
_IN_FLIGHT_SECS = 0.2

_PHASES = 12
"""From so many samples on a response is resampled: the results lie between each other's samples."""


class Facts:
    """What more than one check asks of the evidence."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self.plan = evidence.plan
        self.sessions = evidence.hydra.sessions
        self.readings = [Reading(session) for session in self.sessions]

    def opened(self, session: EmulatedSession) -> float:
        return self.evidence.opened[session.id]

    def closed(self, session: EmulatedSession) -> float:
        return self.evidence.closed.get(session.id, float("inf"))

    def lost(self, session: EmulatedSession) -> bool:
        """Whether the server ended it, by a fault."""
        return bool(session.injected_of("drop"))

    def is_given_up(self, said: Said) -> bool:
        """Whether two sessions have failed on what the user said: no other hears it.

        One that is lost for another reason, and lies between them, has not heard it to its end.
        """
        after = [session for session in self.sessions if self.closed(session) > said.began]
        return sum(map(self._failed, after)) > 1

    def _failed(self, session: EmulatedSession) -> bool:
        drops = [fault.fault for fault in session.injected_of("drop")]
        return any(isinstance(drop, Drop) and drop.how == "internal_error" for drop in drops)

    def certain_until(self, session: EmulatedSession) -> float:
        """Up to when all that was sent has come to the client, in seconds of the session."""
        stalled_secs = self.stalled_secs(session)
        if not self.lost(session) and not stalled_secs:
            return float("inf")
        lived = self.closed(session) - self.opened(session)
        return lived - _IN_FLIGHT_SECS - stalled_secs

    def stalled_secs(self, session: EmulatedSession) -> float:
        """How long, in all, the server stopped sending by a fault."""
        stalls = [fault.fault for fault in session.injected_of("jitter")]
        return sum(fault.secs for fault in stalls if isinstance(fault, Jitter))

    @property
    def listened_until(self) -> float:
        """Up to when the client surely acts on what it is told: shortly before the end."""
        return self.evidence.ended - 0.5

    def listens_until(self, session: EmulatedSession) -> float:
        """Up to when a client hears what it is sent: it may close the session itself."""
        return min(self.listened_until, self.closed(session) - 0.3)

    @cached_property
    def down(self) -> list[Pushed]:
        return [pushed for pushed in self.evidence.pushed if pushed.downstream]

    def of(self, *kinds: type[Frame]) -> list[Pushed]:
        return [pushed for pushed in self.down if isinstance(pushed.frame, kinds)]

    def acts(self, *kinds: type) -> list[float]:
        """When acts of these kinds were done."""
        return [at for at, act in self.evidence.acts if isinstance(act, kinds)]

    @property
    def announced(self) -> tuple[type[Frame], type[Frame]]:
        """The frames by which the service tells of turns in this shape of pipeline."""
        if self.plan.shape == "aggregators":
            return ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame
        return UserStartedSpeakingFrame, UserStoppedSpeakingFrame

    @cached_property
    def places(self) -> list[list[dict[int, int]]]:
        """For each utterance and session: which blocks the session received, and where."""
        heard = [session.received_audio for session in self.sessions]
        return [[_places(said, audio) for audio in heard] for said in self.evidence.said]

    @cached_property
    def app_interruptions(self) -> list[float]:
        typed = [at for at, act in self.evidence.acts if act == Type("interrupt")]
        return self.acts(Interrupt) + typed

    @cached_property
    def rate(self) -> int:
        """The rate of the first audio in the pipeline, in Hz; 0 if there was none."""
        first = next((p.frame for p in self.of(TTSAudioRawFrame)), None)
        return first.sample_rate if isinstance(first, TTSAudioRawFrame) else 0

    @cached_property
    def responses(self) -> list[tuple[EmulatedSession, Response]]:
        """All responses, with their sessions, in order."""
        return [(r.session, response) for r in self.readings for response in r.responses.values()]

    @cached_property
    def brackets(self) -> list[list[int]]:
        """The audio of each voiced bracket: where its frames are in `down`."""
        found: list[list[int]] = []
        for index, pushed in enumerate(self.down):
            if isinstance(pushed.frame, TTSStartedFrame) or not found:
                found.append([])
            if isinstance(pushed.frame, TTSAudioRawFrame):
                found[-1].append(index)
        return [bracket for bracket in found if bracket]

    @cached_property
    def said(self) -> tuple[list[tuple[Stretch, int]], list[str]]:
        """Stretches of responses, with where they are in `down`, and what is strange."""
        exact = [r for _, r in self.responses if r.rate == self.rate]
        found: list[tuple[Stretch, int]] = []
        strange: list[str] = []
        for bracket in self.brackets:
            audio = [_audio(self.down[index]) for index in bracket]
            data = b"".join(audio)
            parts, rest = stretches(data, exact)
            unknown = sum(end - start for start, end in rest)
            if unknown and not self._is_resampled(data):
                strange.append(f"{unknown} of {len(data)} bytes that Hydra never sent")
            ends = np.cumsum([len(pcm) for pcm in audio])
            for part in parts:
                found.append((part, bracket[int(np.searchsorted(ends, part.place, side="right"))]))
        return found, strange

    def _is_resampled(self, data: bytes) -> bool:
        """Whether it is audio of a response of another rate, to be told by its likeness."""
        others = [r for _, r in self.responses if r.rate != self.rate and r.pcm]
        piece = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float64)
        for response in others:
            whole = np.frombuffer(response.pcm[: len(response.pcm) // 2 * 2], "<i2")
            # A response that goes on in another bracket may do so between two samples of this rate.
            for skipped in range(_PHASES):
                rest = whole[skipped:].astype(np.float64)
                if _likeness(soxr.resample(rest, response.rate, self.rate), piece) > 0.9:
                    return True
        return False

    def stretches_of(self, response: Response) -> list[tuple[Stretch, int]]:
        return [(part, index) for part, index in self.said[0] if part.response is response]


def _audio(pushed: Pushed) -> bytes:
    assert isinstance(pushed.frame, TTSAudioRawFrame)
    return pushed.frame.audio


def _places(said: Said, audio: bytes) -> dict[int, int]:
    found = {n: audio.find(block(said, n)) for n in range(len(said.pcm) // BLOCK)}
    return {n: place for n, place in found.items() if place >= 0}


def block(said: Said, n: int) -> bytes:
    return said.pcm[n * BLOCK : (n + 1) * BLOCK]


def _likeness(whole: np.ndarray, piece: np.ndarray) -> float:
    """How alike a piece is to some place of the whole; 1 is the same."""
    size = 1 << (len(whole) + len(piece)).bit_length()
    products = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(piece, size)), size)
    shift = int(np.argmax(products[: len(whole)]))
    there = whole[shift : shift + len(piece)]
    # What a resampler gives out last may be cut off.
    piece = piece[: len(there)]
    return float(np.dot(there, piece) / (np.linalg.norm(there) * np.linalg.norm(piece) + 1e-9))
