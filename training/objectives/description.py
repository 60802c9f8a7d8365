"""Describe an objective from its class: its docstring, its Config and its views."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from dataclasses import asdict
from typing import Any

import training.objectives
from training.objectives.base import Objective, registered

_PAPER = re.compile(r"^(?P<title>.+?) \((?P<authors>[^()]+), (?P<year>\d{4}), arXiv:(?P<arxiv>\d{4}\.\d{4,5})\)\.$")
_NOT_OBJECTIVES = {"base", "catalogue", "description", "parameters"}


def described(cls: type[Objective], name: str) -> dict[str, Any]:
    """The catalogue's entry for an objective class.

    Raises ValueError where the docstring's first paragraph is not "Title (Authors, year, arXiv:id)." or where no
    second paragraph says in a sentence what it does.
    """
    paragraphs = [" ".join(text.split()) for text in (inspect.getdoc(cls) or "").split("\n\n")]
    match = _PAPER.match(paragraphs[0])
    if match is None or len(paragraphs) < 2:
        raise ValueError(f"{cls.__name__}: the docstring must be 'Title (Authors, year, arXiv:id).', then a sentence")
    return {
        "name": name,
        "title": cls.__name__,
        "summary": paragraphs[1],
        "paper": f"{match['title']} ({match['authors']}, {match['year']})",
        "arxiv": match["arxiv"],
        "family": cls.family,
        "module": cls.__module__,
        "backbone": cls.suits,
        "batch": {"least": cls.batch.least, "paper": cls.batch.paper},
        "prefers_balanced": cls.prefers_balanced,
        "takes": asdict(cls.takes),
        "views": cls.views.to_dict(),
        "small": asdict(cls.small),
        "first_weights": cls.first_weights,
        "schema": cls.Config.model_json_schema(),
    }


def catalogue_text() -> str:
    """The text of `catalogue.json`: every objective module of this package, in the order of names."""
    for module in pkgutil.iter_modules(training.objectives.__path__):
        if module.name not in _NOT_OBJECTIVES:
            importlib.import_module(f"{training.objectives.__name__}.{module.name}")
    own = {name: cls for name, cls in registered().items() if cls.__module__.startswith(training.objectives.__name__)}
    entries = [described(cls, name) for name, cls in sorted(own.items())]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
