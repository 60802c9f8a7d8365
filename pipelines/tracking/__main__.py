"""The mirror's process: `python -m pipelines.tracking STORE (RUN [--once] | --pending)`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from pipelines.tracking.mirror import mirror_pending, mirror_run
from pipelines.tracking.redaction import RedactingStream


def main() -> int:
    """Mirror one run, or everything that is owed; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.tracking", description="Mirror runs to MLflow.")
    parser.add_argument("store", type=Path, help="folder of the store")
    parser.add_argument("run", nargs="?", help="id of the run")
    parser.add_argument("--once", action="store_true", help="deliver what there is and end")
    parser.add_argument("--pending", action="store_true", help="deliver what runs without a driver still owe")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds to wait for a server after the run's end"
    )
    given = parser.parse_args()
    os.nice(10)
    store = given.store.resolve()
    if given.pending:
        return mirror_pending(store, given.patience)
    if given.run is None or not (store / "runs" / given.run).is_dir():
        parser.error(f"there is no run {given.run!r} in {store}")
    return mirror_run(store, given.run, given.once, given.patience)


if __name__ == "__main__":
    with contextlib.redirect_stderr(RedactingStream(sys.stderr)):  # a file of the store
        code = main()
    raise SystemExit(code)
