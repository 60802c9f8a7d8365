"""Methods from lightly's own heads, losses and transforms, with the values of our recipes; for lightly's environment.

Each class is put together as in the method's example of lightly's documentation. Its DINO has no Sinkhorn-Knopp, and
centres where our recipe has that.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DCLLoss,
    DINOLoss,
    KoLeoLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)
from lightly.models import modules, utils
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.transforms import (
    BYOLTransform,
    DINOTransform,
    MAETransform,
    SimCLRTransform,
    SwaVTransform,
    VICRegTransform,
)
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from tests.benchmarks.beside_method import Method, Spec


class _Lightly(Method):
    def spread(self, views: list[Tensor]) -> Any:
        """KoLeo of each whole view's features, where our recipe has it."""
        weight = self.spec["koleo_weight"]
        return weight * sum(KoLeoLoss()(features) for features in views[:2]) if weight else 0.0

    def momentum(self) -> float:
        return float(cosine_schedule(self.step, self.steps, self.spec["momentum"], 1))


class _Projected(_Lightly):
    """Two views through a projector, to a loss of both."""

    def forward(self, views: list[Tensor]) -> Tensor:
        z0, z1 = (self.projector(self.backbone(view)) for view in views)
        return self.criterion(z0, z1)


class SimCLR(_Projected):
    def build(self) -> None:
        head = self.spec["projection"]
        self.projector = modules.SimCLRProjectionHead(self.dim, head["hidden"], head["out"])
        self.criterion = NTXentLoss(temperature=self.spec["temperature"])


class DCL(SimCLR):
    def build(self) -> None:
        super().build()
        self.criterion = DCLLoss(temperature=self.spec["temperature"])


class BarlowTwins(_Projected):
    def build(self) -> None:
        head = self.spec["projection"]
        self.projector = modules.BarlowTwinsProjectionHead(self.dim, head["hidden"], head["out"])
        self.criterion = BarlowTwinsLoss(lambda_param=self.spec["off_diagonal"])


class VICReg(_Projected):
    def build(self) -> None:
        head = self.spec["projection"]
        self.projector = VICRegProjectionHead(self.dim, head["hidden"], head["out"], head["layers"])
        weights = (self.spec[name] for name in ("invariance", "variance", "covariance"))
        self.criterion = VICRegLoss(*weights)


class BYOL(_Lightly):
    def build(self) -> None:
        head = self.spec["projection"]
        self.projector = modules.BYOLProjectionHead(self.dim, head["hidden"], head["out"])
        self.predictor = modules.BYOLPredictionHead(head["out"], head["hidden"], head["out"])
        self.teacher, self.teacher_projector = copy.deepcopy(self.backbone), copy.deepcopy(self.projector)
        utils.deactivate_requires_grad(self.teacher)
        utils.deactivate_requires_grad(self.teacher_projector)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> Tensor:
        p0, p1 = (self.predictor(self.projector(self.backbone(view))) for view in views)
        with torch.no_grad():
            z0, z1 = (self.teacher_projector(self.teacher(view)) for view in views)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    def after_update(self) -> None:
        utils.update_momentum(self.backbone, self.teacher, m=self.momentum())
        utils.update_momentum(self.projector, self.teacher_projector, m=self.momentum())
        super().after_update()


class DINO(_Lightly):
    def build(self) -> None:
        head, targets = self.spec["head"], self.spec["targets"]
        widths = (self.dim, head["hidden"], head["bottleneck"], head["prototypes"])
        self.head = modules.DINOProjectionHead(*widths, freeze_last_layer=self.spec["frozen_epochs"])
        self.teacher, self.teacher_head = copy.deepcopy(self.backbone), modules.DINOProjectionHead(*widths)
        self.teacher_head.load_state_dict(self.head.state_dict())
        utils.deactivate_requires_grad(self.teacher)
        utils.deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(
            output_dim=head["prototypes"],
            student_temp=self.spec["student_temperature"],
            center_momentum=targets["centre_momentum"],
        )

    def forward(self, views: list[Tensor]) -> Tensor:
        features = [self.backbone(view) for view in views]
        students = [self.head(each) for each in features]
        with torch.no_grad():
            teachers = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        return self.criterion(teachers, students, teacher_temp=self._temperature()) + self.spread(features)

    def before_update(self, epoch: int) -> None:
        self.head.cancel_last_layer_gradients(current_epoch=epoch)

    def _temperature(self) -> float:
        targets = self.spec["targets"]
        share = min(1.0, self.step / max(1.0, targets["warmup"] * self.steps))
        first: float = targets["first_temperature"]
        return first + share * (targets["temperature"] - first)

    def after_update(self) -> None:
        utils.update_momentum(self.backbone, self.teacher, m=self.momentum())
        utils.update_momentum(self.head, self.teacher_head, m=self.momentum())
        super().after_update()

    @property
    def exported(self) -> Any:
        return self.teacher


class SwAV(_Lightly):
    def build(self) -> None:
        head = self.spec["projection"]
        self.projector = modules.SwaVProjectionHead(self.dim, head["hidden"], head["out"])
        self.prototypes = modules.SwaVPrototypes(head["out"], self.spec["prototypes"])
        self.criterion = SwaVLoss(
            temperature=self.spec["temperature"],
            sinkhorn_iterations=self.spec["iterations"],
            sinkhorn_epsilon=self.spec["epsilon"],
        )

    def forward(self, views: list[Tensor]) -> Tensor:
        self.prototypes.normalize()
        features = [self.backbone(view) for view in views]
        projected = [nn.functional.normalize(self.projector(each), dim=1) for each in features]
        logits = [self.prototypes(each) for each in projected]
        return self.criterion(logits[:2], logits[2:]).squeeze() + self.spread(features)


class MAE(_Lightly):
    def build(self) -> None:
        vit, decoder = self.backbone, self.spec["decoder"]
        self.patch, self.prefix = vit.patch_embed.patch_size[0], vit.num_prefix_tokens
        self.encoder = MaskedVisionTransformerTIMM(vit=vit)
        self.embed = nn.Linear(vit.embed_dim, decoder["dim"])
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            embed_dim=decoder["dim"],
            depth=decoder["depth"],
            num_heads=decoder["heads"],
            num_prefix_tokens=self.prefix,
        )
        self.predict = nn.Linear(decoder["dim"], self.patch**2 * 3)
        self.criterion = nn.MSELoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        length = self.encoder.sequence_length
        keep, mask = utils.random_token_mask(
            size=(len(images), length), mask_ratio=self.spec["mask_ratio"], mask_class_token=not self.prefix
        )
        encoded = self.embed(self.encoder.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, (len(images), length))
        decoded = self.decoder(utils.set_at_index(tokens, keep, encoded.type_as(tokens)))
        predicted = self.predict(utils.get_at_index(decoded, mask))
        patches = utils.patchify(images, self.patch)
        if self.spec["normalise_target"]:
            patches = utils.normalize_mean_var(patches)
        return self.criterion(predicted, utils.get_at_index(patches, mask - self.prefix))


NEEDS_SIZES = False
METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "dcl": DCL,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "byol": BYOL,
    "dino": DINO,
    "swav": SwAV,
    "mae": MAE,
}


def transform(objective: str, views: Spec, size: int) -> Any:
    """lightly's transform of the method, with the distributions of our view recipe."""
    if objective == "mae":
        return MAETransform(input_size=size, min_scale=views["scale_min"])
    blur, solarise = ([v, v, v] if isinstance(v, int | float) else v for v in (views["blur"], views["solarise"]))
    colours: Spec = {"cj_prob": views["jitter"], "cj_strength": 1.0, "random_gray_scale": views["grey"]}
    colours |= {"cj_bright": views["brightness"], "cj_contrast": views["contrast"], "cj_sat": views["saturation"]}
    colours |= {"cj_hue": views["hue"], "hf_prob": views["flip"]}
    whole: Spec = {**colours, "input_size": size, "min_scale": views["scale_min"]}
    if objective in ("simclr", "dcl"):
        return SimCLRTransform(**whole, gaussian_blur=blur[0])
    if objective in ("byol", "barlow_twins"):
        first = BYOLView1Transform(**whole, gaussian_blur=blur[0], solarization_prob=solarise[0])
        return BYOLTransform(first, BYOLView2Transform(**whole, gaussian_blur=blur[1], solarization_prob=solarise[1]))
    if objective == "vicreg":
        return VICRegTransform(**whole, gaussian_blur=blur[0], solarize_prob=solarise[0])
    if objective == "dino":
        return DINOTransform(
            **colours,
            global_crop_size=size,
            global_crop_scale=(views["scale_min"], views["scale_max"]),
            local_crop_size=views["local_size"] or size,
            local_crop_scale=(views["local_scale_min"], views["local_scale_max"]),
            n_local_views=views["local_crops"],
            gaussian_blur=tuple(blur),
            solarization_prob=solarise[1],
        )
    return SwaVTransform(
        **colours,
        crop_sizes=(size, views["local_size"] or size),
        crop_counts=(views["crops"], views["local_crops"]),
        crop_min_scales=(views["scale_min"], views["local_scale_min"]),
        crop_max_scales=(views["scale_max"], views["local_scale_max"]),
        gaussian_blur=blur[0],
    )
