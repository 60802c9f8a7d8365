"""Commits are whole or not at all; damage is found; garbage is what nothing needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.collect import find_garbage, sweep
from pipelines.errors import StoreError
from pipelines.locks import is_locked, locked
from pipelines.store import Store


def manifest(inputs: list | None = None) -> dict:
    return {"kind": "k", "type": "toy", "digest": "d", "inputs": inputs or [], "recipe": {}, "family": "f"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def commit(store: Store, key: str, text: str = "hello", **rest) -> Path:
    staging = store.staging_path("toy", key)
    (staging / "data").mkdir(parents=True)
    (staging / "data" / "file.txt").write_text(text)
    return store.commit("toy", key, manifest(**rest)).path


def test_a_commit_is_found_whole_and_leaves_no_staging(store: Store) -> None:
    path = commit(store, "k1")
    found = store.find("toy", "k1")
    assert found.artifact is not None and found.artifact.path == path
    assert [f["path"] for f in found.artifact.manifest["files"]] == ["data/file.txt"]
    assert not store.staging_path("toy", "k1").exists()


def test_without_a_manifest_there_is_no_artifact(store: Store) -> None:
    path = commit(store, "k1")
    (path / "manifest.json").unlink()
    assert store.find("toy", "k1").artifact is None


def test_damage_is_named(store: Store) -> None:
    file = commit(store, "k1") / "data" / "file.txt"
    file.write_text("hellO")
    assert store.find("toy", "k1").artifact is not None
    assert "other content" in store.find("toy", "k1", verify=True).damage
    file.write_text("hello!")
    assert store.find("toy", "k1").damage == "data/file.txt has 6 bytes, not 5"
    file.unlink()
    assert store.find("toy", "k1").damage == "data/file.txt is missing"


def test_a_torn_manifest_is_damage_and_not_a_crash(store: Store) -> None:
    path = commit(store, "k1")
    (path / "manifest.json").write_text('{"kind": "k", "fil')
    assert "manifest cannot be read" in store.find("toy", "k1").damage


def test_half_written_files_do_not_enter_an_artifact(store: Store) -> None:
    staging = store.staging_path("toy", "k1")
    staging.mkdir(parents=True)
    (staging / ".part.123.tmp").write_text("torn")
    (staging / "part").write_text("whole")
    artifact = store.commit("toy", "k1", manifest())
    assert [p.name for p in artifact.path.iterdir() if p.name != "manifest.json"] == ["part"]


def test_a_digest_of_none_becomes_the_key(store: Store) -> None:
    store.staging_path("toy", "k1").mkdir(parents=True)
    assert store.commit("toy", "k1", manifest() | {"digest": None}).digest == "k1"


def test_a_store_elsewhere_is_refused_with_words() -> None:
    with pytest.raises(StoreError, match="give --store a path"):
        Store("memory://bucket/store")


def test_gc_keeps_pins_with_their_ancestors(store: Store) -> None:
    commit(store, "a")
    commit(store, "b", inputs=[{"name": "in", "stage": "toy", "key": "a", "digest": "d"}])
    commit(store, "c")
    (store.root / "pins" / "release.json").write_text(json.dumps({"type": "toy", "key": "b"}))
    garbage = find_garbage(store, keep_runs=5)
    assert [g.key for g in garbage] == ["c"]
    assert sweep(store, garbage) > 0
    assert sorted(a.key for a in store.artifacts()) == ["a", "b"]


def test_gc_leaves_parts_that_a_living_process_holds(store: Store) -> None:
    staging = store.staging_path("toy", "busy")
    staging.mkdir(parents=True)
    with locked(store.lock_path("toy", "busy")):
        assert is_locked(store.lock_path("toy", "busy"))
        assert find_garbage(store, keep_runs=0) == []
    assert [g.kind for g in find_garbage(store, keep_runs=0)] == ["staging"]
