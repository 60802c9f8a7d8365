"""Stages with workers of their own start when there is room for them, not all at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipelines.driver import Driver
from pipelines.facts import all_facts, store_lookup
from pipelines.planner import make_plan
from pipelines.runs import create_run
from pipelines.spec import load_spec
from pipelines.step import Order, Outcome, carry_out
from pipelines.store import Store
from stages.base import Resources
from stages.in_process import InProcess
from stages.registry import stage_targets
from tests.pipelines import toy


class Together:
    """Runs every step that it is given at once, each in a thread; remembers how many ran beside each other."""

    greeting = "running all at once"

    def __init__(self, cpus: float) -> None:
        self.cpus, self.most = cpus, 0
        self._running: dict[str, threading.Thread] = {}
        self._outcomes: dict[str, Outcome] = {}

    def start(self) -> None: ...

    def close(self) -> None: ...

    def stop(self, stage: str) -> None: ...

    def capacity(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    free = capacity

    def queued(self, stage: str) -> bool:
        return False

    def submit(self, order: Order) -> None:
        def work() -> None:
            self._outcomes[order.stage] = carry_out(order, InProcess())

        self._running[order.stage] = threading.Thread(target=work)
        self.most = max(self.most, len(self._running))
        self._running[order.stage].start()

    def finished(self, timeout: float) -> list[tuple[str, Outcome]]:
        first = next(iter(self._running.values()))
        first.join(timeout)
        ended = [name for name, thread in self._running.items() if not thread.is_alive()]
        for name in ended:
            del self._running[name]
        return [(name, self._outcomes[name]) for name in ended]


@pytest.mark.parametrize(
    ("wanted", "cpus", "most"),
    [
        (Resources(), 1, 4),
        (Resources(cpus=1), 2, 2),
        (Resources(cpus=1), 8, 4),
        (Resources(cpus=1, exclusive=True), 8, 1),
    ],
)
def test_stages_with_workers_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Resources, cpus: float, most: int
) -> None:
    monkeypatch.setattr("stages.registry.BUILT_IN", toy.TARGETS)
    stage_targets.cache_clear()
    try:
        monkeypatch.setattr(toy.Square, "resources", lambda self: wanted)
        (tmp_path / "numbers").mkdir()
        (tmp_path / "numbers" / "1").write_text("3")
        document = toy.document(tmp_path / "numbers")
        del document["stages"]["total"]
        square = {**document["stages"].pop("square"), "uses": "square", "pause": 0.4}
        document["stages"] |= {f"square{n}": {**square, "modulus": n + 1} for n in range(4)}
        store = Store(tmp_path / "store")
        store.prepare()
        spec = load_spec(document)
        facts = all_facts(spec)
        plan = make_plan(spec, facts, store_lookup(store, spec.name))
        executor = Together(cpus)
        assert Driver(create_run(store, spec), spec, facts, plan, executor).run() == "done"
        assert executor.most == most
    finally:
        monkeypatch.undo()
        stage_targets.cache_clear()
