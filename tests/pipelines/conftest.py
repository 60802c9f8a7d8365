"""A migrated MLflow database (made once, copied per test), and a saved pyfunc model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_MODEL = """
import sys, mlflow, numpy as np
class Half(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return np.asarray(model_input) / 2
mlflow.pyfunc.save_model(sys.argv[1], python_model=Half(), pip_requirements=["numpy"])
"""


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    code = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{path}').search_experiments()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=path.parent)
    return path


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    subprocess.run([sys.executable, "-c", _MODEL, str(path)], check=True, capture_output=True, cwd=path.parent)
    return path


@pytest.fixture
def tracked_store(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store whose MLflow database is there, with no tracking server in the environment."""
    import mlflow

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    store = tmp_path / "store"
    (store / "mlflow").mkdir(parents=True)
    shutil.copy(migrated_database, store / "mlflow" / "mlflow.db")
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield store
    mlflow.set_tracking_uri(before or "")
