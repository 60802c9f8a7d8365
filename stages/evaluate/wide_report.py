"""The part of the report that only a wide protocol fills: tables of further measures, and CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

Metrics = Mapping[str, float]

_PROBES = {
    "ridge": "ridge, closed form",
    "interpolation": "kNN and linear, mixed",
    "grid": "grid of linear heads",
    "attentive": "attentive probe",
    "partial": "fine-tuned, last blocks",
    "finetune": "fine-tuned, whole",
    "1_shot": "1 label a class",
    "5_shot": "5 labels a class",
    "1_percent": "1 % of the labels",
    "10_percent": "10 % of the labels",
    "map": "retrieval, mAP",
    "recall_1": "retrieval, recall at 1",
    "recall_10": "retrieval, recall at 10",
    "copy_micro_ap": "copies found, micro AP",
    "ece": "calibration error",
}
_LABEL_FREE = {
    "alpha_req": "alpha-ReQ (best near 1)",
    "stable_rank": "stable rank",
    "nesum": "NESum",
    "lidar": "LiDAR",
    "alignment": "alignment of views (less is closer)",
    "uniformity": "uniformity (less is more even)",
    "tolerance": "tolerance to one's own class",
    "cluster_learnability": "cluster learnability",
    "intrinsic_dimension": "intrinsic dimension",
}
_LOCAL = {
    "pck_0.05": "same point found in another crop, within 5 % of the side",
    "pck_0.1": "within 10 %",
    "pck_0.2": "within 20 %",
    "norm_outlier_share": "patches of abnormal norm",
    "corloc": "objects found (CorLoc)",
    "seg_linear_miou": "segmentation by a linear layer on patches, mIoU",
    "seg_linear_pixels": "segmentation by a linear layer on patches, share of pixels",
    "seg_knn_miou": "segmentation by the nearest patches, mIoU",
    "seg_knn_pixels": "segmentation by the nearest patches, share of pixels",
}
FIGURE_NAMES: Mapping[str, str] = {**_PROBES, **_LABEL_FREE, **_LOCAL}
"""What a person calls the figures of a wide protocol, in the order in which they are told."""

_RISKS = ("approximation", "usability", "probe_generalisation", "encoder_generalisation", "total")


def wide_sections(record: Mapping[str, Any]) -> list[str]:
    """Markdown lines of all measures of a wide protocol that the record holds; none of a narrow one."""
    metrics = record["metrics"]
    lines = _table("Further probes", _PROBES, metrics)
    lines += _table("Further label-free measures", _LABEL_FREE, metrics)
    lines += _table("Local features", _LOCAL, metrics)
    if "segmentation" in record:
        lines += _segmentation(record["segmentation"])
    if "robustness" in record:
        lines += _robustness(record["robustness"], metrics)
    for prefix, title in (("", "all labels"), ("few_shot_", "five labels a class")):
        if f"{prefix}risk_total" in metrics:
            parts = ", ".join(f"{n.replace('_', ' ')} {metrics[f'{prefix}risk_{n}']:+.3f}" for n in _RISKS[:-1])
            lines += ["", f"Error {metrics[f'{prefix}risk_total']:.3f} of a ridge probe with {title}: {parts}."]
    if "layers" in record:
        lines += _layers(record["layers"])
    return lines


def _table(title: str, names: Mapping[str, str], metrics: Metrics) -> list[str]:
    rows = [
        f"| {label} | {_cell(metrics, f'{name}_trained')} | {_cell(metrics, f'{name}_untrained')} |"
        for name, label in names.items()
        if f"{name}_trained" in metrics
    ]
    return ["", f"## {title}", "", "| measure | trained | untrained |", "|---|---|---|", *rows] if rows else []


def _cell(metrics: Metrics, name: str) -> str:
    base, _, contestant = name.rpartition("_")
    if name not in metrics:
        return ""
    low, high = (metrics.get(f"{base}_{contestant}{side}") for side in ("_lo", "_hi"))
    value = f"{metrics[name]:.4g}" if low is None else f"{metrics[name]:.3f}"
    return value if low is None or high is None else f"{value} ({low:.3f} .. {high:.3f})"


def _robustness(of: Mapping[str, Any], metrics: Metrics) -> list[str]:
    mark = "" if of["mode"] == "full" else f"_{of['mode']}"
    names = {f"corrupted{mark}": "accuracy on corrupted pictures"}
    transformations = sorted(of.get("invariance", {}).get("trained", {}))
    names |= {f"invariance_{name}{mark}": f"invariance to {name}" for name in transformations}
    names |= {f"shortcut_reliance{mark}": "reliance on a mark that gives the class away"}
    lines = _table(f"Changed pictures ({of['images']} queries, {of['mode']})", names, metrics)
    if f"mce{mark}" in metrics:
        relative = metrics.get(f"mce_relative{mark}")
        beyond = "" if relative is None else f", of the errors beyond the clean ones {relative:.3f}"
        lines += ["", f"Mean corruption error against the untrained backbone: {metrics[f'mce{mark}']:.3f}{beyond}."]
    for shift, found in of.get("self_learning", {}).items():
        low, high = found["gain_interval"]
        lines += ["", f"Self-learning on {shift}: {found['gain']:+.3f} ({low:+.3f} .. {high:+.3f})."]
    return lines


def _segmentation(of: Mapping[str, Any]) -> list[str]:
    columns = [f"{probe}_{contestant}" for probe in ("linear", "knn") for contestant in ("trained", "untrained")]
    names = " | ".join(f"IoU, {name.replace('_', ', ')}" for name in columns)
    lines = [
        "",
        f"## Segmentation, {of['bank']} images with masks to learn from and {of['queries']} to test on",
        "",
        f"| class number | share of pixels | {names} |",
        "|" + "---|" * (2 + len(columns)),
    ]
    for row in of["classes"]:
        cells = ["" if row[name] is None else f"{row[name]:.3f}" for name in columns]
        lines.append(f"| {row['class']} | {row['share']:.3f} | {' | '.join(cells)} |")
    return lines


def _layers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["", "## By layer", "", "| layer | width | kNN | linear | RankMe |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{row[p]:.3f} ({row[f'{p}_lo']:.3f} .. {row[f'{p}_hi']:.3f})" for p in ("knn", "linear")]
        lines.append(f"| {row['name']} | {row['dim']} | {' | '.join(cells)} | {row['rankme']:.1f} |")
    return lines


def cost_lines(costs: Metrics) -> list[str]:
    """What the figures cost, in one line."""
    return [
        "",
        f"Features of the trained backbone: {costs['features_seconds']:.1f} s, {costs['features_images_per_s']:.0f} "
        f"images/s a worker, {costs['features_memory'] / 2**20:.0f} MiB at most; figures: "
        f"{costs['figures_seconds']:.1f} s ({costs['figures_cpu_seconds']:.1f} CPU-seconds).",
    ]


def wide_files(record: Mapping[str, Any]) -> dict[str, str]:
    """Text of `layers.csv`, `segmentation.csv`, `grid.csv` and `robustness.csv`, of those that the record holds."""
    found = {}
    if "layers" in record:
        found["layers.csv"] = _csv(record["layers"])
    if "segmentation" in record:
        found["segmentation.csv"] = _csv(record["segmentation"]["classes"])
    if "grid" in record:
        found["grid.csv"] = _csv(record["grid"]["selection"])
    rows = [
        {"contestant": contestant, **_flat(row)}
        for contestant in ("trained", "untrained")
        for row in record.get("robustness", {}).get(contestant, [])
    ]
    if rows:
        found["robustness.csv"] = _csv(rows)
    return found


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals as two columns."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        found |= {f"{name}_lo": value[0], f"{name}_hi": value[1]} if name.endswith("interval") else {name: value}
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
