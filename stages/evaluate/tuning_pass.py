"""The pass that tunes a backbone on the labelled images."""

from __future__ import annotations

import json

import numpy as np

from stages.compute import Task
from stages.evaluate.setting import Arrays, Pictures, Setting
from training.blocks import repeated_blocks
from training.evaluation.fine_tune import FineTuneSettings, fine_tune


def fine_tune_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """Classes of the queries by a tuned copy of one backbone, and its losses by epoch.

    task: contestant; share: of the blocks that are tuned, 1 for all; seen: how many training pictures are shown in
    all, which sets the epochs; seed.
    """
    bank = ~pictures.query
    backbone = setting.backbones[task["contestant"]]
    blocks = None if task["share"] == 1 else max(1, round(task["share"] * len(repeated_blocks(backbone))))
    epochs = max(1, round(task["seen"] / bank.sum()))
    found = fine_tune(
        backbone,
        pictures.squares[bank],
        pictures.labels[bank],
        pictures.squares[pictures.query],
        setting.preprocessing,
        FineTuneSettings(epochs=epochs, blocks=blocks),
        seed=task["seed"],
        device=setting.device,
    )
    told = {"epochs": epochs, "blocks": blocks, "parameters": found.trained}
    return {"predictions": found.predictions, "losses": np.array(found.losses), "told": np.array(json.dumps(told))}
