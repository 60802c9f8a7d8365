import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from curation.decoding import decode
from curation.embedders import Embedder, load_backbone
from tests.stages.pool import emoji_bytes, reencoded

MODEL, WEIGHTS = "tf_efficientnet_lite0", "package:efficientnet-lite0"


@pytest.fixture(scope="module")
def pictures() -> list[tuple[bytes, int]]:
    return [(data, 1) for _, _, data in emoji_bytes(30)]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(MODEL, WEIGHTS, 64, device="cpu")


def test_a_row_is_bitwise_independent_of_its_company(embedder, pictures):
    whole, _ = embedder.embed(pictures)
    backwards, _ = embedder.embed(pictures[::-1])
    assert whole.tobytes() == np.ascontiguousarray(backwards[::-1]).tobytes()
    for row in (0, 9, 29):
        alone, _ = embedder.embed([pictures[row]])
        assert alone[0].tobytes() == whole[row].tobytes()
    shifted, _ = embedder.embed(pictures[3:])
    assert shifted.tobytes() == whole[3:].tobytes()


def test_features_before_rounding_are_bitwise_independent_too(embedder):
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 3, 64, 64, generator=rng).contiguous(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            whole = embedder.backbone(pixels)
            other = torch.zeros_like(pixels)
            other[6] = pixels[1]
            assert torch.equal(embedder.backbone(other)[6], whole[1])
    finally:
        torch.set_num_threads(before)


def test_threads_change_no_bit_and_leave_torch_as_it_was(pictures, embedder):
    before = torch.get_num_threads()
    several, _ = Embedder(MODEL, WEIGHTS, 64, threads=3, device="cpu").embed(pictures)
    assert several.tobytes() == embedder.embed(pictures)[0].tobytes()
    assert torch.get_num_threads() == before


def test_rows_have_length_one_in_half_precision(pictures, embedder):
    rows, errors = embedder.embed(pictures)
    assert rows.dtype == np.float16
    assert rows.shape == (30, 1280)
    assert embedder.dim == 1280
    assert np.allclose(np.linalg.norm(rows.astype(float), axis=1), 1, atol=2e-3)
    assert errors == [None] * 30


def test_package_weights_know_imagenet():
    backbone = load_backbone(MODEL, WEIGHTS, 224)
    whole = timm.create_model(MODEL)
    from curation.weights import weights_file

    state = torch.load(weights_file(WEIGHTS), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    flower = Image.fromarray(load_sample_image("flower.jpg")).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = (torch.from_numpy(np.asarray(flower).copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.inference_mode():
        logits = whole.eval()(pixels)[0]
        features = backbone.eval()(pixels)[0]
        assert torch.allclose(whole.get_classifier()(features), logits, atol=1e-4)
    assert logits.argmax() == 985  # ImageNet's daisy


def test_copies_are_closer_than_other_pictures(pictures, embedder):
    originals, _ = embedder.embed(pictures)
    copies, _ = embedder.embed([(reencoded(data, 90), 1) for data, _ in pictures])
    similarity = originals.astype(float) @ copies.astype(float).T
    assert (similarity.argmax(axis=1) == np.arange(30)).mean() > 0.9


def test_broken_pictures_are_reported_and_disturb_nobody(pictures, embedder):
    rows, errors = embedder.embed([pictures[0], (b"broken", 1), pictures[1]])
    assert [error.reason_code if error else None for error in errors] == [None, "not_an_image", None]
    assert not rows[1].any()
    assert rows[[0, 2]].tobytes() == embedder.embed(pictures[:2])[0].tobytes()


def test_orientation_is_applied(pictures, embedder):
    import io

    upright = decode(pictures[4][0])
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG")
    turned, _ = embedder.embed([(buffer.getvalue(), 6)])
    assert turned.tobytes() == embedder.embed([pictures[4]])[0].tobytes()


def test_files_and_random_weights(tmp_path, pictures):
    source = load_backbone("resnet10t", "random:3", 64)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pth")
    rows = [
        Embedder("resnet10t", weights, 64, device="cpu").embed(pictures[:4])[0].tobytes()
        for weights in ("random:3", str(tmp_path / "w.safetensors"), str(tmp_path / "w.pth"))
    ]
    assert rows[0] == rows[1] == rows[2]
    other = Embedder("resnet10t", "random:4", 64, device="cpu").embed(pictures[:4])[0].tobytes()
    assert other != rows[0]


def test_position_embeddings_are_resampled_to_the_size(tmp_path):
    source = timm.create_model("test_vit", img_size=160)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    backbone = load_backbone("test_vit", str(tmp_path / "vit.safetensors"), 96)
    with torch.inference_mode():
        assert backbone.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 64)


def test_weights_of_another_model_are_refused(tmp_path):
    save_file(load_backbone("resnet10t", "random", 64).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="weights"):
        load_backbone("resnet14t", str(tmp_path / "w.safetensors"), 64)


def test_description_names_model_weights_and_preprocessing(embedder):
    settings = json.loads(embedder.description["preprocessing"])
    assert embedder.description["model"] == MODEL
    assert settings["size"] == 64
    assert settings["mean"] == settings["std"] == [0.5, 0.5, 0.5]
    assert len(settings["weights"]) == 64
