"""The data sets of the neighbour and scale benchmarks, made from seeds: the same arrays in every process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def planted(count: int = 50_000, width: int = 512, pairs: int = 10_000) -> NDArray[np.float32]:
    """(count, width) random directions of which the last `pairs` repeat the first with noise: cosine 0.89."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, width)).astype(np.float32)
    rows[count - pairs :] = rows[:pairs] + 0.5 * rng.normal(size=(pairs, width)).astype(np.float32)
    return rows


def concepts_file(path: Path, count: int, width: int = 128, copies: float = 0.1) -> NDArray[np.int64]:
    """Write (count, width) half-precision rows around count / 100 directions of Zipf frequencies, block by block.

    The last `copies` of them repeat earlier rows with a cosine of 0.98. Returns the row that each of those repeats.
    """
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(max(10, count // 100), width)).astype(np.float32)
    shares = 1 / np.arange(1, len(directions) + 1)
    whose = rng.choice(len(directions), count, p=shares / shares.sum())
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (count, width))
    first = count - int(copies * count)
    repeated = np.sort(rng.choice(first, count - first, replace=False))
    for start in range(0, first, _BLOCK):
        block = slice(start, min(first, start + _BLOCK))
        rows[block] = directions[whose[block]] + 0.8 * rng.normal(size=(block.stop - start, width))
    for start in range(first, count, _BLOCK):
        block = slice(start, min(count, start + _BLOCK))
        earlier = rows[repeated[start - first : block.stop - first]].astype(np.float32)
        rows[block] = earlier + 0.26 * rng.normal(size=earlier.shape)
    rows.flush()
    return repeated


def spent() -> dict[str, float]:
    """CPU seconds (all threads) and peak memory in GB of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_gb": usage.ru_maxrss / 1e6}


def in_own_process(module: str, *arguments: str) -> dict[str, Any]:
    """What `python -m module arguments` prints, as JSON, on its last line; one thread, which none waits for."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
