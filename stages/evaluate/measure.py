"""The evaluation: split, passes, tables of features, figures, and the files that tell of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.artifact import Artifact
from stages.base import StageContext, StageError, StageResult
from stages.evaluate import EvaluateParams
from stages.evaluate.asking import Asked, asked_of
from stages.evaluate.boxes import true_boxes
from stages.evaluate.evaluated import Evaluated
from stages.evaluate.feature_tables import read_features, tables_of, write_features, write_predictions
from stages.evaluate.features import CONTESTANTS, Outputs, checked_preprocessing, compute_features, remove_parts
from stages.evaluate.figures import Problem, elsewhere_figures, predictions_of
from stages.evaluate.local import token_samples
from stages.evaluate.masks import MaskedImages, Segmented, masked_images, segmented
from stages.evaluate.record import record_of
from stages.evaluate.report import PAGE, report_markdown, write_report
from stages.evaluate.sets import set_splits, unguarded_sets
from stages.evaluate.split import Split, choose_split, unusable_ids
from stages.evaluate.wide import Measured
from stages.tables import files_digest
from training.evaluation.protocol import PROTOCOLS, Protocol, WideProtocol

METRICS, COSTS = "metrics.json", "costs.json"
_POOL = ""


def evaluate_checkpoint(ctx: StageContext[EvaluateParams]) -> StageResult:
    """Write `metrics.json`, the tables of features and the report; see `stages.evaluate`."""
    params = ctx.params
    protocol = PROTOCOLS[params.protocol]
    split = choose_split(
        ctx.inputs["selection"],
        ctx.inputs["images"],
        bank=params.bank,
        unusable=unusable_ids(ctx.inputs.get("duplicates"), ctx.inputs.get("quality")),
        max_per_class=params.max_per_class,
        max_queries_per_class=params.max_queries_per_class,
        min_class_size=params.min_class_size,
        max_unlabelled=params.max_unlabelled,
        seed=params.seed,
    )
    if not split.bank:
        raise StageError("the selection has no training images to measure features on")
    if split.left_out:
        names = ", ".join(sorted(split.left_out))
        ctx.note(f"{len(split.left_out)} classes are left out (why is in report/evaluation.md): {names}")
    if split.note:
        ctx.note(f"{split.note}: label-free measures only")
    unguarded = unguarded_sets(ctx)
    costs: dict[str, dict[str, float]] = {}
    record = _probed(ctx, split, protocol, ctx.inputs["images"], costs)
    summary = _summary(record["metrics"], split)
    for name, found in _probed_sets(ctx, protocol, unguarded, costs).items():
        record.setdefault("sets", {})[name] = found
        record["metrics"] |= {f"{name}/{figure}": value for figure, value in found.pop("metrics").items()}
        summary += _set_summary(name, record["metrics"], found)
    for file, content in ((METRICS, record), (COSTS, costs)):
        with ctx.writing(file) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    (ctx.report / PAGE).write_text(report_markdown(record, costs[_POOL]))
    remove_parts(ctx.work)
    return StageResult(
        digest=files_digest(ctx.work, [METRICS]),
        rows_in=record["split"]["bank"] + record["split"]["queries"],
        rows_out=record["split"]["queries"],
        metrics=record["metrics"] | costs[_POOL],
        summary=summary,
    )


def _probed(
    ctx: StageContext[EvaluateParams],
    split: Split,
    protocol: Protocol,
    images: Artifact,
    costs: dict[str, dict[str, float]],
    name: str = _POOL,
) -> dict[str, Any]:
    """The record of one split of `images`; its report goes into the folder `name` of the stage's report."""
    side = checked_preprocessing(ctx.inputs["checkpoint"].path).size
    ids = [*split.bank, *split.queries]
    boxes = true_boxes(images, ids) if isinstance(protocol, WideProtocol) else {}
    masked = masked_images(images, ids) if isinstance(protocol, WideProtocol) else None
    asked = asked_of(
        split, protocol, ctx.params, side, boxed=boxes, masked=set(masked.ids) if masked else (), of_pool=not name
    )
    found = compute_features(
        ctx,
        ids,
        protocol.pixel_side,
        images,
        name,
        layers=asked.layers,
        patches=asked.patches,
        groups=asked.groups,
        further=asked.passes,
    )
    torch.set_num_threads(ctx.params.threads)
    split = _decodable(split, found.decoded)
    features, layers = _tables(ctx, split, found, images, name)
    start, cpu_start = time.perf_counter(), time.process_time()
    problem = Problem(split, features, protocol, ctx.params.seed)
    predictions = predictions_of(problem, ctx.params.k_grid, lambda done, of: ctx.progress(done, of, "probes"))
    shown = _shown(asked, found)
    segmentation = _segmented(ctx, asked, found, masked, protocol) if masked else None
    measured = Measured(problem, predictions, layers, found.patches, found.further, shown, boxes, segmentation)
    record = record_of(measured, ctx.params, int((~found.decoded).sum()), trained_on=not name)
    costs[name] = found.cost | {
        "figures_seconds": time.perf_counter() - start,
        "figures_cpu_seconds": time.process_time() - cpu_start,
    }
    if predictions:
        write_predictions(ctx.work / f"predictions{'-' * bool(name)}{name}.arrow", split, predictions)
    folder = ctx.report / name
    folder.mkdir(exist_ok=True)
    samples = token_samples(found.further.get("tokens", {}), shown.get("dense", []))
    pictures = segmentation.samples if segmentation else None
    write_report(
        folder,
        Evaluated(images, split, features, predictions, record, samples, ctx.params.seed, pictures),
        costs[name],
    )
    return record


def _segmented(
    ctx: StageContext[EvaluateParams], asked: Asked, found: Outputs, masked: MaskedImages, protocol: Protocol
) -> Segmented | None:
    """Segmentation of the images with masks; a note where there are some and it can't be."""
    if masked.broken:
        ctx.note(f"{masked.broken} masks are no PNG of class numbers (one channel or a palette), and are left out")
    if "segmentation" not in found.further:
        return None
    assert isinstance(protocol, WideProtocol)
    arrays = found.further["segmentation"]
    members = zip(asked.groups["masked"], arrays["decoded"], strict=True)
    shown = [(member.image_id, member.query) for member, decoded in members if decoded]
    answer, why = segmented(arrays, shown, masked, protocol.segmentation, ctx.params.seed)
    if why:
        ctx.note(f"no segmentation: {why}")
    return answer


def _shown(asked: Asked, found: Outputs) -> dict[str, list[str]]:
    """Ids of the decodable images of each group that a pass was shown."""
    shown = {}
    for done in asked.passes:
        decoded = found.further[done.name]["decoded"]
        shown[done.pictures] = [m.image_id for m, ok in zip(asked.groups[done.pictures], decoded, strict=True) if ok]
    return shown


def _tables(
    ctx: StageContext[EvaluateParams], split: Split, found: Outputs, images: Artifact, name: str
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Write the tables of features, and read from them the features by contestant and by layer."""
    names = {"trained": "backbone/pooled", "untrained": "backbone/pooled", "pixels": "input/colours"}
    vectors: dict[str, NDArray[Any]] = {f"{c}/{names[c]}": found.features[c] for c in CONTESTANTS}
    vectors |= {f"trained/{layer}": values for layer, values in found.layers.items()}
    checkpoint = ctx.inputs["checkpoint"]
    origin = {
        "checkpoint": checkpoint.digest,
        "images": images.digest,
        "set": name,
        "preprocessing": (checkpoint.path / "preprocessing.json").read_text(),
    }
    paths = write_features(tables_of(ctx.work, name), split, vectors, origin)
    read = {key: read_features(path) for key, path in paths.items()}
    return (
        {c: read[f"{c}/{names[c]}"] for c in CONTESTANTS},
        {layer: read[f"trained/{layer}"] for layer in found.layers},
    )


def _probed_sets(
    ctx: StageContext[EvaluateParams],
    protocol: Protocol,
    unguarded: Mapping[str, str],
    costs: dict[str, dict[str, float]],
) -> dict[str, dict[str, Any]]:
    """The record of every evaluation set, by name; `unguarded` in it says why its figures can't be trusted."""
    images = ctx.inputs.get("evaluation_images")
    records: dict[str, dict[str, Any]] = {}
    for name, split in set_splits(ctx).items() if images else ():
        if split.bank and images:
            records[name] = _probed(ctx, split, protocol, images, costs, name)
            if isinstance(protocol, WideProtocol):
                records[name]["metrics"] |= elsewhere_figures(
                    tables_of(ctx.work), tables_of(ctx.work, name), ctx.params.seed
                )
        else:
            records[name] = {"metrics": {}, "split": {"note": split.note, "left_out": split.left_out}}
            ctx.note(f"{name}: {split.note[0].lower()}{split.note[1:]}; it is guarded against and not probed")
        if name in unguarded:
            records[name]["unguarded"] = unguarded[name]
            records[name]["metrics"]["unguarded"] = 1.0
            ctx.note(f"{name} is unguarded: {unguarded[name]}")
    return records


def _decodable(split: Split, decoded: NDArray[np.bool_]) -> Split:
    """Leave images that could not be decoded out of everything."""
    in_bank, in_queries = decoded[: len(split.bank)], decoded[len(split.bank) :]

    def kept(values: list[Any], rows: NDArray[np.bool_]) -> list[Any]:
        return [value for value, keep in zip(values, rows, strict=False) if keep]

    return replace(
        split,
        bank=kept(split.bank, in_bank),
        bank_labels=kept(split.bank_labels, in_bank),
        queries=kept(split.queries, in_queries),
        query_labels=kept(split.query_labels, in_queries),
    )


def _summary(metrics: Mapping[str, float], split: Split) -> str:
    ranks = f"RankMe {metrics['rankme_trained']:.0f} (untrained {metrics['rankme_untrained']:.0f})"
    if not split.labelled:
        return f"{ranks}; no probe: {split.note[0].lower()}{split.note[1:]}"

    def line(probe: str) -> str:
        trained, untrained, pixels = (f"{metrics[f'{probe}_{name}']:.2f}".lstrip("0") for name in CONTESTANTS)
        return f"{trained} (untrained {untrained}, pixels {pixels})"

    return f"kNN {line('knn')}; linear {line('linear')}; {ranks}"


def _set_summary(name: str, metrics: Mapping[str, float], record: Mapping[str, Any]) -> str:
    if f"{name}/knn_trained" not in metrics:
        return ""
    mark = " (unguarded)" if "unguarded" in record else ""
    return f"; {name} kNN {metrics[f'{name}/knn_trained']:.2f}{mark}".replace(" 0.", " .")
