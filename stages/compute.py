"""Where a stage's fan-out runs. Stages speak to `Compute`; the executor chooses the implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Task = dict[str, Any]
Worker = Callable[[Task], Task]


class Compute(Protocol):
    """Fan-out of independent tasks, and of a group of training workers."""

    def cpus(self) -> int:
        """CPUs that the work may use in all."""

    def gpus(self) -> int:
        """GPUs that the work may use in all."""

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
        """Run `worker(**config)(task)` for every task on `actors` long-lived workers, in any order.

        Tasks and results are small plain dicts (paths, row ranges, counts): data goes through files.
        `on_done(result)` is called in the caller's thread as results come. A task may run twice after a crash, so
        what it writes must be committed by rename under a name that depends on the task alone.
        """

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
        """Run `loop(config)` on `workers` ranks joined in one torch process group (nccl on GPUs, gloo on CPUs).

        `on_poll` is called about twice a second in the caller's thread while the ranks run, and once at the end.
        A rank that dies is restarted with its whole group; the loop resumes from its own committed checkpoints.
        fewer: numbers of ranks to go on with where not as many can be had any more, largest first. A ValueError or
        an ArithmeticError of the loop is final: it would come again.
        """
