"""What a recorded call came to: its turns, replies, interruptions, tool calls and latencies.

Theory. `gathering.py` reads what the records tell, `hearing.py` measures it in the audio, and the
latencies follow. They are what a person in the call would measure:

- `answer`: from the user's last sound of a turn to the first sound of the reply as heard. A turn
  whose first sound is about the result of a tool is none of these.
- `barge_in`: from the first sound of the user who interrupts to the last sound of the reply that
  is cut.
- `tool_turn`: from the user's last sound to the first sound about the result of a tool.
- `ttfb`: time to first byte, as the pipeline's metrics have it; if there are none, from Hydra's
  report of the end of the turn to the arrival of the first audio of its reply.

Without audio of a voice the moments of the events take the place of its sounds, and
`Course.is_measured` is false.
"""

from dataclasses import dataclass
from typing import Final

from pipecat_hydra.recording.format import USER_AUDIO
from pipecat_hydra.recording.gathering import Gathering
from pipecat_hydra.recording.hearing import (
    find_interruptions,
    lay_replies,
    listen_to_replies,
    listen_to_turns,
    spoken,
)
from pipecat_hydra.recording.parts import (
    Interruption,
    Problem,
    Reconnect,
    Reply,
    SessionSpan,
    SettingsChange,
    ToolCall,
    Turn,
)
from pipecat_hydra.recording.reader import Recording
from pipecat_hydra.recording.sound import Sounds

__all__ = ["LATENCIES", "Course"]

LATENCIES: Final = ("answer", "barge_in", "tool_turn", "ttfb")
"""Names of the latencies, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Course:
    """The course of a call.

    Parameters:
        secs: Length of the recording in seconds.
        is_complete: Whether the recording has an end; if not, it was cut off at `secs`.
        is_measured: Whether there is audio of both voices to measure in.
        turns: The turns of the user, discarded ones too.
        replies: The responses of Hydra, those without audio too.
        interruptions: The barge-ins.
        tools: The calls of functions.
        sessions: The sessions with Hydra.
        reconnects: The losses of the connection.
        errors: The errors, and losses of audio.
        settings: The changes of settings.
        latencies: For each name of `LATENCIES` its values in seconds, in the order of the call.
    """

    secs: float
    is_complete: bool
    is_measured: bool
    turns: list[Turn]
    replies: list[Reply]
    interruptions: list[Interruption]
    tools: list[ToolCall]
    sessions: list[SessionSpan]
    reconnects: list[Reconnect]
    errors: list[Problem]
    settings: list[SettingsChange]
    latencies: dict[str, list[float]]

    @classmethod
    def of(cls, recording: Recording) -> "Course":
        """Read and measure a recording.

        Args:
            recording: The recording.

        Returns:
            What the call came to.
        """
        gathering = Gathering(recording.rate)
        for record in recording.records:
            gathering.take(record)
        gathering.finish()
        if not gathering.played:
            gathering.played = gathering.spoken
        secs = recording.ended_at
        user, heard = recording.user_track(), recording.heard_track()
        has_user = bool(recording.rate(USER_AUDIO))
        if has_user:
            sounds = Sounds(user.samples, user.rate, spoken(gathering.turns, secs))
            listen_to_turns(gathering.turns, sounds, secs)
        lay_replies(gathering)
        bot = None
        if len(heard.samples):
            bot = Sounds(heard.samples, heard.rate, gathering.played)
        listen_to_replies(gathering.replies, bot)
        interruptions = find_interruptions(gathering, bot)
        for tool in gathering.tools:
            tool.narrated = _narration(tool, gathering.replies)
        return cls(
            secs=secs,
            is_complete=recording.is_complete,
            is_measured=has_user and bool(len(heard.samples)),
            turns=gathering.turns,
            replies=gathering.replies,
            interruptions=interruptions,
            tools=gathering.tools,
            sessions=gathering.sessions,
            reconnects=gathering.reconnects,
            errors=gathering.problems,
            settings=gathering.settings,
            latencies=_latencies(gathering, interruptions),
        )

    def answer_to(self, turn: Turn) -> Reply | None:
        """Find the first reply to a turn that is heard.

        Args:
            turn: The turn.

        Returns:
            The reply; `None` if none is heard.
        """
        return _answer(turn, self.replies)


def _narration(tool: ToolCall, replies: list[Reply]) -> float | None:
    """Return the first sound of the first reply that was asked for with the answer of a tool."""
    if tool.answered is None:
        return None
    for reply in replies:
        if reply.created >= tool.answered and reply.turn == tool.turn and reply.heard_from:
            return reply.heard_from
    return None


def _answer(turn: Turn, replies: list[Reply]) -> Reply | None:
    heard = (reply for reply in replies if reply.turn == turn.number and reply.heard_from)
    return min(heard, key=lambda reply: reply.heard_from or 0.0, default=None)


def _latencies(gathering: Gathering, interruptions: list[Interruption]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in LATENCIES}
    for turn in gathering.turns:
        ended = turn.said_until if turn.said_until is not None else turn.ended
        if ended is None or turn.is_discarded:
            continue
        narrations = [
            tool.narrated
            for tool in gathering.tools
            if tool.turn == turn.number and tool.narrated is not None
        ]
        if narrations:
            found["tool_turn"].append(min(narrations) - ended)
        reply = _answer(turn, gathering.replies)
        if reply is not None and reply.heard_from and reply.heard_from not in narrations:
            found["answer"].append(reply.heard_from - ended)
        if reply is not None and not gathering.ttfbs and reply.first_audio and turn.ended:
            found["ttfb"].append(reply.first_audio - turn.ended)
    found["barge_in"] = [one.secs for one in interruptions if one.secs is not None]
    found["ttfb"] = gathering.ttfbs or found["ttfb"]
    return found
