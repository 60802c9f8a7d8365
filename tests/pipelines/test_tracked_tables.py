"""Tables of an artifact in MLflow, on the stage's run and on the run above it."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient

from pipelines import tracking
from pipelines.tracking.mirror import Outcome, mirror_run
from tests.pipelines.handwritten_run import HandwrittenRun
from tests.pipelines.test_tracking import artifacts_of, runs_of

TABLE = {"columns": ["selection", "knn_trained"], "data": [["random", 0.42], ["balanced", None]]}


def test_a_table_is_one_table_however_often_it_is_delivered(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    tables = run.artifact("curate") / "tables"
    tables.mkdir()
    (tables / "comparison.json").write_text(json.dumps(TABLE))
    run.whole()
    for _ in range(2):
        mirror_run(tracked_store, run.id)
        (run.path / "mirror.json").unlink()
    found = runs_of(tracked_store)
    client = MlflowClient(tracking.tracking_uri(tracked_store))
    for name in (run.id, "curate"):
        logged = json.loads(found[name].data.tags["mlflow.loggedArtifacts"])
        assert logged == [{"path": "comparison.json", "type": "table"}]
        table = client.load_table(found[name].info.experiment_id, "comparison.json", [found[name].info.run_id])
        assert table["selection"].tolist() == ["random", "balanced"]
        assert table["knn_trained"].iloc[0] == 0.42
    assert "mlflow.loggedArtifacts" not in found["pretrain"].data.tags
    assert mlflow.get_tracking_uri() == tracking.tracking_uri(tracked_store)


def test_tables_that_mlflow_cannot_show_have_a_sample_beside_them(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    folder = run.artifact("curate")
    rows = 30
    table = pa.table(
        {
            "image_id": [f"image{n}" for n in range(rows)],
            "bytes": pa.array([b"x"] * rows, pa.large_binary()),
            "forms": pa.array([[b"x"]] * rows, pa.list_(pa.binary())),
            "vector": pa.array([[0.5] * 9] * rows, pa.list_(pa.float32(), 9)),
            "caption": ["y" * 300, None, *["short"] * (rows - 2)],
            "when": pa.array([0] * rows, pa.timestamp("us", tz="UTC")),
        }
    )
    (folder / "images").mkdir()
    pq.write_table(table.slice(0, 25), folder / "images" / "part-00000.parquet")
    pq.write_table(table.slice(25), folder / "images" / "part-00001.parquet")
    with pa.OSFile(str(folder / "features.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    (folder / "torn").mkdir()
    (folder / "torn" / "part-0.parquet").write_bytes(b"PAR1")
    run.whole()
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    child = runs_of(tracked_store)["curate"]
    found = {path for path in artifacts_of(tracked_store, child) if path.startswith("sample_")}
    assert found == {"sample_images.json", "sample_features.json"}
    local = MlflowClient(tracking.tracking_uri(tracked_store)).download_artifacts(
        child.info.run_id, "sample_images.json"
    )
    sample = json.loads(Path(local).read_text())
    assert sample["columns"] == ["image_id", "vector", "caption", "when"] and len(sample["data"]) == 20
    assert sample["data"][0][1] == "[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, … 9 in all]"
    assert sample["data"][0][2] == "y" * 200 + "…" and sample["data"][1][2] is None
    listed = json.loads(child.data.tags["mlflow.loggedArtifacts"])
    assert {"path": "sample_images.json", "type": "table"} in listed
