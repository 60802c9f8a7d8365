"""What `curatrain compare` may vary, from the words of its options to axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pipelines.errors import UsageError
from pipelines.grid import Axis
from pipelines.names import nearest
from stages.curate.presets import with_preset
from stages.registry import stage_class

_SELECTIONS = "raw,random,balanced"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class GridPreset:
    """A grid that a paper compares by. source: the paper. Others: as the options of the command."""

    source: str
    objectives: str = ""
    views: str = ""
    selections: str = ""
    budget: str = ""


GRIDS = {
    "methods-views": GridPreset(
        "Augmentations vs Algorithms (Morningstar et al., 2024, arXiv:2403.05726): what the objective and what its "
        "views are worth",
        objectives="simclr,byol,vicreg",
        views="crop_resize,two_crops,multicrop",
    ),
    "views-data": GridPreset(
        "You Don't Need Domain-Specific Data Augmentations (Moutakanni et al., 2024, arXiv:2406.09294): whether the "
        "gap between views closes as data grows",
        objectives="dinov2",
        views="paper,shared_colour,crop_resize,crop_only",
        selections="random",
        budget="0.1,0.9",
    ),
}


def grid_preset(name: str) -> GridPreset:
    """A preset by name. Raises UsageError with the nearest name."""
    if name not in GRIDS:
        raise UsageError(f"--grid: there is no grid '{name}'{nearest(name, GRIDS)}; known are {', '.join(GRIDS)}")
    return GRIDS[name]


def chosen_axes(
    grid: str | None, selections: str | None, objectives: str | None, views: str | None, budget: str | None
) -> tuple[list[tuple[str, Mapping[str, Any]]], list[Axis]]:
    """The selections and the further axes that the command's options mean.

    What an option leaves out is the grid's, if one is named. Without objectives, views or a grid three selections are
    compared; else the spec's own. Raises UsageError.
    """
    preset = grid_preset(grid) if grid else GridPreset("")
    objectives, views = objectives or preset.objectives, views or preset.views
    axes = [*parse_objectives(objectives), *parse_views(views), *parse_budgets(budget or preset.budget)]
    text = selections or preset.selections or ("" if objectives or views else _SELECTIONS)
    return parse_selections(text) if text else [], axes


def parse_selections(text: str) -> list[tuple[str, Mapping[str, Any]]]:
    """`random,balanced,fine: {clusters: 400}` as names with what each changes in curate.

    A bare name is a method of curate or one of its presets (whose target gives way to the common one); a name with a
    mapping is anything that curate's parameters can say. Raises UsageError where it is none of these.
    """
    try:
        items = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        items = None
    if not items:
        raise UsageError(f"--selections {text!r}: expected names, such as random,balanced,fine: {{clusters: 400}}")
    methods, presets = (_choices(name) for name in ("method", "preset"))
    selections: list[tuple[str, Mapping[str, Any]]] = []
    for item in items:
        if isinstance(item, dict) and len(item) == 1 and isinstance(changes := next(iter(item.values())), dict):
            selections.append((str(next(iter(item))), changes))
        elif item in methods:
            selections.append((item, {"method": item}))
        elif item in presets:
            selections.append((item, {k: v for k, v in with_preset({"preset": item}).items() if k != "target"}))
        else:
            known = [*methods, *presets]
            raise UsageError(
                f"--selections: there is no selection '{item}'{nearest(str(item), known)}; known are "
                f"{', '.join(known)}, and NAME: {{PARAM: VALUE}} for any other of curate's parameters"
            )
    names = [name for name, _ in selections]
    if len(set(names)) < len(names):
        raise UsageError(f"--selections {text}: a name stands twice")
    return selections


def _choices(parameter: str) -> list[str]:
    """What a parameter of curate that is a choice may be."""
    schema = stage_class("curate").Params.model_json_schema()["properties"][parameter]
    return [value for option in (schema, *schema.get("anyOf", [])) for value in option.get("enum", [])]


def parse_budgets(text: str | None) -> list[Axis]:
    """`1000` or `0.5` images, `20m` of training, or several of either, as axes; none without a text.

    Images become an axis `budget` of curate's target. Times become an axis `time` of pretrain, whose steps are
    settled later: see `seconds_of`.
    """
    if not text:
        return []
    images: dict[str, Any] = {}
    times: dict[str, Any] = {}
    for word in (part.strip() for part in text.split(",")):
        if re.fullmatch(r"\d+(\.\d+)?[smh]", word):
            times[word] = {"pretrain": {"epochs": None, "steps": 1}}
        elif re.fullmatch(r"\d+|\d*\.\d+", word):
            images[word] = {"curate": {"target": yaml.safe_load(word)}}
        else:
            raise UsageError(
                f"--budget {text}: expected a number of images or a share, a time of training such as 20m, or several"
            )
    return [Axis(name, options) for name, options in (("budget", images), ("time", times)) if options]


def seconds_of(word: str) -> float:
    """The seconds that a value of the axis `time` stands for."""
    return float(word[:-1]) * _UNITS[word[-1]]


def parse_objectives(text: str | None) -> list[Axis]:
    """`simclr,byol` as an axis `objective` of pretrain; no axis without a text."""
    from training.objectives import catalogue

    return _named_axis("objectives", "objective", text, catalogue.names(), lambda name: {"name": name})


def parse_views(text: str | None) -> list[Axis]:
    """`paper,crop_only` as an axis `views` of pretrain, which takes the place of the spec's own views."""
    from training.recipes import NAMED

    return _named_axis("views", "views", text, list(NAMED), lambda name: name)


def _named_axis(
    option: str, parameter: str, text: str | None, known: list[str], value: Callable[[str], Any]
) -> list[Axis]:
    if not text:
        return []
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"--{option}: there is no '{name}'{nearest(name, known)}; known are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--{option} {text}: a name stands twice")
    return [Axis(parameter, {name: {"pretrain": {parameter: value(name)}} for name in names})]


def parse_axis(text: str) -> Axis:
    """`pretrain.objective=simclr,mae` as an axis `objective` of the stages of type pretrain."""
    path, equals, values = text.partition("=")
    type_name, _, parameter = path.strip().partition(".")
    try:
        parsed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        parsed = None
    if not equals or not parameter or "." in parameter or not parsed:
        raise UsageError(f"--axis {text}: expected TYPE.PARAM=VALUE,VALUE, such as pretrain.objective=simclr,mae")
    return Axis(parameter, {str(value): {type_name: {parameter: value}} for value in parsed})
