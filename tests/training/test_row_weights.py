"""An objective that chooses between epochs which rows it wants to see."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.training.faulty import Faulty, faulty_plan
from tests.training.samples import write_sample_shards
from tests.training.test_loop import same, weights
from training.loop import pretrain
from training.objectives import catalogue
from training.objectives.base import Losses, StepState, objective
from training.process_group import gather_over_ranks, rank, spawn
from training.views import Views

ROWS = 20
EPOCHS = 4


@objective("choosy")
class Choosy(Faulty):
    """Rows of One Kind (Nobody, 2020, arXiv:2001.00002).

    Draws the rows that it has seen least, in every epoch but the first and the third.
    """

    alike = True

    def build(self, backbone: Any) -> None:
        super().build(backbone)
        self.register_buffer("drawn", torch.zeros(EPOCHS, ROWS))

    def forward(self, batch: Views, state: StepState) -> Losses:
        rows = gather_over_ranks(torch.from_numpy(batch.rows))
        self.drawn[state.epoch] += rows.bincount(minlength=ROWS)
        return super().forward(batch, state)

    def row_weights(self, epoch: int) -> Tensor | None:
        if epoch == 2:
            return None
        seen = self.drawn.sum(0)
        return (seen == seen.min()) * (1.0 if self.alike else 1.0 + rank())


@objective("disagreeing")
class Disagreeing(Choosy):
    """Rows of One Kind for Each Rank (Nobody, 2020, arXiv:2001.00003).

    Weighs rows by the rank that it is on.
    """

    alike = False


def train(config: dict[str, Any]) -> None:
    """`pretrain` where the objectives of this file are installed plug-ins."""
    points = [
        EntryPoint(cls.__name__.lower(), f"{__name__}:{cls.__name__}", catalogue.ENTRY_POINTS)
        for cls in (Choosy, Disagreeing)
    ]
    with mock.patch.object(catalogue, "_plug_ins", lambda: {point.name: point for point in points}):
        pretrain(config)


def plan(shards: Path, work: Path, name: str = "choosy", **changed: Any) -> dict[str, Any]:
    made = faulty_plan(shards, work, steps=2 * EPOCHS, **changed).to_dict()
    return {**made, "objective": {**made["objective"], "name": name}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_shards(tmp_path_factory.mktemp("shards"), ROWS)


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    work = tmp_path_factory.mktemp("whole")
    train(plan(shards, work))
    return weights(work)


def test_an_epoch_draws_by_the_weights_that_were_given_before_it(whole: dict[str, Tensor]) -> None:
    drawn = whole["drawn"]
    assert torch.equal(drawn.sum(1), torch.full((EPOCHS,), 16.0))
    assert drawn[0].max() == 1
    unseen = drawn[0] == 0
    assert unseen.sum() == 4
    assert torch.equal(drawn[1] > 0, unseen)
    assert torch.equal(drawn[2] > 0, unseen)  # None leaves the weights as they were
    least = drawn[:3].sum(0) == drawn[:3].sum(0).min()
    assert not drawn[3][~least].any()


def test_a_resume_at_any_step_draws_the_same(shards: Path, whole: dict[str, Tensor], tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    work = tmp_path / "cut"
    attempts = 0
    while not (work / "backbone.safetensors").exists():
        train(plan(shards, work, stop_file=str(stop)))  # each attempt ends after one step
        attempts += 1
        assert attempts <= 2 * EPOCHS
    assert attempts == 2 * EPOCHS
    assert same(weights(work), whole)


def test_two_ranks_draw_what_one_draws_and_must_agree(shards: Path, whole: dict[str, Tensor], tmp_path: Path) -> None:
    spawn(_two, {"agreeing": plan(shards, tmp_path / "a"), "not": plan(shards, tmp_path / "b", "disagreeing")}, 2)
    assert torch.equal(weights(tmp_path / "a")["drawn"], whole["drawn"])


def _two(config: dict[str, Any]) -> None:
    train(config["agreeing"])
    with pytest.raises(ValueError, match="row weights of epoch 1 differ between ranks: row_weights of Disagreeing"):
        train(config["not"])
