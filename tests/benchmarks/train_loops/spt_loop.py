"""stable-pretraining's way: its forward functions, losses, transforms and Lightning modules.

Its trainer runs at its leanest: no logger, no checkpoints, no progress bar.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import lightning
import stable_pretraining as spt
import torch
import torchvision
from loguru import logger
from stable_pretraining.data import transforms
from stable_pretraining.forward import byol, simclr
from stable_pretraining.methods.mae import MAE
from torch import nn

from tests.benchmarks.train_loops.gate import Gate
from tests.benchmarks.train_loops.workload import ADAMW, DECODER, LOADING_WORKERS, PROJECTOR, SGD, Workload


def _head(dim: int, hidden: int, out: int, output_norm: bool) -> nn.Sequential:
    parts = [nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    parts.append(nn.Linear(hidden, out, bias=False))
    return nn.Sequential(*parts, *([nn.BatchNorm1d(out, affine=False)] if output_norm else []))


def _optimisation(work: Workload) -> dict[str, Any]:
    if work.objective == "mae":
        return {"optimizer": partial(torch.optim.AdamW, **ADAMW), "scheduler": "CosineAnnealingLR"}
    return {"optimizer": partial(torch.optim.SGD, nesterov=True, **SGD), "scheduler": "CosineAnnealingLR"}


class _MAE(MAE):
    """The method class with the training step of a module whose forward gives a loss."""

    def forward(self, batch: dict[str, Any], stage: str) -> dict[str, Any]:
        output = super().forward(batch["image"])
        self.log(f"{stage}/loss", output.loss, on_step=True, on_epoch=True)
        return {"loss": output.loss}


def _module(work: Workload) -> lightning.LightningModule:
    if work.objective == "mae":
        backbone = spt.backbone.from_timm(work.backbone, num_classes=0, **work.options)
        module = _MAE(
            backbone,
            decoder_embed_dim=DECODER["dim"],
            decoder_depth=DECODER["depth"],
            decoder_num_heads=DECODER["heads"],
        )
        module.optim = _optimisation(work)
        return module
    backbone = spt.backbone.from_timm(work.backbone, num_classes=0, **work.options)
    hidden, out = PROJECTOR[work.objective]
    if work.objective == "simclr":
        return spt.Module(
            forward=simclr,
            backbone=backbone,
            projector=_head(backbone.num_features, hidden, out, output_norm=True),
            simclr_loss=spt.losses.NTXEntLoss(temperature=0.1),
            optim=_optimisation(work),
        )
    return spt.Module(
        forward=byol,
        backbone=spt.TeacherStudentWrapper(backbone),
        projector=spt.TeacherStudentWrapper(_head(backbone.num_features, hidden, out, output_norm=False)),
        predictor=_head(out, hidden, out, output_norm=False),
        byol_loss=spt.losses.BYOLLoss(),
        optim=_optimisation(work),
    )


def _view(work: Workload, jitter: tuple[float, ...], blur: float, solarise: float = 0.0) -> Any:
    parts = [
        transforms.RGB(),
        transforms.RandomResizedCrop((work.size, work.size), scale=(0.08, 1.0)),
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.ColorJitter(*jitter, p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.PILGaussianBlur(p=blur),
    ]
    if solarise:
        parts.append(transforms.RandomSolarize(threshold=128, p=solarise))
    return transforms.Compose(*parts, transforms.ToImage(**spt.data.static.ImageNet))


def _transform(work: Workload) -> Any:
    if work.objective == "simclr":
        return transforms.MultiViewTransform([_view(work, (0.8, 0.8, 0.8, 0.2), 0.5) for _ in range(2)])
    if work.objective == "byol":
        jitter = (0.4, 0.4, 0.2, 0.1)
        return transforms.MultiViewTransform([_view(work, jitter, 1.0), _view(work, jitter, 0.1, 0.2)])
    return transforms.Compose(
        transforms.RGB(),
        transforms.RandomResizedCrop((work.size, work.size), scale=(0.2, 1.0)),
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.ToImage(**spt.data.static.ImageNet),
    )


class _Gated:
    """Endless batches behind the gate, as dicts."""

    def __init__(self, gate: Gate, batches: Iterable[dict[str, Any]]) -> None:
        self.gate, self.batches = gate, batches

    def __len__(self) -> int:
        return 1_000_000

    def __iter__(self) -> Any:
        return ({**batch} for batch in self.gate.through(self.batches))


def _batches(work: Workload) -> Iterable[dict[str, Any]]:
    if work.pictures is None:
        views = work.tensors().chunk(work.views)
        return [{"image": views[0]} if work.views == 1 else {"views": [{"image": view} for view in views]}]
    pictures = torchvision.datasets.ImageFolder(work.pictures)
    return torch.utils.data.DataLoader(
        spt.data.FromTorchDataset(pictures, names=["image", "label"], transform=_transform(work)),
        batch_size=work.batch,
        shuffle=True,
        drop_last=True,
        num_workers=LOADING_WORKERS,
        persistent_workers=True,
    )


def main(work: Workload) -> None:
    """Train until the gate closes."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logger.remove()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    gate = Gate(work.steps)
    torch.manual_seed(0)
    module = _module(work)
    callbacks = [spt.TeacherStudentCallback()] if work.objective == "byol" else []
    trainer = lightning.Trainer(
        max_steps=1_000_000,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(module, _Gated(gate, _batches(work)))


if __name__ == "__main__":
    main(Workload.from_json(sys.argv[1]))
