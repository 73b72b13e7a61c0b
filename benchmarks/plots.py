"""Line plots as SVG, written by hand: a few lines each, and nothing to install."""

import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

__all__ = ["Plot"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 170, 40, 48
_COLORS = ("#0b6e4f", "#c1440e", "#5b5f97", "#b8860b", "#888888", "#3aa0c8", "#222222", "#cc79a7")


@dataclass
class Plot:
    """Lines over a number of sessions; both axes are logarithmic.

    Parameters:
        title: What is shown.
        unit: Of the figures.
        lines: The points of each peer. One without points keeps its colour, so that the peers have
            the same colours in all plots.
        limit: A figure that is to be seen as a line across.
    """

    title: str
    unit: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    limit: float | None = None

    def svg(self) -> str:
        """The plot."""
        points = [point for line in self.lines.values() for point in line if point[1] > 0]
        if not points:
            points = [(1.0, 1.0)]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        x_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
        y_axis = _Axis(
            10 ** math.floor(math.log10(min(ys))),
            10 ** math.ceil(math.log10(max(ys))),
            _HEIGHT - _BOTTOM,
            _TOP,
        )
        parts = [_text(_LEFT, 22, f"{self.title}, {self.unit}", size=15)]
        parts += [_line(_LEFT, y_axis.at(y), _WIDTH - _RIGHT, y_axis.at(y)) for y in y_axis.ticks()]
        parts += [_text(_LEFT - 8, y_axis.at(y) + 4, f"{y:g}", "end") for y in y_axis.ticks()]
        parts += [
            _text(x_axis.at(x), _HEIGHT - _BOTTOM + 18, f"{x:g}", "middle") for x in sorted({*xs})
        ]
        parts.append(
            _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "sessions in a process", "middle")
        )
        if self.limit is not None:
            at = y_axis.at(self.limit)
            parts.append(_line(_LEFT, at, _WIDTH - _RIGHT, at, color="#d00", dashes="4 3"))
        for number, (name, line) in enumerate(self.lines.items()):
            parts += _curve(number, name, [(x_axis.at(x), y_axis.at(y)) for x, y in line if y > 0])
        body = "\n".join(parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'font-family="sans-serif" font-size="12">\n'
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
        )


class _Axis:
    """A logarithmic axis."""

    def __init__(self, low: float, high: float, begin: float, end: float):
        self._low = math.log10(low)
        self._high = math.log10(high) if high > low else self._low + 1
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._begin + min(max(part, 0.0), 1.0) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        decades = range(round(self._low), round(self._high) + 1)
        steps = (1, 2, 5) if len(decades) <= 3 else (1,)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        return [tick for tick in ticks if self._low <= math.log10(tick) <= self._high]


def _curve(number: int, name: str, points: list[tuple[float, float]]) -> list[str]:
    """A line with its points, and its name in the legend; nothing, if it has no points."""
    if not points:
        return []
    color = _COLORS[number % len(_COLORS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    y = _TOP + 16 + 18 * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in points),
        f'<rect x="{_WIDTH - _RIGHT + 12}" y="{y - 9}" width="10" height="10" fill="{color}"/>',
        _text(_WIDTH - _RIGHT + 28, y, name),
    ]


def _line(
    x1: float, y1: float, x2: float, y2: float, *, color: str = "#ddd", dashes: str = "none"
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{color}" stroke-dasharray="{dashes}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", *, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
