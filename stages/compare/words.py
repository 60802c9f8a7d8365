"""Figures of a comparison in words."""

from __future__ import annotations

from collections.abc import Mapping

Table = tuple[list[str], list[list[str]]]
"""The names of the columns, and the rows."""


def interval_text(statistics: Mapping[str, float | None]) -> str:
    """ "0.468 (0.455 .. 0.481)", without the interval where there is none."""
    return with_bounds(statistics["mean"], statistics["lo"], statistics["hi"])


def difference_text(statistics: Mapping[str, float | None], is_baseline: bool = False) -> str:
    """ "+0.012 (-0.004 .. +0.028)"; empty without a baseline to compare with."""
    if is_baseline or "difference" not in statistics:
        return "baseline" if is_baseline else ""
    value, low, high = (statistics[f"difference{end}"] for end in ("", "_lo", "_hi"))
    return with_bounds(value, low, high, sign="+")


def with_bounds(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    """A value with the bounds of its interval, where it has both. sign: "+" for differences."""
    assert value is not None
    form = f"{sign}.{1 if abs(value) >= 10 else 3}f"
    return f"{value:{form}}" + ("" if low is None or high is None else f" ({low:{form}} .. {high:{form}})")
