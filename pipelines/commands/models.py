"""Commands on trained and registered models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.shared import JsonOption, RunArgument, StoreOption, out, print_result, rows_table


def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    run: RunArgument = "latest",
    stage: Annotated[str | None, typer.Option("--stage", help="Which training, where the run has several.")] = None,
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="A kept checkpoint. [default: the newest intact one]")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """A training's backbone, heads, preprocessing and config as files, at any time of the training."""
    from pipelines.api import open_store
    from pipelines.export_model import export_model

    document = export_model(open_store(store), run, folder, stage, step)
    print_result(document, None, as_json)
    if not as_json:
        out.print(f"{document['stage']} of {document['run']}, step {document['step']}: {folder}", highlight=False)


def promote(
    model: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="A run, MODEL@ALIAS, MODEL/VERSION, or register/KEY.")
    ] = "latest",
    to: Annotated[str, typer.Option("--to", help="The alias to give.")] = "champion",
    measure: Annotated[list[str], typer.Option("--measure", help="Probes that decide.")] = ["knn", "linear"],  # noqa: B006
    waive: Annotated[list[str], typer.Option("--waive", help="A check that need not hold: comparable, guarded.")] = [],  # noqa: B006
    because: Annotated[str, typer.Option("--because", help="Why; recorded with the promotion.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a model the alias, if it was measured like the model that holds it, beats an untrained network, and is not
    worse. Exit code 1 where the gate does not hold."""
    from pipelines.api import open_store
    from pipelines.promote import promote as judged

    found = judged(open_store(store), model, to, measures=measure, waive=waive, reason=because, dry_run=dry_run)
    checks = found.verdict.checks if found.verdict else []
    rows = [
        {"check": c.name, "": "holds" if c.holds else "waived" if c.name in waive else "FAILS", "found": c.text}
        for c in checks
    ]
    print_result(found.document(), rows_table(rows) if rows else None, as_json)
    if not as_json:
        out.print(found.sentence, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if found.passed else 1)
