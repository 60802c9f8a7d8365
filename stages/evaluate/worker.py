"""The worker of an evaluation: every forward pass of the backbones, a task at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.base import committed
from stages.compute import Task

if TYPE_CHECKING:
    from stages.evaluate.setting import Pictures


class PassWorker:
    """Runs passes of the trained backbone and of the same one untrained.

    A task names its kind, the Parquet file of its pictures ("images"), the file to write arrays to ("out"), and what
    its pass needs beside. "decoded" among the arrays is (N,) whether each picture could be decoded; the rows of the
    others are those that could. open_branches: of the untrained backbone (`training.evaluation.untrained`).
    channels_last: how both lie in memory, which changes the last bits of features.
    """

    def __init__(
        self, checkpoint: str, batch: int, threads: int, open_branches: bool = False, channels_last: bool = False
    ) -> None:
        # Heavy libraries are loaded here, so that the process that hands out tasks can do without them.
        import torch

        from stages.evaluate.kinds import PASSES
        from stages.evaluate.setting import read_setting

        torch.set_num_threads(threads)
        self.passes = PASSES
        self.setting = read_setting(Path(checkpoint), batch, open_branches=open_branches, channels_last=channels_last)
        self._last: tuple[object, Pictures] | None = None

    def __call__(self, task: Task) -> Task:
        import numpy as np

        pictures = self._pictures(task)
        arrays = self.passes[task["kind"]](self.setting, pictures, task) if pictures.ids else {}
        arrays["decoded"] = pictures.all
        with committed(Path(task["out"])) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return {"rows": len(pictures.all)}

    def _pictures(self, task: Task) -> Pictures:
        """The pictures of a task, decoded once for the tasks in a row that share them."""
        import pyarrow.parquet as pq

        from stages.evaluate.setting import decoded_pictures

        key = (task["images"], Path(task["images"]).stat().st_mtime_ns, task.get("pixel_side"))
        if self._last is None or self._last[0] != key:
            rows = pq.read_table(task["images"]).to_pydict()
            self._last = (key, decoded_pictures(rows, self.setting.preprocessing, task.get("pixel_side")))
        return self._last[1]
