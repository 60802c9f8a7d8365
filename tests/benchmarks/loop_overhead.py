"""What our loop adds to a bare PyTorch loop: `OMP_NUM_THREADS=1 python -m tests.benchmarks.loop_overhead`.

One process takes a step of each in turn, on the same tensors and the same small SimCLR, and counts its thread's
CPU-seconds: what differs between processes, such as where their memory lies, drops out.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tests.benchmarks.peers import keep_result
from tests.benchmarks.train_loops.ours import SameViews, bare_step, fixed_views, plan
from tests.benchmarks.train_loops.pictures import write_pictures
from tests.benchmarks.train_loops.workload import Workload
from tests.benchmarks.train_step import BATCH, SMALL
from training.loop import Training
from training.nonfinite import LeftOut

_WARM, _TIMED = 10, 100


def main() -> None:
    torch.set_num_threads(1)
    spent: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone, options, steps = SMALL["simclr"]
        shards = str(write_pictures(folder, 2 * BATCH)[1])
        work = Workload("simclr", backbone, options, 32, BATCH, steps, None, shards, 64)
        settings = plan(work, folder)
        with contextlib.closing(Training(settings, LeftOut(folder))) as training:
            training.feed.__class__ = SameViews
            training.feed.same = fixed_views(work)  # type: ignore[attr-defined]
            loops = {"ours": training._take, "bare": bare_step(work, settings)}
            for step in range(_WARM + _TIMED):
                for loop, take in loops.items():
                    began = time.thread_time()
                    take(step)
                    spent[loop].append(time.thread_time() - began)
    seconds = {loop: values[_WARM:] for loop, values in spent.items()}
    figures = {
        "cpu_ms_per_step": {loop: round(1000 * statistics.median(values), 1) for loop, values in seconds.items()},
        "ours_to_bare": round(sum(seconds["ours"]) / sum(seconds["bare"]), 3),
    }
    keep_result("loop_overhead", "OMP_NUM_THREADS=1 python -m tests.benchmarks.loop_overhead", figures)
    print(figures)


if __name__ == "__main__":
    main()
