"""Measures a call in its two audio tracks: where each turn was said, and each reply heard.

Theory. The events say roughly when somebody spoke, and the tracks say exactly. The user begins to
speak up to two seconds before Hydra's report of it arrives, and has stopped before the report of
that arrives. What the loudspeaker plays belongs to the responses in their order: to the next one
when as much was played as the one before has, or when the one before was interrupted, and never
before the next one's first audio arrived. Of what was played of a reply, sound is what counts: a
reply may begin with silence.
"""

from collections.abc import Sequence
from typing import Final

from pipecat_hydra.recording.gathering import Gathering
from pipecat_hydra.recording.parts import Interruption, Reply, Turn
from pipecat_hydra.recording.sound import Sounds, Span

__all__ = ["find_interruptions", "lay_replies", "listen_to_replies", "listen_to_turns", "spoken"]

LOOK_BACK_SECS: Final = 2.0
"""How long before the report of a turn its first sound may be."""

_COMPLETE_SECS: Final = 0.03
"""What may be missing of a reply that was heard whole: a chunk of the loudspeaker."""

_CUT_SECS: Final = 0.1
"""What is missing of a reply that was cut, at least."""

_RUN_GAP_SECS: Final = 0.1
"""A longer pause of the loudspeaker ends what it plays at a stretch."""

_SAME_BARGE_IN_SECS: Final = 2.0
"""How far the report of a turn and the interruption by it may be apart."""


def spoken(turns: Sequence[Turn], until: float) -> list[Span]:
    """Return where the user is known to speak, for the threshold of sound.

    Args:
        turns: The turns.
        until: End of the call, in seconds.

    Returns:
        The spans of the turns, from a second before they were reported.
    """
    return [(turn.began - 1.0, turn.ended if turn.ended is not None else until) for turn in turns]


def listen_to_turns(turns: Sequence[Turn], sounds: Sounds, until: float) -> None:
    """Find the first and the last sound of each turn.

    Args:
        turns: The turns, whose `said_from` and `said_until` are set.
        sounds: What is heard of the user.
        until: End of the call, in seconds.
    """
    previous_end = 0.0
    for index, turn in enumerate(turns):
        following = turns[index + 1].began if index + 1 < len(turns) else until
        ended = turn.ended if turn.ended is not None else following
        earliest = max(previous_end, turn.began - LOOK_BACK_SECS)
        begin = sounds.onset(turn.began, after=earliest)
        if begin is None:
            begin = sounds.first(earliest, ended)
        if begin is not None:
            turn.said_from = begin
            turn.said_until = sounds.last(begin, ended)
        previous_end = turn.said_until or turn.began


def lay_replies(gathering: Gathering) -> None:
    """Find which reply was played when.

    Args:
        gathering: The call, whose replies' `heard` and `is_cut` are set.
    """
    replies = [reply for reply in gathering.replies if reply.first_audio is not None]
    replies.sort(key=lambda reply: reply.first_audio or 0.0)
    line = _ReplyLine(replies, gathering.cuts)
    for begin, end in gathering.played:
        line.play(begin, end)
    for reply in gathering.replies:
        missing = reply.generated_secs - reply.heard_secs
        cut = line.cut_of(reply)
        is_unheard = missing > _CUT_SECS and cut is not None
        is_cancelled = reply.status == "cancelled"
        reply.is_cut = is_unheard or is_cancelled


class _ReplyLine:
    """Hands what is played to the replies, one after the other."""

    def __init__(self, replies: list[Reply], cuts: Sequence[float]):
        self._replies = replies
        self._cuts = cuts
        self._index = 0

    def play(self, begin: float, end: float) -> None:
        while end - begin > 1e-6 and self._replies:
            self._advance(begin)
            reply = self._replies[self._index]
            first_audio = reply.first_audio or 0.0
            if first_audio > begin + _COMPLETE_SECS:
                # Before the first reply: a fixed phrase, or sound of the application.
                begin = min(end, first_audio)
                continue
            upto = min(end, self._next_begin(begin))
            reply.heard.append((begin, upto))
            begin = upto

    def cut_of(self, reply: Reply) -> float | None:
        """Return when a reply was interrupted, if it was."""
        began = reply.first_audio if reply.first_audio is not None else reply.created
        over = reply.heard[-1][1] if reply.heard else None
        for cut in self._cuts:
            if cut >= began and (over is None or cut <= over + _RUN_GAP_SECS):
                return cut
        return None

    def _advance(self, at: float) -> None:
        """Go on to the reply that is played at a moment."""
        while self._index + 1 < len(self._replies):
            following = self._replies[self._index + 1].first_audio or 0.0
            if following > at + 1e-6 or not self._is_over(at):
                return
            self._index += 1

    def _is_over(self, at: float) -> bool:
        reply = self._replies[self._index]
        if reply.heard_secs >= reply.generated_secs - _COMPLETE_SECS:
            return True
        # After an interruption the loudspeaker may still play what it has taken already.
        return any((reply.first_audio or 0.0) <= cut <= at for cut in self._cuts)

    def _next_begin(self, begin: float) -> float:
        """Return when the reply after the current one can begin at the earliest."""
        if self._index + 1 == len(self._replies):
            return float("inf")
        reply = self._replies[self._index]
        following = self._replies[self._index + 1].first_audio or 0.0
        played_out = begin + max(0.0, reply.generated_secs - reply.heard_secs)
        cuts = [cut for cut in self._cuts if cut > begin]
        over = min([played_out, *cuts[:1]])
        earliest = max(over, following)
        return earliest if earliest > begin + 1e-6 else float("inf")


def listen_to_replies(replies: Sequence[Reply], sounds: Sounds | None) -> None:
    """Find the first and the last sound of each reply.

    Args:
        replies: The replies, whose `heard_from` and `heard_until` are set.
        sounds: What is heard of the loudspeaker; `None` if there is no audio: then a reply sounds
            as long as it is played.
    """
    for reply in replies:
        if not reply.heard:
            continue
        if sounds is None:
            reply.heard_from, reply.heard_until = reply.heard[0][0], reply.heard[-1][1]
            continue
        firsts = (sounds.first(begin, end) for begin, end in reply.heard)
        lasts = (sounds.last(begin, end) for begin, end in reversed(reply.heard))
        reply.heard_from = next((first for first in firsts if first is not None), None)
        reply.heard_until = next((last for last in lasts if last is not None), None)


def find_interruptions(gathering: Gathering, sounds: Sounds | None) -> list[Interruption]:
    """Find the barge-ins, and when the reply was silent after each.

    Args:
        gathering: The call, its turns and replies listened to.
        sounds: What is heard of the loudspeaker, if there is audio.

    Returns:
        The interruptions of what was heard, in order.
    """
    found: list[Interruption] = []
    for cut in gathering.cuts:
        turn = _interrupting(gathering.turns, cut)
        began = turn.began if turn else cut
        if turn and turn.said_from is not None:
            began = turn.said_from
        for reply in gathering.replies:
            run = _run_at(reply, min(began, cut), cut)
            if run is None or any(one.response_id == reply.response_id for one in found[-1:]):
                continue
            if reply.generated_secs - _heard_before(reply, run[1]) <= _CUT_SECS:
                continue  # It was over by itself.
            silent = run[1] if sounds is None else sounds.last(run[0], run[1])
            if silent is not None:
                found.append(
                    Interruption(
                        turn=turn.number if turn else None,
                        response_id=reply.response_id,
                        interrupted=cut,
                        speech_began=began if turn else None,
                        silent_at=silent,
                    )
                )
    return found


def _interrupting(turns: Sequence[Turn], cut: float) -> Turn | None:
    near = [turn for turn in turns if abs(turn.began - cut) <= _SAME_BARGE_IN_SECS]
    return min(near, key=lambda turn: abs(turn.began - cut), default=None)


def _run_at(reply: Reply, began: float, cut: float) -> Span | None:
    """Return what is played of a reply at a stretch while the user begins to speak."""
    runs: list[Span] = []
    for begin, end in reply.heard:
        if runs and begin - runs[-1][1] <= _RUN_GAP_SECS:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return next((run for run in runs if run[0] <= cut and run[1] >= began), None)


def _heard_before(reply: Reply, at: float) -> float:
    return sum(min(end, at) - begin for begin, end in reply.heard if begin < at)
