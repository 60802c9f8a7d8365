"""Small real stages over text files, to drive the run model without images."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from pydantic import Field

from stages.base import EXECUTION, POOL, Input, Stage, StageContext, StageError, StageParams, StageResult


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class NumbersParams(StageParams):
    folder: str = Field("", json_schema_extra=POOL, description="Folder of files that hold a number each.")
    refresh: int = Field(0, description="Raise to read again.")


class Numbers(Stage[NumbersParams]):
    """Reads the numbers of a folder."""

    type = "numbers"
    Params = NumbersParams
    output = "toy_numbers"

    def externals(self) -> dict[str, str]:
        folder = Path(self.params.folder)
        if not folder.is_dir():
            raise StageError(f"the folder '{folder}' is missing: make it, or set numbers.folder")
        text = ";".join(f"{p.name}={p.read_text()}" for p in sorted(folder.iterdir()))
        return {"folder": hashlib.sha256(text.encode()).hexdigest()}

    def remarks(self) -> list[str]:
        return [f"one number a file in {Path(self.params.folder).name}"]

    def run(self, ctx: StageContext[NumbersParams]) -> StageResult:
        values = sorted(int(p.read_text()) for p in Path(self.params.folder).iterdir())
        if not values:
            raise StageError("the folder is empty: put numbers into it")
        with ctx.writing("numbers.txt") as path:
            path.write_text("\n".join(map(str, values)))
        return StageResult(_digest(ctx.work / "numbers.txt"), None, len(values))


class SquareParams(StageParams):
    power: int = Field(2, ge=1, le=9, description="Exponent.")
    modulus: int = Field(1000, ge=1, description="Values are taken modulo this.")
    pause: float = Field(0.0, ge=0, json_schema_extra=EXECUTION, description="Seconds to sleep for each number.")
    log: str = Field("", json_schema_extra=EXECUTION, description="File that gets a line for each number computed.")
    kill_at: int = Field(-1, json_schema_extra=EXECUTION, description="Kill this process once, at this number.")


class Square(Stage[SquareParams]):
    """Raises each number to a power, in parts of one number."""

    type = "square"
    Params = SquareParams
    inputs = {"numbers": Input("toy_numbers")}
    output = "toy_squares"

    def run(self, ctx: StageContext[SquareParams]) -> StageResult:
        p = self.params
        values = [int(v) for v in (ctx.inputs["numbers"].path / "numbers.txt").read_text().split()]
        known = {f.name for a in ctx.earlier for f in (a.path / "parts").iterdir()}
        for done, value in enumerate(values):
            ctx.progress(done, len(values), "numbers")
            part = ctx.work / "parts" / str(value)
            if part.exists():
                continue
            if str(value) in known:
                source = next(
                    a.path / "parts" / str(value) for a in ctx.earlier if (a.path / "parts" / str(value)).exists()
                )
                with ctx.writing(f"parts/{value}") as path:
                    path.write_text(source.read_text())
                continue
            time.sleep(p.pause)
            if p.kill_at == value and p.log and not Path(p.log + ".killed").exists():
                Path(p.log + ".killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if p.log:
                with Path(p.log).open("a") as log:
                    log.write(f"{value}\n")
            with ctx.writing(f"parts/{value}") as path:
                path.write_text(str(value**p.power % p.modulus))
        text = "\n".join((ctx.work / "parts" / str(v)).read_text() for v in values)
        return StageResult(hashlib.sha256(text.encode()).hexdigest(), len(values), len(values), {"count": len(values)})


class TotalParams(StageParams):
    offset: int = Field(0, description="Added to the total.")
    fail: bool = Field(False, description="Fail on purpose.")


class Total(Stage[TotalParams]):
    """Sums up."""

    type = "total"
    Params = TotalParams
    inputs = {"squares": Input("toy_squares")}
    output = "toy_total"

    def run(self, ctx: StageContext[TotalParams]) -> StageResult:
        if self.params.fail:
            raise StageError("told to fail: set total.fail=false")
        values = [int(p.read_text()) for p in sorted((ctx.inputs["squares"].path / "parts").iterdir())]
        with ctx.writing("total.txt") as path:
            path.write_text(str(sum(values) + self.params.offset))
        return StageResult(_digest(ctx.work / "total.txt"), len(values), 1, {"total": sum(values)}, "summed up")


TARGETS = {
    "numbers": "tests.pipelines.toy:Numbers",
    "square": "tests.pipelines.toy:Square",
    "total": "tests.pipelines.toy:Total",
}


def document(folder: Path, **stages: dict) -> dict:
    """A spec over the toy stages; keyword arguments add to or override the three of them."""
    body: dict = {"numbers": {"folder": str(folder)}, "square": {}, "total": {}}
    for name, params in stages.items():
        body[name] = {**body.get(name, {}), **params}
    return {"name": "toy", "stages": body}


def install(folder: Path) -> None:
    """Make the toy stages a plug-in distribution in `folder`, found by whoever has it on its path."""
    info = folder / "toy_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    points = "\n".join(f"{name} = {target}" for name, target in TARGETS.items())
    (info / "entry_points.txt").write_text(f"[curatrain.stages]\n{points}\n")


def main() -> None:
    """`python -m tests.pipelines.toy local|ray STORE SPEC_JSON`: submit and print each stage's state and digest."""
    import json
    import sys

    from pipelines.api import Options, Pipeline

    executor, store, spec = sys.argv[1:]
    options = Options(local=executor == "local", cpus=2, track=False)
    run = Pipeline(json.loads(spec)).submit(store, options)
    sys.stdout.write(json.dumps({n: [s.state, s.digest] for n, s in run.state().stages.items()}))


if __name__ == "__main__":
    main()
