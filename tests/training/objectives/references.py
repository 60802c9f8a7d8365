"""The loss of each objective as its paper writes it down: plain, term by term, on the objective's own networks.

Nothing of `training.losses` is used. Masks are taken from their functions, which have proofs of their own. Each
function takes an objective, float64 views and the state, and returns the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.block_masks import block_masks
from training.hog import hog_patches
from training.jepa_masks import multi_block
from training.masks import mask_counts, random_keep, random_units
from training.objectives.base import StepState
from training.positions import sine_cosine_positions
from training.views import Views

Reference = Callable[[Any, Views, StepState], Tensor]
REFERENCES: dict[str, Reference] = {}


def reference(name: str) -> Callable[[Reference], Reference]:
    """Register the plain formula of an objective."""

    def register(function: Reference) -> Reference:
        REFERENCES[name] = function
        return function

    return register


def unit(z: Tensor) -> Tensor:
    return z / z.norm(dim=-1, keepdim=True)


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def softmax(row: Tensor, temperature: float) -> Tensor:
    shifted = torch.exp((row - row.max()) / temperature)
    return shifted / shifted.sum()


def entropy(target: Tensor, row: Tensor, temperature: float) -> Tensor:
    """Cross entropy of a target distribution and a row of logits."""
    return -(target * torch.log(softmax(row, temperature))).sum()


def by_view(features: Tensor, views: Views) -> list[Tensor]:
    return list(features.split(len(views.rows)))


def embedded(objective: Any, views: Views) -> list[Tensor]:
    """Pooled features, view by view; crops of one size share their batch statistics."""
    return [part for crops in views.groups for part in by_view(objective.backbone(crops).pooled, views)]


def projected(objective: Any, views: Views) -> list[Tensor]:
    return by_view(objective.projector(torch.cat(embedded(objective, views))), views)


@reference("simclr")
def simclr(objective: Any, views: Views, state: StepState) -> Tensor:
    z = unit(torch.cat(projected(objective, views)))
    B, terms = len(views.rows), []
    for i in range(2 * B):
        others = [torch.exp(z[i] @ z[k] / objective.config.temperature) for k in range(2 * B) if k != i]
        partner = torch.exp(z[i] @ z[(i + B) % (2 * B)] / objective.config.temperature)
        terms.append(-torch.log(partner / torch.stack(others).sum()))
    return mean(terms)


@reference("dcl")
def dcl(objective: Any, views: Views, state: StepState) -> Tensor:
    z = unit(torch.cat(projected(objective, views)))
    B, terms, config = len(views.rows), [], objective.config
    hardness = torch.stack([torch.exp(z[i] @ z[i + B] / config.sigma) for i in range(B)]).detach()
    for i in range(2 * B):
        j = (i + B) % (2 * B)
        negatives = [torch.exp(z[i] @ z[k] / config.temperature) for k in range(2 * B) if k not in (i, j)]
        weight = 2 - hardness[i % B] / hardness.mean()
        terms.append(-weight * z[i] @ z[j] / config.temperature + torch.log(torch.stack(negatives).sum()))
    return mean(terms)


@reference("byol")
def byol(objective: Any, views: Views, state: StepState) -> Tensor:
    crops = by_view(views.crops, views)
    total = torch.zeros((), dtype=torch.float64)
    for one, other in ((0, 1), (1, 0)):
        predicted = unit(objective.predictor(objective.projector(objective.backbone(crops[one]).pooled)))
        with torch.no_grad():
            target = unit(objective.teacher["projector"](objective.teacher["backbone"](crops[other]).pooled))
        total = total + (predicted - target).square().sum(dim=1).mean()
    return total


@reference("moco_v3")
def moco_v3(objective: Any, views: Views, state: StepState) -> Tensor:
    queries = by_view(unit(objective.predictor(torch.cat(projected(objective, views)))), views)
    with torch.no_grad():
        keys = by_view(unit(objective.teacher["projector"](objective.teacher["backbone"](views.crops).pooled)), views)
    tau, total = objective.config.temperature, torch.zeros((), dtype=torch.float64)
    for one, other in ((0, 1), (1, 0)):
        terms = []
        for i, query in enumerate(queries[one]):
            scores = torch.stack([torch.exp(query @ key / tau) for key in keys[other]])
            terms.append(-torch.log(scores[i] / scores.sum()))
        total = total + 2 * tau * mean(terms)
    return total


@reference("barlow_twins")
def barlow_twins(objective: Any, views: Views, state: StepState) -> Tensor:
    normal = []
    for z in projected(objective, views):
        normal.append((z - z.mean(dim=0)) / torch.sqrt(((z - z.mean(dim=0)) ** 2).mean(dim=0) + 1e-5))
    D, total = normal[0].shape[1], torch.zeros((), dtype=torch.float64)
    for i, j in product(range(D), range(D)):
        c = (normal[0][:, i] * normal[1][:, j]).mean()
        total = total + ((1 - c) ** 2 if i == j else objective.config.off_diagonal * c**2)
    return total


@reference("vicreg")
def vicreg(objective: Any, views: Views, state: StepState) -> Tensor:
    first, second = projected(objective, views)
    total = 25 * ((first - second) ** 2).mean()
    for z in (first, second):
        centred = z - z.mean(dim=0)
        covariance = torch.einsum("bi,bj->ij", centred, centred) / (len(z) - 1)
        for i, j in product(range(z.shape[1]), range(z.shape[1])):
            if i == j:
                total = total + 25 / 2 * torch.clamp(1 - torch.sqrt(covariance[i, i] + 1e-4), min=0) / z.shape[1]
            else:
                total = total + covariance[i, j] ** 2 / z.shape[1]
    return total


def sinkhorn(logits: Tensor, temperature: float) -> Tensor:
    """(B, K) assignments by three rounds of scaling the plan's rows and columns to equal sums."""
    plan = torch.exp(logits.detach() / temperature)
    for _ in range(3):
        plan = plan / plan.sum(dim=0, keepdim=True) / plan.shape[1]
        plan = plan / plan.sum(dim=1, keepdim=True) / plan.shape[0]
    return plan * plan.shape[0]


def cosines(prototypes: Any, features: Tensor) -> Tensor:
    return unit(features) @ unit(prototypes.weight).T


@reference("swav")
def swav(objective: Any, views: Views, state: StepState) -> Tensor:
    logits = [cosines(objective.prototypes, z) for z in projected(objective, views)]
    codes = [sinkhorn(logits[t], 0.05) for t in (0, 1)]
    swapped = []
    for t, code in enumerate(codes):
        others = [v for v in range(len(logits)) if v != t]
        each = [mean([entropy(c, row, 0.1) for c, row in zip(code, logits[v], strict=True)]) for v in others]
        swapped.append(torch.stack(each).sum() / len(others))
    return mean(swapped)


def head_logits(head: Any, x: Tensor) -> Tensor:
    return cosines(head.prototypes, head.stack(x))


def between_views(targets: list[Tensor], logits: list[Tensor]) -> Tensor:
    """DINO's equation 3, averaged over the pairs."""
    pairs = []
    for t, target in enumerate(targets):
        for v, rows in enumerate(logits):
            if v != t:
                pairs.append(mean([entropy(p, row, 0.1) for p, row in zip(target, rows, strict=True)]))
    return mean(pairs)


def centred_targets(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    flat = logits.reshape(-1, logits.shape[-1])
    return torch.stack([softmax(row - centre, temperature) for row in flat]).view(logits.shape)


def first_temperature(state: StepState) -> float:
    """Of the teacher, in the first of `state.steps` steps, three tenths of which warm it up."""
    return 0.04 + (0.07 - 0.04) / round(0.3 * state.steps)


@reference("dino")
def dino(objective: Any, views: Views, state: StepState) -> Tensor:
    with torch.no_grad():
        taught = head_logits(objective.teacher["head"], objective.teacher["backbone"](views.crops).pooled)
        targets = by_view(centred_targets(taught, objective.targets.centre.centre, first_temperature(state)), views)
    return between_views(targets, [head_logits(objective.head, z) for z in embedded(objective, views)])


def block_masked(objective: Any, views: Views, state: StepState) -> Tensor:
    """(2 B, N) masks of the two full crops."""
    side, masking = views.crops.shape[-1] // objective.backbone.patch, objective.config.masking
    seeded = {"seed": state.seed, "epoch": state.epoch}
    shares = (masking.least, masking.most)
    counts = [mask_counts(views.rows, side**2, shares, masking.probability, view=v, **seeded) for v in (0, 1)]
    return torch.cat([block_masks(views.rows, (side, side), counts[v], view=v, **seeded) for v in (0, 1)])


def masked_student(objective: Any, views: Views, mask: Tensor) -> tuple[list[Tensor], Tensor]:
    """Pooled features of all views, and the patches (2 B, N, D) of the masked full crops."""
    full = objective.backbone.tokens(views.groups[0], mask=mask, mask_token=objective.mask_token)
    rest = [objective.backbone(crops).pooled for crops in views.groups[1:]]
    return [part for features in (full.pooled, *rest) for part in by_view(features, views)], full.patches


def within_views(targets: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """iBOT's equation 2: the masked mean of each crop, averaged over all crops."""
    crops = []
    for target, rows, hidden in zip(targets, logits, mask, strict=True):
        terms = [entropy(target[n], rows[n], 0.1) for n in range(len(hidden)) if hidden[n]]
        crops.append(mean(terms) if terms else torch.zeros((), dtype=torch.float64))
    return mean(crops)


@reference("ibot")
def ibot(objective: Any, views: Views, state: StepState) -> Tensor:
    mask, temperature = block_masked(objective, views, state), first_temperature(state)
    with torch.no_grad():
        tokens, head = objective.teacher["backbone"](views.crops), objective.teacher["head"]
        centres = objective.targets.centre.centre, objective.patch_targets.centre.centre
        targets = by_view(centred_targets(head_logits(head, tokens.pooled), centres[0], temperature), views)
        patch_targets = centred_targets(head_logits(head, tokens.patches), centres[1], temperature)
    features, patches = masked_student(objective, views, mask)
    between = between_views(targets, [head_logits(objective.head, z) for z in features])
    return between + within_views(patch_targets, head_logits(objective.head, patches), mask)


@reference("dinov2")
def dinov2(objective: Any, views: Views, state: StepState) -> Tensor:
    mask, temperature = block_masked(objective, views, state), first_temperature(state)
    with torch.no_grad():
        tokens, teacher = objective.teacher["backbone"](views.crops), objective.teacher
        targets = by_view(sinkhorn(head_logits(teacher["head"], tokens.pooled), temperature), views)
        patch_targets = torch.zeros(*mask.shape, objective.config.patch_head.prototypes, dtype=torch.float64)
        patch_targets[mask] = sinkhorn(head_logits(teacher["patch_head"], tokens.patches[mask]), temperature)
    features, patches = masked_student(objective, views, mask)
    between = between_views(targets, [head_logits(objective.head, z) for z in features])
    within = within_views(patch_targets, head_logits(objective.patch_head, patches), mask)
    spread = torch.zeros((), dtype=torch.float64)
    for z in features[:2]:
        z, logs = unit(z), []
        for i in range(len(z)):
            nearest = min((z[i] - z[j] + 1e-8).norm() for j in range(len(z)) if j != i)
            logs.append(torch.log(nearest + 1e-8))
        spread = spread - mean(logs)
    return between + within + 0.1 * spread


def pixels(views: Views, patch: int) -> Tensor:
    """(B, N, patch * patch * 3) pixels of each patch in the order row, column, channel."""
    side = views.crops.shape[-1] // patch
    cells = []
    for y, x in product(range(side), range(side)):
        cell = views.crops[:, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
        cells.append(cell.permute(0, 2, 3, 1).flatten(1))
    return torch.stack(cells, dim=1)


@reference("mae")
def mae(objective: Any, views: Views, state: StepState) -> Tensor:
    target, patch = pixels(views, objective.backbone.patch), objective.backbone.patch
    target = (target - target.mean(dim=2, keepdim=True)) / torch.sqrt(target.var(dim=2, keepdim=True) + 1e-6)
    side = views.crops.shape[-1] // patch
    keep = random_keep(views.rows, side**2, 0.75, seed=state.seed, epoch=state.epoch)
    tokens = objective.backbone.tokens(views.crops, keep=keep)
    decoder = objective.decoder
    full = decoder.mask_token.expand(len(keep), side**2, -1).clone()
    for b, kept in enumerate(keep):
        full[b, kept] = decoder.embed(tokens.patches[b])
    full = full + sine_cosine_positions((side, side), full.shape[2])
    decoded = decoder.blocks(torch.cat([decoder.embed(tokens.cls.unsqueeze(1)), full], dim=1))
    predicted = decoder.predict(decoder.norm(decoded))[:, 1:]
    hidden = [(b, n) for b in range(len(keep)) for n in range(side**2) if n not in keep[b]]
    return mean([((predicted[b, n] - target[b, n]) ** 2).mean() for b, n in hidden])


@reference("simmim")
def simmim(objective: Any, views: Views, state: StepState) -> Tensor:
    target, side = pixels(views, objective.backbone.patch), views.crops.shape[-1] // objective.backbone.patch
    mask = random_units(views.rows, (side, side), 0.6, 2, seed=state.seed, epoch=state.epoch)
    patches = objective.backbone.tokens(views.crops, mask=mask, mask_token=objective.mask_token).patches
    predicted = patches @ objective.decoder.weight.T + objective.decoder.bias
    return (predicted - target)[mask].abs().sum() / (mask.sum() * target.shape[2])


@reference("maskfeat")
def maskfeat(objective: Any, views: Views, state: StepState) -> Tensor:
    patch = objective.backbone.patch
    target, side = hog_patches(views.crops, patch), views.crops.shape[-1] // patch
    counts = np.full(len(views.rows), round(0.4 * side**2))
    mask = block_masks(views.rows, (side, side), counts, seed=state.seed, epoch=state.epoch)
    patches = objective.backbone.tokens(views.crops, mask=mask, mask_token=objective.mask_token).patches
    predicted = patches @ objective.decoder.weight.T + objective.decoder.bias
    return ((predicted - target)[mask] ** 2).sum() / (mask.sum() * target.shape[2])


@reference("ijepa")
def ijepa(objective: Any, views: Views, state: StepState) -> Tensor:
    side = views.crops.shape[-1] // objective.backbone.patch
    seeded = {"seed": state.seed, "epoch": state.epoch, "step": state.step}
    context, targets = multi_block(views.rows, (side, side), **seeded, context_share=objective.config.context_share)
    tokens = objective.backbone.tokens(views.crops, keep=context)
    with torch.no_grad():
        taught = objective.teacher["backbone"](views.crops).patches
    losses = []
    for b, m in product(range(len(targets)), range(targets.shape[1])):
        one, block = slice(b, b + 1), targets[b : b + 1, m : m + 1]
        predicted = objective.predictor(
            tokens.cls[one].unsqueeze(1), tokens.patches[one], context[one], block, (side, side)
        )[0, 0]
        for n, place in enumerate(targets[b, m]):
            h = taught[b, place]
            h = (h - h.mean()) / math.sqrt(float(((h - h.mean()) ** 2).mean()) + 1e-5)
            error = (predicted[n] - h).abs()
            losses.append(torch.where(error < 1, error**2 / 2, error - 0.5).mean())
    return mean(losses)


@reference("weighted_sum")
def weighted_sum(objective: Any, views: Views, state: StepState) -> Tensor:
    first = replace(views, groups=(views.crops[: len(views.rows)],))
    terms = objective.terms
    total = 0.5 * simclr(terms["simclr"], views, state) + dino(terms["dino"], views, state)
    return total + 2 * mae(terms["mae"], first, state)
