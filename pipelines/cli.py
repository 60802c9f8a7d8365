"""The command line: `curatrain COMMAND`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import typer
from rich.markup import escape

from pipelines.commands import comparing, crawls, exploring, looking, models, reporting, running, sharding
from pipelines.commands.shared import err
from pipelines.errors import CuratrainError

COMMANDS = (
    running.submit,
    running.plan,
    running.rerun,
    comparing.compare,
    running.resume,
    looking.status,
    running.watch,
    running.cancel,
    looking.runs,
    looking.show,
    looking.why,
    reporting.report,
    crawls.crawl_report,
    models.export,
    models.promote,
    looking.stages,
    looking.objectives,
    looking.gc,
    looking.ui,
)

app = typer.Typer(
    name="curatrain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From a pile of uncurated images to an evaluated, registered vision backbone, in one resumable run.",
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(exploring.app)
app.add_typer(sharding.app)


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


def _check_packages() -> None:
    """Our packages have general names: say so clearly when another one of that name comes first."""
    root = Path(__file__).resolve().parent.parent
    for name in ("stages", "curation", "training"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != root:
            raise CuratrainError(
                f"the package '{name}' that Python finds is {origin or 'missing'}, not curatrain's in {root}: start "
                f"from another folder, or remove the folder or package named '{name}' that comes first"
            )
