"""A report as one page of HTML, which needs nothing but itself: no network, no other file.

The page has the figures as plain HTML, a picture of each call for paper (and for browsers without
JavaScript), a timeline that can be played, and the audio. `static/` has its parts.

Why the timeline is drawn by code of its own and not by wavesurfer.js: what is wanted is not one
waveform but two, with lanes of boxes, brackets and marks on the same axis, in colours that follow
the page, in a page that also prints. wavesurfer.js draws a waveform and leaves the rest to plugins
that make elements, of which an hour's call would have thousands.

Theory of safety. What people and models say in a call is anybody's text. It reaches the page in
two ways: as HTML, escaped by `_text`; and as JSON in a `script` element of a type that no browser
runs, where no `<` is left. From there it gets into the page as text of nodes. Should a text break
out all the same, the page's policy forbids each script but the one whose hash it names, and each
request.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any, Final

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.cli.report.document import document
from pipecat_hydra.cli.report.figures import (
    DEFINITIONS,
    TITLES,
    Difference,
    spreads,
    values_of,
)
from pipecat_hydra.cli.report.lines import lines_of
from pipecat_hydra.cli.report.picture import svg
from pipecat_hydra.cli.report.sound import encoded, peaks
from pipecat_hydra.recording.spread import Spread

__all__ = ["page"]

_STATIC: Final = files("pipecat_hydra.cli.report") / "static"
_SCRIPTS: Final = ("timeline.js", "main.js")

_FINE_STEP: Final = 0.005
_COARSE_STEP: Final = 0.01
_FINE_SECS: Final = 600.0
"""Up to this length the levels of a voice have fine steps."""

_MOST_PICTURES: Final = 20
"""So many calls have a picture on paper."""


def page(calls: Sequence[ReportedCall], differences: Sequence[Difference] = ()) -> str:
    """Make the page.

    Args:
        calls: The calls, one at least.
        differences: What a comparison found.

    Returns:
        The page.
    """
    script = "\n".join(_static(name) for name in _SCRIPTS)
    script = f'"use strict";\n{script}'
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    audio = [encoded(call.recording) for call in calls]
    data = _data(calls, [bool(file) for file, _ in audio])
    title = calls[0].name if len(calls) == 1 else f"{len(calls)} calls"
    return Template(_static("report.html")).substitute(
        hash=hashed,
        title=_text(title),
        style=_static("report.css"),
        facts=_facts(calls),
        notices=_notices(calls),
        figures="\n".join(_figure(calls, name, found) for name, found in spreads(calls).items()),
        comparison=_comparison(differences) if differences else "",
        calls=_table_of_calls(calls) if len(calls) > 1 else "",
        pictures=_pictures(calls),
        definitions=_definitions(),
        made=f"Made by pipecat-hydra {_text(version('pipecat-hydra'))}.",
        data=_json(data),
        script=script,
        audio="\n".join(_audio(index, *file) for index, file in enumerate(audio)),
    )


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return escape("".join(char if char.isprintable() else " " for char in text))


def _json(data: Any) -> str:
    """Write JSON that can stand in a `script` element: nothing in it opens or ends an element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(calls: Sequence[ReportedCall], have_audio: Sequence[bool]) -> dict[str, Any]:
    data = document(calls)
    for call, has_audio, shown in zip(calls, have_audio, data["calls"], strict=True):
        step = _FINE_STEP if call.course.secs <= _FINE_SECS else _COARSE_STEP
        secs = max(call.course.secs, 1.0)
        tracks = {"user": call.recording.user_track(), "bot": call.recording.heard_track()}
        levels = {name: peaks(track, step, secs).tobytes() for name, track in tracks.items()}
        shown["peaks"] = {n: base64.b64encode(found).decode() for n, found in levels.items()}
        shown["peaks"]["step"] = step
        shown["has_audio"] = has_audio
        shown["lines"] = [asdict(line) for line in lines_of(call.course)]
    return data


def _audio(index: int, file: bytes, media_type: str) -> str:
    if not file:
        return ""
    text = base64.b64encode(file).decode()
    return f'<script type="text/plain" id="audio-{index}" data-type="{media_type}">{text}</script>'


def _facts(calls: Sequence[ReportedCall]) -> str:
    total = sum(call.course.secs for call in calls)
    facts = [_clock(total) + (" in all" if len(calls) > 1 else "")]
    for name in ("began", "model", "voice", "url"):
        values = sorted({call.header(name) for call in calls} - {""})
        if name == "began" and values:
            facts.append(values[0][:16].replace("T", " ") + " UTC")
        elif values:
            facts.append(", ".join(values))
    turns = sum(len(call.course.turns) for call in calls)
    facts.append(f"{turns} turn{'s'[: turns != 1]}")
    return " ".join(f"<span>{_text(fact)}</span>" for fact in facts)


def _notices(calls: Sequence[ReportedCall]) -> str:
    notices: list[str] = []
    cut = [call for call in calls if not call.course.is_complete]
    if cut:
        where = ", ".join(
            f"{_clock(call.course.secs, 2)}" + (f" ({call.name})" if len(calls) > 1 else "")
            for call in cut[:5]
        )
        more = f" and {len(cut) - 5} more" if len(cut) > 5 else ""
        notices.append(f"The recording was cut off, and ends at {where}{more}.")
    if any(not call.course.is_measured for call in calls):
        notices.append(
            "There is no audio of both voices in a recording: its figures are from the events, "
            "and not from what was heard."
        )
    return "\n".join(f'<p class="notice">{_text(notice)}</p>' for notice in notices)


def _figure(calls: Sequence[ReportedCall], name: str, spread: Spread | None) -> str:
    head = (
        f'<article class="figure card" title="{_text(DEFINITIONS[name])}"><h2>{TITLES[name]}</h2>'
    )
    if spread is None:
        return f'{head}<p class="median none">-</p></article>'
    cells = {"p90": spread.p90, "p95": spread.p95, "most": spread.most}
    rows = "".join(f"<dt>{label}</dt><dd>{_ms(value)}</dd>" for label, value in cells.items())
    return (
        f'{head}<p class="median">{_ms(spread.p50)} <small>ms</small></p>'
        f"{_strip(values_of(calls, name), spread)}"
        f"<dl><dt>n</dt><dd>{spread.count}</dd>{rows}</dl></article>"
    )


def _strip(values: Sequence[float], spread: Spread) -> str:
    """Draw each value as a dot on a line from zero to the greatest."""
    most = max(spread.most, 0.001)

    def place(value: float) -> float:
        return 100 * max(0.0, value) / most

    # Many dots look like few where they lie on each other.
    drawn = sorted(values)[:: max(1, len(values) // 300)]
    dots = "".join(f'<circle cx="{place(value):.1f}%" cy="9" r="3.5"/>' for value in drawn)
    median = place(spread.p50)
    return (
        '<svg class="strip" aria-hidden="true"><line x1="0" x2="100%" y1="9" y2="9"/>'
        f'{dots}<line class="median-mark" x1="{median:.1f}%" x2="{median:.1f}%" y1="2" y2="16"/>'
        "</svg>"
    )


def _comparison(differences: Sequence[Difference]) -> str:
    rows: list[str] = []
    for difference in differences:
        before, after = difference.before, difference.after
        moved = "-" if difference.moved is None else f"{1000 * difference.moved:+.0f} ms"
        verdict = difference.verdict
        kind = verdict if verdict in ("slower", "faster") else "chance"
        rows.append(
            f"<tr><td>{TITLES[difference.name]}</td>{_sides(before)}{_sides(after)}"
            f'<td>{moved}</td><td class="words {kind}">{_text(verdict)}</td></tr>'
        )
    heads = "".join(
        f"<th>{side} {of}</th>" for side in ("before", "after") for of in ("p50", "p95")
    )
    return _table("Compared", f"<th>Latency</th>{heads}<th>moved</th><th></th>", rows)


def _sides(spread: Spread | None) -> str:
    if spread is None:
        return "<td>-</td><td>-</td>"
    return f"<td>{_ms(spread.p50)}</td><td>{_ms(spread.p95)}</td>"


def _table_of_calls(calls: Sequence[ReportedCall]) -> str:
    rows: list[str] = []
    for index, call in enumerate(calls):
        found = spreads([call])
        medians = "".join(
            f"<td>{'-' if spread is None else _ms(spread.p50)}</td>" for spread in found.values()
        )
        problems = len(call.course.errors) + len(call.course.reconnects)
        end = "" if call.course.is_complete else ", cut off"
        rows.append(
            f'<tr><td><button type="button" data-call="{index}">{_text(call.name)}</button></td>'
            f"<td>{_clock(call.course.secs)}{end}</td><td>{len(call.course.turns)}</td>{medians}"
            f'<td class="{"problem" if problems else ""}">{problems}</td></tr>'
        )
    heads = "".join(f"<th>{title}, ms</th>" for title in TITLES.values())
    return _table(
        "Calls", f"<th>Call</th><th>length</th><th>turns</th>{heads}<th>problems</th>", rows
    )


def _table(title: str, heads: str, rows: Sequence[str]) -> str:
    return (
        f'<section class="card"><h2>{title}</h2><div class="scroll"><table><thead><tr>{heads}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _pictures(calls: Sequence[ReportedCall]) -> str:
    return "\n".join(svg(call, is_standalone=False) for call in calls[:_MOST_PICTURES])


def _definitions() -> str:
    pairs = "".join(f"<dt>{TITLES[n]}</dt><dd>{text}</dd>" for n, text in DEFINITIONS.items())
    return f"<dl>{pairs}</dl>"


def _ms(secs: float) -> str:
    return f"{1000 * secs:.0f}"


def _clock(secs: float, digits: int = 0) -> str:
    minutes, rest = divmod(round(secs, digits), 60)
    return f"{minutes:.0f}:{rest:0{3 + digits if digits else 2}.{digits}f}"
