"""Options, consoles and printing that the commands share."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console()
err = Console(stderr=True)

StoreOption = Annotated[
    str | None, typer.Option("--store", envvar="CURATRAIN_STORE", help="The store's folder. [default: .curatrain]")
]
SetOption = Annotated[list[str], typer.Option("--set", metavar="STAGE.PARAM=VALUE", help="Override a parameter.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the start of one, or 'latest'.")]
LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")]
AddressOption = Annotated[str | None, typer.Option("--address", help="A running Ray cluster. [default: an own one]")]
CpusOption = Annotated[int | None, typer.Option("--cpus", min=1, help="CPUs of an own Ray cluster. [default: all]")]
TrackOption = Annotated[bool, typer.Option("--track/--no-track", help="Mirror the run to MLflow.")]
SameCodeOption = Annotated[
    list[str], typer.Option("--assume-same-code", metavar="STAGE", help="Declare a stage's code change harmless.")
]
SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="A preset's name or a YAML file.")]


def rows_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(rows[0] if rows else []):
        # what is copied from the first column must not be cut off
        width = max(len(str(row[name])) for row in rows) if number == 0 else None
        table.add_column(name, min_width=width)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table


def print_result(document: Any, table: Table | None, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
    elif table is not None:
        out.print(table)
