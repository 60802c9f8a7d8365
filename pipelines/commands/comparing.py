"""The command that compares selections, objectives, views and budgets by what is learned."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.shared import (
    AddressOption,
    CpusOption,
    JsonOption,
    LocalOption,
    SetOption,
    StoreOption,
    TrackOption,
    err,
    print_result,
)


def compare(
    what: Annotated[
        list[str],
        typer.Argument(metavar="SPEC | RUN RUN ...", help="A preset's name or a YAML file; or runs (RUN/STAGE)."),
    ],
    selections: Annotated[
        str | None,
        typer.Option(
            "--selections",
            metavar="NAME,NAME,...",
            help="Methods of curate, 'raw' (a sample of the pool with its duplicates), or NAME: {PARAM: VALUE}. "
            "[default: raw,random,balanced; with --objectives, --views or --grid the spec's own]",
        ),
    ] = None,
    objectives: Annotated[
        str | None, typer.Option("--objectives", metavar="NAME,NAME,...", help="Objectives.")
    ] = None,
    views: Annotated[
        str | None, typer.Option("--views", metavar="NAME,NAME,...", help="Named views: paper,crop_resize,crop_only.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="Images of every selection (a number or a share), or time of every training (90s, 20m, 1h), measured "
            "beforehand and turned into steps. Several make an axis.",
        ),
    ] = None,
    grid: Annotated[
        str | None, typer.Option("--grid", help="A paper's grid: methods-views, views-data. Other options go before.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each variant.")] = 3,
    axis: Annotated[
        list[str],
        typer.Option("--axis", metavar="TYPE.PARAM=VALUE,VALUE", help="Another axis: pretrain.batch=64,256."),
    ] = [],  # noqa: B006
    memorisation: Annotated[
        bool,
        typer.Option(
            "--memorisation",
            help="Also score how much single images are memorised (SSLMem), between trainings on different images: 8 "
            "views of up to 1,024 images by two models, a minute or so of a CPU where images are small. "
            "How many: --set compare.memorisation.images=64, .views=4.",
        ),
    ] = False,
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = None,
    local: LocalOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    track: TrackOption = True,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only say what would run and why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train in several variants, alike in images, steps or time, and in the test, and say which is worth it. Or, of
    runs that are there, say which was.

    The page also shows blind pairs: held-out images that one model takes for alike and another sees as different.
    --set compare.blind_pairs.above=0.9 and .below, .limit, .centred change what counts, and compare.pairwise how many
    models are held against each other."""
    from pipelines.api import Options, Pipeline, open_store
    from pipelines.commands.running import run_to_end
    from pipelines.compare import comparison_spec
    from pipelines.compare_axes import chosen_axes, parse_axis
    from pipelines.compare_runs import runs_spec
    from pipelines.display import plan_table
    from pipelines.errors import UsageError
    from pipelines.step_costs import StepCosts

    opened = open_store(store)
    if len(what) > 1:
        if any((selections, objectives, views, budget, grid, axis)):
            raise UsageError("runs are compared as they are: options that change a training go with a SPEC")
        made = runs_spec(what, opened, memorisation=memorisation, overrides=set_)
    else:
        chosen, axes = chosen_axes(grid, selections, objectives, views, budget)
        costs = StepCosts(opened, lambda line: err.print(line, highlight=False))
        axes = [*axes, *map(parse_axis, axis)]
        made = comparison_spec(
            what[0],
            chosen,
            seeds=seeds,
            axes=axes,
            overrides=set_,
            step_seconds=costs,
            memorisation=memorisation,
        )
    pipeline = Pipeline(made.document())
    options = Options(local, address, cpus, track)
    if plan_only:
        planned = pipeline.plan(store, options)
        print_result(planned.document(), plan_table(planned), as_json)
        return
    run_to_end(pipeline, store, options, [], as_json)
