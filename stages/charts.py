"""Charts of an HTML page as inline SVG and tables: they follow the page's width and its light or dark colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from curation.page_shell import text_html

STYLE = """
.wide table { font-size: 11.5px; } .wide th, .wide td { padding-right: 7px; }
.wide :is(th, td):last-child { padding-right: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 12px 14px; margin: 6px 0; }
.chart h3 { margin: 0; font-size: 13px; } .chart p { font-size: 11.5px; line-height: 1.3; margin: 0 0 3px; }
.chart svg { height: auto; overflow: visible; }
.chart text, .dots text { font-size: 9.5px; fill: var(--soft); }
.chart polyline { fill: none; stroke-width: 1.4; stroke-linejoin: round; }
.axis { stroke: var(--line); stroke-width: 1; }
.heat td { min-width: 30px; text-align: center; padding: 2px 4px; border: 1px solid var(--page); font-size: 11px;
  font-variant-numeric: tabular-nums; }
.heat th { font-weight: 400; font-size: 11px; padding: 2px 8px 2px 0; white-space: nowrap; border: 0; }
.heat th.turn { padding: 0; vertical-align: bottom; }
.heat th.turn span { display: block; writing-mode: vertical-rl; transform: rotate(180deg); margin: 0 auto; width: 14px;
  max-height: 120px; overflow: hidden; text-overflow: ellipsis; }
.dots { display: grid; grid-template-columns: minmax(90px, auto) 1fr; gap: 1px 10px; align-items: center;
  font-size: 12px; margin: 4px 0 10px; }
.dots svg { height: 18px; overflow: visible; }
.dots .scale { height: 14px; }
.legend { flex-wrap: wrap; } .legend span { white-space: nowrap; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 5px; }
"""
"""CSS that pages with these charts need."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 280, 104, 36, 14
_DOTTED = 12
"""Points up to which each gets a dot."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a chart. points: (x, y) by rising x; those that are not finite interrupt it. bounds: (x, low, high) of
    an interval around it."""

    name: str
    points: Sequence[Point]
    colour: str = "var(--blue)"
    bounds: Sequence[tuple[float, float, float]] = ()
    dotted: bool = False


@dataclass(frozen=True)
class _Scale:
    """From values to places in a chart."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    def x(self, value: float) -> float:
        share = (value - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(_LEFT + (_WIDTH - _LEFT) * share, 1)

    def y(self, value: float) -> float:
        height = min(max(self._scaled(value), self._scaled(self.low)), self._scaled(self.high))
        share = (height - self._scaled(self.low)) / (self._scaled(self.high) - self._scaled(self.low))
        return round((_HEIGHT - _BOTTOM) * (1 - share), 1)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value


def _scale(lines: Sequence[Line], log: bool, y_range: tuple[float, float] | None) -> _Scale | None:
    """What holds all lines, or None where none has a point."""
    points = [point for line in lines for point in line.points if math.isfinite(point[1])]
    if not points:
        return None
    values = [y for _, y in points] + [y for line in lines for _, *ends in line.bounds for y in ends]
    low, high = y_range or (min(values), max(values))
    log = log and low > 0
    if math.isclose(low, high, abs_tol=1e-12):
        low, high = (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
    return _Scale(min(x for x, _ in points), max(x for x, _ in points), low, high, log)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    note: str = "",
    spans: Iterable[tuple[float, float]] = (),
    log: bool = False,
    y_range: tuple[float, float] | None = None,
    x_ticks: Mapping[float, str] | None = None,
) -> str:
    """A chart under its title; "" without any point.

    spans: ranges of x that are shaded red. log: the y axis, where all values are above 0. x_ticks: texts below the
    axis by their place, the first and the last x if not given.
    """
    scale = _scale(lines, log, y_range)
    if scale is None:
        return ""
    base = _HEIGHT - _BOTTOM
    ticks = x_ticks or {scale.first: f"{scale.first:g}", scale.last: f"{scale.last:g}"}
    shapes = [
        *(_span(scale, left, right) for left, right in spans),
        *(_line(scale, line) for line in lines),
        f'<path class="axis" fill="none" d="M{_LEFT},0V{base}H{_WIDTH}"/>',
        *(_tick(scale.x(x), text) for x, text in ticks.items()),
        *(
            f'<text x="{_LEFT - 4}" y="{y}" text-anchor="end">{_short(value)}</text>'
            for value, y in ((scale.high, 8), (scale.low, base))
        ),
    ]
    below = f"<p>{text_html(note)}</p>" if note else ""
    return (
        f'<div class="chart"><h3>{text_html(title)}</h3>{below}<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{text_html(title)}">{"".join(shapes)}</svg>{legend(lines) if len(lines) > 1 else ""}</div>'
    )


def _tick(x: float, text: str) -> str:
    anchor = "start" if x <= _LEFT + 1 else "end" if x >= _WIDTH - 1 else "middle"
    return f'<text x="{x}" y="{_HEIGHT - 3}" text-anchor="{anchor}">{text_html(text)}</text>'


def _span(scale: _Scale, left: float, right: float) -> str:
    start, width = scale.x(left), max(2.0, scale.x(right) - scale.x(left))
    return (
        f'<rect x="{start}" y="0" width="{width:.1f}" height="{_HEIGHT - _BOTTOM}" fill="var(--red)" '
        'fill-opacity=".22"/>'
    )


def _line(scale: _Scale, line: Line) -> str:
    parts: list[list[Point]] = [[]]
    for x, y in line.points:
        if math.isfinite(y):
            parts[-1].append((scale.x(x), scale.y(y)))
        elif parts[-1]:
            parts.append([])
    shapes = ""
    if line.bounds:
        ring = [(x, high) for x, _, high in line.bounds] + [(x, low) for x, low, _ in reversed(line.bounds)]
        places = " ".join(f"{scale.x(x)},{scale.y(y)}" for x, y in ring)
        shapes += f'<polygon points="{places}" fill="{line.colour}" fill-opacity=".16"/>'
    dashes = ' stroke-dasharray="2 3"' if line.dotted else ""
    for part in parts:
        if len(part) > 1:
            shapes += f'<polyline points="{" ".join(f"{x},{y}" for x, y in part)}" stroke="{line.colour}"{dashes}/>'
        if len(part) == 1 or len(line.points) <= _DOTTED:
            shapes += "".join(f'<circle cx="{x}" cy="{y}" r="2.2" fill="{line.colour}"/>' for x, y in part)
    return shapes


def legend(lines: Iterable[Line]) -> str:
    """The names of lines in their colours."""
    keys = "".join(
        f'<span><i class="key" style="background:{line.colour}"></i>{text_html(line.name)}</span>' for line in lines
    )
    return f'<div class="legend">{keys}</div>'


def _short(value: float) -> str:
    if value and (abs(value) >= 10_000 or abs(value) < 0.001):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.3g}"


@dataclass(frozen=True)
class Mark:
    """A value with its interval, if it has one, in a colour."""

    value: float
    low: float | None
    high: float | None
    colour: str


def dots_chart(rows: Sequence[tuple[str, Sequence[Mark]]], low: float, high: float, labels: str = "{:.2f}") -> str:
    """A row of marks with their intervals for each name, all on one scale from `low` to `high`."""

    def at(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / ((high - low) or 1)

    lines = []
    for name, marks in rows:
        shapes = '<line x1="0" x2="100%" y1="50%" y2="50%" class="axis"/>'
        for n, mark in enumerate(marks):
            y = f"{100 * (n + 1) / (len(marks) + 1):.0f}%"
            text = labels.format(mark.value)
            if mark.low is not None and mark.high is not None:
                text += f" ({labels.format(mark.low)} .. {labels.format(mark.high)})"
                shapes += (
                    f'<line x1="{at(mark.low):.1f}%" x2="{at(mark.high):.1f}%" y1="{y}" y2="{y}" '
                    f'stroke="{mark.colour}" stroke-width="2" stroke-opacity=".55"/>'
                )
            shapes += f'<circle cx="{at(mark.value):.1f}%" cy="{y}" r="3.4" fill="{mark.colour}">'
            shapes += f"<title>{text_html(text)}</title></circle>"
        lines.append(f'<span>{text_html(name)}</span><svg role="img" aria-label="{text_html(name)}">{shapes}</svg>')
    ticks = "".join(
        f'<text x="{place}%" y="10" text-anchor="{anchor}">{labels.format(value)}</text>'
        for place, anchor, value in ((0, "start", low), (50, "middle", (low + high) / 2), (100, "end", high))
    )
    return f'<div class="dots">{"".join(lines)}<span></span><svg class="scale">{ticks}</svg></div>'


def heat_table(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    low: float,
    high: float,
    labels: str = "{:.2f}",
    rgb: str = "47,111,222",
    turned: bool = False,
) -> str:
    """A table whose cells are the darker the nearer their value is to `high`. labels: how a value is written, "" for
    colours alone. turned: columns are named upwards."""
    kind = ' class="turn"' if turned else ""
    head = "".join(f'<th{kind} title="{text_html(name)}"><span>{text_html(name)}</span></th>' for name in columns)
    lines = [f"<tr><th></th>{head}</tr>"]
    for name, row in zip(rows, values, strict=True):
        cells = "".join(
            _cell(value, f"{name} / {column}", low, high, labels, rgb)
            for column, value in zip(columns, row, strict=True)
        )
        lines.append(f'<tr><th title="{text_html(name)}">{text_html(name)}</th>{cells}</tr>')
    return f'<div class="wide"><table class="heat">{"".join(lines)}</table></div>'


def _cell(value: float | None, name: str, low: float, high: float, labels: str, rgb: str) -> str:
    if value is None or not math.isfinite(value):
        return "<td></td>"
    share = min(1.0, max(0.0, (value - low) / ((high - low) or 1)))
    ink = ";color:#fff" if share > 0.55 else ""
    text = labels.format(value) if labels else ""
    return f'<td title="{text_html(name)}: {value:.3g}" style="background:rgba({rgb},{share:.2f}){ink}">{text}</td>'
