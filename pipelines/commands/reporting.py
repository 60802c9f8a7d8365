"""The command that writes a run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.shared import RunArgument, StoreOption, out


def report(
    run: RunArgument = "latest",
    output: Annotated[Path | None, typer.Option("--output", help="The file to write. [default: RUN.html]")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Megabytes that the file may have, about.")] = 30,
    store: StoreOption = None,
) -> None:
    """A run as one HTML file to send to somebody: its stages, all of their pages and pictures, the model card."""
    from pipelines.api import open_run
    from pipelines.errors import UsageError
    from pipelines.report_page import report_page

    found = open_run(run, store)
    path = output or Path(f"{found.id}.html")
    page = report_page(found.record, found.state(), limit * 1_000_000)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--output {path} cannot be written ({error.strerror}): give a file in a folder of yours"
        ) from None
    out.print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", highlight=False, soft_wrap=True)
