"""What a training step costs on this machine, measured once for each set of parameters and kept in the store."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.store import Store, digest_of
from stages.artifact import Artifact
from stages.base import StageContext, committed
from stages.in_process import InProcess
from stages.pretrain import Pretrain, PretrainParams

_LINE = 4
_LINES = 6


class StepCosts:
    """Seconds of a step by the parameters of a pretrain stage. tell: called with a line for each measurement.

    What was measured before is answered from the store, so that the same comparison is the same spec again, on this
    machine or another one.
    """

    def __init__(self, store: Store, tell: Callable[[str], None] = lambda _line: None) -> None:
        self._folder, self._tell = store.root / "step_costs", tell

    def __call__(self, body: Mapping[str, Any]) -> float:
        """Seconds a step of a training with these parameters. Raises what a training raises that cannot start."""
        params = PretrainParams.model_validate(dict(body))
        path = self._folder / f"{digest_of(params.model_dump(mode='json', exclude={'steps', 'epochs', 'seed'}))}.json"
        if path.exists():
            return float(json.loads(path.read_text())["seconds"])
        seconds = measure_step(body)
        with committed(path) as temporary:
            temporary.write_text(json.dumps({"seconds": seconds, "pretrain": dict(body)}, indent=1))
        self._tell(f"{params.objective['name']} on {params.backbone}: {seconds:.3g} s a step")
        return seconds


def measure_step(body: Mapping[str, Any]) -> float:
    """Seconds of a step, by a short training on made pictures: its fastest line, since what else a machine does only
    slows."""
    changed = {"steps": _LINE * _LINES, "epochs": None, "log_every": _LINE, "checkpoint_every": 10**6}
    params = PretrainParams.model_validate({**body, **changed, "keep_best": False, "evaluate_every": 0})
    with tempfile.TemporaryDirectory() as folder:
        shards = _made_shards(Path(folder) / "shards", params)
        work = Path(folder) / "work"
        work.mkdir()
        Pretrain(params).run(StageContext(params, work, {"shards": shards}, InProcess()))
        lines = [json.loads(line) for line in (work / "history.jsonl").read_text().splitlines()]
    return min(params.batch / line["images_per_s"] for line in lines[2:])


def _made_shards(folder: Path, params: PretrainParams) -> Artifact:
    """Shards of one batch of blurred noise, as large as the pictures that crops are cut from."""
    import numpy as np
    import pyarrow as pa
    from PIL import Image

    from training.shards import SAMPLES, write_index, write_shard

    generator = np.random.default_rng(0)
    side = params.source_size or 2 * params.image_size
    rows = []
    for row in range(params.batch):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side)).save(buffer, "JPEG", quality=85)
        rows.append(
            {"row": row, "image_id": f"{row:064x}", "bytes": buffer.getvalue(), "orientation": 1, "weight": 1.0}
        )
    shards = folder / "shards"
    shards.mkdir(parents=True)
    entry = write_shard(shards / "shard-0.arrow", pa.Table.from_pylist(rows, schema=SAMPLES))
    write_index(shards, [entry], params.batch)
    return Artifact("shards", "shard", "made", "made", folder, {})
