"""A run as a picture: its stages from top to bottom, who reads from whom, rows, seconds, reused or run, and why."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from curation.page_shell import text_html
from pipelines.display import rows_text
from pipelines.run_lines import StageLine

WIDTH = 600
_TOP, _ROW, _LANE = 44, 46, 9
_SECONDS = 62
_COLOURS = {"run": "#2e8b57", "reused": "#2f6fde", "failed": "#c2513f", "blocked": "#b7791f", "cancelled": "#b7791f"}
_OTHER = "#8a919e"
_WIRES = ("#b8bec9", "#8fb3ea", "#e3b98c", "#95c9ab", "#cfa3c9", "#c9c48a")
_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px;fill:#22252b}"
    ".s{font-size:11px;fill:#6b7280}.b{font-weight:600}.e{text-anchor:end}.m{text-anchor:middle;font-size:11px;fill:#fff}"
)


def pipeline_svg(title: str, status: str, lines: Sequence[StageLine]) -> str:
    """The picture as SVG, `WIDTH` pixels wide; nothing in it is loaded from elsewhere.

    A stage's output runs as one wire down to all that read it, and enters each from the left.
    """
    lanes = _lanes(lines)
    left = 20 + _LANE * (1 + max((lane for lane, _ in lanes.values()), default=-1))
    height = _TOP + _ROW * len(lines) + 6
    done = [line.state.seconds for line in lines if line.action == "run"]
    saved = sum(line.before or 0.0 for line in lines)
    told = f"{status}: {sum(done):,.0f} s of work" + (f", {saved:,.0f} s saved by reuse" if saved else "")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{_safe(title)}"><style>{_STYLE}</style>'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="18" class="b">{_safe(_cut(title, 76))}</text>',
        f'<text x="10" y="34" class="s">{_safe(told)}</text>',
        *_wires(lines, lanes, left),
    ]
    longest = max(done, default=0.0)
    for place, line in enumerate(lines):
        parts += _stage(line, left, _TOP + _ROW * place, longest)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lanes(lines: Sequence[StageLine]) -> dict[str, tuple[int, int]]:
    """Of each stage that others than the next one read: the lane of its wire, counted from the right, and the row of
    its last reader. Wires that overlap have different lanes."""
    place = {line.name: row for row, line in enumerate(lines)}
    last: dict[str, int] = {}
    for row, line in enumerate(lines):
        for source in line.reads:
            if row - place[source] > 1:
                last[source] = row
    lanes: dict[str, tuple[int, int]] = {}
    for source in sorted(last, key=lambda name: (last[name] - place[name], place[name])):
        taken = {lane for other, (lane, end) in lanes.items() if place[source] < end and place[other] < last[source]}
        lanes[source] = (next(n for n in range(len(lines)) if n not in taken), last[source])
    return lanes


def _wires(lines: Sequence[StageLine], lanes: dict[str, tuple[int, int]], left: int) -> list[str]:
    """Lines between the dots of stages: straight to the next row, over a lane to others."""
    middle = {line.name: _TOP + _ROW * row + 14 for row, line in enumerate(lines)}
    paths = []
    for number, (source, (lane, _)) in enumerate(sorted(lanes.items(), key=lambda item: middle[item[0]])):
        x, colour = left - 12 - _LANE * (lane + 1), _WIRES[number % len(_WIRES)]
        for line in lines:
            if source in line.reads and middle[line.name] - middle[source] > _ROW:
                top, end = middle[source], middle[line.name]
                path = f"M{left - 6} {top} H{x + 6} q-6 0 -6 6 V{end - 6} q0 6 6 6 H{left - 6}"
                paths.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for above, line in pairwise(lines):
        if above.name in line.reads:
            path = f"M{left - 6} {middle[above.name]} V{middle[line.name]}"
            paths.append(f'<path d="{path}" stroke="{_WIRES[0]}" stroke-width="1.5"/>')
    return paths


def _stage(line: StageLine, left: int, top: int, longest: float) -> list[str]:
    """A row: dot, name, badge, rows and seconds; why below it, and its share of the time as a bar."""
    colour = _COLOURS.get(line.action, _OTHER)
    state = line.state
    name = line.name if line.name.startswith(line.type) else f"{line.name} ({line.type})"
    seconds = f"{state.seconds:,.1f} s" if line.action == "run" else f"({line.before:,.1f} s)" if line.before else ""
    below = (state.error.splitlines() or [""])[0] or line.why
    below_cut = _cut(below, int((WIDTH - left - 12) / 5.9))
    parts = [
        f'<circle cx="{left - 6}" cy="{top + 14}" r="5" fill="{colour}"/>',
        f'<g><title>{_safe(state.summary or below)}</title><text x="{left + 6}" y="{top + 18}" class="b">'
        f"{_safe(_cut(name, (WIDTH - 262 - left) // 8))}</text></g>",
        f'<rect x="{WIDTH - 256}" y="{top + 6}" width="66" height="16" rx="8" fill="{colour}"/>'
        f'<text x="{WIDTH - 223}" y="{top + 18}" class="m">{line.action}</text>',
        f'<text x="{WIDTH - 84}" y="{top + 18}" class="s e">{_safe(rows_text(state.rows_in, state.rows_out))}</text>',
        f'<text x="{WIDTH - 10}" y="{top + 18}" class="e">{seconds}</text>',
        f'<g><title>{_safe(below)}</title><text x="{left + 6}" y="{top + 34}" class="s">{_safe(below_cut)}</text></g>',
    ]
    if line.action == "run" and longest:
        bar = max(1.0, _SECONDS * state.seconds / longest)
        place = f'x="{WIDTH - 10 - bar:.1f}" y="{top + 25}" width="{bar:.1f}"'
        parts.append(f'<rect {place} height="3" rx="1.5" fill="{colour}"/>')
    return parts


def _safe(text: str) -> str:
    return text_html("".join(c for c in text if c >= " "))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
