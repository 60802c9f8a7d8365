"""Segmentation where images have masks: which masks there are, and how well patch features segment other images."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from stages.artifact import Artifact
from stages.base import StageError
from stages.crawl.masks import MASK
from stages.evaluate.evaluated import SegmentedSamples
from stages.evaluate.figures import Figures, named
from training.evaluation.iou import IGNORED, segmentation_score
from training.evaluation.protocol import SegmentationSettings
from training.evaluation.segmentation import knn_segmentation, linear_segmentation

Masks = dict[str, NDArray[np.uint16]]

SHOWN = 8
"""Segmented pictures that are kept for a person to look at."""

_MODES = {"1", "L", "P", "I", "I;16", "I;16B"}
_PROBES = ("linear", "knn")


@dataclass(frozen=True)
class Segmented:
    """figures: flat, by name. table: of the record. samples: pictures with true and predicted classes."""

    figures: Figures
    table: dict[str, Any]
    samples: SegmentedSamples


@dataclass(frozen=True)
class MaskedImages:
    """ids: images whose metadata have a mask. broken: of those, how many masks are no picture of class numbers."""

    ids: list[str]
    broken: int
    images: Artifact

    def masks(self, ids: Sequence[str]) -> Masks:
        """(H, W) class numbers of the upright picture, of each of the ids."""
        found = {image_id: _decoded(text) for image_id, text in _texts(self.images, set(ids)).items()}
        return {image_id: mask for image_id, mask in found.items() if mask is not None}


def masked_images(images: Artifact, ids: Sequence[str]) -> MaskedImages:
    """Those of the images whose metadata have `mask`: a PNG of class numbers, as base64."""
    texts = _texts(images, set(ids))
    good = {image_id for image_id, text in texts.items() if _decoded(text) is not None}
    return MaskedImages([image_id for image_id in ids if image_id in good], len(texts) - len(good), images)


def _texts(images: Artifact, wanted: set[str]) -> dict[str, Any]:
    table = images.table(["image_id", "metadata"])
    rows = table.filter(pc.match_substring(pc.fill_null(table["metadata"], ""), f'"{MASK}"'))
    named = zip(rows["image_id"].to_pylist(), rows["metadata"].to_pylist(), strict=True)
    found = {image_id: json.loads(text).get(MASK) for image_id, text in named if image_id in wanted}
    return {image_id: text for image_id, text in found.items() if text is not None}


def _decoded(text: object) -> NDArray[np.uint16] | None:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(str(text), validate=True)))
        return np.asarray(image).astype(np.uint16) if image.mode in _MODES else None
    except (binascii.Error, OSError, SyntaxError):
        return None


def segmented(
    arrays: Mapping[str, NDArray[Any]],
    shown: Sequence[tuple[str, bool]],
    masked: MaskedImages,
    settings: SegmentationSettings,
    seed: int,
) -> tuple[Segmented | None, str]:
    """Score both probes on both backbones, or say why not.

    arrays: of the pass "segmentation". shown: id of each image that it could decode, and whether it is a query.
    Figures: `seg_linear_miou_trained` with "_lo" and "_hi", `seg_linear_pixels_trained`, `seg_knn_miou_untrained`, ...
    """
    if "trained" not in arrays:
        return None, "the backbone has no local features to segment by"
    masks = masked.masks([image_id for image_id, _ in shown])
    grid = (arrays["trained"].shape[1], arrays["trained"].shape[2])
    query = np.array([asked for _, asked in shown], dtype=bool)
    numbers = np.unique(np.concatenate([np.unique(mask) for mask in masks.values()] or [np.zeros(0, np.uint16)]))
    numbers = numbers[numbers != IGNORED]
    if len(numbers) > IGNORED:
        raise StageError(f"masks have {len(numbers)} classes; at most {IGNORED} can be told apart")
    sides = [part * max(1, round(settings.side / part)) for part in grid]
    bank = _stacked([masks[image_id] for image_id, asked in shown if not asked], sides, numbers)
    truth = _stacked([masks[image_id] for image_id, asked in shown if asked], [settings.side] * 2, numbers)
    if len(np.setdiff1d(bank, [IGNORED])) < 2 or not (truth != IGNORED).any():
        return None, "masks need two classes among the images to learn from, and one to test on"
    figures: Figures = {}
    classes = [{"class": int(n), "share": float((truth == c).mean())} for c, n in enumerate(numbers)]
    drawn: dict[str, NDArray[np.uint8]] = {}
    for contestant, probe in product(("trained", "untrained"), _PROBES):
        patches = arrays[contestant].astype(np.float32)
        answers = _answers(probe, patches[~query], bank, patches[query], len(numbers), settings, seed)
        score = segmentation_score(truth, answers, len(numbers), seed=seed)
        own = {"miou": score.miou, "miou_lo": score.interval[0], "miou_hi": score.interval[1]}
        own["pixels"] = score.accuracy
        figures |= named({f"seg_{probe}_{name}": value for name, value in own.items()}, contestant)
        for row, share in zip(classes, score.classes, strict=True):
            row[f"{probe}_{contestant}"] = float(share)
        if probe == "linear":
            drawn[contestant] = answers[:SHOWN].astype(np.uint8)
    counts = {"bank": len(bank), "queries": len(truth), "unreadable": masked.broken}
    ids = [image_id for image_id, asked in shown if asked][:SHOWN]
    pixels = arrays["pixels"][query][:SHOWN]
    samples = SegmentedSamples(
        ids, pixels, numbers.tolist(), truth[:SHOWN], trained=drawn["trained"], untrained=drawn["untrained"]
    )
    return Segmented(figures, {**counts, "grid": list(grid), "classes": classes}, samples), ""


def _stacked(
    masks: Sequence[NDArray[np.uint16]], sides: Sequence[int], numbers: NDArray[np.uint16]
) -> NDArray[np.uint8]:
    """(N, rows, columns) places of the class numbers in `numbers`, `IGNORED` elsewhere, by the nearest pixel."""
    places = np.full(int(max(numbers.max(initial=0), IGNORED)) + 1, IGNORED, dtype=np.uint8)
    places[numbers] = np.arange(len(numbers))
    squares = [
        np.asarray(Image.fromarray(mask).resize((sides[1], sides[0]), Image.Resampling.NEAREST)) for mask in masks
    ]
    return places[np.stack(squares)] if squares else np.zeros((0, *sides), np.uint8)


def _answers(
    probe: str,
    bank: NDArray[np.float32],
    masks: NDArray[np.uint8],
    queries: NDArray[np.float32],
    classes: int,
    settings: SegmentationSettings,
    seed: int,
) -> NDArray[np.int64]:
    size = (settings.side, settings.side)
    if probe == "linear":
        return linear_segmentation(
            bank, masks, queries, size, classes, c=settings.c, max_bank=settings.max_patches, seed=seed
        )
    return knn_segmentation(
        bank,
        masks,
        queries,
        size,
        classes,
        k=settings.neighbours,
        temperature=settings.temperature,
        max_bank=settings.max_patches,
        seed=seed,
    )
