"""Measures a finished conversation: the turns as reported, compared with the audio as heard."""

from dataclasses import dataclass
from itertools import zip_longest

from pipecat_hydra.cli.talk.sound import SoundMap
from pipecat_hydra.cli.talk.turns import Turn
from pipecat_hydra.testing import VirtualTransport

__all__ = ["DEFINITIONS", "Report", "Row"]

DEFINITIONS = (
    "first audio: the bot's first sound as heard. speech: after the user's last sound before "
    "Hydra reported the end of the turn. turn: after that report",
    "TTFB: from that report to the first byte of audio, as the service measures it",
    "barge-in: from the first sound of the user who interrupts to the last sound heard of the "
    "reply that is cut",
    "bytes: audio of the reply, PCM16. tokens: read and generated, as Hydra counts",
)
"""What the figures of a `Row` mean, one line each."""


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one turn. Positions are seconds on the timeline; `None` if there is none.

    Parameters:
        turn: The turn as it was reported.
        user_start_secs: The user's first sound.
        user_end_secs: The user's last sound before the end of the turn was reported.
        reply_start_secs: The first sound of the reply, as heard.
        reply_end_secs: The last sound of the reply, as heard.
        barge_in_secs: Seconds from the first sound of the user who interrupts this reply to the
            last sound of the reply; 0 if the reply had ended before.
        heard_bytes: Audio of the reply that was played, in bytes of PCM16.
    """

    turn: Turn
    user_start_secs: float | None
    user_end_secs: float | None
    reply_start_secs: float | None
    reply_end_secs: float | None
    barge_in_secs: float | None
    heard_bytes: int

    @property
    def first_audio_after_speech_secs(self) -> float | None:
        """Seconds from the user's last sound to the first sound of the reply."""
        return _difference(self.reply_start_secs, self.user_end_secs)

    @property
    def first_audio_after_report_secs(self) -> float | None:
        """Seconds from Hydra's report of the end of the turn to the first sound of the reply."""
        return _difference(self.reply_start_secs, self.turn.user_stopped_secs)


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a conversation.

    Parameters:
        rows: One for each turn.
        length_secs: Length of the conversation in seconds.
        microphone_bytes: Audio of the user, silence included, in bytes of PCM16 at the
            microphone's rate.
    """

    rows: list[Row]
    length_secs: float
    microphone_bytes: int

    @classmethod
    def of(cls, turns: list[Turn], transport: VirtualTransport) -> "Report":
        """Measure a finished conversation.

        Args:
            turns: The turns as they were reported.
            transport: The transport, which recorded both sides.

        Returns:
            The report.
        """
        user = SoundMap(transport.user_samples(), transport.microphone.sample_rate)
        bot_rate = transport.heard[0].sample_rate if transport.heard else 1
        bot = SoundMap(transport.bot_samples(), bot_rate)
        rows: list[Row] = []
        for turn, following in zip_longest(turns, turns[1:]):
            rows.append(_row(turn, following, turns, transport, user, bot))
        return cls(
            rows=rows,
            length_secs=max(transport.microphone.position_secs, transport.heard_until_secs),
            microphone_bytes=len(transport.microphone.pcm),
        )


def _row(
    turn: Turn,
    following: Turn | None,
    turns: list[Turn],
    transport: VirtualTransport,
    user: SoundMap,
    bot: SoundMap,
) -> Row:
    user_start = user_end = reply_start = reply_end = barge_in = None
    if turn.user_started_secs is not None:
        user_start = user.onset(turn.user_started_secs)
    if turn.user_stopped_secs is not None:
        user_end = user.last(user_start or 0.0, turn.user_stopped_secs)
    heard_bytes = 0
    if turn.bot_started_secs is not None:
        begin, end = turn.bot_started_secs, _next_reply_secs(turn, turns)
        reply_start, reply_end = bot.first(begin, end), bot.last(begin, end)
        heard_bytes = sum(
            len(audio.pcm) for audio in transport.heard if begin <= audio.start_secs < end
        )
    if turn.interrupted_secs is not None and following and following.user_started_secs is not None:
        interrupter = user.onset(following.user_started_secs)
        if interrupter is not None and reply_end is not None:
            barge_in = max(0.0, reply_end - interrupter)
    return Row(turn, user_start, user_end, reply_start, reply_end, barge_in, heard_bytes)


def _next_reply_secs(turn: Turn, turns: list[Turn]) -> float:
    later = (later.bot_started_secs for later in turns[turn.number :])
    return next((secs for secs in later if secs is not None), float("inf"))


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier
