"""Putting names, parameters and figures into the forms and limits of MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

KEY_LIMIT, PARAM_LIMIT, TAG_LIMIT, DESCRIPTION_LIMIT = 250, 6000, 8000, 5000
PARAM_BATCH, METRIC_BATCH = 100, 1000
T = TypeVar("T")


def entity_key(name: str) -> str:
    """A name that MLflow takes: letters, digits, `_ - . / space :` and at most 250 characters."""
    return re.sub(r"[^\w\-. /:]", "_", name)[:KEY_LIMIT]


def clipped(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis as the sign."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names; lists and everything else that is no scalar as JSON."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(flat_params(value, f"{prefix}{name}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[entity_key(f"{prefix}{name}")] = clipped(text, PARAM_LIMIT)
    return flat


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The figures among `values`, under names that MLflow takes."""
    return {entity_key(name): float(v) for name, v in values.items() if isinstance(v, (int, float))}


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
