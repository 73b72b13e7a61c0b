"""How much silence real time owes on a line: what the clock says and the line has not given.

Theory of operation. The server knows the time by the audio that it hears, so the audio must keep up
with the clock. Lines do not: one sends a frame of comfort noise each 160 or 400 ms while nobody
speaks (DTX), one sends half a second at a time, one delays each frame by another time, and a
microphone that is muted sends nothing. So `LineClock` keeps one account, `_covered_until`: the
moment up to which the audio that the line has given, and the silence that took its place, account
for the clock's time.

- Each frame moves it on by its length, whenever the frame comes. The moment never passes the
  clock: audio that is early shows that all audio before was late, and so does audio that comes
  after silence took its place.
- Silence is owed when the account is further behind than a frame and the jitter of a network can
  explain. Then all that is missing is owed at once. From then on the line is *sparse*, and silence
  keeps the account at the clock, whatever single frames come.
- The line is no longer sparse when it gives audio for at least two thirds of the time since the
  frame before: somebody speaks. It is not either when it has given nothing for so long that it
  begins anew. Then jitter is allowed for again, and nothing is owed for the time before.
- What stays behind for a second is lost on the way, or due to a clock that runs slow. No silence is
  owed for that, because silence would cut a word in two.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from typing import Final

__all__ = ["SILENCE_SECS", "LineClock"]

SILENCE_SECS: Final = 0.02
"""Length of a piece of silence, the shortest that Hydra recommends: the server ends a turn as soon
on a line that sends nothing in silence as on one that sends frames of 20 ms."""

# A piece of silence is due when the account is behind by half of its length. So the server is never
# further from the clock than this, ahead or behind, while nothing comes.
_LEAD_SECS: Final = SILENCE_SECS / 2
# A line is sparse while it gives less than a frame in so many times the length of the frame.
_SPARSE_FACTOR: Final = 1.5
# Longer than any line waits between two frames of comfort noise.
_ANEW_SECS: Final = 2.0
# What comes at once and is longer is a burst, after which nobody waits for another one.
_LONGEST_FRAME_SECS: Final = 1.0
_FORGIVE_SECS: Final = 1.0
# An event loop is seldom so late without having stood still.
_LATE_SECS: Final = 0.08


class LineClock:
    """Keeps the account between the clock and the audio of one line, from `begin` on."""

    def __init__(self, silence_after_secs: float):
        """Make an account, which has to `begin`.

        Args:
            silence_after_secs: How much later than another one a frame may come, in seconds,
                before silence takes its place. Shorter than the jitter of a network would put
                silence into speech.
        """
        self._silence_after = silence_after_secs
        self._wait_secs = silence_after_secs
        self._covered_until = 0.0
        self._due_at = 0.0
        self._is_sparse = False
        self._is_excused = False
        # The frame that came last: when, how long after the one before, and how much of it yet.
        self._frame_at = float("-inf")
        self._gap_secs = 0.0
        self._frame_secs = 0.0
        # The least that the account was behind in a stretch of time, and when that ends.
        self._least_behind = float("inf")
        self._forgives_at = 0.0

    @property
    def due_at(self) -> float:
        """When a piece of silence is due, unless the line gives audio before."""
        return self._due_at

    def begin(self, now: float) -> None:
        """Begin the account: what the clock owes counts from now on."""
        self._covered_until = now
        self._due_at = now + self._wait_secs
        self._is_sparse = False
        self._watch_loss(now)

    def give(self, secs: float, now: float) -> None:
        """Record audio that the line gives. What comes at the same time belongs to one frame.

        Afterwards silence is not due earlier than before.
        """
        if now != self._frame_at:
            self._gap_secs = now - self._frame_at
            self._frame_at = now
            self._frame_secs = 0.0
        self._frame_secs += secs
        self._covered_until += secs
        self._is_excused = False
        reach = self._frame_secs * _SPARSE_FACTOR
        if self._is_sparse and reach < self._gap_secs < _ANEW_SECS:
            # If another frame comes in time, somebody speaks, and there must be no hole.
            self._due_at = max(self._due_at, self._covered_until + _LEAD_SECS, now + reach)
            return
        if self._is_sparse or now > self._due_at + _LEAD_SECS:
            # Somebody speaks. What is still owed, because a backlog went first, would cut a word.
            self._covered_until = now
        self._is_sparse = False
        self._covered_until = min(self._covered_until, now)
        self._least_behind = min(self._least_behind, now - self._covered_until)
        if now >= self._forgives_at:
            self._covered_until += self._least_behind
            self._watch_loss(now)
        self._wait_secs = self._silence_after + min(self._frame_secs, _LONGEST_FRAME_SECS)
        self._due_at = max(self._due_at, self._covered_until + self._wait_secs)

    def fill(self) -> None:
        """Record that a piece of silence takes the place of what the line has not given."""
        self._is_sparse = True
        self._covered_until += SILENCE_SECS
        self._least_behind = 0.0
        self._due_at = self._covered_until + _LEAD_SECS

    def excuse(self, now: float, *, due_at: float) -> bool:
        """Begin anew if silence was due long ago: the event loop stood still until now.

        What the line gave meanwhile follows, and no silence belongs before it. After a clock that
        has jumped, no flood of silence is owed. A loop that is late each time is excused once.

        Args:
            now: The time.
            due_at: When silence could have been sent.

        Returns:
            Whether the account begins anew.
        """
        is_excused = not self._is_excused and now - due_at > _LATE_SECS
        if is_excused:
            self.begin(now)
        self._is_excused = is_excused
        return is_excused

    def _watch_loss(self, now: float) -> None:
        """Begin to look how much the account is behind at least."""
        self._least_behind, self._forgives_at = float("inf"), now + _FORGIVE_SECS
