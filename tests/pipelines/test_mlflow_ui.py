"""What a person sees: the MLflow UI of a mirrored store, opened in a headless browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipelines import tracking
from pipelines.tracking.mirror import Outcome, mirror_run
from pipelines.tracking.state import read_state
from tests.pipelines.handwritten_run import HandwrittenRun

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH"),
]


@pytest.fixture
def mirrored(tracked_store: Path, saved_model: Path) -> HandwrittenRun:
    run = HandwrittenRun(tracked_store)
    run.whole(saved_model)
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    return run


@pytest.fixture
def port(tracked_store: Path, mirrored: HandwrittenRun) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = tracking.ui_command(tracked_store, port), tracking.ui_environment()
    with (tracked_store / "ui.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert time.monotonic() < deadline and server.poll() is None, (tracked_store / "ui.log").read_text()
            time.sleep(0.3)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def browse(url: str, folder: Path, *arguments: str) -> str:
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1500,1000"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=30000", *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def screenshot(url: str, path: Path) -> Image.Image:
    browse(url, path.parent, f"--screenshot={path}")
    with Image.open(path) as image:
        return image.convert("RGB")


def colours(image: Image.Image) -> int:
    return len(image.getcolors(maxcolors=image.width * image.height) or [])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: `CURATRAIN_SCREENSHOTS`, to look at them, or a folder that goes away."""
    folder = Path(os.environ.get("CURATRAIN_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_run_page_shows_the_table_of_stages(mirrored: HandwrittenRun, port: int, pictures: Path) -> None:
    url = tracking.run_link(mirrored.store, mirrored.id, port)
    assert url is not None
    page = browse(url, pictures, "--dump-dom")
    assert mirrored.id in page
    assert "two clusters were empty" not in page and "pretrain is done" in page
    assert colours(screenshot(url, pictures / "run.png")) > 50


def test_the_runs_table_shows_the_run_tree(mirrored: HandwrittenRun, port: int, pictures: Path) -> None:
    state = read_state(mirrored.path)
    assert state is not None
    url = f"http://127.0.0.1:{port}/#/experiments/{state.experiment_id}/runs?workflowType=machine_learning"
    page = browse(url, pictures, "--dump-dom")
    assert mirrored.id in page
    assert colours(screenshot(url, pictures / "runs.png")) > 50


def test_a_stages_picture_is_shown(mirrored: HandwrittenRun, port: int, pictures: Path) -> None:
    state = read_state(mirrored.path)
    assert state is not None
    page = tracking.run_url("sqlite:", state.experiment_id, state.stages["curate"].run_id, port)
    image = screenshot(page.replace("?", "/artifacts/report/sheet.png?"), pictures / "sheet.png")
    orange = sum(
        count for count, colour in image.getcolors(image.width * image.height) or [] if colour == (200, 80, 40)
    )
    assert orange > 1000


def test_the_model_page_names_its_version(mirrored: HandwrittenRun, port: int, pictures: Path) -> None:
    url = f"http://127.0.0.1:{port}/#/models/toy-model?workflowType=machine_learning"
    page = browse(url, pictures, "--dump-dom")
    assert "candidate" in page and "Version 1" in page
    assert colours(screenshot(url, pictures / "model.png")) > 50
