"""Flat figures of one split's frozen features: probes, gains, label-free measures, layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluate.feature_tables import read_features, read_roles
from stages.evaluate.features import CONTESTANTS
from stages.evaluate.split import Split
from training.evaluation.battery import label_free_battery, labelled_battery
from training.evaluation.copies import copy_detection
from training.evaluation.layers import layer_table
from training.evaluation.linear_grid import block_variants, linear_grid
from training.evaluation.linear_probe import standardise
from training.evaluation.low_shot import ridge_classifier
from training.evaluation.outliers import auroc, auroc_interval, knn_outlier_scores
from training.evaluation.probe import Predictions, gain, label_free, predict, score
from training.evaluation.protocol import Protocol, WideProtocol
from training.evaluation.risk import risk_decomposition
from training.evaluation.subsets import shots

Features = Mapping[str, NDArray[np.float32]]
Figures = dict[str, float]

PROBES = ("knn", "linear")
_BACKBONES = ("trained", "untrained")
_SUFFIXES = ("_balanced_lo", "_balanced_hi", "_balanced", "_lo", "_hi")
_FEW = 5
_GRID_BATCH = 256


@dataclass(frozen=True)
class Problem:
    """What probes are given: a split with its features, in the order bank, queries; and how they are run."""

    split: Split
    features: Features
    protocol: Protocol
    seed: int

    def sides(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Bank and queries of (bank + queries, D) features."""
        return features[: len(self.split.bank)], features[len(self.split.bank) :]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array(self.split.bank_labels, dtype=np.int64)

    @property
    def truth(self) -> NDArray[np.int64]:
        return np.array(self.split.query_labels, dtype=np.int64)

    def scored(self, name: str, predictions: NDArray[np.int64]) -> Figures:
        """`score` of the queries under a name."""
        found = score(self.truth, predictions, len(self.split.classes), self.protocol, seed=self.seed)
        return {f"{name}{suffix}": value for suffix, value in found.items()}


def named(figures: Mapping[str, float], contestant: str) -> Figures:
    """The contestant in the name, before what says which side of an interval it is: `knn_lo` to `knn_trained_lo`."""
    found = {}
    for name, value in figures.items():
        suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
        found[f"{name.removesuffix(suffix)}_{contestant}{suffix}"] = value
    return found


def predictions_of(
    problem: Problem, k_grid: tuple[int, ...], progress: Callable[[int, int], None]
) -> dict[str, Predictions]:
    """What each contestant's probes say of the queries; nothing without labels."""
    if not problem.split.labelled:
        return {}
    protocol = problem.protocol
    ks = {*k_grid, *(protocol.k_grid if isinstance(protocol, WideProtocol) else ())}
    predictions = {}
    for done, name in enumerate(CONTESTANTS):
        progress(done, len(CONTESTANTS))
        bank, queries = problem.sides(problem.features[name])
        if name == "pixels":
            # Raw colours need it: without, the cosine of two pictures says how bright both are.
            bank, queries = (side.astype(np.float32) for side in standardise(bank, queries))
        predictions[name] = predict(
            bank, problem.labels, queries, problem.truth, protocol, k_grid=sorted(ks), seed=problem.seed
        )
    progress(len(CONTESTANTS), len(CONTESTANTS))
    return predictions


def plain_figures(problem: Problem, predictions: Mapping[str, Predictions]) -> Figures:
    """Both probes of every contestant, gains and the label-free measures: `knn_trained`, `knn_trained_lo`, ..."""
    figures: Figures = {}
    for contestant, predicted in predictions.items():
        for probe in PROBES:
            figures |= named(problem.scored(probe, getattr(predicted, probe)), contestant)
    if predictions:
        for probe in PROBES:
            of = {name: getattr(predicted, probe) for name, predicted in predictions.items()}
            for other in ("untrained", "pixels"):
                gains = gain(problem.truth, of["trained"], of[other], problem.protocol, seed=problem.seed)
                figures |= {f"{probe}_gain_over_{other}{suffix}": value for suffix, value in gains.items()}
        figures["chance"] = float(np.bincount(problem.truth).max() / len(problem.truth))
    for contestant in _BACKBONES:
        bank, _ = problem.sides(problem.features[contestant])
        figures |= named(label_free(bank, problem.protocol), contestant)
    return figures


def wide_figures(
    problem: Problem, predictions: Mapping[str, Predictions], views: Mapping[str, NDArray[np.float32]]
) -> Figures:
    """All that `training.evaluation.battery` measures, of the trained and of the untrained backbone."""
    protocol = problem.protocol
    assert isinstance(protocol, WideProtocol)
    figures: Figures = {}
    for contestant in _BACKBONES:
        bank, queries = problem.sides(problem.features[contestant])
        if predictions:
            found = labelled_battery(
                bank,
                problem.labels,
                queries,
                problem.truth,
                protocol,
                seed=problem.seed,
                predictions=predictions[contestant],
            )
            figures |= named(found, contestant)
        labels = problem.labels if predictions else None
        found = label_free_battery(bank, protocol, seed=problem.seed, labels=labels, views=views.get(contestant))
        figures |= named(found, contestant)
    return figures


def copy_figures(problem: Problem, views: Mapping[str, NDArray[np.float32]], viewed: NDArray[np.int64]) -> Figures:
    """Copy detection among the bank: augmented views are to find the image that they are made of.

    views: (n, V, D) by contestant. viewed: (n,) bank rows of these images; the others are distractors.
    """
    figures: Figures = {}
    for contestant, found in views.items():
        bank, _ = problem.sides(problem.features[contestant])
        groups = np.full(len(bank), -1)
        groups[viewed] = np.arange(len(viewed))
        asked = np.repeat(np.arange(len(viewed)), found.shape[1])
        copies = copy_detection(bank, groups, found.reshape(len(asked), -1), asked, seed=problem.seed)
        low, high = copies.interval
        figures |= named(
            {"copy_micro_ap": copies.micro_ap, "copy_micro_ap_lo": low, "copy_micro_ap_hi": high}, contestant
        )
        figures[f"copy_recall_at_p90_{contestant}"] = copies.recall_at_p90
    return figures


def elsewhere_figures(pool: Path, other: Path, seed: int) -> Figures:
    """How well the distance to the pool's bank tells the images of another set from the pool's held-out ones.

    pool, other: folders of the tables of features.
    """
    figures: Figures = {}
    for contestant in _BACKBONES:
        file = f"{contestant}-backbone-pooled.arrow"
        known, asked = _by_role(pool / file), _by_role(other / file)
        if not len(known["queries"]):
            continue
        inside, outside = (knn_outlier_scores(known["bank"], x["queries"]) for x in (known, asked))
        low, high = auroc_interval(inside, outside, seed=seed)
        own = {"ood_auroc": auroc(inside, outside), "ood_auroc_lo": low, "ood_auroc_hi": high}
        figures |= {key: float(f"{value:.6g}") for key, value in named(own, contestant).items()}
    return figures


def _by_role(path: Path) -> dict[str, NDArray[np.float32]]:
    vectors, roles = read_features(path), read_roles(path)
    return {role: vectors[roles == role] for role in ("bank", "queries")}


def risk_figures(problem: Problem) -> Figures:
    """Where the trained backbone's error comes from, with all labels and with five a class.

    The backbone has to have seen the bank in training, and none of the queries.
    """
    bank, queries = problem.sides(problem.features["trained"])
    found: Figures = {}
    for prefix, few_shot in (("", None), ("few_shot_", lambda labels: shots(labels, _FEW, problem.seed))):
        parts = risk_decomposition(
            bank,
            problem.labels,
            queries,
            problem.truth,
            classifier=ridge_classifier,
            few_shot=few_shot,
            seed=problem.seed,
        )
        found |= {f"{prefix}{name}": value for name, value in parts.figures().items()}
    return found


def layer_rows(problem: Problem, layers: Features, pooled: Predictions) -> list[dict[str, Any]]:
    """`layer_table` of the trained backbone's layers, and of its own pooled output last. pooled: known of the last."""
    tables = {name: problem.sides(values) for name, values in layers.items()}
    tables["backbone"] = problem.sides(problem.features["trained"])
    return layer_table(
        tables,
        problem.labels,
        problem.truth,
        problem.protocol,
        reference="backbone",
        known={"backbone": pooled},
        seed=problem.seed,
    )


def grid_figures(problem: Problem, layers: Features) -> tuple[Figures, dict[str, Any]]:
    """The grid of linear heads on the layers' class tokens, and which head was chosen; their averages without one."""
    protocol = problem.protocol
    assert isinstance(protocol, WideProtocol)
    kind = "class" if any(name.endswith("/class") for name in layers) else "average"
    blocks = [name for name in layers if name.endswith(f"/{kind}")]
    average = [name for name in layers if name.endswith("/average")][-1]
    sides = {name: problem.sides(values) for name, values in layers.items()}
    found = linear_grid(
        {name: bank for name, (bank, _) in sides.items()},
        problem.labels,
        {name: queries for name, (_, queries) in sides.items()},
        block_variants(blocks, average),
        epochs=max(1, round(protocol.grid_steps * _GRID_BATCH / len(problem.labels))),
        batch=_GRID_BATCH,
        seed=problem.seed,
    )
    selection = [
        {"input": variant, "learning_rate": rate, "held_out": share}
        for (variant, rate), share in found.selection.items()
    ]
    head = {"input": found.head[0], "learning_rate": found.head[1]}
    return named(problem.scored("grid", found.predictions), "trained"), {"head": head, "selection": selection}
