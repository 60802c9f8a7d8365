"""The passes that a worker of an evaluation knows, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stages.compute import Task
from stages.evaluate.passes import discovery_pass, features_pass, segmentation_pass, tokens_pass, views_pass
from stages.evaluate.setting import Arrays, Pictures, Setting
from stages.evaluate.shift_passes import invariance_pass, self_learning_pass, shifts_pass, shortcut_pass
from stages.evaluate.tuning_pass import fine_tune_pass

PASSES: Mapping[str, Callable[[Setting, Pictures, Task], Arrays]] = {
    "features": features_pass,
    "views": views_pass,
    "tokens": tokens_pass,
    "discovery": discovery_pass,
    "segmentation": segmentation_pass,
    "shifts": shifts_pass,
    "invariance": invariance_pass,
    "shortcut": shortcut_pass,
    "self_learning": self_learning_pass,
    "fine_tune": fine_tune_pass,
}
"""What a task's "kind" may be."""
