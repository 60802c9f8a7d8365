"""Fan-out of a stage on Ray: Ray Data actors for tasks, Ray Train for a group of training ranks."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.base import StageError
from stages.compute import Task
from stages.in_process import InProcess

MAX_RESTARTS = 5
"""How often a training group is restarted after one of its ranks died."""


class TaskActor:
    """A long-lived worker of `RayCompute.map`, as Ray Data calls it: batches of one JSON row."""

    def __init__(self, worker: type, config: dict[str, Any]) -> None:
        self._call = worker(**config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"result": [json.dumps(self._call(json.loads(text)), default=float) for text in batch["task"]]}


class RayCompute:
    """Compute over the cluster that this process is connected to.

    scratch: a folder that every node sees, for what Ray Train writes about a group.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def cpus(self) -> int:
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def gpus(self) -> int:
        import ray

        return int(ray.cluster_resources().get("GPU", 0))

    def map(
        self,
        worker: type,
        config: Mapping[str, Any],
        tasks: Sequence[Task],
        *,
        actors: int,
        on_done: Callable[[Task], None],
        gpus_per_actor: float = 0,
    ) -> None:
        if len(tasks) <= 1 and not gpus_per_actor:
            # actors take seconds to start, and a single task has nobody to share with
            InProcess().map(worker, config, tasks, actors=1, on_done=on_done)
            return
        import ray

        quiet_ray_data()
        actors = max(1, min(actors, len(tasks)))
        share = min(1.0, int(100 * self.cpus() / actors) / 100)
        rows = [{"task": json.dumps(task)} for task in tasks]
        results = ray.data.from_items(rows, override_num_blocks=min(len(rows), 1000)).map_batches(
            TaskActor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=share,
            num_gpus=gpus_per_actor or None,
            fn_constructor_args=(worker, dict(config)),
        )
        for row in results.iter_rows():
            on_done(json.loads(row["result"]))

    def train(
        self,
        loop: Callable[[dict[str, Any]], None],
        config: dict[str, Any],
        *,
        workers: int,
        use_gpu: bool,
        on_poll: Callable[[], None],
        fewer: Sequence[int] = (),
    ) -> None:
        """One Ray Train group after the other, each of the size that the cluster has room for, until one ends well.

        Every group has a name and a storage folder of its own, since Ray Train goes on by itself where both were
        seen before. Nothing is reported to it, since what it was told may be lost; the loop has its own checkpoints.
        Its retries are off, since it waits without end for workers that can't come back and repeats users' mistakes.
        """
        from ray.train.v2.api.exceptions import TrainingFailedError

        self._scratch.mkdir(parents=True, exist_ok=True)
        for attempt in range(MAX_RESTARTS + 1):
            cpus = 1.0 if use_gpu else min(1.0, int(100 * self.cpus() / workers) / 100)
            each = {"CPU": cpus, **({"GPU": 1.0} if use_gpu else {})}
            if attempt:
                workers = room_for([workers, *(number for number in fewer if number < workers)], each)
            storage = tempfile.mkdtemp(prefix="train-", dir=self._scratch)
            try:
                with _polling(on_poll):
                    _trainer(loop, config, workers, each, storage).fit()
                break
            except TrainingFailedError as error:
                if attempt == MAX_RESTARTS or _is_final(error):
                    raise
            finally:
                shutil.rmtree(storage, ignore_errors=True)
        on_poll()


def _trainer(
    loop: Callable[[dict[str, Any]], None], config: dict[str, Any], workers: int, each: dict[str, float], storage: str
) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig

    use_gpu = "GPU" in each
    return TorchTrainer(
        loop,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=each),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )


def room_for(sizes: Sequence[int], each: Mapping[str, float]) -> int:
    """The first of the group sizes that the nodes which are alive can hold; raises StageError where none fits."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    held = sum(
        int(min((node.get(name, 0.0) + 1e-9) // amount for name, amount in each.items() if amount)) for node in alive
    )
    for size in sizes:
        if size <= held:
            return size
    raise StageError(
        f"the cluster has room left for {held} training workers of {dict(each)}, fewer than any group that can share "
        f"the batch (smallest: {min(sizes)}): bring nodes back and submit again, the training goes on where it was"
    )


def _is_final(error: BaseException) -> bool:
    """Whether a rank ended by a mistake that would come again, not by a death around it."""
    failures = getattr(error, "worker_failures", {}).values()
    return any(isinstance(getattr(f, "_base_exc", f), ValueError | ArithmeticError) for f in failures)


class _polling:  # noqa: N801 - a context manager, used like a function
    """Call `on_poll` twice a second on another thread; what it raises is raised on leaving."""

    def __init__(self, on_poll: Callable[[], None]) -> None:
        self._on_poll = on_poll
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            try:
                self._on_poll()
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                self._error = error
                return


def quiet_ray_data() -> None:
    """Keep Ray Data's progress bars and start-up lines out of the logs; curatrain draws its own."""
    import logging

    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
