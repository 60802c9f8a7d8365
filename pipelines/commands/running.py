"""Commands that start, follow and stop runs."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from pipelines.commands.shared import (
    AddressOption,
    CpusOption,
    JsonOption,
    LocalOption,
    RunArgument,
    SameCodeOption,
    SetOption,
    SpecArgument,
    StoreOption,
    TrackOption,
    err,
    out,
    print_result,
)


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
    run_to_end(Pipeline(spec, set_), store, options, target, as_json)


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
    print_result(made.document(), plan_table(made), as_json)


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
        print_result(made.document(), plan_table(made), as_json)
        return
    wanted = [*stage, *sorted(targets.difference(stage))]
    _say_where(earlier, track)
    run_to_end(pipeline, store, options, wanted, as_json, parent=earlier.id)


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
    _say_where(earlier, track)
    run_to_end(Pipeline(earlier.record.spec_document()), store, options, [], as_json, parent=earlier.id)


def _say_where(earlier: Any, track: bool) -> None:
    from pipelines import tracking

    remark = tracking.moved_remark(earlier.record.store.root, earlier.id) if track else ""
    if remark:
        err.print(f"note: {remark}", highlight=False, markup=False, soft_wrap=True)


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


def cancel(run: RunArgument = "latest", store: StoreOption = None) -> None:
    """Ask a run to stop. What it had finished stays and is reused."""
    from pipelines.api import open_run
    from pipelines.errors import UsageError

    found = open_run(run, store)
    if found.status != "running":
        raise UsageError(f"run {found.id} is not running (it is {found.status})")
    found.cancel()
    out.print(f"asked {found.id} to stop", highlight=False)


def run_to_end(
    pipeline: Any, store: str | None, options: Any, targets: list[str], as_json: bool, parent: str | None = None
) -> None:
    """Submit a pipeline, show how it goes, and exit with its code."""
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
        print_result(run_document(run.record, state, model), None, True)
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
