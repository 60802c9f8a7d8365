"""Stages that start from another's model: by an input that is named, or by a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from pipelines.api import Options, Pipeline, open_run
from pipelines.errors import SpecError, UsageError
from stages import registry
from stages.base import EXECUTION, Input, Stage, StageContext, StageParams, StageResult
from tests.pipelines import toy

LOCAL = Options(local=True, track=False)


class GrowParams(StageParams):
    start: str | None = Field(
        None, description="A folder, or run:RUN.", json_schema_extra={**EXECUTION, "artifact": "metrics"}
    )


class Grow(Stage[GrowParams]):
    """Writes one more than what it starts from."""

    type = "grow"
    Params = GrowParams
    inputs: ClassVar[dict[str, Input]] = {"init": Input("metrics", optional=True, by_name=True)}
    output = "metrics"

    def externals(self) -> dict[str, str]:
        return {"start": (Path(self.params.start) / "size").read_text()} if self.params.start else {}

    def run(self, ctx: StageContext[GrowParams]) -> StageResult:
        folder = ctx.inputs["init"].path if "init" in ctx.inputs else ctx.params.start and Path(ctx.params.start)
        size = int((folder / "size").read_text()) + 1 if folder else 1
        with ctx.writing("size") as path:
            path.write_text(str(size))
        return StageResult(digest=str(size), metrics={"size": size})


@pytest.fixture(autouse=True)
def _toy_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "grow", "tests.pipelines.test_references:Grow")
    assert toy is not None
    registry.stage_targets.cache_clear()
    registry.stage_class.cache_clear()


def spec(**stages: dict[str, Any]) -> Pipeline:
    return Pipeline({"name": "growth", "stages": {name: {"uses": "grow", **body} for name, body in stages.items()}})


def size(run: Any, stage: str) -> int:
    return int((run.artifact(stage).path / "size").read_text())


def test_an_input_by_name_is_connected_only_where_it_is_named(tmp_path: Path) -> None:
    apart = spec(first={}, second={})
    assert [dict(stage.inputs) for stage in apart.spec.stages.values()] == [{}, {}]
    chained = spec(first={}, second={"inputs": {"init": "first"}}, third={"inputs": {"init": "second"}})
    run = chained.submit(tmp_path, LOCAL)
    assert [size(run, name) for name in ("first", "second", "third")] == [1, 2, 3]
    with pytest.raises(SpecError, match="cycle"):
        spec(first={"inputs": {"init": "second"}}, second={"inputs": {"init": "first"}})


def test_another_runs_artifact_is_a_start(tmp_path: Path) -> None:
    first = spec(only={}).submit(tmp_path, LOCAL)
    second = spec(only={"start": "run:latest"}).submit(tmp_path, LOCAL)
    assert size(second, "only") == 2
    assert second.record.spec_document()["stages"]["only"]["start"] == f"run:{first.id}/only"
    again = spec(only={"start": f"run:{first.id}"}).submit(tmp_path, LOCAL)
    assert again.state().stages["only"].state == "reused"  # what counts is the content
    assert open_run("latest", tmp_path).id == again.id
    third = spec(only={"start": f"run:{second.id}/only"}).submit(tmp_path, LOCAL)
    assert size(third, "only") == 3


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("run:nothing", "b.start: no run in"),
        ("run:growth", "has 2 stages that make a metrics; say which: a, b"),
        ("run:growth/c", "has no stage 'c' that makes a metrics; it has: a, b"),
    ],
)
def test_references_that_mean_nothing_are_told(tmp_path: Path, reference: str, message: str) -> None:
    spec(a={}, b={}).submit(tmp_path, LOCAL)
    with pytest.raises(UsageError, match=message):
        spec(a={}, b={"start": reference}).plan(tmp_path, LOCAL)
