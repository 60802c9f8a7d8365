"""The whole pipeline on a few dozen real drawings: seconds of work in each of the nine stages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.stages.pool import emoji_bytes

STEPS = 8


def fill(folder: Path, start: int = 0, stop: int = 60, of: int = 80) -> Path:
    """Write drawings `start` to `stop` of a pool of `of`, each into a folder named by its category."""
    for name, label, data in emoji_bytes(of)[start:stop]:
        path = folder / (label or "other").replace(" ", "_") / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def document(folder: Path, **stages: dict[str, Any]) -> dict[str, Any]:
    """A spec over `folder`; keyword arguments add to or override parameters."""
    body: dict[str, Any] = {
        "crawl": {"sources": [str(folder)], "part_rows": 16},
        "ingest": {},
        "embed": {"model": "test_resnet", "weights": "random:1", "size": 32, "actors": 1},
        "dedup": {"radius": 0, "confirm": 1.0, "threshold": 1.0, "leak_threshold": 1.0},
        "curate": {"clusters": 6, "target": 0.7},
        "shard": {},
        "pretrain": {
            "objective": "simclr",
            "backbone": "test_resnet",
            "image_size": 32,
            "steps": STEPS,
            "batch": 16,
            "checkpoint_every": 2,
            "log_every": 1,
            "threads": 1,
            "workers": 1,
        },
        "evaluate": {"threads": 1, "min_class_size": 2, "robustness": "none"},
        "register": {"name": "small"},
    }
    for name, params in stages.items():
        body[name] = {**body[name], **params}
    return {"name": "small", "stages": body}


def main() -> None:
    """`python -m tests.pipelines.small local|ray STORE SPEC_JSON`: submit and print states and digests."""
    from pipelines.api import Options, Pipeline

    executor, store, spec = sys.argv[1:]
    options = Options(local=executor == "local", cpus=2, track=False)
    run = Pipeline(json.loads(spec)).submit(store, options)
    state = run.state()
    stages = {n: {"state": s.state, "digest": s.digest, "error": s.error} for n, s in state.stages.items()}
    sys.stdout.write(json.dumps({"run": run.id, "status": state.status, "stages": stages}))


if __name__ == "__main__":
    main()
