"""The model as MLflow runs it: encoded images or pixels in, embeddings out.

MLflow copies this file into the model and runs it where curatrain is not installed: it imports none of our packages.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from PIL import Image, ImageOps
from safetensors.torch import load_file

_BATCH = 64


def _untrained(backbone: dict[str, Any]) -> Any:
    library, _, tower = backbone["name"].rpartition(":")
    if not library:
        return timm.create_model(tower, pretrained=False, num_classes=0, **backbone["kwargs"])
    import open_clip

    config = open_clip.get_model_config(tower)
    vision = {**config["vision_cfg"], **backbone["kwargs"]}
    gelu = config.get("quick_gelu", False)
    visual = open_clip.CustomTextCLIP(config["embed_dim"], vision, config["text_cfg"], quick_gelu=gelu).visual
    if hasattr(getattr(visual, "trunk", None), "set_input_size"):
        visual.set_input_size(vision["image_size"])
    return visual


class BackboneModel(PythonModel):
    """A timm backbone, or a vision tower of open_clip, behind the preprocessing that it was trained with."""

    def load_context(self, context: Any) -> None:
        config = json.loads(Path(context.artifacts["config"]).read_text())
        self.model = _untrained(config["backbone"])
        self.model.load_state_dict(load_file(context.artifacts["backbone"]))
        self.model.eval()
        self.dim = int(config["dim"])
        self.preprocessing = json.loads(Path(context.artifacts["preprocessing"]).read_text())

    # MLflow warns at any other type hint of `model_input`, and at none.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002
        """(N, D) float32 embeddings.

        model_input: a DataFrame with column `image` (or its values) of encoded images, as bytes or base64 text, or of
        (H, W, 3) uint8 pixels; or one (N, H, W, 3) uint8 array.
        """
        values = model_input["image"] if hasattr(model_input, "columns") else model_input
        images = [_picture(value, tuple(self.preprocessing["background"])) for value in values]
        parts = [self._embed(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _embed(self, images: list[Image.Image]) -> np.ndarray:
        size = int(self.preprocessing["size"])
        method = Image.Resampling[str(self.preprocessing["interpolation"]).upper()]
        resized = (image if image.size == (size, size) else image.resize((size, size), method) for image in images)
        squares = np.stack([np.asarray(image) for image in resized])
        mean, std = (np.asarray(self.preprocessing[name], np.float32) for name in ("mean", "std"))
        normal = (squares.astype(np.float32) / np.float32(255) - mean) / std
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))
            return self.model(pixels).float().numpy()


def _picture(value: Any, background: tuple[int, ...]) -> Image.Image:
    """An upright RGB image from bytes, base64 text, or (H, W, 3) pixels."""
    if isinstance(value, str):
        value = base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value)
    if not isinstance(value, bytes | bytearray | memoryview):
        return Image.fromarray(np.asarray(value, dtype=np.uint8), "RGB")
    image: Image.Image = ImageOps.exif_transpose(Image.open(io.BytesIO(value)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, background)
        image.paste(layer, mask=layer.getchannel("A"))
    return image.convert("RGB")


set_model(BackboneModel())
