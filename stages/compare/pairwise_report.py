"""What a person reads of models that are held against each other image by image: blind pairs and memorisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stages.compare.words import Table, interval_text, with_bounds

BLIND, MEMORISED = "Blind pairs", "Memorisation of single images"


def blind_table(found: Mapping[str, Any]) -> Table:
    """How many blind pairs there are between each two models, one way and the other."""
    rows = [[pair["blind"], pair["seeing"], f"{pair['found']:,}", f"{pair['listed']:,}"] for pair in found["pairs"]]
    return ["takes them for alike", "sees them as different", "pairs", "listed"], rows


def blind_notes(found: Mapping[str, Any]) -> list[str]:
    """What a blind pair is, whether features are centred, and what was left out."""
    typical = ", ".join(f"{m['name']} {m['typical_raw']:.2f}" for m in found["models"])
    centred = ", ".join(f"{m['name']} {m['typical']:.2f}" for m in found["models"])
    told = [
        f"Pairs of {found['images']:,} {'held-out images' if found['held_out'] else 'images'} with a cosine over "
        f"{found['above']:g} by one model and under {found['below']:g} by another (arXiv:2401.06209). The first "
        "model would lose distinct images if near-duplicates were removed by its features.",
        f"Features are centred: their mean over these images is taken from them first. The median cosine of two "
        f"images is {typical} before, and {centred} after that."
        if found["centred"]
        else f"Features are not centred. The median cosine of two images is {typical}: where it is high for one "
        "model and low for another, their cosines do not mean the same.",
    ]
    if not any(pair["found"] for pair in found["pairs"]):
        told.append("No pair passes both: compare.blind_pairs.above and .below move the thresholds.")
    if not found["held_out"]:
        told.append("No image with a label is held out: these are the images that label-free measures are taken on.")
    if found["left_out"]:
        told.append(
            f"{len(found['models'])} of {len(found['models']) + found['left_out']} evaluations are held against each "
            "other; compare.pairwise says how many."
        )
    return told


KINDS = {"own": "it alone was trained on", "both": "both were trained on", "neither": "neither was trained on"}
"""Images by who was trained on them."""


def memorisation_table(found: Mapping[str, Any]) -> Table:
    """Mean scores with their intervals, by who was trained on the images; and the excess of the model's own."""
    rows = []
    for pair in found["pairs"]:
        for way in pair.get("directions", ()):
            of = [way["trained"], way["reference"]]
            for group in way["groups"]:
                rows.append([*of, KINDS[group["kind"]], f"{group['images']:,}", interval_text(group)])
            if way["excess"]:
                rows.append([*of, "its own above neither's", "", _gap_text(way["excess"])])
    return ["memorised by", "against", "images that", "images", "score"], rows


def memorisation_notes(found: Mapping[str, Any]) -> list[str]:
    """What a score means, and for each two models what bars or blurs it."""
    told = [
        "The score of an image: how much farther its views lie apart for the model that it is measured against, in "
        "shares of the largest such gap (SSLMem, arXiv:2401.12233). A model may hold the views of all images closer, "
        "trained on or not: what the score of its own images has above that of images which neither was trained on is "
        "what it memorised."
    ]
    for pair in found["pairs"]:
        names = f"{pair['first']} and {pair['second']}"
        if pair["reason"]:
            told.append(f"Not measured between {names}: {pair['reason']}.")
            continue
        trained = ", ".join(f"{t['name']} on {t['images']:,} images, {t['epochs']:.3g} times" for t in pair["trained"])
        told.append(
            f"{names}: {pair['views']} views of each image, {pair['passes']:,} forward passes. Trained: {trained}."
        )
        if pair["marks"]:
            told.append(
                f"Read with care: {names} differ in more than their images, and a score tells of that too "
                f"({'; '.join(pair['marks'])})."
            )
    return told


def pairwise_statements(record: Mapping[str, Any]) -> Iterator[str]:
    """The findings in a line each, for the terminal."""
    found = record["blind_pairs"]
    if found:
        counts = [f"{p['found']:,} of {p['blind']} against {p['seeing']}" for p in found["pairs"] if p["found"]]
        yield f"Blind pairs among {found['images']:,} images: {', '.join(counts) or 'none'}."
    for pair in (record["memorisation"] or {"pairs": ()})["pairs"]:
        if pair["reason"]:
            yield f"Memorisation of {pair['first']} and {pair['second']} is not measured: {pair['reason']}."
        for way in pair.get("directions", ()):
            if way["excess"]:
                over = _gap_text(way["excess"])
                yield f"{way['trained']} scores {over} on what it alone was trained on, above what neither was."


def _gap_text(excess: Mapping[str, float | None]) -> str:
    return with_bounds(excess["mean"], excess["lo"], excess["hi"], sign="+")


def pairwise_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """`blind_pairs_A_against_B`, and `memorisation_A_against_B_own`, `_both`, `_neither`, `_excess` with bounds."""
    figures: dict[str, float | None] = {}
    for pair in (record["blind_pairs"] or {"pairs": ()})["pairs"]:
        figures[f"blind_pairs_{pair['blind']}_against_{pair['seeing']}"] = pair["found"]
    for pair in (record["memorisation"] or {"pairs": ()})["pairs"]:
        for way in pair.get("directions", ()):
            name = f"memorisation_{way['trained']}_against_{way['reference']}"
            entries = {group["kind"]: group for group in way["groups"]} | {"excess": way["excess"] or {}}
            for kind, entry in entries.items():
                ends = {"": "mean", "_lo": "lo", "_hi": "hi"}
                figures |= {f"{name}_{kind}{end}": entry.get(key) for end, key in ends.items()}
    return {name.replace(" ", "_"): float(value) for name, value in figures.items() if value is not None}
