"""The planner on random graphs: what is known, what may be, what is blocked, without touching a disk."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.planner import BLOCKED, MAYBE, REUSE, RUN, Facts, Lookup, compare, make_plan
from pipelines.recipe import make_recipe
from pipelines.spec import Spec, StageSpec
from stages.artifact import Artifact
from tests.pipelines.toy import Total, TotalParams


@st.composite
def graphs(draw) -> dict[str, list[str]]:
    size = draw(st.integers(1, 7))
    return {
        f"s{i}": sorted({f"s{j}" for j in draw(st.lists(st.integers(0, i - 1), max_size=3))} if i else set())
        for i in range(size)
    }


def spec_of(graph: dict[str, list[str]]) -> Spec:
    stages = {
        name: StageSpec(name, "total", Total(TotalParams()), {f"in{k}": s for k, s in enumerate(sources)})
        for name, sources in graph.items()
    }
    return Spec("random", "", stages)


def facts_of(graph: dict[str, list[str]], changed: set[str] = frozenset(), broken: set[str] = frozenset()) -> dict:
    return {
        n: Facts("c", {"name": n, "value": 2 if n in changed else 1}, frozenset(), {}, "gone" if n in broken else "")
        for n in graph
    }


class Shelf:
    """A store in memory: what `build` has planned to run is there afterwards."""

    def __init__(self) -> None:
        self.objects: dict[str, Artifact] = {}
        self.previous: dict[str, dict] = {}

    def lookup(self) -> Lookup:
        return Lookup(lambda t, k: (self.objects.get(k), ""), lambda t, k: False, lambda s, t: self.previous.get(s))

    def build(self, graph: dict[str, list[str]], facts: dict) -> None:
        while True:
            plan = make_plan(spec_of(graph), facts, self.lookup())
            waiting = [s for s in plan.steps.values() if s.action != REUSE]
            if not waiting:
                return
            for step in waiting:
                if step.key:
                    manifest = {"recipe": step.recipe, "seconds": 1.0}
                    self.previous[step.stage] = manifest
                    self.objects[step.key] = Artifact("k", "total", step.key, f"d-{step.key}", Path(), manifest)


def ancestors(graph: dict[str, list[str]], name: str) -> set[str]:
    return set(graph[name]).union(*(ancestors(graph, s) for s in graph[name])) if graph[name] else set()


@given(graphs())
def test_what_was_built_is_reused(graph: dict[str, list[str]]) -> None:
    shelf = Shelf()
    shelf.build(graph, facts_of(graph))
    plan = make_plan(spec_of(graph), facts_of(graph), shelf.lookup())
    assert {step.action for step in plan.steps.values()} == {REUSE}


@given(graphs(), st.data())
def test_a_change_touches_its_stage_and_only_what_depends_on_it(graph: dict[str, list[str]], data) -> None:
    changed = data.draw(st.sampled_from(sorted(graph)))
    shelf = Shelf()
    shelf.build(graph, facts_of(graph))
    plan = make_plan(spec_of(graph), facts_of(graph, {changed}), shelf.lookup())
    for name, step in plan.steps.items():
        below = changed in ancestors(graph, name)
        assert step.action == (RUN if name == changed else MAYBE if below else REUSE)
    assert plan.steps[changed].why == f"{changed}.value: 1 -> 2"


@given(graphs(), st.data())
def test_what_cannot_be_read_blocks_all_below_and_nothing_else(graph: dict[str, list[str]], data) -> None:
    broken = data.draw(st.sampled_from(sorted(graph)))
    plan = make_plan(spec_of(graph), facts_of(graph, broken={broken}), Shelf().lookup())
    for name, step in plan.steps.items():
        assert (step.action == BLOCKED) == (name == broken or broken in ancestors(graph, name))


def test_reasons_name_values() -> None:
    stage = spec_of({"a": [], "b": ["a"]}).stages["b"]
    old = make_recipe("total", 1, "c1", {"k": 3, "nested": {"x": 1}}, {"in0": "d1"}, {"folder": "e1"})
    new = make_recipe("total", 2, "c2", {"k": 4, "nested": {"x": 2}}, {"in0": "d2"}, {"folder": "e2"})
    texts = [cause.text for cause in compare({"recipe": old}, new, stage)]
    assert texts == [
        "b.k: 3 -> 4",
        "b.nested.x: 1 -> 2",
        "total has version 2, was 1",
        "the code of total has changed",
        "a has other content",
        "folder has changed",
    ]
