"""A thousand random calls, each with audio joined and not: the listener hears the same.

The two conversations of a call are told the same at the same times. Each has a listener of its own,
who hears in real time what the conversation passes on, and from whom an interruption takes what is
not heard yet.
"""

import random
from collections.abc import Iterator

from support import wire
from support.driver import Driver

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Effect,
    Flush,
    TextChunk,
    UserStarted,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.wire.events import ServerEvent

CALLS = 1_000
SAMPLES_PER_SEC = 24_000
Step = tuple[float, ServerEvent]


class Line:
    """One conversation and who listens to it, through a transport like those of Pipecat."""

    def __init__(self, joined_audio_secs: float):
        conversation = Conversation(model="hydra-v1.1", joined_audio_secs=joined_audio_secs)
        self.driver = Driver(conversation).live()
        self.heard = self.texts = b""
        self.stale = self.frames = 0
        # What is said between two brackets is one stretch; the last one may go on.
        self._stretches: list[bytes] = []
        self._is_open = False
        self._is_playing = False
        self._samples_due = 0.0

    def go_on_until(self, time: float) -> None:
        """Pass the time, and do what is due meanwhile."""
        conversation = self.driver.conversation
        while (due := conversation.audio_deadline) is not None and due <= time:
            self._play_until(due)
            self._take(conversation.tick(self.driver.now))
        self._play_until(time)

    def receive(self, event: ServerEvent) -> None:
        self._take(self.driver.receive(event))

    def _play_until(self, time: float) -> None:
        self._samples_due += max(0.0, time - self.driver.now) * SAMPLES_PER_SEC
        self.driver.now = max(time, self.driver.now)
        while self._is_playing:
            size = 2 * int(self._samples_due + 1e-6)
            played = self._stretches[0][:size]
            self.heard += played
            self._stretches[0] = self._stretches[0][size:]
            self._samples_due -= len(played) // 2
            if self._stretches[0] or (self._is_open and len(self._stretches) == 1):
                # Either the time is over, or the listener has to wait.
                self._samples_due = self._samples_due if self._stretches[0] else 0.0
                return
            del self._stretches[0]
            self._is_playing = False
            self.driver.conversation.bot_stopped()
            self._start()

    def _start(self) -> None:
        if self._stretches and not self._is_playing:
            self._is_playing = True
            # To the microsecond: the two listeners count in different steps.
            began = self.driver.now - self._samples_due / SAMPLES_PER_SEC
            self.driver.conversation.bot_started(round(began, 6))

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case VoiceStarted():
                    if not self._is_playing:
                        self._samples_due = 0.0
                    self._stretches.append(b"")
                    self._is_open = True
                    self._start()
                case AudioChunk(pcm):
                    self._stretches[-1] += pcm
                    self.frames += 1
                case TextChunk(text):
                    self.texts += text.encode()
                case VoiceEnded():
                    self._is_open = False
                case UserStarted():
                    self._take(self.driver.interrupted())
                    self._flush()
                case Flush():
                    self._flush()
                case _:
                    pass

    def _flush(self) -> None:
        self.stale += sum(map(len, self._stretches))
        self._stretches.clear()
        self._is_open = False
        if self._is_playing:
            self._is_playing = False
            self.driver.conversation.bot_stopped()


def script(rng: random.Random) -> Iterator[Step]:
    """Replies that come up to ten times faster than they are heard, turns and noise."""
    number = 0
    for reply in range(rng.randrange(1, 4)):
        response, item = f"resp_{reply}", f"item_{reply}"
        yield rng.uniform(0.0, 3.0), wire.response_created(response)
        faster = rng.choice([1.2, 2, 10])
        turn_at = rng.choice([None, rng.randrange(40)])
        noise = turn_at is not None and rng.random() < 0.5
        until = rng.randrange(1, 40)
        for n in range(until):
            number += 1
            # The first is long, so that the listener does not have to wait for the second.
            samples = rng.randrange(1, 3_000) if n else 3_000
            pcm = number.to_bytes(2, "little") * samples
            yield samples / SAMPLES_PER_SEC / faster, wire.audio(pcm, response)
            if rng.random() < 0.1:
                yield 0.0, wire.transcript(f"word {number}", response)
            if n == turn_at:
                yield 0.0, wire.started(item)
            if turn_at is not None and n == turn_at + 3:
                yield 0.1, wire.stopped(item)
                yield 0.0, wire.user_item("incomplete" if noise else "completed", item)
                if not noise:
                    yield 0.0, wire.done(response, status="cancelled")
                    break
        else:
            yield 0.0, wire.audio_done(response)
            yield 0.0, wire.done(response)
            if turn_at is not None and turn_at < until <= turn_at + 3:
                yield 0.1, wire.stopped(item)
                yield 0.0, wire.user_item("incomplete" if noise else "completed", item)


def hold(joined_audio_secs: float, steps: list[Step]) -> Line:
    line = Line(joined_audio_secs)
    now = 0.0
    for wait, event in steps:
        now += wait
        line.go_on_until(now)
        line.receive(event)
    line.go_on_until(now + 120.0)
    return line


def test_the_listener_hears_the_same_of_a_thousand_calls():
    fewer = interrupted = 0
    for seed in range(CALLS):
        steps = list(script(random.Random(seed)))
        plain, joined = hold(0.0, steps), hold(0.2, steps)
        assert joined.heard == plain.heard, seed
        assert joined.texts == plain.texts, seed
        assert joined.stale <= plain.stale, seed
        assert joined.frames <= plain.frames, seed
        fewer += joined.frames < plain.frames
        interrupted += plain.stale > 0
    # Or nothing was seen.
    assert fewer > CALLS / 3
    assert interrupted > CALLS / 3
