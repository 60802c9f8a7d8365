"""From a step to the views that an objective sees, made ahead on a thread or on the training device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.device import Copied, Copier
from training.loader import Batch, Loader
from training.order import steps_per_epoch
from training.plan import PretrainingPlan
from training.preprocessing import MEAN, STD
from training.process_group import all_reduce_mean
from training.recipes import ViewRecipe
from training.views import Views, make_views

AugmentOn = Literal["loader", "device"]
_MEASURED = 10


class Feed:
    """Views of a rank's share of each step, a step ahead of the training.

    augment_on: "loader" makes views on the CPU on the thread that waits for decoding, so that the training only
    copies them; "device" copies decoded canvases and makes views where the training runs. May be changed between
    steps; on a CPU both give the same bits. across_epochs: whether the first step of an epoch is prepared before the
    last one of the epoch before has ended, which new row weights forbid. waited: seconds that the training has waited
    for data. duplicates: (N,) numbers of the rows' duplicate groups, for objectives that ask for them.
    """

    def __init__(
        self,
        loader: Loader,
        plan: PretrainingPlan,
        device: torch.device,
        duplicates: NDArray[np.int64] | None = None,
    ) -> None:
        self.loader = loader
        self.augment_on: AugmentOn = "device"
        self.across_epochs = True
        self.waited = 0.0
        self._plan = plan
        self._duplicates = duplicates
        self._recipe = ViewRecipe(**plan.views)
        self._copier = Copier(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._next: tuple[int, AugmentOn, Future[list[Copied]]] | None = None

    def views(self, step: int, epoch: int) -> Iterator[Views]:
        """The step's micro-batches, `accumulate` of them in order; the next step is prepared meanwhile."""
        since = time.perf_counter()
        for copied in self._prepared(step):
            value: Any = self._copier.receive(copied)
            self.waited += time.perf_counter() - since
            yield value if isinstance(value, Views) else self._made(value, epoch)
            since = time.perf_counter()

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.loader.reader), self._plan.batch)

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return self.loader.epoch(step)

    def close(self) -> None:
        """Stop the thread; the loader is its owner's to close."""
        self._thread.shutdown(cancel_futures=True)

    def _prepared(self, step: int) -> list[Copied]:
        following = self._next
        if following is None or following[:2] != (step, self.augment_on):
            following = self._submit(step)
        self._next = self._submit(step + 1) if self._settled(step + 1) else None
        return following[2].result()

    def _settled(self, step: int) -> bool:
        """Whether it is known by now which rows the next step will hold."""
        return step < self._plan.steps and (self.across_epochs or self.epoch(step) == self.epoch(step - 1))

    def _submit(self, step: int) -> tuple[int, AugmentOn, Future[list[Copied]]]:
        return step, self.augment_on, self._thread.submit(self._prepare, step, self.augment_on)

    def _prepare(self, step: int, augment_on: AugmentOn) -> list[Copied]:
        batch = self.loader.batch(step)
        parts: list[Any] = micro_batches(batch, self._plan.accumulate)
        if augment_on == "loader":
            parts = [self._made(part, self.epoch(step)) for part in parts]
        return [self._copier.send(part) for part in parts]

    def _made(self, batch: Batch, epoch: int) -> Views:
        views = make_views(
            batch.canvases,
            batch.aspects,
            batch.rows,
            self._recipe,
            size=self._plan.image_size,
            mean=MEAN,
            std=STD,
            seed=self._plan.seed,
            epoch=epoch,
        )
        if self._duplicates is not None:
            views.duplicates = torch.from_numpy(self._duplicates[batch.rows]).to(batch.canvases.device)
        return views


def micro_batches(batch: Batch, accumulate: int) -> list[Batch]:
    """A rank's share of a step in `accumulate` equal parts, in order."""
    size = len(batch.rows) // accumulate
    return [
        Batch(
            batch.canvases[first : first + size], batch.aspects[first : first + size], batch.rows[first : first + size]
        )
        for first in range(0, len(batch.rows), size)
    ]


def faster_place(
    feed: Feed, discarded: Callable[[int], None], start: int, device: torch.device
) -> tuple[AugmentOn, dict[str, float]]:
    """Time twenty steps from `start` on, half of them with each place for making views.

    discarded: runs a step's forward and backward, and forgets it. Returns the faster place, on which the ranks agree,
    and the seconds of a step by place.
    """
    seconds: dict[str, float] = {}
    places: tuple[AugmentOn, ...] = ("device", "loader")
    for index, feed.augment_on in enumerate(places):
        first = start + index * _MEASURED
        discarded(first)
        since = _now(device)
        for step in range(first + 1, first + _MEASURED):
            discarded(step)
        seconds[feed.augment_on] = (_now(device) - since) / (_MEASURED - 1)
    agreed = all_reduce_mean(torch.tensor([seconds[place] for place in places], device=device)).tolist()
    chosen: AugmentOn = "loader" if agreed[1] < agreed[0] else "device"
    return chosen, {place: round(value, 5) for place, value in zip(places, agreed, strict=True)}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
