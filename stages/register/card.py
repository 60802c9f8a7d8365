"""The model card: data, training, results, lineage, and how to load the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stages.register.lineage import Ancestor
from stages.register.provenance import Counts, DataCounts

_LOAD = """## Load it

Nothing but {library} and safetensors (`backbone.safetensors` is a plain {library} state dict{without}):

```python
import {library}
from safetensors.torch import load_file

{build}
model.load_state_dict(load_file("backbone.safetensors"))
```

With MLflow, preprocessing included; the column holds encoded images (bytes, or base64 text when served):

```python
import mlflow, pandas

model = mlflow.pyfunc.load_model("models:/{registered}@{alias}")
embeddings = model.predict(pandas.DataFrame({{"image": [open("picture.jpg", "rb").read()]}}))  # (N, {dim}) float32
```

Arrays of (H, W, 3) uint8 pixels may stand in the column instead; a whole (N, H, W, 3) batch goes through
`model.unwrap_python_model().predict(None, batch)`.

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
) -> str:
    """The card as Markdown."""
    backbone = config["backbone"]
    load = _LOAD.format(
        **_library(backbone),
        registered=name,
        alias=alias or "...",
        dim=config["dim"],
        **{key: preprocessing[key] for key in ("size", "interpolation", "mean", "std", "background")},
    )
    parts = [
        f"# {name}",
        description,
        f"A `{backbone['name']}` backbone ({config['dim']} features), pretrained without labels by curatrain.",
        "## Data\n\n" + _data(counts),
        "## Training\n\n" + _training(config),
        "## Results\n\n" + _results(evaluation),
        load.rstrip(),
        "## Lineage\n\n" + _lineage(chain),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(counts: DataCounts) -> str:
    trained = sum(n for (role, _), n in counts.roles.items() if role == "train")
    total = sum(counts.roles.values())
    lines = [f"{trained} of {total} images trained this model.", "", "| what | why | images |", "|---|---|---|"]
    lines += _table_rows("fetch failed", counts.failed) + _table_rows("rejected", counts.rejected)
    lines += [f"| {role} | {reason} | {n} |" for (role, reason), n in counts.roles.items()]
    lines += _table_rows("source", counts.sources)
    if len(lines) == 4:
        return "The tables of its data are no longer in the store."
    return "\n".join(lines)


def _table_rows(what: str, counts: Counts) -> list[str]:
    return [f"| {what} | {reason} | {n} |" for (reason,), n in counts.items()]


def _training(config: Mapping[str, Any]) -> str:
    objective = config.get("objective") or {}
    return (
        f"Objective `{objective.get('name', '?')}`, {config.get('steps', '?')} steps at {config['image_size']} px, "
        f"seed {config.get('seed', '?')}.\n\n```json\n{json.dumps(objective, indent=1, sort_keys=True)}\n```"
    )


def _results(evaluation: Mapping[str, Any]) -> str:
    metrics, split = evaluation["metrics"], evaluation["split"]
    lines = [f"Protocol `{evaluation['protocol']['id']}`."]
    if "knn_trained" in metrics:
        lines += ["", "| probe | trained | untrained | raw pixels |", "|---|---|---|---|"]
        for probe, label in (("knn", "weighted kNN"), ("linear", "linear probe")):
            cells = [
                f"{metrics[p]:.3f} ({metrics[f'{p}_lo']:.3f} .. {metrics[f'{p}_hi']:.3f})"
                for p in (f"{probe}_{contestant}" for contestant in ("trained", "untrained", "pixels"))
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        lines += [
            "",
            f"Accuracy on {split['queries']} held-out images of {len(evaluation['classes'])} classes, the probes "
            f"fitted on {split['bank']} (split `{split['digests']['bank'][:12]}` / "
            f"`{split['digests']['queries'][:12]}`).",
        ]
        lines += [f"- class `{name}` was left out: {reason}" for name, reason in split["left_out"].items()]
    else:
        lines.append(f"No probe: {split['note']}.")
    lines += ["", f"RankMe {metrics['rankme_trained']:.1f} (untrained {metrics['rankme_untrained']:.1f})."]
    return "\n".join(lines)


def _lineage(chain: Sequence[Ancestor]) -> str:
    lines = ["| stage | key | digest | made from |", "|---|---|---|---|"]
    for ancestor in chain:
        parents = ", ".join(f"{type_name}/{key[:8]}" for type_name, key in ancestor.parents)
        lines.append(f"| {ancestor.type} | `{ancestor.key[:16]}` | `{ancestor.digest[:16]}` | {parents} |")
    return "\n".join(lines)
