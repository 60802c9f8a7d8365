"""Models held against each other image by image: which, what is found, and the tables of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stages.artifact import Artifact
from stages.base import StageContext
from stages.compare import CompareParams
from stages.compare.blind import find_blind_pairs, write_blind_pairs
from stages.compare.gallery import Gallery, pairwise_gallery
from stages.compare.memorised import measure_memorisation, write_memorisation
from stages.compare.models import chosen_models, made_from


def hold_pairwise(
    ctx: StageContext[CompareParams], variants: Mapping[str, Mapping[str, Artifact]]
) -> tuple[dict[str, Any], Gallery, dict[str, float]]:
    """Find blind pairs, and score memorisation where that is asked for: what `comparison.json` says of them, their
    pictures, and what they cost.

    variants: of each the evaluations by repetition, the baseline first.
    """
    params = ctx.params
    models = chosen_models(variants, params.repeats, params.pairwise)
    left_out = sum(map(len, variants.values())) - len(models)
    blind = find_blind_pairs(models, params.blind_pairs, left_out)
    record: dict[str, Any] = {"blind_pairs": blind.record if blind else None, "memorisation": None}
    costs = {}
    if blind:
        write_blind_pairs(ctx.work, blind)
        columns = ["blind", "seeing", "found"]
        _write_table(ctx, "blind_pair_counts", columns, [[p[c] for c in columns] for p in blind.record["pairs"]])
    memorised = measure_memorisation(ctx, models, params.memorisation) if params.memorisation else None
    if memorised:
        record["memorisation"] = memorised.record
        costs["memorisation_seconds"] = memorised.seconds
        write_memorisation(ctx.work, memorised)
        ways = [way for pair in memorised.record["pairs"] for way in pair.get("directions", ())]
        columns = ["kind", "images", "mean", "lo", "hi"]
        rows = [[w["trained"], w["reference"], *(g[c] for c in columns)] for w in ways for g in w["groups"]]
        _write_table(ctx, "memorisation_scores", ["trained", "reference", *columns], rows)
    return record, pairwise_gallery(blind, memorised, made_from(models[0].metrics, "images")), costs


def _write_table(
    ctx: StageContext[CompareParams], name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """In the form in which MLflow keeps a table."""
    with ctx.writing(f"tables/{name}.json") as temporary:
        temporary.write_text(json.dumps({"columns": columns, "data": rows}) + "\n")
