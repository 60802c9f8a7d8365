"""The loop on two ranks: the same weights, however the ranks share the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.faulty import faulty_plan, train, train_all
from tests.training.samples import write_sample_shards
from tests.training.test_loop import nonfinite, same, weights
from training.history import read_history
from training.plan import PretrainingPlan
from training.process_group import spawn

KINDS = ("flat", "ddp", "fsdp")
BAD_ROW = 7


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_shards(tmp_path_factory.mktemp("shards"), 20)


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of trainings on one rank ("alone") and on two (the others)."""
    root = tmp_path_factory.mktemp("ranks")

    def plan(name: str, faults: dict[str, Any] | None = None, **changed: Any) -> PretrainingPlan:
        return faulty_plan(shards, root / name, faults, **{"steps": 4, "checkpoint_every": 9, **changed})

    train(plan("alone").to_dict())
    train(plan("alone-parts", accumulate=2, clip=0.1, clip_by="module").to_dict())
    shared = [plan(kind, parallel=kind) for kind in KINDS]
    shared += [
        plan(f"{kind}-parts", parallel=kind, accumulate=2, clip=0.1, clip_by="module", recompute=True)
        for kind in KINDS
    ]
    shared += [
        plan(f"{kind}-bad", {"rows": [BAD_ROW]}, parallel=kind, steps=2, batch=10, checkpoint_every=1)
        for kind in KINDS
    ]
    stop = root / "stop"
    stop.touch()
    shared += [plan(f"{kind}-elastic", parallel=kind, stop_file=str(stop)) for kind in ("flat", "fsdp")]
    spawn(train_all, {"plans": [each.to_dict() for each in shared]}, 2)
    for kind in ("flat", "fsdp"):
        train(plan(f"{kind}-elastic").to_dict())
    return root


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", ["", "-parts"])
def test_two_ranks_end_with_the_weights_of_one(trained: Path, kind: str, parts: str) -> None:
    found, expected = weights(trained / (kind + parts)), weights(trained / f"alone{parts}")
    assert same(found, expected, tolerance=2e-5)
    histories = [read_history(trained / (name + parts) / "history.jsonl") for name in (kind, "alone")]
    for key in ("loss", "grad_norm", "feature_std"):
        tolerance = 1e-4 if key != "feature_std" else 0.5  # a spread is of each rank's own features
        for mine, its in zip(*histories, strict=True):
            assert mine[key] == pytest.approx(its[key], rel=tolerance)
    assert json.loads((trained / (kind + parts) / "training.json").read_text())["parallel"] == kind


@pytest.mark.parametrize("kind", ["flat", "fsdp"])
def test_what_two_ranks_began_one_rank_ends(trained: Path, kind: str) -> None:
    facts = json.loads((trained / f"{kind}-elastic" / "training.json").read_text())
    assert (facts["ranks"], facts["resumed_at"]) == (1, 1)
    assert same(weights(trained / f"{kind}-elastic"), weights(trained / "alone"), tolerance=2e-5)
    history = read_history(trained / f"{kind}-elastic" / "history.jsonl")
    assert [line["step"] for line in history] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_the_rank_that_holds_the_bad_row_is_named(trained: Path, kind: str) -> None:
    (entry,) = nonfinite(trained / f"{kind}-bad")  # two steps are one epoch: every row once
    holders = [part for part in entry["ranks"] if "loss term total" in part["tensors"]]
    assert len(holders) == 1
    assert BAD_ROW in holders[0]["rows"]
    assert len(holders[0]["rows"]) == 5
    if kind != "fsdp":  # whose gradients are of all ranks together
        assert entry["ranks"] == holders
