"""A call as an SVG picture: for issues, documents, and the printed page.

The picture brings its own ground, and colours for a light and a dark one, so that it is legible
wherever it is shown. All of it is shapes and texts: no script, no link, no font.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.cli.report.sound import peaks
from pipecat_hydra.recording.course import Course

__all__ = ["svg"]

_WIDTH: Final = 960
_LEFT: Final = 58
_RIGHT: Final = 14
_HEAD: Final = 34

_RULER: Final = 16
_WAVE: Final = 44
_BOX: Final = 17
_GAP: Final = 5
_TEXT: Final = 11
"""Size of the text in pixels."""

_ROW_SECS: Final = 60.0
_MOST_ROWS: Final = 12
_COLUMN: Final = 1.5
"""Width of one column of a waveform in pixels."""


def svg(call: ReportedCall, *, is_standalone: bool = True) -> str:
    """Draw a call.

    Args:
        call: The call.
        is_standalone: Whether it is a file of its own, which has a head and colours for a dark
            ground; else it is a part of a page that is printed.

    Returns:
        The picture.
    """
    secs = max(call.course.secs, 1.0)
    rows = min(_MOST_ROWS, max(1, ceil(secs / _ROW_SECS - 0.5)))
    row_secs = secs / rows
    drawing = _Drawing(call, row_secs)
    y = _HEAD if is_standalone else 6
    body: list[str] = []
    for row in range(rows):
        body += drawing.row(row * row_secs, y)
        y += drawing.row_height + 12
    style = _style("picture.css") + (_style("picture-dark.css") if is_standalone else "")
    head = _head(call) if is_standalone else []
    ground = f'<rect class="g" x=".5" y=".5" width="{_WIDTH - 1}" height="{y - 1}" rx="8"/>'
    return "\n".join(
        [
            f'<svg class="hydra" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" '
            f'width="{_WIDTH}" height="{y}" role="img">',
            f"<title>{_text(call.name)}, {call.course.secs:.1f} seconds</title>",
            f"<style>{style}</style>",
            *([ground] if is_standalone else []),
            *head,
            *body,
            "</svg>\n",
        ]
    )


def _style(name: str) -> str:
    return (files("pipecat_hydra.cli.report") / "static" / name).read_text(encoding="utf-8")


def _head(call: ReportedCall) -> list[str]:
    about = [call.header("began")[:19].replace("T", " ") + " UTC", f"{call.course.secs:.1f} s"]
    about += [call.header("model"), call.header("voice")]
    right = _fitted(" · ".join(filter(None, about)), _WIDTH / 2)
    name = _fitted(call.name, _WIDTH / 2 - 40)
    return [
        f'<text class="t h" x="14" y="22">{_text(name)}</text>',
        f'<text class="q" x="{_WIDTH - _RIGHT}" y="22" text-anchor="end">{_text(right)}</text>',
    ]


class _Drawing:
    """Draws rows of a call, each of which has so many seconds."""

    def __init__(self, call: ReportedCall, row_secs: float):
        self._course = call.course
        self._row_secs = row_secs
        self._scale = (_WIDTH - _LEFT - _RIGHT) / row_secs
        self._step = _COLUMN / self._scale
        secs = max(call.course.secs, 1.0)
        self._user = peaks(call.recording.user_track(), self._step, secs)
        self._heard = peaks(call.recording.heard_track(), self._step, secs)
        self._has_tools = bool(call.course.tools)
        self._begin = 0.0
        lanes = [_RULER, _WAVE, _BOX, _BOX, _WAVE, _BOX]
        self.row_height = sum(lanes) + _GAP * len(lanes) + self._has_tools * (_BOX + _GAP)

    def row(self, begin: float, y: float) -> Iterator[str]:
        self._begin = begin
        top = y
        yield from self._ruler(y)
        y += _RULER + _GAP
        yield from self._line(y, top + self.row_height - y - _GAP)
        yield self._label("User", y + _WAVE / 2)
        yield self._wave(self._user, "u", y)
        y += _WAVE + _GAP
        yield from self._turns(y)
        y += _BOX + _GAP
        yield from self._latencies(y)
        y += _BOX + _GAP
        yield self._label("Bot", y + _WAVE / 2)
        yield self._wave(self._heard, "b", y)
        y += _WAVE + _GAP
        yield from self._replies(y)
        y += _BOX + _GAP
        if self._has_tools:
            yield self._label("Tools", y + _BOX / 2)
            yield from self._tools(y)

    def _x(self, secs: float) -> float:
        return _LEFT + self._scale * (secs - self._begin)

    def _span(self, begin: float, end: float) -> tuple[float, float] | None:
        """Return where a span begins, and its width, in this row; `None` if it is in another."""
        x, right = max(self._x(begin), _LEFT), min(self._x(end), _WIDTH - _RIGHT)
        return (x, right - x) if right > x else None

    def _has(self, at: float) -> bool:
        return self._begin <= at <= self._begin + self._row_secs

    @staticmethod
    def _label(text: str, y: float) -> str:
        return f'<text class="q" x="14" y="{y + 4:.1f}">{text}</text>'

    def _ruler(self, y: float) -> Iterator[str]:
        nice = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
        step = next((n for n in nice if n * self._scale >= 56), 900)
        for number in range(ceil(self._begin / step), int(1e6)):
            at = number * step
            if at > min(self._begin + self._row_secs, max(self._course.secs, 1.0)) + 1e-6:
                break
            x = self._x(at)
            bottom = y + self.row_height - _GAP
            yield f'<path class="r" d="M{x:.1f} {y + 12}V{bottom:.0f}"/>'
            anchor = "end" if x > _WIDTH - _RIGHT - 16 else "middle" if at else "start"
            yield (
                f'<text class="q num" x="{x:.1f}" y="{y + 9}" text-anchor="{anchor}">'
                f"{_clock(at)}</text>"
            )

    def _line(self, y: float, height: float) -> Iterator[str]:
        """Draw what concerns all voices: losses of the connection, settings, errors, the end."""
        for lost in self._course.reconnects:
            end = self._course.secs if lost.ended is None else lost.ended
            if span := self._span(lost.began, end):
                x, width = span
                yield self._area("lost", x, y, width, height, f"Connection lost: {lost.reason}")
                text = _fitted("connection lost", width - 6)
                yield f'<text class="x" x="{x + 3:.1f}" y="{y + 10:.0f}">{text}</text>'
        for change in self._course.settings:
            if self._has(change.at):
                x, names = self._x(change.at), ", ".join(change.settings)
                yield (
                    f'<circle class="tb" cx="{x:.1f}" cy="{y - 1:.0f}" r="4">'
                    f"<title>Settings: {_text(names)}</title></circle>"
                )
        for error in self._course.errors:
            if self._has(error.at):
                x = self._x(error.at)
                yield (
                    f'<path class="x" d="M{x:.1f} {y - 5:.0f}l4 7h-8z">'
                    f"<title>{_text(error.message)}</title></path>"
                )
        if not self._course.is_complete and self._has(self._course.secs):
            x = self._x(self._course.secs)
            yield f'<path class="xl" stroke-dasharray="4 3" d="M{x:.1f} {y:.0f}v{height:.0f}"/>'
            yield (
                f'<text class="x" x="{x - 4:.1f}" y="{y + 10:.0f}" text-anchor="end">'
                f"cut off at {self._course.secs:.2f} s</text>"
            )

    @staticmethod
    def _area(kind: str, x: float, y: float, width: float, height: float, title: str) -> str:
        return (
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"><title>{_text(title)}</title></rect>'
        )

    def _wave(self, levels: NDArray[np.uint8], kind: str, y: float) -> str:
        """Draw a waveform as one shape, and nothing where it is silent."""
        first = round(self._begin / self._step)
        shown = levels[first : first + round(self._row_secs / self._step)]
        middle, shape = y + _WAVE / 2, [f"M{_LEFT} {y + _WAVE / 2:.0f}h{_WIDTH - _LEFT - _RIGHT}"]
        loudest = max(0.22, float(levels.max(initial=0)) / 255)
        heights = (shown.astype(np.float32) / 255 / loudest) ** 2
        for begin, end in _loud_runs(heights > 0.02):
            tops = [round(float(height) * (_WAVE / 2 - 1), 1) for height in heights[begin:end]]
            x = _LEFT + begin * _COLUMN
            shape.append(f"M{x:.1f} {middle - tops[0]:.1f}")
            shape += [f"L{x + n * _COLUMN:.1f} {middle - top:.1f}" for n, top in enumerate(tops)]
            over = list(enumerate(tops))[::-1]
            shape += [f"L{x + n * _COLUMN:.1f} {middle + top:.1f}" for n, top in over]
            shape.append("Z")
        return f'<path class="{kind}" d="{"".join(shape)}"/>'

    def _turns(self, y: float) -> Iterator[str]:
        for turn in self._course.turns:
            begin = turn.said_from if turn.said_from is not None else turn.began
            end = turn.said_until if turn.said_until is not None else turn.ended
            kind = "db" if turn.is_discarded else "ub"
            words = "discarded" if turn.is_discarded else turn.words
            yield from self._box(kind, begin, end or self._course.secs, y, words)

    def _replies(self, y: float) -> Iterator[str]:
        for reply in self._course.replies:
            if not reply.generated_secs or not reply.heard:
                continue
            begin, end = reply.heard[0][0], reply.heard[-1][1]
            if reply.is_cut:
                whole = end + max(0.0, reply.generated_secs - reply.heard_secs)
                following = (
                    other.heard[0][0]
                    for other in self._course.replies
                    if other.heard and other.heard[0][0] > begin
                )
                yield from self._box("gb", end, min(whole, *following, whole), y, "")
            yield from self._box("bb", begin, end, y, reply.words)

    def _tools(self, y: float) -> Iterator[str]:
        begins = [self._x(tool.asked) for tool in self._course.tools[1:]]
        for tool, following in zip(self._course.tools, [*begins, _WIDTH - _RIGHT], strict=True):
            end = self._course.secs if tool.answered is None else tool.answered
            yield from self._box("tb", tool.asked, end, y, tool.name, beside=following)

    def _box(
        self, kind: str, begin: float, end: float, y: float, text: str, *, beside: float = 0.0
    ) -> Iterator[str]:
        span = self._span(begin, end)
        if span is None:
            return
        x, width = span[0], max(2.0, span[1])
        title = f"<title>{_text(text)}</title>" if text else ""
        yield (
            f'<rect class="{kind}" x="{x:.1f}" y="{y + 0.5:.1f}" width="{width:.1f}" '
            f'height="{_BOX - 1}" rx="3">{title}</rect>'
        )
        room = width - 8
        if _width(text) > room and x + width + 8 + _width(text) <= min(beside, _WIDTH - _RIGHT):
            yield f'<text class="t" x="{x + width + 4:.1f}" y="{y + 12.5:.1f}">{_text(text)}</text>'
        elif shown := _fitted(text, room):
            yield f'<text class="t" x="{x + 4:.1f}" y="{y + 12.5:.1f}">{_text(shown)}</text>'

    def _latencies(self, y: float) -> Iterator[str]:
        middle = y + _BOX / 2
        brackets: list[tuple[float, float, str, str]] = []
        for begin, end, kind in _measures(self._course):
            if span := self._span(begin, end):
                text = f"{1000 * (end - begin):.0f} ms"
                brackets.append((span[0], span[0] + span[1], kind, text))
        for left, right, kind, _ in brackets:
            yield (
                f'<path class="{"xl" if kind == "x" else "al"}" fill="none" '
                f'd="M{left:.1f} {middle - 4:.1f}v8m0 -4H{right:.1f}m0 -4v8"/>'
            )
        taken = [(left, right) for left, right, _, _ in brackets]
        # Barge-ins choose first.
        for left, right, kind, text in sorted(brackets, key=lambda bracket: bracket[2] != "x"):
            width = _width(text)
            for x in (right + 4, left - 4 - width):
                if _is_free(x, x + width, taken):
                    taken.append((x, x + width))
                    yield f'<text class="{kind} num" x="{x:.1f}" y="{middle + 4:.1f}">{text}</text>'
                    break


def _is_free(left: float, right: float, taken: Iterable[tuple[float, float]]) -> bool:
    if left < _LEFT or right > _WIDTH - _RIGHT:
        return False
    return all(right + 3 <= begin or left >= end + 3 for begin, end in taken)


def _measures(course: Course) -> Iterator[tuple[float, float, str]]:
    for turn in course.turns:
        reply = course.answer_to(turn)
        end = turn.said_until if turn.said_until is not None else turn.ended
        if reply and reply.heard_from is not None and end is not None and not turn.is_discarded:
            yield end, reply.heard_from, "q"
    for one in course.interruptions:
        if one.speech_began is not None:
            yield one.speech_began, one.silent_at, "x"


def _loud_runs(mask: NDArray[np.bool_]) -> Iterable[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _clock(secs: float) -> str:
    whole = f"{int(secs // 60)}:{int(secs % 60):02}"
    return whole if float(secs).is_integer() else f"{whole}.{round(secs % 1 * 10)}"


def _width(text: str) -> float:
    """Estimate how wide a text is, in pixels."""
    wide = sum(1 if unicodedata.east_asian_width(char) in "WF" else 0.6 for char in text)
    return _TEXT * wide


def _fitted(text: str, room: float) -> str:
    """Return as much of a text as fits, empty if that is next to nothing."""
    text = " ".join(text.split())
    if _width(text) <= room:
        return text
    while text and _width(text) + 7 > room:
        text = text[:-1]
    return f"{text.rstrip()}…" if len(text) > 1 else ""


def _text(text: str) -> str:
    """Escape a text of anybody's; XML has no place for control characters."""
    return escape("".join(char for char in text if char.isprintable()))
