"""The model card: data, training, results, costs, limits, lineage, and how to load the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stages.register.card_results import limits, results
from stages.register.lineage import Ancestor
from stages.register.provenance import Counts, DataCounts

_MOST_ROWS = 20
_TORCH_MODES = {"lanczos": "bicubic"}
"""Pillow's filters that torch has not, and the nearest that it has."""

_ROLES = {"dropped": "dropped", "holdout": "held out to evaluate", "train": "trained"}
"""What became of an image, in the order of the card."""

_LOAD = """## Load it

Nothing but {library} and safetensors (`backbone.safetensors` is a plain {library} state dict{without}):

```python
import {library}
from safetensors.torch import load_file

{build}
model.load_state_dict(load_file("backbone.safetensors"))
```

It is a `torch.nn.Module` like any other. A picture becomes its features in plain torch:

```python
import torch
from torch.nn.functional import interpolate
from torchvision.io import decode_image

pixels = decode_image("picture.png", mode="RGB", apply_exif_orientation=True)[None].float()  # an opaque picture
pixels = interpolate(pixels, size=({size}, {size}), mode="{mode}", antialias=True).clamp(0, 255) / 255
mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ({mean}, {std}))
with torch.inference_mode():
    features = model.eval()((pixels - mean) / std)  # (1, {dim})
```

With MLflow, preprocessing included; the column holds encoded images (bytes, or base64 text when served):

```python
import mlflow, pandas

model = mlflow.pyfunc.load_model("models:/{registered}@{alias}")
embeddings = model.predict(pandas.DataFrame({{"image": [open("picture.png", "rb").read()]}}))  # (N, {dim}) float32
```

Arrays of (H, W, 3) uint8 pixels may stand in the column instead; a whole (N, H, W, 3) batch goes through
`model.unwrap_python_model().predict(None, batch)`. To serve it (`CURATRAIN_STORE` is the folder of the store):

```
export MLFLOW_TRACKING_URI=sqlite:///$CURATRAIN_STORE/mlflow/mlflow.db    # or your server's address
mlflow models serve -m "models:/{registered}@{alias}" --env-manager local -p 8000
curl -H "Content-Type: application/json" http://127.0.0.1:8000/invocations \\
  -d '{{"dataframe_split": {{"columns": ["image"], "data": [["'$(base64 -w0 picture.png)'"]]}}}}'
```

Preprocessing: the whole upright image resized to {size} x {size} ({interpolation}, antialiased), scaled to 0..1,
minus mean {mean}, over std {std}; transparent pixels on {background}.
"""


def _library(backbone: Mapping[str, Any]) -> dict[str, str]:
    """Which library builds the model, and the lines that do."""
    kwargs = backbone["kwargs"]
    without = (
        "; the token boosting that it was trained with is in `heads.safetensors`" if "token_boost" in backbone else ""
    )
    library, _, name = backbone["name"].rpartition(":")
    if not library:
        given = "".join(f", {key}={value!r}" for key, value in kwargs.items())
        build = f'model = timm.create_model("{name}", pretrained=False, num_classes=0{given})'
        return {"library": "timm", "build": build, "without": without}
    build = (
        f'config = open_clip.get_model_config("{name}")\n'
        f'config["vision_cfg"].update({dict(kwargs)!r})\n'
        "keys = ('embed_dim', 'vision_cfg', 'text_cfg', 'quick_gelu')\n"
        "model = open_clip.CustomTextCLIP(**{key: config[key] for key in keys if key in config}).visual"
    )
    return {"library": library, "build": build, "without": without}


def model_card(
    *,
    name: str,
    alias: str,
    description: str,
    config: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    counts: DataCounts,
    chain: Sequence[Ancestor],
    weights: str,
) -> str:
    """The card as Markdown. weights: SHA-256 of `backbone.safetensors`."""
    backbone = config["backbone"]
    load = _LOAD.format(
        **_library(backbone),
        registered=name,
        alias=alias or "...",
        dim=config["dim"],
        mode=_TORCH_MODES.get(str(preprocessing["interpolation"]), preprocessing["interpolation"]),
        **{key: preprocessing[key] for key in ("size", "interpolation", "mean", "std", "background")},
    )
    parts = [
        f"# {name}",
        description,
        f"A `{backbone['name']}` backbone ({config['dim']} features), pretrained without labels by curatrain.",
        "## Data\n\n" + _data(counts),
        "## Training\n\n" + _training(config),
        "## Results\n\n" + results(evaluation),
        "## Limits\n\n" + limits(config, evaluation, counts),
        load.rstrip(),
        "## Costs\n\n" + _costs(chain),
        "## Lineage\n\n" + _lineage(chain, weights),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def short_card(description: str, config: Mapping[str, Any], evaluation: Mapping[str, Any], counts: DataCounts) -> str:
    """What fits on the page of a registered version: results, limits and data. Markdown."""
    backbone = config["backbone"]["name"]
    lead = f"A `{backbone}` backbone ({config['dim']} features), pretrained without labels by curatrain."
    parts = [
        f"{lead} The whole card is the README.md of the model.",
        description,
        "## Results\n\n" + results(evaluation),
        "## Limits\n\n" + limits(config, evaluation, counts),
        "## Data\n\n" + _data(counts),
    ]
    return "\n\n".join(part for part in parts if part)


def _data(counts: DataCounts) -> str:
    trained = sum(n for (role, _), n in counts.roles.items() if role == "train")
    total = sum(counts.roles.values())
    if not total:
        return "The tables of its data are no longer in the store."
    lines = [f"{trained:,} of {total:,} images trained this model.", "", "| what | why | images |", "|---|---|---|"]
    lines += _rows("source", counts.sources)
    lines += _rows("fetch failed", counts.failed) + _rows("rejected", counts.rejected)
    for role, told in _ROLES.items():
        lines += _rows(told, {(reason,): n for (known, reason), n in counts.roles.items() if known == role})
    lines += ["", "Of the images that trained:", "", "| what | | images |", "|---|---|---|"]
    lines += _rows("licence", counts.licences, "not stated") + _rows("host", counts.hosts, "no network: a file")
    return "\n".join(lines)


def _rows(what: str, counts: Counts, unnamed: str = "") -> list[str]:
    """A row each; what comes after the commonest in one."""
    shown = list(counts.items())[:_MOST_ROWS]
    rows = [f"| {what} | {_cell(name or unnamed)} | {n:,} |" for (name,), n in shown]
    rest = list(counts.values())[_MOST_ROWS:]
    return rows + ([f"| {what} | {len(rest)} others | {sum(rest):,} |"] if rest else [])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _training(config: Mapping[str, Any]) -> str:
    objective = config.get("objective") or {}
    return (
        f"Objective `{objective.get('name', '?')}`, {config.get('steps', '?')} steps at {config['image_size']} px, "
        f"seed {config.get('seed', '?')}.\n\n```json\n{json.dumps(objective, indent=1, sort_keys=True)}\n```"
    )


def _costs(chain: Sequence[Ancestor]) -> str:
    """What each stage on the way to the weights took when it ran, the evaluation too, and on what the training did."""
    lines = ["| stage | seconds | rows in | rows out |", "|---|---|---|---|"]
    known = [ancestor for ancestor in _behind_weights(chain) if "seconds" in ancestor.manifest]
    for ancestor in known:
        rows = [
            "" if ancestor.manifest.get(n) is None else f"{ancestor.manifest[n]:,}" for n in ("rows_in", "rows_out")
        ]
        lines.append(f"| {ancestor.type} | {ancestor.manifest['seconds']:,.1f} | {' | '.join(rows)} |")
    lines.append(f"| all | {sum(ancestor.manifest['seconds'] for ancestor in known):,.1f} | | |")
    for ancestor in known:
        kind, figures = ancestor.manifest.get("kind"), ancestor.manifest.get("metrics", {})
        if kind == "checkpoint" and "images_per_s" in figures:
            environment = ", ".join(f"{k} {v}" for k, v in ancestor.manifest.get("environment", {}).items())
            lines += ["", f"Trained at {figures['images_per_s']:,.0f} images a second, with {environment}."]
        if kind == "metrics" and "features_images_per_s" in figures:
            lines += ["", f"Its features were computed at {figures['features_images_per_s']:,.0f} images a second."]
    return "\n".join(lines)


def _behind_weights(chain: Sequence[Ancestor]) -> list[Ancestor]:
    """The evaluation, and what the weights came from. What the evaluation alone read is left out: a stage that was
    built again with the same content stands in the lineage twice, and the weights come from the first."""
    of = {(ancestor.type, ancestor.key): ancestor for ancestor in chain}
    wanted = {name for name, ancestor in of.items() if ancestor.manifest.get("kind") == "metrics"}
    queue = [name for name, ancestor in of.items() if ancestor.manifest.get("kind") == "checkpoint"]
    while queue:
        name = queue.pop()
        if name in of and name not in wanted:
            wanted.add(name)
            queue += of[name].parents
    return [ancestor for name, ancestor in of.items() if name in wanted]


def _lineage(chain: Sequence[Ancestor], weights: str) -> str:
    lines = [
        f"`backbone.safetensors` has the SHA-256 `{weights}`. `curatrain show STAGE/KEY` tells of each artifact that "
        "it came from:",
        "",
        "| stage | key | digest | made from |",
        "|---|---|---|---|",
    ]
    for ancestor in chain:
        parents = ", ".join(f"{type_name}/{key[:8]}" for type_name, key in ancestor.parents)
        lines.append(f"| {ancestor.type} | `{ancestor.key[:16]}` | `{ancestor.digest[:16]}` | {parents} |")
    return "\n".join(lines)
