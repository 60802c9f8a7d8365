"""A training in a peer's way, in the peers' environment: `python -m tests.benchmarks.beside_train PEER JOB OUT`.

JOB is a JSON file: our plan, the first weights, the folder of pictures. OUT gets the trained weights.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.beside_method import Method
from training.optimisers import clip_gradients, clipped_parts, make_optimiser, set_rates
from training.schedules import Schedule


class Pictures(Dataset[list[Tensor]]):
    """Views of the pictures of a folder, in the order of their names."""

    def __init__(self, folder: str, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.paths, self.transform = sorted(Path(folder).glob("*.png")), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        return list(self.transform(Image.open(self.paths[index]).convert("RGB")))


def train(peer: str, job: dict[str, Any], out: Path) -> float:
    """Train and save the backbone; returns the CPU-seconds."""
    plan = job["plan"]
    torch.set_num_threads(1)
    torch.manual_seed(plan["seed"])
    theirs = importlib.import_module(f"tests.benchmarks.beside_{peer}")
    dynamic = theirs.NEEDS_SIZES or plan["views"]["local_crops"]  # of images; changes no weight
    sizes = {"dynamic_img_size": True} if dynamic and plan["objective"]["name"] != "mae" else {}
    backbone = timm.create_model(plan["backbone"]["name"], num_classes=0, **plan["backbone"]["kwargs"], **sizes)
    backbone.load_state_dict(load_file(job["weights"]))
    name = plan["objective"]["name"]
    method = theirs.METHODS[name](backbone, plan["objective"], plan["steps"]).train()
    pictures = Pictures(job["pictures"], theirs.transform(name, plan["views"], plan["image_size"]))
    loader = DataLoader(pictures, batch_size=plan["batch"], shuffle=True, drop_last=True)
    began = time.process_time()
    _loop(method, loader, plan)
    spent = time.process_time() - began
    save_file({key: value.contiguous() for key, value in method.exported.state_dict().items()}, out)
    return spent


def _loop(method: Method, loader: Any, plan: dict[str, Any]) -> None:
    """The plan's steps, with the optimiser, the schedules and the clipping of our loop."""
    optimiser = make_optimiser(plan["optimiser"], method, lr=plan["lr"], weight_decay=plan["weight_decay"])
    lr = Schedule(**{"warmup_steps": plan["warmup"], **plan["lr_schedule"], "peak": plan["lr"]})
    decay = Schedule(**{"name": "constant", **plan["weight_decay_schedule"], "peak": plan["weight_decay"]})
    parts = clipped_parts(method, by_part=plan["clip_by"] == "module")
    step = 0
    while step < plan["steps"]:
        for views in loader:
            if step == plan["steps"]:
                break
            method(views).backward()
            method.before_update(epoch=step // len(loader))
            clip_gradients(parts, plan["clip"])
            set_rates(optimiser, step, lr=lr.at(step, plan["steps"]), weight_decay=decay.at(step, plan["steps"]))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            method.after_update()
            step += 1


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    cpu_seconds = train(sys.argv[1], given, Path(sys.argv[3]))
    print(json.dumps({"cpu_seconds": round(cpu_seconds, 1)}))
