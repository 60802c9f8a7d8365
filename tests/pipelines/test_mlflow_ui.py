"""What a person sees: the MLflow UI of a mirrored store in a headless browser, clicked through from run to model."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.galleries import Section, Tile, gallery_html
from pipelines import tracking
from pipelines.tracking.mirror import Outcome, mirror_run
from pipelines.tracking.state import read_state
from tests.browser import browser, drawn, opened, photograph  # noqa: F401 - a fixture
from tests.pipelines.handwritten_run import HandwrittenRun
from tests.stages.pool import emoji_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
PICTURES = 12
NO_USERS = "/users/current"
"""MLflow's page asks who is logged in; a server without users answers 404."""


@dataclass(frozen=True)
class Shown:
    """A mirrored run, the address of its page, and a folder for screenshots."""

    run: HandwrittenRun
    link: str
    port: int
    pictures: Path


@contextlib.contextmanager
def serving(store: Path) -> Iterator[int]:
    """MLflow's server on a store, on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = tracking.ui_command(store, port), tracking.ui_environment(store)
    with (store / "ui.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not answers(port):
            assert time.monotonic() < deadline and server.poll() is None, (store / "ui.log").read_text()
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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path, saved_model: Path) -> Iterator[Shown]:
    store = tmp_path_factory.mktemp("shown") / "store"
    (store / "mlflow").mkdir(parents=True)
    shutil.copy(migrated_database, store / "mlflow" / "mlflow.db")
    run = HandwrittenRun(store)
    folder = run.artifact("curate")
    tiles = [Tile(data, name) for name, _, data in emoji_bytes(PICTURES)]
    (folder / "report" / "clusters.html").write_text(gallery_html("Clusters", [Section("all", tiles)]))
    (folder / "selection").mkdir()
    pq.write_table(pa.table({"role": ["train", "holdout"]}), folder / "selection" / "part-0.parquet")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            environment.delenv(name, raising=False)
        run.whole(saved_model)
        assert mirror_run(store, run.id) is Outcome.DELIVERED
        with serving(store) as port:
            link = tracking.run_link(store, run.id, port)
            assert link is not None
            yield Shown(run, link, port, tmp_path_factory.mktemp("screenshots"))


@contextlib.contextmanager
def page_of(browser: Browser, shown: Shown, url: str) -> Iterator[Page]:  # noqa: F811
    with opened(browser, url, width=1400, known=NO_USERS) as page:
        page.set_default_timeout(60_000)
        yield page


def test_from_the_run_to_a_stage_to_its_pictures_and_tables(browser: Browser, shown: Shown) -> None:  # noqa: F811
    with page_of(browser, shown, shown.link) as page:
        page.get_by_text("curate is done").wait_for()
        assert page.get_by_text("GenAI").count() == 1 and page.get_by_role("link", name="Models").count() >= 1
        photograph(page, shown.pictures / "run.png")
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_label("pipeline.svg").click()
        page.wait_for_function("[...document.images].some(image => image.naturalWidth === 600)")
        photograph(page, shown.pictures / "picture.png")
        page.get_by_label("report.md").click()
        page.get_by_text("pretrain: pretrain is done").wait_for()
        photograph(page, shown.pictures / "report.png")
        page.get_by_role("tab", name="Overview").click()
        page.get_by_role("link", name="curate", exact=True).click()
        page.get_by_text("two clusters were empty").first.wait_for()
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("report", exact=True).click()
        page.get_by_text("clusters.html", exact=True).click()
        page.frame_locator("iframe").get_by_role("heading", name="Clusters").wait_for()
        (frame,) = (frame for frame in page.frames if frame.url.startswith("blob:"))
        frame.wait_for_function("[...document.images].every(image => image.complete)")
        assert drawn(frame) == PICTURES
        photograph(page, shown.pictures / "clusters.png")
        page.get_by_text("sheet.png", exact=True).click()
        page.wait_for_function("[...document.images].some(image => image.naturalWidth === 64)")
        page.get_by_text("sample_selection.json", exact=True).click()
        page.get_by_text("holdout").wait_for()
        photograph(page, shown.pictures / "table.png")


def test_from_the_run_to_the_model_and_its_version(browser: Browser, shown: Shown) -> None:  # noqa: F811
    with page_of(browser, shown, shown.link) as page:
        page.get_by_role("link", name="register", exact=True).click()
        page.get_by_role("link", name=re.compile("toy-model")).last.wait_for()
        state = read_state(shown.run.path)
        assert state is not None
        page.goto(
            f"http://127.0.0.1:{shown.port}/#/experiments/{state.experiment_id}/models?workflowType=machine_learning"
        )
        page.get_by_role("link", name="toy-model", exact=True).first.click()
        page.get_by_text("A toy that halves").wait_for()
        page.get_by_text("held-out images").first.wait_for()
        photograph(page, shown.pictures / "model.png")
        page.locator('a[href*="/models/toy-model/versions/1"]').first.click()
        page.get_by_role("heading", name="Version 1").wait_for()
        page.get_by_text("@ candidate").wait_for()
        page.get_by_role("link", name="register", exact=True).wait_for()
        photograph(page, shown.pictures / "version.png")


def test_the_table_of_runs_holds_the_run_with_its_children(browser: Browser, shown: Shown) -> None:  # noqa: F811
    state = read_state(shown.run.path)
    assert state is not None
    url = f"http://127.0.0.1:{shown.port}/#/experiments/{state.experiment_id}/runs?workflowType=machine_learning"
    with page_of(browser, shown, url) as page:
        page.get_by_text("4 matching runs").wait_for()
        assert page.get_by_role("link", name=re.compile("^toy-2026")).count() == 1
        photograph(page, shown.pictures / "runs.png")
