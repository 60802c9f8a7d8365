from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.backbones.families import Family, pictures
from tests.training.objectives.small_models import double_views
from training.backbones.interface import Backbone
from training.backbones.token_boost import TokenBoost, default_places
from training.backbones.weights import save_weights
from training.objectives.base import Objective, StepState, create

PLAIN = Family("test_vit", {"patch_size": 8})
BOOSTED = Family("test_vit", {"patch_size": 8, "token_boost": True})
SPEC = {"name": "mae", "decoder": {"dim": 32, "depth": 1, "heads": 2}}


def boosted(**options: Any) -> Any:
    return Family("test_vit", {"patch_size": 8, "token_boost": True, **options}).build()


def mae(backbone: Backbone) -> Objective:
    return create(SPEC, backbone).double().train()


def test_without_it_the_state_is_that_of_the_plain_model(tmp_path: Path) -> None:
    off = Family("test_vit", {"patch_size": 8, "token_boost": False}).build().state_dict()
    plain, on = PLAIN.build().state_dict(), BOOSTED.build().state_dict()
    assert off.keys() == plain.keys()
    assert all(torch.equal(off[name], plain[name]) for name in plain)
    assert all(torch.equal(on[name], plain[name]) for name in plain)  # boosting has a seed of its own
    assert {name.split(".")[0] for name in on.keys() - plain.keys()} == {"boosts"}


def test_export_holds_the_plain_model_alone(tmp_path: Path) -> None:
    backbone = BOOSTED.build()
    save_weights(backbone, tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors").keys() == PLAIN.build().model.state_dict().keys()


def test_it_takes_noise_out_as_noisier2noise_does() -> None:
    torch.manual_seed(0)
    module = TokenBoost(16).double().train()
    with torch.no_grad():
        module.alpha.fill_(1.0)
    clean = torch.nn.functional.normalize(torch.randn(8, 16, dtype=torch.float64), dim=1) * 8
    optimiser = torch.optim.Adam([p for name, p in module.named_parameters() if name != "alpha"], lr=3e-3)
    losses = []
    for _ in range(300):
        features = clean[torch.randint(0, 8, (256,))]
        _, loss = module(features + torch.randn_like(features))  # corruption and synthetic corruption are alike
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-50:]) < 0.9 * sum(losses[:50])
    features = clean[torch.randint(0, 8, (2000,))]
    with torch.no_grad():
        noisy = features + torch.randn_like(features)
        restored, _ = module(noisy)
    assert (restored - features).square().mean() < 0.9 * (noisy + torch.randn_like(noisy) - features).square().mean()


def test_the_boosted_feature_is_twice_the_estimate_less_the_input() -> None:
    module = TokenBoost(4).eval()
    with torch.no_grad():
        module.decode.bias.copy_(torch.tensor([1.0, 0.0, 0.0, -1.0]))
        x = torch.randn(2, 3, 4)
        out, loss = module(x)
    assert torch.allclose(out, x + 2 * module.decode.bias)
    assert loss.item() == pytest.approx(0.5)


def test_features_are_a_function_of_the_picture_in_evaluation() -> None:
    backbone = boosted()
    images = pictures(2, 32)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(images).pooled, backbone(images).pooled)
        assert not torch.equal(backbone.train()(images).pooled, backbone(images).pooled)
    assert backbone.take_auxiliary() == {}  # no gradients, nothing to train


def test_its_loss_is_added_logged_and_trains_it() -> None:
    views = double_views("mae", torch.arange(4).numpy())
    state = StepState(0, 1, 0, 0)
    torch.manual_seed(0)
    objective = mae(boosted())
    losses = objective(views, state)
    torch.manual_seed(0)
    heavy = mae(boosted(token_boost_weight=3.0))
    more = heavy(views, state)
    added = losses.terms["token_boost"]
    assert added > 0
    assert torch.allclose(more.terms["token_boost"], 3 * added)
    assert torch.allclose(more.total - losses.total, 2 * added)
    losses.total.backward()
    boosts: Any = objective.backbone.boosts  # type: ignore[attr-defined]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in boosts.parameters())
    assert boosts.stack[0].alpha.grad.abs().sum() > 0
    assert objective.backbone.take_auxiliary() == {}
    assert "token_boost" not in mae(PLAIN.build())(views, state).terms


def test_packed_crops_are_boosted_alike() -> None:
    backbone = boosted().double().eval()
    groups = [pictures(2, 32, torch.float64), pictures(3, 16, torch.float64)]
    with torch.no_grad():
        packed, plain = backbone.tokens_of(groups), [backbone(images) for images in groups]
    assert all(torch.allclose(a.pooled, b.pooled) for a, b in zip(packed, plain, strict=True))
    assert packed[0].auxiliary.keys() == {"token_boost"}


def test_places_are_chosen() -> None:
    assert default_places(12) == (2, 5, 8)
    assert boosted(token_boost=[1]).boosts.places == (1,)
    for wrong in ([99], [0, 0], 1.5):
        with pytest.raises(ValueError, match="numbers of blocks from 0 to"):
            boosted(token_boost=wrong)
    with pytest.raises(ValueError, match="needs a vision transformer"):
        Family("resnet18", {"token_boost": True}).build()
