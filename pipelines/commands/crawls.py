"""Commands about crawls."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.shared import JsonOption, StoreOption, out, print_result


def crawl_report(
    name: Annotated[
        str, typer.Argument(metavar="RUN|ARTIFACT", help="A run, or crawl/KEY (its start does).")
    ] = "latest",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """A crawl's ledger in figures: by reason, by host, by format, and throughput over time."""
    from pipelines.crawl_report import crawl_documents, crawl_tables

    documents = crawl_documents(store, name)
    print_result(documents, None, as_json)
    if not as_json:
        out.print(crawl_tables(documents))
