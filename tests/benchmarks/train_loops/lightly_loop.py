"""lightly's way: its heads, losses, transforms and dataset in the plain loop of its documentation."""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterable
from typing import Any

import timm
import torch
from lightly.data import LightlyDataset
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models import modules, utils
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.transforms import BYOLTransform, MAETransform, SimCLRTransform
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from tests.benchmarks.train_loops.gate import Gate
from tests.benchmarks.train_loops.workload import DECODER, LOADING_WORKERS, PROJECTOR, Workload


class SimCLR(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = modules.SimCLRProjectionHead(backbone.num_features, *PROJECTOR["simclr"])
        self.criterion = NTXentLoss(temperature=0.1)

    def forward(self, views: list[Tensor]) -> Tensor:
        z0, z1 = (self.head(self.backbone(view)) for view in views)
        return self.criterion(z0, z1)


class BYOL(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        hidden, out = PROJECTOR["byol"]
        self.online = nn.Sequential(backbone, modules.BYOLProjectionHead(backbone.num_features, hidden, out))
        self.predictor = modules.BYOLPredictionHead(out, hidden, out)
        self.momentum = copy.deepcopy(self.online)
        utils.deactivate_requires_grad(self.momentum)
        self.criterion = NegativeCosineSimilarity()
        self.steps = itertools.count()

    def forward(self, views: list[Tensor]) -> Tensor:
        utils.update_momentum(self.online, self.momentum, m=cosine_schedule(next(self.steps), 10_000, 0.996, 1))
        p0, p1 = (self.predictor(self.online(view)) for view in views)
        with torch.no_grad():
            z0, z1 = (self.momentum(view) for view in views)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))


class MAE(nn.Module):
    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.patch = vit.patch_embed.patch_size[0]
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.embed = nn.Linear(vit.embed_dim, DECODER["dim"])
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            embed_dim=DECODER["dim"],
            depth=DECODER["depth"],
            num_heads=DECODER["heads"],
        )
        self.predict = nn.Linear(DECODER["dim"], self.patch**2 * 3)
        self.criterion = nn.MSELoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        length = self.backbone.sequence_length
        keep, mask = utils.random_token_mask(size=(len(images), length), mask_ratio=0.75, device=images.device)
        encoded = self.embed(self.backbone.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, (len(images), length))
        decoded = self.decoder(utils.set_at_index(tokens, keep, encoded.type_as(tokens)))
        predicted = self.predict(utils.get_at_index(decoded, mask))
        target = utils.get_at_index(utils.patchify(images, self.patch), mask - 1)
        return self.criterion(predicted, target)


MODELS = {"simclr": SimCLR, "byol": BYOL, "mae": MAE}


def _transform(work: Workload) -> Any:
    if work.objective == "simclr":
        return SimCLRTransform(input_size=work.size)
    if work.objective == "byol":
        views = (BYOLView1Transform(input_size=work.size), BYOLView2Transform(input_size=work.size))
        return BYOLTransform(*views)
    return MAETransform(input_size=work.size)


def _batches(work: Workload) -> Iterable[list[Tensor]]:
    if work.pictures is None:
        return [list(work.tensors().chunk(work.views))]
    loader = torch.utils.data.DataLoader(
        LightlyDataset(work.pictures, transform=_transform(work)),
        batch_size=work.batch,
        shuffle=True,
        drop_last=True,
        num_workers=LOADING_WORKERS,
        persistent_workers=True,
    )
    return _Views(loader)


class _Views:
    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Any:
        return (batch[0] for batch in self.loader)


def main(work: Workload) -> None:
    """Train until the gate closes."""
    torch.set_num_threads(1)
    gate = Gate(work.steps)
    torch.manual_seed(0)
    model = MODELS[work.objective](timm.create_model(work.backbone, num_classes=0, **work.options)).train()
    optimiser = work.optimiser(model.parameters())
    total = torch.zeros(())
    for views in gate.through(_batches(work)):
        loss = model(views)
        total += loss.detach()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


if __name__ == "__main__":
    main(Workload.from_json(sys.argv[1]))
