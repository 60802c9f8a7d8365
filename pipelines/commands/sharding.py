"""Commands on shards: check them, and turn them into other formats and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.commands.shared import JsonOption, StoreOption, err, out, print_result, rows_table

if TYPE_CHECKING:
    from training.shards import ShardReader

app = typer.Typer(name="shard", no_args_is_help=True, help="Check shards, and turn them into other formats and back.")

Format = Literal["webdataset", "parquet"]
ShardsArgument = Annotated[
    str, typer.Argument(metavar="SHARDS", help="A folder of shards, an artifact (shard/KEY), or a URL (s3://, ...).")
]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")]


@app.command()
def verify(shards: ShardsArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Read every byte and compare it with the index; names the shard and the rows of each damage, and exits with 1."""
    with _told(exit_code=1):
        reader = _reader(shards, store)
        total = sum(entry.bytes for entry in reader.files)
        with _progress("verify", total, as_json) as advance:
            damages = list(reader.damage(advance))
    rows = [
        {"file": d.name, "rows": f"{d.first}-{d.stop - 1}" if d.stop > d.first else "none", "damage": d.what}
        for d in damages
    ]
    document = {
        "shards": str(reader.folder),
        "schema_version": reader.index.schema_version,
        "files": len(reader.files),
        "rows": len(reader),
        "bytes": total,
        "damage": [{"file": d.name, "first": d.first, "stop": d.stop, "what": d.what} for d in damages],
    }
    print_result(document, rows_table(rows) if rows else None, as_json)
    if damages:
        err.print("run the shard stage again, or copy the damaged files anew", highlight=False)
        raise typer.Exit(1)
    if not as_json:
        out.print(
            f"{len(reader):,} rows in {len(reader.entries)} shards, {total / 1e6:,.1f} MB: whole", highlight=False
        )


@app.command()
def export(
    shards: ShardsArgument,
    folder: OutArgument,
    to: Annotated[Format, typer.Option("--to", help="The format to write.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write shards as WebDataset tars or Parquet files, one a shard. The same shards give the same bytes."""
    from training.shards.parquet import export_parquet
    from training.shards.webdataset import export_webdataset

    _check_empty(folder)
    with _told():
        reader = _reader(shards, store)
        write = export_webdataset if to == "webdataset" else export_parquet
        with _progress("export", len(reader), as_json) as advance:
            paths = write(reader, folder, advance)
    document = {"out": str(folder), "format": to, "rows": len(reader), "files": [path.name for path in paths]}
    print_result(document, None, as_json)
    if not as_json:
        out.print(f"{len(reader):,} rows in {len(paths)} files of {folder}", highlight=False)


@app.command(name="import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A file, a folder, a pattern with *, or a URL of any of these.")
    ],
    folder: OutArgument,
    from_: Annotated[Format, typer.Option("--from", help="The format to read.")],
    rows_per_shard: Annotated[int, typer.Option("--rows-per-shard", min=1, help="Samples of a shard.")] = 4096,
    as_json: JsonOption = False,
) -> None:
    """Make shards of WebDataset tars or Parquet files (Hugging Face image columns too), in the order of the source."""
    from training.shards import parquet, webdataset
    from training.shards.importing import import_samples, source_files

    _check_empty(folder)
    with _told():
        if from_ == "webdataset":
            lots: Iterator[dict[str, Any]] = webdataset.webdataset_samples(source_files(source, webdataset.SUFFIXES))
        else:
            lots = parquet.parquet_samples(source_files(source, parquet.SUFFIXES))
        with _progress("import", None, as_json) as advance:
            index, skipped = import_samples(lots, folder, rows_per_shard=rows_per_shard, on_rows=advance)
    document = {"out": str(folder), "rows": index.rows, "shards": len(index.shards), "skipped": dict(skipped)}
    print_result(document, None, as_json)
    if not as_json:
        left_out = "".join(f"; {count:,} left out: {reason}" for reason, count in sorted(skipped.items()))
        out.print(f"{index.rows:,} rows in {len(index.shards)} shards of {folder}{left_out}", highlight=False)


def _reader(shards: str, store: str | None) -> ShardReader:
    from pipelines.errors import UsageError
    from training.shards import INDEX, ShardReader

    if "://" in shards:
        return ShardReader(shards)
    for folder in (Path(shards), Path(shards) / "shards"):
        if (folder / INDEX).exists():
            return ShardReader(folder)
    if Path(shards).exists() or not shards.startswith("shard/"):
        raise UsageError(f"{shards} is no folder of shards (it holds no {INDEX}), no artifact (shard/KEY) and no URL")
    from pipelines.show import artifact_document

    return ShardReader(Path(artifact_document(store, shards, verify=False)["path"]) / "shards")


def _check_empty(folder: Path) -> None:
    from pipelines.errors import UsageError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: give a new folder")


@contextlib.contextmanager
def _told(exit_code: int = 2) -> Iterator[None]:
    from pipelines.errors import CuratrainError
    from training.shards import ShardError

    try:
        yield
    except ShardError as error:
        told = CuratrainError(str(error))
        told.exit_code = exit_code
        raise told from error


@contextlib.contextmanager
def _progress(what: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)
