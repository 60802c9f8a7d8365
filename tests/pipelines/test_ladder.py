"""`curatrain objectives --table`: the kept measurement, for a person and for a program."""

from __future__ import annotations

import json
import math

from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.errors import UsageError
from training.objectives import catalogue

BASELINES = {"untrained", "pixels"}


def test_the_kept_table_is_shown_whole_to_a_program() -> None:
    done = CliRunner().invoke(app, ["objectives", "--table", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {row["objective"] for row in document["rows"]} <= BASELINES | set(catalogue.names())
    assert {row["objective"] for row in document["rows"]} >= BASELINES
    for row in document["rows"]:
        assert all(math.isfinite(row[probe]) and 0 <= row[probe] <= 1 for probe in ("knn", "linear"))
        assert row["objective"] in BASELINES or row["knn_gain_lo"] <= row["knn_gain"] <= row["knn_gain_hi"]
    assert document["date"] and document["machine"] and document["command"].startswith("python -m")


def test_a_person_sees_one_objective_with_its_gain() -> None:
    done = CliRunner().invoke(app, ["objectives", "simclr", "--table"])
    assert done.exit_code == 0, done.output
    assert "simclr" in done.stdout and "±" in done.stdout and "untrained" not in done.stdout.splitlines()[-1]
    assert "byol" not in done.stdout


def test_an_objective_that_was_not_measured_is_named() -> None:
    done = CliRunner().invoke(app, ["objectives", "simclrr", "--table"])
    assert isinstance(done.exception, UsageError)
    assert "did you mean 'simclr'" in str(done.exception)
