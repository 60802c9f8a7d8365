"""The command line. Each command is a few lines over the Python API."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.errors import CuratrainError

app = typer.Typer(
    name="curatrain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From a pile of uncurated images to an evaluated, registered vision backbone, in one resumable run.",
)
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


def main() -> None:
    """Entry point of the console script: clear messages and exit codes instead of tracebacks."""
    try:
        _check_packages()
        app()
    except CuratrainError as error:
        err.print(f"[red]error[/red]: {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)


@app.command()
def submit(
    spec: SpecArgument,
    set_: SetOption = [],  # noqa: B006 - typer copies it
    target: Annotated[list[str], typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = [],  # noqa: B006
    store: StoreOption = None,
    local: LocalOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    track: TrackOption = True,
    assume_same_code: SameCodeOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Run a pipeline to the end: what is built already is reused, what was interrupted goes on."""
    from pipelines.api import Options, Pipeline

    options = Options(local, address, cpus, track, assume_same_code=tuple(assume_same_code))
    _submit(Pipeline(spec, set_), store, options, target, as_json)


@app.command()
def plan(
    spec: SpecArgument,
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = None,
    assume_same_code: SameCodeOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Say what a submit would run and why. Nothing is started or written."""
    from pipelines.api import Options, Pipeline
    from pipelines.display import plan_table

    made = Pipeline(spec, set_).plan(store, Options(assume_same_code=tuple(assume_same_code)))
    _print(made.document(), plan_table(made), as_json)


@app.command()
def rerun(
    run: RunArgument,
    stage: Annotated[list[str], typer.Option("--stage", help="The stage to run again; without --set it is forced.")],
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = None,
    local: LocalOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    track: TrackOption = True,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only say what would run and why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A new run of an earlier run's spec: STAGE again, upstream reused, downstream as far as it changes."""
    from pipelines.api import Options, Pipeline, open_run
    from pipelines.display import plan_table

    earlier = open_run(run, store)
    pipeline = Pipeline(earlier.record.spec_document(), set_)
    options = Options(local, address, cpus, track, force=() if set_ else tuple(stage))
    targets = {name for s in stage if s in pipeline.spec.stages for name in {s, *pipeline.spec.descendants(s)}}
    if plan_only:
        made = pipeline.plan(store, options)
        _print(made.document(), plan_table(made), as_json)
        return
    wanted = [*stage, *sorted(targets.difference(stage))]
    _submit(pipeline, store, options, wanted, as_json, parent=earlier.id)


@app.command()
def resume(
    run: RunArgument = "latest",
    store: StoreOption = None,
    local: LocalOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    track: TrackOption = True,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that failed, was cancelled or crashed: a new run that takes over all that was finished."""
    from pipelines.api import Options, Pipeline, open_run

    earlier = open_run(run, store)
    if earlier.status == "running":
        from pipelines.errors import UsageError

        raise UsageError(f"run {earlier.id} is still running; `curatrain watch {earlier.id}` follows it")
    options = Options(local, address, cpus, track)
    _submit(Pipeline(earlier.record.spec_document()), store, options, [], as_json, parent=earlier.id)


@app.command()
def status(run: RunArgument = "latest", store: StoreOption = None, as_json: JsonOption = False) -> None:
    """The state of a run and of each of its stages."""
    from pipelines.api import open_run
    from pipelines.display import state_table
    from pipelines.report import run_document

    found = open_run(run, store)
    state = found.state()
    if not as_json:
        out.print(f"{found.id}: [bold]{state.status}[/bold]", highlight=False)
    _print(run_document(found.record, state, found.model()), state_table(state), as_json)


@app.command()
def watch(run: RunArgument = "latest", store: StoreOption = None) -> None:
    """Follow a run until it ends."""
    import time

    from pipelines.api import open_run
    from pipelines.display import Display, state_table

    found = open_run(run, store)
    with Display(found.record, out) as display:
        while found.status == "running":
            display.update()
            time.sleep(0.5)
    out.print(f"{found.id}: [bold]{found.status}[/bold]", highlight=False)
    out.print(state_table(found.state()))


@app.command()
def cancel(run: RunArgument = "latest", store: StoreOption = None) -> None:
    """Ask a run to stop. What it had finished stays and is reused."""
    from pipelines.api import open_run
    from pipelines.errors import UsageError

    found = open_run(run, store)
    if found.status != "running":
        raise UsageError(f"run {found.id} is not running (it is {found.status})")
    found.cancel()
    out.print(f"asked {found.id} to stop", highlight=False)


@app.command()
def runs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Every run of the store, newest first."""
    from pipelines.api import open_store
    from pipelines.runs import list_runs

    rows = []
    for record in list_runs(open_store(store)):
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
    _print(rows, _table(rows), as_json)


@app.command()
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
        _print(document, artifact_table(document), as_json)
    else:
        document, table = run_shown(store, name)
        _print(document, table, as_json)


@app.command()
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
    table = _table([{"stage": entry["stage"], "": entry["text"]} for entry in entries])
    _print(entries, table, as_json)


@app.command()
def stages(
    name: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="One stage type in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The stage types: what each reads and makes; with a name, its parameters with type, default and meaning."""
    from pipelines.show import stage_documents, stage_table

    documents = stage_documents(name)
    _print(documents, stage_table(documents, full=name is not None), as_json)


@app.command()
def objectives(
    name: Annotated[str | None, typer.Argument(metavar="[OBJECTIVE]", help="One objective in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The self-supervised objectives; with a name, its paper and parameters."""
    from pipelines.show import objective_documents, objective_table

    documents = objective_documents(name)
    _print(documents, objective_table(documents, full=name is not None), as_json)


@app.command()
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
    _print(rows, _table(rows), as_json)
    if delete:
        err.print(f"freed {sweep(opened, garbage) / 1e6:,.1f} MB", highlight=False)
    elif garbage:
        err.print("nothing was deleted; add --delete to do it", highlight=False)


@app.command()
def ui(
    store: StoreOption = None,
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on the store's runs (on 127.0.0.1, until you press Ctrl-C)."""
    import os

    from pipelines import tracking
    from pipelines.api import open_store
    from pipelines.errors import UsageError

    root = open_store(store).root
    try:
        command = tracking.ui_command(root, port)
    except ValueError as error:
        raise UsageError(str(error)) from None
    link = tracking.run_link(root, _latest(root), port) or f"http://127.0.0.1:{port}/?workflowType=machine_learning"
    out.print(f"MLflow on {root}: {link}", highlight=False, soft_wrap=True)
    os.execve(command[0], command, tracking.ui_environment())  # noqa: S606 - our own fixed command


def _latest(root: Path) -> str:
    from pipelines.runs import list_runs
    from pipelines.store import Store

    return next((record.id for record in list_runs(Store(root))), "")


def _submit(
    pipeline: Any, store: str | None, options: Any, targets: list[str], as_json: bool, parent: str | None = None
) -> None:
    from pipelines.display import Display
    from pipelines.ending import print_ending
    from pipelines.report import run_document

    displays: list[Display] = []

    def follow(record: Any) -> Any:
        _cancel_on_interrupt(record)
        if as_json:
            return lambda: None
        out.print(f"run [bold]{record.id}[/bold] in {record.store.root}", highlight=False)
        displays.append(Display(record, out).__enter__())
        return displays[0].update

    try:
        run = pipeline.submit(store, options, targets, follow, parent)
    finally:
        for display in displays:
            display.__exit__()
    model = run.model(wait=60.0)
    state = run.state()
    if as_json:
        _print(run_document(run.record, state, model), None, True)
    else:
        print_ending(run, state, model, out)
    raise typer.Exit({"done": 0, "cancelled": 130}.get(state.status, 3 if _only_blocked(state) else 1))


def _only_blocked(state: Any) -> bool:
    return all(stage.state != "failed" for stage in state.stages.values())


def _cancel_on_interrupt(record: Any) -> None:
    def handle(number: int, frame: object) -> None:
        del number, frame
        if record.cancel_flag.exists():
            raise KeyboardInterrupt
        record.cancel_flag.touch()
        err.print("stopping at the next part; press Ctrl-C again to stop at once", highlight=False)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else []:
        table.add_column(name)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table


def _print(document: Any, table: Table | None, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
    elif table is not None:
        out.print(table)


def _check_packages() -> None:
    """Our packages have general names: say so clearly when another one of that name comes first."""
    import importlib.util

    root = Path(__file__).resolve().parent.parent
    for name in ("stages", "curation", "training"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != root:
            raise CuratrainError(
                f"the package '{name}' that Python finds is {origin or 'missing'}, not curatrain's in {root}: start "
                f"from another folder, or remove the folder or package named '{name}' that comes first"
            )
