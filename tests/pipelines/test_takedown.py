"""A takedown list, from the plan to the answer of `why`; and the report of a crawl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.api import Options, Pipeline
from pipelines.cli import app
from stages.tables import read_table
from tests.pipelines.small import document, fill

LOCAL = Options(local=True, cpus=1, track=False)


def _spec(folder: Path, **ingest: object) -> dict:
    stages = document(folder, ingest=ingest)["stages"]
    return {"name": "small", "stages": {name: stages[name] for name in ("crawl", "ingest", "embed")}}


def _images(store: Path, run) -> set[str]:
    key = run.state().stages["ingest"].key
    table = read_table(store / "objects" / "ingest" / key, "images", ["image_id"])
    return set(table["image_id"].to_pylist())


def test_a_takedown_reruns_what_holds_the_image_and_why_names_it(tmp_path: Path) -> None:
    folder, store, listing = fill(tmp_path / "pool", 0, 12), tmp_path / "store", tmp_path / "takedown.txt"
    listing.write_text("# nothing yet\n")
    spec = _spec(folder, takedown=str(listing))
    first = Pipeline(spec).submit(store, LOCAL, ["ingest"])
    assert first.status == "done" and Pipeline(spec).plan(store, LOCAL).steps["ingest"].action == "reuse"
    gone = sorted(_images(store, first))[3]
    listing.write_text(f"{gone}\n")
    plan = Pipeline(spec).plan(store, LOCAL).steps
    assert (plan["crawl"].action, plan["ingest"].action) == ("reuse", "run") and plan["embed"].action != "reuse"
    assert [cause.text for cause in plan["ingest"].causes] == ["takedown has changed"]
    second = Pipeline(spec).submit(store, LOCAL, ["ingest"])
    assert _images(store, second) == _images(store, first) - {gone}
    told = {entry["stage"]: entry["text"] for entry in second.why(gone)}
    assert told["ingest"] == f"left out, named by ingest.takedown: {gone}"


@pytest.fixture
def crawled(tmp_path: Path) -> tuple[Path, str]:
    spec = _spec(fill(tmp_path / "pool", 0, 12))
    (tmp_path / "pool" / "notes.txt").write_text("no picture")
    run = Pipeline({"name": "small", "stages": {"crawl": spec["stages"]["crawl"]}}).submit(tmp_path / "store", LOCAL)
    return tmp_path / "store", run.state().stages["crawl"].key or ""


def test_the_report_of_a_crawl(crawled: tuple[Path, str]) -> None:
    store, key = crawled
    for name in ("latest", f"crawl/{key[:10]}"):
        done = CliRunner().invoke(app, ["crawl-report", name, "--store", str(store), "--json"])
        (document_,) = json.loads(done.stdout)
        assert {(row["status"], row["reason"]): row["count"] for row in document_["reasons"]} == {
            ("ok", ""): 12,
            ("skipped", "not_image"): 1,
        }
        assert document_["formats"][0]["format"] == "image/png" and document_["hosts"][0]["host"] == "(files)"
        assert sum(row["pictures"] for row in document_["throughput"]) == 12
    shown = CliRunner().invoke(app, ["crawl-report", "--store", str(store)])
    assert "not_image" in shown.stdout and key[:12] in shown.stdout
    wrong = CliRunner().invoke(app, ["crawl-report", "crawl/ffff", "--store", str(store)])
    assert "no finished crawl" in str(wrong.exception)
