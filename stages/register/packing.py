"""A checkpoint and its metrics into a folder that others can use without us."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from stages.base import StageContext, StageError, StageResult, committed
from stages.register import RegisterParams
from stages.register.card import model_card, short_card
from stages.register.lineage import Ancestor, ancestors
from stages.register.provenance import data_counts
from stages.tables import files_digest

_REQUIREMENTS = ("mlflow", "torch", "timm", "safetensors", "pillow", "numpy", "pandas")
_WEIGHTS = ("backbone.safetensors", "config.json", "preprocessing.json")


def pack_model(ctx: StageContext[RegisterParams]) -> StageResult:
    """Write the model artifact; see `stages.register`.

    Raises StageError where the checkpoint or the metrics lack a file.
    """
    checkpoint, metrics = ctx.inputs["checkpoint"], ctx.inputs["metrics"]
    config = _read_json(checkpoint.path, "config.json")
    preprocessing = _read_json(checkpoint.path, "preprocessing.json")
    evaluation = _read_json(metrics.path, "metrics.json")
    if not (checkpoint.path / "backbone.safetensors").exists():
        raise StageError(f"{checkpoint.path} has no backbone.safetensors: rerun the stage that wrote it")
    chain = ancestors([checkpoint, metrics])
    for name in _WEIGHTS:
        with ctx.writing(name) as temporary:
            shutil.copyfile(checkpoint.path / name, temporary)
    counts = data_counts(chain)
    with ctx.writing("registration.json") as temporary:
        document = registration(ctx.params, config, evaluation, chain)
        document["card"] = short_card(ctx.params.description, config, evaluation, counts)
        temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    card = model_card(
        name=ctx.params.name,
        alias=ctx.params.alias,
        description=ctx.params.description,
        config=config,
        preprocessing=preprocessing,
        evaluation=evaluation,
        counts=counts,
        chain=chain,
        weights=_sha256(ctx.work / "backbone.safetensors"),
    )
    for path in (ctx.work / "README.md", ctx.report / "model_card.md"):
        with committed(path) as temporary:
            temporary.write_text(card)
    save_pyfunc(ctx.work / "model", ctx.work, int(config["dim"]), metadata={"protocol": evaluation["protocol"]["id"]})
    shutil.copyfile(ctx.work / "README.md", ctx.work / "model" / "README.md")
    return StageResult(
        digest=files_digest(ctx.work, ["backbone.safetensors", "preprocessing.json", "registration.json"]),
        metrics=dict(evaluation["metrics"]),
        summary=f"{ctx.params.name}{f'@{ctx.params.alias}' if ctx.params.alias else ''}, {config['dim']} features",
    )


def registration(
    params: RegisterParams, config: Mapping[str, Any], evaluation: Mapping[str, Any], chain: Sequence[Ancestor]
) -> dict[str, Any]:
    """What the registry is to hold of this model: name, alias, description, tags, parameters, figures and on what.

    Tags name every ancestor by its key and digest (`lineage.<stage type>`; numbered where a type occurs twice).
    """
    objective = config.get("objective") or {}
    tags = {
        "protocol": evaluation["protocol"]["id"],
        "backbone": config["backbone"]["name"],
        "objective": str(objective.get("name", "")),
        "split.bank": evaluation["split"]["digests"]["bank"],
        "split.queries": evaluation["split"]["digests"]["queries"],
    }
    seen: dict[str, int] = {}
    for ancestor in chain:
        seen[ancestor.type] = seen.get(ancestor.type, 0) + 1
        number = f".{seen[ancestor.type]}" if seen[ancestor.type] > 1 else ""
        tags[f"lineage.{ancestor.type}{number}"] = f"{ancestor.key}:{ancestor.digest}"
    wanted = {
        "image_size": config["image_size"],
        "dim": config["dim"],
        "steps": config.get("steps"),
        "seed": config.get("seed"),
        **{f"objective.{key}": value for key, value in objective.items()},
    }
    return {
        "name": params.name,
        "alias": params.alias,
        "description": params.description,
        "tags": tags,
        "params": {key: json.dumps(v) if isinstance(v, dict | list) else v for key, v in wanted.items()},
        "metrics": evaluation["metrics"],
        "datasets": _tested(evaluation),
    }


def _tested(evaluation: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Name and digest of the images behind the figures, by the set in a figure's name; "" for those held out."""
    splits = {"": evaluation["split"]} | {n: found["split"] for n, found in evaluation.get("sets", {}).items()}
    known = {name: split["digests"]["queries"] for name, split in splits.items() if split.get("queries")}
    return {name: {"name": name or "held-out images", "digest": digest} for name, digest in known.items()}


def save_pyfunc(target: Path, weights: Path, dim: int, metadata: dict[str, Any]) -> None:
    """Write a whole MLflow pyfunc model at `target` from the weights, config and preprocessing in `weights`.

    The folder appears by rename, so one that exists is whole.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with _quiet_mlflow():
        import mlflow.pyfunc
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema, TensorSpec

        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        for leftover in (temporary, target):
            shutil.rmtree(leftover, ignore_errors=True)
        mlflow.pyfunc.save_model(
            temporary,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={Path(name).stem: str(weights / name) for name in _WEIGHTS},
            signature=ModelSignature(
                inputs=Schema([ColSpec(DataType.binary, "image")]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, dim), "embedding")]),
            ),
            pip_requirements=_requirements(weights),
            metadata=metadata,
        )
        _make_relative(temporary / "MLmodel")
        temporary.rename(target)


def _make_relative(description: Path) -> None:
    """Take this machine's paths out of `MLmodel`: its loader looks beside the file for all that they name."""
    document = yaml.safe_load(description.read_text())
    flavor = document["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description.write_text(yaml.safe_dump(document, sort_keys=False))


@contextlib.contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Keep MLflow's hints about environments and type hints out of a run's output."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _requirements(weights: Path) -> list[str]:
    """What the model needs, pinned to what is installed; without the local part of a version, which no index has."""
    name = _read_json(weights, "config.json")["backbone"]["name"]
    further = ("open_clip_torch",) if name.startswith("open_clip:") else ()
    pinned = []
    for name in (*_REQUIREMENTS, *further):
        try:
            pinned.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return pinned


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text())
    except (OSError, ValueError) as error:
        raise StageError(f"{folder / name} cannot be read ({error}): rerun the stage that wrote it") from None
