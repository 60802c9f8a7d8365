"""Our loop, from a bare one around the same objective up to everything, one part more at a time.

bare: forward, backward, optimiser, on tensors in memory. loop: our training loop on the same tensors. augmentation:
views are made from canvases in memory. decode: canvases are decoded from JPEG bytes in memory. shards: the bytes come
from shards on disk.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.train_loops.gate import Gate
from tests.benchmarks.train_loops.workload import ADAMW, DECODER, PROJECTOR, SGD, Workload
from training.assembly import assembled_objective
from training.feed import Feed
from training.loader import Batch, Loader
from training.loop import Training
from training.nonfinite import LeftOut
from training.objectives import catalogue
from training.objectives.base import StepState
from training.plan import PretrainingPlan
from training.shards import ShardReader
from training.views import Views

STEPS = 100_000


def plan(work: Workload, folder: Path) -> PretrainingPlan:
    """The same work as a plan of ours."""
    rates = ADAMW if work.objective == "mae" else SGD
    return PretrainingPlan(
        shards=str(work.shards),
        work=str(folder),
        objective=catalogue.resolve(_objective(work)),
        backbone={"name": work.backbone, "kwargs": work.options},
        image_size=work.size,
        canvas_size=work.canvas,
        views=catalogue.describe(work.objective)["views"],
        steps=STEPS,
        batch=work.batch,
        optimiser="adamw" if work.objective == "mae" else "sgd",
        precision="fp32",
        use_gpu=False,
        threads=1,
        augment_on="device",
        cache_bytes=0,
        checkpoint_every=STEPS,
        **rates,
    )


def _objective(work: Workload) -> dict[str, Any]:
    if work.objective == "mae":
        return {"name": "mae", "decoder": DECODER}
    hidden, out = PROJECTOR[work.objective]
    return {"name": work.objective, "projection": {"hidden": hidden, "out": out}}


def fixed_views(work: Workload) -> Views:
    """The tensors that every loop gets, as views."""
    crops = work.tensors()
    rows = np.arange(work.batch)
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(work.views, work.batch, 4)
    return Views((crops,), rows, boxes, torch.zeros(work.views, work.batch, dtype=torch.bool), ())


def bare_step(work: Workload, settings: PretrainingPlan) -> Callable[[int], None]:
    """A step of the loop of the PyTorch tutorial, on our objective."""
    objective = assembled_objective(settings, torch.device("cpu"))
    optimiser, views = work.optimiser(objective.parameters()), fixed_views(work)

    def step(number: int) -> None:
        state = StepState(number, STEPS, 0, 0)
        objective(views, state).total.backward()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            objective.after_step(state)

    return step


def bare(work: Workload) -> None:
    """That loop."""
    gate = Gate(work.steps)
    with tempfile.TemporaryDirectory() as folder:
        take = bare_step(work, plan(work, Path(folder)))
    for step in range(STEPS):
        gate.step()
        take(step)


class SameViews(Feed):
    """Gives the same views at each step."""

    same: Views

    def views(self, step: int, epoch: int) -> Iterator[Views]:
        yield self.same


class _SameCanvases(Loader):
    """Gives the same decoded batch at each step."""

    same: Batch

    def batch(self, step: int) -> Batch:
        return self.same


class _InMemory:
    """A reader whose encoded pictures are in memory."""

    def __init__(self, reader: ShardReader) -> None:
        self._reader = reader
        self._encoded = [reader.encoded(row) for row in range(len(reader))]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def __len__(self) -> int:
        return len(self._encoded)

    def encoded(self, row: int) -> tuple[bytes, int]:
        return self._encoded[row]


def ours(work: Workload, part: str) -> None:
    """Our training loop, with everything up to `part` as in a training."""
    gate = Gate(work.steps)
    with tempfile.TemporaryDirectory() as folder:
        settings = plan(work, Path(folder))
        with contextlib.closing(Training(settings, LeftOut(Path(folder)))) as training:
            if part == "loop":
                training.feed.__class__ = SameViews
                training.feed.same = fixed_views(work)
            elif part == "augmentation":
                same = training.loader.batch(0)
                training.loader.__class__ = _SameCanvases
                training.loader.same = same
            elif part == "decode":
                training.loader.reader = _InMemory(training.reader)
            take = training._take

            def gated(step: int) -> Any:
                gate.step()
                return take(step)

            training._take = gated  # type: ignore[method-assign]
            training.run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted, part = Workload.from_json(sys.argv[1]), sys.argv[2]
    bare(wanted) if part == "bare" else ours(wanted, part)
