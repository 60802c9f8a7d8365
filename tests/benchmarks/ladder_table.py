"""The ladder's runs as a table: means over seeds, and what training gained over the untrained backbone."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.ladder_data import TRAIN, ladder_shards
from tests.benchmarks.ladder_run import PIXELS, SIZE, UNTRAINED
from tests.benchmarks.peers import RESULTS, ROOT
from training.evaluation.intervals import t_interval
from training.shards import ShardReader

SHOWN = ROOT / "training" / "objectives" / "ladder.json"
PROBES = ("knn", "linear")
_Z = NormalDist().inv_cdf(0.975)

Entry = Mapping[str, Any]


def table_rows(entries: Iterable[Entry], budgets: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row for an objective on a backbone, backbone by backbone, the best kNN first.

    knn, linear: mean accuracy over sets and seeds, and with _lo and _hi Student's interval over seeds. knn_gain,
    linear_gain: the same minus that of the untrained backbone, with the run's own first weights if it has any, with
    an interval over held-out pictures, so that one seed gives one, too. Only runs of their backbone's budget, by the
    recipe of the newest one, count.
    """
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda e: (e["objective"], e["backbone"], e["seed"])):
        if entry["objective"] in (PIXELS, UNTRAINED) or entry["budget"] == budgets[entry["backbone"]]:
            groups[entry["objective"], entry["backbone"]].append(entry)
    newest = {place: max(found, key=lambda e: e["at"])["recipe"] for place, found in groups.items()}
    current = {place: [e for e in found if e["recipe"] == newest[place]] for place, found in groups.items()}
    rows = [_row(found, current.get((UNTRAINED, place[1]), [])) for place, found in current.items()]
    return sorted(rows, key=lambda row: (row["backbone"], -row["knn"], row["objective"]))


def _row(entries: Sequence[Entry], untrained: Sequence[Entry]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "objective": entries[0]["objective"],
        "backbone": entries[0]["backbone"],
        "seeds": len(entries),
        "date": max(entry["at"] for entry in entries)[:10],
    }
    for probe in PROBES:
        row |= _named(probe, t_interval([entry[probe] for entry in entries]))
        starts = [entry["start"] for entry in entries if "start" in entry] or untrained
        if starts and row["objective"] != UNTRAINED:
            row |= _named(f"{probe}_gain", gain(entries, starts, probe))
    for name in ("rankme", "images_per_cpu_s", "memory_mb", "steps"):
        if name in entries[0]:
            row[name] = round(fmean(entry[name] for entry in entries), 1)
    return row


def gain(entries: Sequence[Entry], others: Sequence[Entry], probe: str) -> tuple[float, float, float]:
    """Mean over sets of the accuracy of some runs minus that of others, with a 95 % interval over the pictures.

    A picture's figure is the mean over seeds of how often it was right; pictures of each set are a sample (normal
    approximation of the paired difference).
    """
    means, squares = [], []
    for name, found in entries[0]["sets"].items():
        ours, theirs = (
            np.mean([_right(entry, name, probe) for entry in group], axis=0) for group in (entries, others)
        )
        difference = ours - theirs
        means.append(float(difference.mean()))
        squares.append(float(difference.var(ddof=1)) / found["queries"])
    mean, half = fmean(means), _Z * sum(squares) ** 0.5 / len(squares)
    return mean, mean - half, mean + half


def _right(entry: Entry, name: str, probe: str) -> NDArray[np.uint8]:
    found = entry["sets"][name]
    return np.unpackbits(np.frombuffer(base64.b64decode(found["right"][probe]), np.uint8), count=found["queries"])


def _named(name: str, figures: tuple[float, float | None, float | None]) -> dict[str, float]:
    return {name + end: round(v, 4) for end, v in zip(("", "_lo", "_hi"), figures, strict=True) if v is not None}


def keep_table(rows: Sequence[dict[str, Any]], budgets: Mapping[str, int]) -> Path:
    """Write the table to where the installed package has it."""
    result = json.loads((RESULTS / "ladder.json").read_text())
    table = {name: result[name] for name in ("date", "command", "machine")}
    pictures = len(ShardReader(ladder_shards() / TRAIN))
    document = {**table, "budgets": dict(budgets), "pictures": pictures, "side": SIZE, "rows": list(rows)}
    SHOWN.write_text(json.dumps(document, indent=1) + "\n")
    return SHOWN


def printed(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown."""
    head = ("objective", "backbone", "seeds", "kNN", "linear", "kNN gain", "linear gain", "RankMe", "images/s", "MB")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [row["objective"], row["backbone"] or "-", str(row["seeds"])]
        cells += [_with_interval(row, name) for name in (*PROBES, *(f"{probe}_gain" for probe in PROBES))]
        cells += [f"{row[name]:g}" if name in row else "" for name in ("rankme", "images_per_cpu_s", "memory_mb")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    mean, sign = row[name], "+" if name.endswith("gain") else ""
    span = f" ({row[f'{name}_lo']:{sign}.3f} to {row[f'{name}_hi']:{sign}.3f})" if f"{name}_lo" in row else ""
    return f"{mean:{sign}.3f}{span}"
