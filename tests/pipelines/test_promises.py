"""What a run promises, on the nine real stages."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from pipelines.api import Options, Pipeline, open_run
from pipelines.events import STAGE_STARTED
from tests.pipelines import small

ROOT = Path(__file__).parents[2]
LOCAL = Options(local=True, track=False)


def start(executor: str, store: Path, spec: dict[str, Any]) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.pipelines.small", executor, str(store), json.dumps(spec)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> dict[str, Any]:
    out, err = process.communicate(timeout=560)
    assert process.returncode == 0, err
    return json.loads(out)


def digests(result: dict[str, Any]) -> dict[str, str]:
    return {name: stage["digest"] for name, stage in result["stages"].items()}


def states(run) -> dict[str, str]:
    return {name: stage.state for name, stage in run.state().stages.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.fill(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> dict[str, Any]:
    """An uninterrupted run without Ray, and its store."""
    store = tmp_path_factory.mktemp("whole") / "store"
    result = finish(start("local", store, small.document(folder)))
    assert result["status"] == "done", result
    return {**result, "store": store}


def test_a_second_submit_reuses_all_nine_stages(folder: Path, whole: dict[str, Any]) -> None:
    run = Pipeline(small.document(folder)).submit(whole["store"], LOCAL)
    assert list(states(run).values()) == ["reused"] * 9


def test_a_changed_curation_reruns_it_and_what_follows(folder: Path, whole: dict[str, Any]) -> None:
    pipeline = Pipeline(small.document(folder, curate={"clusters": 4}))
    plan = pipeline.plan(whole["store"])
    assert [s.action for s in plan.steps.values()] == ["reuse"] * 4 + ["run"] + ["maybe"] * 4
    assert plan.steps["curate"].why == "curate.clusters: 6 -> 4"
    run = pipeline.submit(whole["store"], LOCAL)
    expected = ["reused"] * 4 + ["done"] * 5
    assert list(states(run).values()) == expected


def test_why_tells_an_images_way(whole: dict[str, Any]) -> None:
    run = open_run(whole["run"], whole["store"])
    selection = run.artifact("curate").table(["image_id", "role"]).to_pylist()
    trained = next(row["image_id"] for row in selection if row["role"] == "train")
    entries = {e["stage"]: e["text"] for e in run.why(trained[:16])}
    assert "fetched from file://" in entries["crawl"]
    assert entries["curate"].startswith("train: ")
    assert entries["shard"].startswith("shard row ")
    assert entries["register"].startswith("trained on this image")
    held_out = next(row["image_id"] for row in selection if row["role"] == "holdout")
    entries = {e["stage"]: e["text"] for e in run.why(held_out)}
    assert entries["curate"].startswith("holdout")
    assert (entries["shard"], entries["register"][:11]) == ("in no shard", "not trained")


def test_no_image_of_the_test_set_or_its_duplicates_trains(whole: dict[str, Any]) -> None:
    run = open_run(whole["run"], whole["store"])
    rows = run.artifact("curate").table(["image_id", "role", "group_id"]).to_pylist()
    tested = {row["group_id"] for row in rows if row["role"] == "holdout"}
    trained = {row["group_id"] for row in rows if row["role"] == "train"}
    assert tested and trained and not tested & trained


def test_a_pool_grown_by_a_tenth_costs_a_tenth(tmp_path: Path) -> None:
    folder = small.fill(tmp_path / "pictures", 0, 50)
    store = tmp_path / "store"
    first = finish(start("local", store, small.document(folder)))
    small.fill(folder, 50, 55)
    grown = finish(start("local", store, small.document(folder)))
    scratch = finish(start("local", tmp_path / "scratch", small.document(folder)))
    run = open_run(grown["run"], store)
    for stage, figure in (("crawl", "fetched"), ("ingest", "computed_rows"), ("embed", "computed_rows")):
        assert run.state().stages[stage].metrics[figure] == 5, stage
    reproducible = [name for name in digests(grown) if name != "crawl"]
    assert [digests(grown)[n] for n in reproducible] == [digests(scratch)[n] for n in reproducible]
    assert digests(first)["ingest"] != digests(grown)["ingest"]


@pytest.mark.timeout(600)
def test_on_ray_with_more_workers_tables_are_equal_and_weights_to_float_tolerance(
    tmp_path: Path, folder: Path, whole: dict[str, Any]
) -> None:
    # small plain steps: AdamW divides gradients by their own size, and large steps on eight samples a rank are
    # chaotic, so that either makes a difference in the last bits a large one
    sgd = {"optimiser": "sgd", "lr": 1e-4, "momentum": 0.0}
    one = Pipeline(small.document(folder, pretrain=sgd)).submit(whole["store"], LOCAL)
    spec = small.document(folder, embed={"actors": 3}, pretrain={**sgd, "workers": 2})
    result = finish(start("ray", tmp_path / "store", spec))
    assert result["status"] == "done", result
    tables = ("crawl", "ingest", "embed", "dedup", "curate", "shard")
    assert [digests(result)[n] for n in tables] == [digests(whole)[n] for n in tables]
    two = open_run(result["run"], tmp_path / "store")
    weights, others = (load_file(r.artifact("pretrain").path / "backbone.safetensors") for r in (one, two))
    for name in weights:
        np.testing.assert_allclose(others[name], weights[name], rtol=1e-2, atol=1e-4, err_msg=name)


WORKERS = ("ray::small-", "MapWorker", "RayTrainWorker")
"""Names in the process titles of a stage's driver task, of its Ray Data actors and of its training ranks."""


def _submit_and_kill(
    executor: str, store: Path, spec: dict[str, Any], dice: random.Random, pause: tuple[float, float], most: int = 99
) -> tuple[list[str], dict | None]:
    """Submit, and after random pauses kill the driver or one of the workers that are there, `most` times at most; what
    was killed, and the result where the driver came to an end of its own."""
    process, killed = start(executor, store, spec), []
    while process.poll() is None and not _has_begun(store, process.pid):
        time.sleep(0.02)
    while process.poll() is None and "driver" not in killed and len(killed) < most:
        moment = time.monotonic() + dice.uniform(*pause)
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.02)
        if process.poll() is None:
            victims = {name: pids for name in WORKERS if (pids := _workers(process.pid, name))}
            victims["driver"] = [process.pid]
            whom = dice.choice(sorted(victims))
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(victims[whom]), signal.SIGKILL)
                killed.append(whom)
    out, _ = process.communicate(timeout=560)
    return killed, json.loads(out) if process.returncode == 0 else None


def _has_begun(store: Path, driver: int) -> bool:
    """Whether the run of this driver has started a stage: before that it only starts Ray."""
    for head in store.glob("runs/*/run.json"):
        if json.loads(head.read_text())["pid"] == driver:
            log = head.with_name("events.jsonl")
            return log.exists() and STAGE_STARTED in log.read_text()
    return False


def _workers(parent: int, title: str) -> list[int]:
    import psutil

    found = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.cmdline()[:1] and title in child.cmdline()[0]:
                found.append(child.pid)
    return found


def test_killed_at_random_moments_it_ends_with_the_same_digests(
    tmp_path: Path, folder: Path, whole: dict[str, Any]
) -> None:
    dice, store, spec = random.Random(3), tmp_path / "store", small.document(folder)
    kills = [name for _ in range(4) for name in _submit_and_kill("local", store, spec, dice, (0.1, 2.5))[0]]
    result = finish(start("local", store, spec))
    assert kills.count("driver") >= 2
    assert result["status"] == "done", result
    assert digests(result) == digests(whole)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_twenty_kills_of_driver_and_workers_on_ray(tmp_path: Path, folder: Path, whole: dict[str, Any]) -> None:
    dice, spec = random.Random(11), small.document(folder)
    kills: list[str] = []
    stores = 0
    while len(kills) < 20:
        stores, result = stores + 1, None
        while result is None or result["status"] != "done":
            store, most = tmp_path / f"store{stores}", 20 - len(kills)
            killed, result = _submit_and_kill("ray", store, spec, dice, (0.5, 15.0), most)
            kills += killed
        assert digests(result) == digests(whole)
    print(f"{len(kills)} kills in {stores} stores:", {name: kills.count(name) for name in sorted(set(kills))})
    assert {"driver", "ray::small-"} <= set(kills)


@pytest.mark.timeout(600)
def test_a_killed_training_worker_is_replaced(tmp_path: Path, folder: Path, whole: dict[str, Any]) -> None:
    store, spec = tmp_path / "store", small.document(folder)
    process = start("ray", store, spec)
    killed = False
    while not killed and process.poll() is None:
        if list((store / "staging" / "pretrain").glob("*/checkpoints/step-*")):
            for pid in _workers(process.pid, "RayTrainWorker"):
                os.kill(pid, signal.SIGKILL)
                killed = True
        time.sleep(0.02)
    result = finish(process)
    assert killed
    assert digests(result)["pretrain"] == digests(whole)["pretrain"]


@pytest.mark.parametrize("trouble", ["empty", "broken", "few"])
def test_pools_that_cannot_train_end_clearly(tmp_path: Path, trouble: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    if trouble == "broken":
        for n in range(3):
            (folder / f"{n}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"broken" * n)
    elif trouble == "few":
        small.fill(folder, 0, 5)
    run = Pipeline(small.document(folder)).submit(tmp_path / "store", LOCAL)
    state = run.state()
    failed = [s for s in state.stages.values() if s.state == "failed"]
    assert state.status == "failed" and len(failed) == 1
    assert "Error" not in failed[0].error.split(":")[0], failed[0].error
    assert list((tmp_path / "store" / "objects").glob(f"{failed[0].type}/*")) == []


def test_a_full_disk_ends_clearly_and_goes_on_once_there_is_room(tmp_path: Path, folder: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of a given size cannot be mounted here")
    try:
        run = Pipeline(small.document(folder)).submit(disk / "store", LOCAL)
        failed = [s for s in run.state().stages.values() if s.state == "failed"]
        assert run.status == "failed"
        assert "make room" in failed[0].error
        assert not (disk / "store" / "objects" / failed[0].type).exists()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        assert Pipeline(small.document(folder)).submit(disk / "store", LOCAL).status == "done"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_no_part_of_a_stage_is_run_twice_within_a_run(whole: dict[str, Any]) -> None:
    run = open_run(whole["run"], whole["store"])
    started = [event["stage"] for _, event in run.record.log.read() if event["kind"] == STAGE_STARTED]
    assert sorted(started) == sorted(whole["stages"])


def test_every_row_of_the_crawl_is_accounted_for(whole: dict[str, Any]) -> None:
    run = open_run(whole["run"], whole["store"])
    fetched = run.artifact("crawl").table(["sha256", "status"]).to_pylist()
    kept = set(run.artifact("ingest").table(["image_id"])["image_id"].to_pylist())
    rejected_parts = (run.artifact("ingest").path / "rejected").glob("part-*.parquet")
    rejected = {h for p in rejected_parts for h in pq.read_table(p)["sha256"].to_pylist()}
    assert {row["sha256"] for row in fetched if row["status"] == "ok"} == kept | rejected
    assert set(run.artifact("curate").table(["image_id"])["image_id"].to_pylist()) == kept
