"""What turns a picture into a model's input; it travels with the weights."""

from __future__ import annotations

from typing import Any

from training.decoding import WHITE

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Channel statistics of ImageNet, which timm's weights and those of most papers expect."""


def preprocessing(image_size: int) -> dict[str, Any]:
    """The content of `preprocessing.json`: resize the whole picture to size x size, scale to [0, 1], normalise."""
    return {
        "size": image_size,
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "background": list(WHITE),
    }
