"""Who is compared on a page, in which colour, and how a figure with its interval is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curation.page_shell import text_html
from stages.charts import Mark

COLOURS = {"trained": "var(--blue)", "untrained": "var(--grey)", "pixels": "#d99a3d"}
"""Of the three contestants, in the order in which they are named."""

Metrics = Mapping[str, float]


def key_html(names: Sequence[str] = tuple(COLOURS)) -> str:
    """The contestants in their colours."""
    keys = "".join(
        f'<span><i class="key" style="background:{COLOURS[name]}"></i>{text_html(name)}</span>' for name in names
    )
    return f'<div class="legend">{keys}</div>'


def interval_words(metrics: Metrics, name: str, sign: str = "") -> str:
    """A figure with its interval, if it has one; "" where there is no such figure."""
    if metrics.get(name) is None:
        return ""
    text = _short(metrics[name], sign)
    low, high = metrics.get(f"{name}_lo"), metrics.get(f"{name}_hi")
    return text if low is None or high is None else f"{text} ({_short(low, sign)} .. {_short(high, sign)})"


def _short(value: float, sign: str) -> str:
    """Three digits, without the 0 before the point, so that tables of intervals fit a narrow page."""
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def marks(metrics: Metrics, measure: str) -> list[Mark]:
    """The contestants' marks of one measure."""
    return [
        Mark(metrics[name], metrics.get(f"{name}_lo"), metrics.get(f"{name}_hi"), colour)
        for contestant, colour in COLOURS.items()
        if (name := f"{measure}_{contestant}") in metrics
    ]
