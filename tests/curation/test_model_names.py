import subprocess
import sys
import time

import pytest

from curation.model_names import check_model_name, nearest_names, timm_model_names
from curation.weights import check_weights, random_seed, weights_digest, weights_file


def test_names_are_those_that_timm_registers():
    import timm

    assert timm_model_names() == set(timm.list_models())


def test_neither_timm_nor_torch_is_imported():
    program = (
        "import sys; from curation.model_names import timm_model_names; from curation.weights import weights_digest;"
        "timm_model_names(); weights_digest('tf_efficientnet_lite0', 'package:efficientnet-lite0');"
        "print('timm' in sys.modules or 'torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_reading_the_names_is_quick():
    timm_model_names.cache_clear()
    start = time.process_time()
    timm_model_names()
    assert time.process_time() - start < 0.2


def test_a_typo_names_the_nearest():
    with pytest.raises(ValueError, match="'resnet18'"):
        check_model_name("resnt18")
    assert nearest_names("tf_eficientnet_lite0")[0] == "tf_efficientnet_lite0"


def test_a_pretrained_tag_is_no_typo():
    assert check_model_name("resnet18.a1_in1k") is None


def test_unknown_layout_means_no_check(monkeypatch, tmp_path):
    monkeypatch.setattr("curation.model_names.timm_model_names", frozenset)
    assert check_model_name("anything") is None


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("resnet18", "package:efficientnet-lite0", "are those of model 'tf_efficientnet_lite0'"),
        ("resnet18", "package:nothing", "known: efficientnet-lite0"),
        ("resnet18", "random:x", "random:SEED"),
        ("resnet18", "weights.onnx", "neither"),
    ],
)
def test_weights_that_cannot_work_are_refused(model, weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(model, weights)


def test_digest_follows_the_content_not_the_path(tmp_path):
    one, two = tmp_path / "a.pth", tmp_path / "b.pth"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    assert weights_digest("resnet18", str(one)) == weights_digest("resnet18", str(two))
    two.write_bytes(b"others")
    assert weights_digest("resnet18", str(one)) != weights_digest("resnet18", str(two))
    assert weights_digest("resnet18", "random:1") != weights_digest("resnet18", "random:2")
    assert random_seed("random") == 0


def test_missing_files_say_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        weights_file(str(tmp_path / "none.safetensors"))
    assert weights_file("hub") is None
