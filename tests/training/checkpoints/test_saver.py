from __future__ import annotations

import json
import resource
import shutil
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.checkpoints.trainings import content, learn, same, training
from training.checkpoints import CheckpointError, Checkpoints, Restored, TrainingState, committed_steps, load_model
from training.optimisers import OPTIMISERS, make_optimiser


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_restored_training_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, broken, other = training(0, name), training(0, name), training(1, name)
    learn(whole, 0, 6)
    learn(broken, 0, 3)
    broken.tensors["generator"] = torch.Generator().manual_seed(5).get_state()
    broken.values["scaler"] = {"scale": 1024.0, "growth": [1, 2]}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, broken)
    learn(other, 0, 2)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(other) == Restored(3)
    assert other.values == broken.values
    assert same(content(other), content(broken))
    for state in (broken, other):
        state.tensors = {}
        learn(state, 3, 6)
        assert same(content(state), content(whole))


def test_nothing_there_is_none(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "missing") as checkpoints:
        assert checkpoints.restore(training(0)) is None


def test_what_changes_after_save_does_not_get_in(tmp_path: Path) -> None:
    state, other = training(0), training(1)
    learn(state, 0, 1)
    before = content(state)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):  # the second copy goes into the buffers of the first
            before = content(state)
            checkpoints.save(step, state)
            with torch.no_grad():
                for value in state.collect().values():
                    value.add_(1)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(other) == Restored(2)
    assert same(content(other), before)


def test_saving_leaves_the_training_to_go_on(tmp_path: Path) -> None:
    state = TrainingState(nn.Linear(1500, 1500), make_optimiser("sgd", nn.Linear(1, 1), lr=1, weight_decay=0))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        writing = [thread for thread in threading.enumerate() if thread.name == "checkpoint-1"]
        assert writing and committed_steps(tmp_path) == []
        checkpoints.wait()
        assert committed_steps(tmp_path) == [1]
    with Checkpoints(tmp_path, asynchronous=False) as checkpoints:
        checkpoints.save(2, state)
        assert committed_steps(tmp_path) == [1, 2]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_ones_are_skipped_with_a_note(tmp_path: Path) -> None:
    state, other = training(0), training(1)
    with Checkpoints(tmp_path, keep_last=9) as checkpoints:
        for step in range(1, 8):
            learn(state, step - 1, step)
            checkpoints.save(step, state)
            if step == 2:
                expected = content(state)
    folders = [tmp_path / f"step-{step:09d}" for step in range(8)]
    data = folders[3] / "__0_0.distcp"
    data.write_bytes(data.read_bytes()[:-100])
    _flip(folders[4] / "__0_0.distcp")
    (folders[5] / "state.json").unlink()
    _flip(folders[6] / "manifest.json")
    (folders[7] / "manifest.json").unlink()
    shutil.copytree(folders[2], tmp_path / "step-000000099")
    (tmp_path / ".step-000000100.tmp").mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(other)
    assert restored is not None and restored.step == 2
    assert [note.split(":")[0] for note in restored.skipped] == [f"step-{s:09d}" for s in (99, 7, 6, 5, 4, 3)]
    assert "is of step 2" in restored.skipped[0] and "state.json is missing" in restored.skipped[3]
    assert same(content(other), expected)
    assert not list(tmp_path.glob(".step-*"))
    learn(other, 2, 3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, other)  # over the damaged one, and the later ones go
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(state) == Restored(3)
    assert committed_steps(tmp_path) == [2, 3]
    assert same(content(state), content(other))


def test_a_failed_write_is_told_and_the_older_one_stays(tmp_path: Path) -> None:
    state = training(0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        (tmp_path / ".step-000000002.tmp").write_text("in the way")
        checkpoints.save(2, state)
        with pytest.raises(CheckpointError, match="could not be written"):
            checkpoints.save(3, state)
        checkpoints.save(4, state)
    assert committed_steps(tmp_path) == [1, 4]


def test_a_disk_that_takes_no_more_is_told(tmp_path: Path) -> None:
    network = nn.Linear(500, 500)
    state = TrainingState(network, make_optimiser("sgd", network, lr=1, weight_decay=0))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        try:
            checkpoints.save(2, state)
            with pytest.raises(CheckpointError, match="could not be written: rank 0: "):
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert checkpoints.restore(state) == Restored(1)
        checkpoints.save(3, state)
    assert committed_steps(tmp_path) == [1, 3]


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        state = training(0)
        learn(state, 0, 1)
        checkpoints.save(1, state)
        other = training(0)
        other.model.more = nn.Linear(2, 2)
        with pytest.raises(CheckpointError, match=r"lacks 2 tensors, such as more\.bias, more\.weight"):
            checkpoints.restore(other)
        del other.model.more, other.model.norm
        with pytest.raises(CheckpointError, match=r"this model does not, 5 tensors, such as norm\."):
            checkpoints.restore(other)
        wider = training(0)
        wider.model.centre = torch.zeros(8)
        with pytest.raises(CheckpointError, match="'centre' is"):
            checkpoints.restore(wider)
        frozen = training(0)
        frozen.model.scale.requires_grad_(False)
        frozen = TrainingState(frozen.model, make_optimiser("adamw", frozen.model, lr=1, weight_decay=0))
        with pytest.raises(CheckpointError, match="'scale', which the optimiser doesn't train"):
            checkpoints.restore(frozen)


def test_wrappers_leave_no_trace_in_names(tmp_path: Path) -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    plain, wrapped = training(0), training(1)
    wrapped.model.teacher = checkpoint_wrapper(wrapped.model.teacher)
    wrapped.model.norm = torch.compile(wrapped.model.norm)
    wrapped = TrainingState(wrapped.model, make_optimiser("adamw", wrapped.model, lr=0.01, weight_decay=0.05))
    learn(plain, 0, 1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, plain)
        checkpoints.restore(wrapped)
    assert same(content(wrapped), content(plain))


def test_values_must_be_plain(tmp_path: Path) -> None:
    state = training(0)
    state.values["tensor"] = torch.zeros(1)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(TypeError, match="JSON"):
        checkpoints.save(1, state)


def test_a_model_alone_can_be_read(tmp_path: Path) -> None:
    state, other = training(0), training(1)
    learn(state, 0, 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, state)
    load_model(tmp_path / "step-000000002", other.model)
    assert same(dict(other.model.state_dict()), dict(state.model.state_dict()))
    assert json.loads((tmp_path / "step-000000002" / "state.json").read_text()) == {}
