"""Commands that look at runs, artifacts, images, stages and objectives, and at what the store can do without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.shared import (
    JsonOption,
    RunArgument,
    StoreOption,
    err,
    out,
    print_result,
    rows_table,
)


def status(run: RunArgument = "latest", store: StoreOption = None, as_json: JsonOption = False) -> None:
    """The state of a run and of each of its stages."""
    from pipelines.api import open_run
    from pipelines.display import state_table
    from pipelines.report import run_document

    found = open_run(run, store)
    state = found.state()
    if not as_json:
        out.print(f"{found.id}: [bold]{state.status}[/bold]", highlight=False)
    print_result(run_document(found.record, state, found.model()), state_table(state), as_json)


def runs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Every run of the store, newest first."""
    from pipelines.api import open_store
    from pipelines.runs import list_runs

    rows = []
    opened = open_store(store)
    for record in list_runs(opened):
        state, head = record.state(), record.head()
        counts = [stage.state for stage in state.stages.values()]
        rows.append(
            {
                "run": record.id,
                "status": state.status,
                "created": head["created"][:19],
                "ran": counts.count("done"),
                "reused": counts.count("reused"),
                "parent": head["parent"] or "",
            }
        )
    print_result(rows, rows_table(rows) if rows else None, as_json)
    if not rows:
        err.print(f"there are no runs in {opened.root}; `curatrain submit quickstart` makes one", highlight=False)


def show(
    name: Annotated[str, typer.Argument(metavar="RUN|ARTIFACT", help="A run, or TYPE/KEY (the start of a key does).")],
    store: StoreOption = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file of the artifact again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A run's plan, reasons and findings; or an artifact's recipe, inputs, files and figures."""
    from pipelines.show import artifact_document, artifact_table, run_shown

    if "/" in name:
        document = artifact_document(store, name, verify)
        print_result(document, artifact_table(document), as_json)
    else:
        document, table = run_shown(store, name)
        print_result(document, table, as_json)


def why(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image id (or its start), a URL, or a file.")],
    run: Annotated[str, typer.Option("--run", help="The run to look in.")] = "latest",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """An image's way through every stage of a run, or the reason that it was dropped."""
    from pipelines.api import open_run

    found = open_run(run, store)
    entries = found.why(image)
    if not as_json and entries:
        out.print(f"image {entries[0]['image_id']} in {found.id}", highlight=False)
    table = rows_table([{"stage": entry["stage"], "": entry["text"]} for entry in entries])
    print_result(entries, table, as_json)


def stages(
    name: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="One stage type in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The stage types: what each reads and makes; with a name, its parameters with type, default and meaning."""
    from pipelines.show import stage_documents, stage_table

    documents = stage_documents(name)
    print_result(documents, stage_table(documents, full=name is not None), as_json)


def objectives(
    name: Annotated[str | None, typer.Argument(metavar="[OBJECTIVE]", help="One objective in full.")] = None,
    table: Annotated[bool, typer.Option("--table", help="What each learned in a test of equal CPU time.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The self-supervised objectives; with a name, its paper and parameters."""
    if table:
        from pipelines.ladder import ladder_document, ladder_table

        measured = ladder_document(name)
        print_result(measured, ladder_table(measured), as_json)
        return
    from pipelines.show import objective_documents, objective_table

    documents = objective_documents(name)
    print_result(documents, objective_table(documents, full=name is not None), as_json)


def gc(
    store: StoreOption = None,
    keep_runs: Annotated[int, typer.Option("--keep-runs", min=0, help="Runs of each pipeline to keep.")] = 5,
    delete: Annotated[
        bool, typer.Option("--delete", help="Really delete; without it, only say what would go.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what no kept run, pin or registered model needs, and delete it if asked to."""
    from pipelines.api import open_store
    from pipelines.collect import find_garbage, sweep

    opened = open_store(store)
    garbage = find_garbage(opened, keep_runs)
    rows = [{"kind": g.kind, "type": g.type, "key": g.key[:12], "MB": round(g.size / 1e6, 2)} for g in garbage]
    print_result(rows, rows_table(rows), as_json)
    if delete:
        err.print(f"freed {sweep(opened, garbage) / 1e6:,.1f} MB", highlight=False)
    elif garbage:
        err.print("nothing was deleted; add --delete to do it", highlight=False)


def ui(
    store: StoreOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on the store's runs (on 127.0.0.1, until you press Ctrl-C)."""
    import os

    from pipelines import tracking
    from pipelines.api import open_store

    root = open_store(store).root
    command = tracking.ui_command(root, port)
    _check_free(port)
    link = tracking.run_link(root, _latest(root), port) or f"http://127.0.0.1:{port}/?workflowType=machine_learning"
    out.print(f"MLflow on {root}: {link}", highlight=False, soft_wrap=True)
    os.execve(command[0], command, tracking.ui_environment(root))  # noqa: S606 - our own fixed command


def _check_free(port: int) -> None:
    import socket

    from pipelines.errors import UsageError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} of 127.0.0.1 cannot be had ({error.strerror}); perhaps the UI is open already: look "
                "there, or give another with --port"
            ) from None


def _latest(root: Path) -> str:
    from pipelines.runs import list_runs
    from pipelines.store import Store

    return next((record.id for record in list_runs(Store(root))), "")
