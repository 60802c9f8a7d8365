"""A registered model behind `mlflow models serve`: pictures in base64 over HTTP, embeddings back."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from stages.register.packing import save_pyfunc
from tests.stages.pool import emoji_bytes
from tests.stages.probe_inputs import CONFIG, write_checkpoint


@pytest.mark.slow
def test_the_served_model_embeds_pictures_in_base64(tmp_path: Path) -> None:
    import mlflow.pyfunc
    import pandas as pd

    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    save_pyfunc(tmp_path / "model", checkpoint.path, CONFIG["dim"], metadata={})
    pictures = [data for _, _, data in emoji_bytes(3)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "mlflow", "models", "serve", "-m", str(tmp_path / "model")]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for its uvicorn
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        rows = [[base64.b64encode(data).decode()] for data in pictures]
        body = {"dataframe_split": {"columns": ["image"], "data": rows}}
        answer = _post(f"http://127.0.0.1:{port}/invocations", body, server, tmp_path / "serve.log")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    served = np.array(answer["predictions"], np.float32)
    expected = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame({"image": pictures}))
    np.testing.assert_allclose(served, expected, atol=1e-5)
    assert served.shape == (3, CONFIG["dim"])


def _post(url: str, body: object, server: subprocess.Popen[bytes], log: Path) -> dict[str, list[list[float]]]:
    """The answer, asked for until the server is up."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None, log.read_text()
            time.sleep(0.5)
