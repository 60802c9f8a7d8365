"""Checkpoints of a running training: written beside it, whole or not there, readable by any number of ranks."""

from training.checkpoints.committed import CheckpointError, Retention, best_step, committed_steps, newest_intact
from training.checkpoints.saver import Checkpoints, Restored, load_model
from training.checkpoints.state import TrainingState

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Restored",
    "Retention",
    "TrainingState",
    "best_step",
    "committed_steps",
    "load_model",
    "newest_intact",
]
