"""Render SVG drawings to PNG in a process of its own: the renderer holds the interpreter lock while it works.

Run as a script: demo_render.py SVG_FOLDER PNG_FOLDER SIDE, with one code a line on standard input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def render(svg_folder: Path, png_folder: Path, side: int, codes: list[str]) -> None:
    """Write `<code>.png` of `side` x `side` pixels with a transparent ground, each by rename."""
    import resvg_py

    parent = os.getppid()
    for code in codes:
        if os.getppid() != parent:  # nobody waits for the pictures any more
            return
        svg = str(svg_folder / f"{code}.svg")
        png = resvg_py.svg_to_bytes(svg_path=svg, width=side, height=side, skip_system_fonts=True)
        temporary = png_folder / f".{code}.{os.getpid()}.tmp"
        temporary.write_bytes(bytes(png))
        temporary.replace(png_folder / f"{code}.png")


if __name__ == "__main__":
    render(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.stdin.read().split())
