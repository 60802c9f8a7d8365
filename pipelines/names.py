"""Nearest valid names for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint such as " (did you mean 'clusters'?)", or the list of what is allowed when nothing is near."""
    choices = sorted(valid)
    near = difflib.get_close_matches(name, choices, n=2, cutoff=0.6)
    if near:
        return f" (did you mean {' or '.join(repr(n) for n in near)}?)"
    if not choices:
        return ""
    shown = ", ".join(choices[:20]) + (", ..." if len(choices) > 20 else "")
    return f" (allowed: {shown})"
