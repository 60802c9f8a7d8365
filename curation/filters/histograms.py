"""A histogram of scores with the threshold, as SVG inside a page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _BINS = 560, 120, 70
_MARGIN = 0.02
_STYLE = "display: block; width: 100%; max-width: 560px; height: auto; overflow: visible; font-size: 11px"
_ROOM = 80
"""Pixels that two numbers below the axis need."""


def histogram_svg(scores: NDArray[np.floating], threshold: float, below: bool) -> str:
    """Bars of the scores that are numbers, those that speak against an image in another colour.

    Bars grow with the square root of the count, so that few images beyond the threshold can be seen. The axis covers
    the scores but for a thousandth at each end, and always the threshold. An end without room for its number beside
    the threshold's goes without.
    """
    known = scores[~np.isnan(scores)].astype(np.float64)
    if not len(known):
        return "<p>No image has this score.</p>"
    low, high = np.quantile(known, [0.001, 0.999])
    low, high = float(min(low, threshold)), float(max(high, threshold))
    margin = (high - low) * _MARGIN or 0.5
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    counts, _ = np.histogram(np.clip(known, edges[0], edges[-1]), edges)
    heights = np.sqrt(counts / max(1, counts.max())) * (_HEIGHT - 20)
    step = _WIDTH / _BINS
    centres = (edges[:-1] + edges[1:]) / 2
    bars = "".join(
        f'<rect x="{row * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}" '
        f'fill="{"#c2503c" if (centre < threshold if below else centre > threshold) else "#2f6fde"}"/>'
        for row, (height, centre) in enumerate(zip(heights, centres, strict=True))
        if height > 0
    )
    places = [(value - edges[0]) / (edges[-1] - edges[0]) * _WIDTH for value in (low, threshold, high)]
    line = f'<path d="M{places[1]:.1f},0V{_HEIGHT}" stroke="currentColor" stroke-dasharray="4 3"/>'
    ends = [(low, places[0], "start"), (high, places[2], "end")]
    texts = "".join(
        f'<text x="{place:.0f}" y="{_HEIGHT + 14}" text-anchor="{anchor}" fill="currentColor">{value:.3g}</text>'
        for value, place, anchor in [
            (threshold, places[1], "middle"),
            *(end for end in ends if abs(end[1] - places[1]) >= _ROOM),
        ]
    )
    shape = f'viewBox="0 0 {_WIDTH} {_HEIGHT + 18}" style="{_STYLE}" role="img"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>{bars}{line}{texts}</svg>'
