"""Fan-out inside the calling process: for tests, `--local`, and anything small."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stages.compute import Task


class InProcess:
    """Compute without Ray: one worker after the other, training ranks as spawned processes when there are several."""

    def cpus(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def gpus(self) -> int:
        import torch

        return torch.cuda.device_count()

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
        del actors, gpus_per_actor
        if tasks:
            call = worker(**config)
            for task in tasks:
                on_done(call(task))

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
        del use_gpu, fewer
        errors: list[BaseException] = []

        def target() -> None:
            try:
                if workers == 1:
                    loop(config)
                else:
                    from training.process_group import spawn

                    spawn(loop, config, workers)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=target, name="train", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.5)
            on_poll()
        if errors:
            raise errors[0]
        on_poll()
