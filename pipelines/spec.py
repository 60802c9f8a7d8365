"""The spec: named stages, their parameters, and who reads from whom. Every mistake is found at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipelines.errors import SpecError
from pipelines.names import nearest
from pipelines.overrides import apply_overrides
from stages.base import Stage
from stages.registry import stage_class, stage_targets

PRESETS = Path(__file__).parent / "presets"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TOP = {"name", "description", "stages"}


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline: its name, its typed and validated stage, and for each input the stage it reads."""

    name: str
    type: str
    stage: Stage
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Spec:
    """A validated pipeline. `stages` is in an order in which everything read comes first."""

    name: str
    description: str
    stages: Mapping[str, StageSpec]

    def descendants(self, name: str) -> set[str]:
        """The stages that read from `name`, directly or not."""
        found: set[str] = set()
        for stage in self.stages.values():
            if set(stage.inputs.values()) & (found | {name}):
                found.add(stage.name)
        return found

    def ancestors(self, name: str) -> set[str]:
        """The stages that `name` reads from, directly or not."""
        found = set(self.stages[name].inputs.values())
        for source in list(found):
            found |= self.ancestors(source)
        return found

    def subset(self, names: Iterable[str]) -> Spec:
        """The stages `names` and all that they read from."""
        wanted = set(names)
        for name in list(wanted):
            wanted |= self.ancestors(name)
        return Spec(self.name, self.description, {n: s for n, s in self.stages.items() if n in wanted})

    def document(self) -> dict[str, Any]:
        """The resolved spec as plain data: every default written out, every input named."""
        return {
            "name": self.name,
            "description": self.description,
            "stages": {
                s.name: {"uses": s.type, "inputs": dict(s.inputs), **s.stage.params.model_dump(mode="json")}
                for s in self.stages.values()
            },
        }


def preset_names() -> list[str]:
    """Names of the specs that come with curatrain."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_document(source: str | Path) -> tuple[dict[str, Any], str]:
    """Read a preset by name or a YAML file by path; returns the data and a word for where it came from.

    Raises SpecError where there is no such spec or it is not YAML.
    """
    path = Path(source).expanduser()
    if not path.suffix and (PRESETS / f"{source}.yaml").exists():
        path = PRESETS / f"{source}.yaml"
    elif not path.is_file():
        raise SpecError(
            [f"'{source}' is neither a preset{nearest(str(source), preset_names())} nor a YAML file that can be read"]
        )
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise SpecError([f"cannot be read as YAML: {' '.join(str(error).split())}"], str(source)) from None
    if not isinstance(document, dict):
        raise SpecError(["expected a mapping with the keys 'name' and 'stages'"], str(source))
    return document, str(source)


def load_spec(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Spec:
    """Load, override and validate a spec given as preset name, path, or plain data.

    Raises SpecError that lists every mistake.
    """
    if isinstance(source, Mapping):
        document, word = dict(source), str(source.get("name", "the spec"))
    else:
        document, word = load_document(source)
    document, problems = apply_overrides(document, overrides)
    spec, more = _validate(document)
    problems += more
    if problems or spec is None:
        raise SpecError(problems, word)
    return spec


def _validate(document: Mapping[str, Any]) -> tuple[Spec | None, list[str]]:
    problems = [f"{key}: unknown key{nearest(str(key), _TOP)}" for key in document if key not in _TOP]
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problems.append(f"name: expected a name of letters, digits, '-' and '_', got {name!r}")
    bodies = document.get("stages")
    if not isinstance(bodies, dict) or not bodies:
        return None, [*problems, "stages: expected at least one stage"]
    parsed: dict[str, tuple[str, Stage | None, Any]] = {}
    for stage_name, body in bodies.items():
        entry, found = _parse_stage(str(stage_name), body)
        problems += found
        if entry is not None:
            parsed[str(stage_name)] = entry
    wiring, found = _connect(parsed)
    problems += found
    if problems:
        return None, problems
    order, found = _order(wiring)
    if found:
        return None, found
    stages = {n: StageSpec(n, parsed[n][0], parsed[n][1], wiring[n]) for n in order}  # type: ignore[arg-type]
    return Spec(str(name), str(document.get("description", "")), stages), []


def _parse_stage(name: str, body: Any) -> tuple[tuple[str, Stage | None, Any] | None, list[str]]:
    body = {} if body is None else body
    if not _NAME.fullmatch(name):
        return None, [f"stages.{name}: a stage's name has letters, digits, '-' and '_'"]
    if not isinstance(body, dict):
        return None, [f"{name}: expected a mapping of parameters, got {body!r}"]
    body = dict(body)
    type_name = body.pop("uses", name)
    inputs = body.pop("inputs", None)
    if type_name not in stage_targets():
        return None, [f"{name}.uses: there is no stage type '{type_name}'{nearest(str(type_name), stage_targets())}"]
    cls = stage_class(type_name)
    try:
        params = cls.Params.model_validate(body)
    except ValidationError as error:
        return (type_name, None, inputs), [name + line for line in _explain(error, cls)]
    return (type_name, cls(params), inputs), []


def _explain(error: ValidationError, cls: type[Stage]) -> list[str]:
    """A line for each mistake, to be put behind the stage's name."""
    lines = []
    for item in error.errors(include_url=False):
        path = ".".join(str(part) for part in item["loc"])
        given = repr(item["input"])
        given = given if len(given) <= 80 else given[:77] + "..."
        if item["type"] == "extra_forbidden":
            known = cls.Params.model_fields if len(item["loc"]) == 1 else {}
            lines.append(f".{path}: unknown parameter{nearest(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            lines.append(f".{path}: is required")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f".{path}: {message}, got {given}" if path else f": {message}")
    return list(dict.fromkeys(lines))


def _connect(parsed: Mapping[str, tuple[str, Stage | None, Any]]) -> tuple[dict[str, dict[str, str]], list[str]]:
    wiring: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    kinds = {name: stage_class(type_name).output for name, (type_name, _, _) in parsed.items()}
    for name, (type_name, _, given) in parsed.items():
        declared = stage_class(type_name).inputs
        given = {} if given is None else given
        if not isinstance(given, dict):
            problems.append(f"{name}.inputs: expected a mapping from input to stage, got {given!r}")
            continue
        wiring[name] = {}
        problems += [
            f"{name}.inputs.{i}: unknown input{nearest(str(i), declared)}" for i in given if i not in declared
        ]
        for input_name, wanted in declared.items():
            path = f"{name}.inputs.{input_name}"
            source = given.get(input_name)
            if source is None and wanted.by_name and wanted.optional:
                continue
            if source is None:
                makers = [n for n, kind in kinds.items() if kind == wanted.kind and n != name]
                if len(makers) == 1:
                    wiring[name][input_name] = makers[0]
                elif makers:
                    problems.append(f"{path}: several stages make {wanted.kind}; say which: {', '.join(makers)}")
                elif not wanted.optional:
                    problems.append(f"{path}: no stage of this spec makes {wanted.kind}")
            elif source not in parsed:
                problems.append(f"{path}: there is no stage '{source}'{nearest(str(source), parsed)}")
            elif kinds[source] != wanted.kind:
                problems.append(f"{path}: expected a stage that makes {wanted.kind}; '{source}' makes {kinds[source]}")
            else:
                wiring[name][input_name] = source
    return wiring, problems


def _order(wiring: Mapping[str, Mapping[str, str]]) -> tuple[list[str], list[str]]:
    sorter = TopologicalSorter({name: dict.fromkeys(inputs.values()) for name, inputs in wiring.items()})
    try:
        return list(sorter.static_order()), []
    except CycleError as error:
        loop = " -> ".join(reversed(error.args[1]))
        return [], [f"stages: a cycle, each waits for the next: {loop}"]
