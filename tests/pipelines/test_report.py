"""A run's report: Markdown, picture, and the page that holds everything."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.picture import WIDTH, pipeline_svg
from pipelines.report import report_markdown
from pipelines.report_files import markdown_html
from pipelines.report_page import report_page
from pipelines.run_lines import StageLine, stage_lines
from pipelines.runs import RunRecord, StageState
from pipelines.store import Store
from tests.browser import browser, drawn, opened  # noqa: F401 - a fixture
from tests.pipelines.handwritten_run import HandwrittenRun, key_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(tmp_path: Path) -> HandwrittenRun:
    """Two finished stages and one that failed, with a page, a table and texts that mean mischief."""
    run = HandwrittenRun(tmp_path / "store")
    plan = {"steps": [{"stage": "curate", "causes": ["its seed is new"]}]}
    (run.path / "plan.json").write_text(json.dumps(plan))
    run.start()
    run.event("stage_started", "curate", key=key_of("curate"), attempt=1)
    folder = run.artifact("curate") / "report"
    mischief = "<script>try { top.x = 1 } catch { }</script>"
    (folder / "clusters.html").write_text(f"<!doctype html><p id='inside'>clusters</p>{mischief}")
    (folder / "kept.csv").write_text("name,count\n<b>bold</b>,3\n" + "x,1\n" * 80)
    (folder / "notes.md").write_text(
        "# Notes\n\n| a | b |\n|---|---|\n| <i>x</i> | 1 |\n\n![p](http://evil.test/x.png)"
    )
    run.finish("curate")
    run.finish("pretrain", action="reused", inputs=("curate",))
    run.event("stage_failed", "register", error="no room <script>alert(1)</script>")
    run.end("failed")
    return run


def record_of(run: HandwrittenRun) -> RunRecord:
    return RunRecord(Store(run.store), run.id)


def lines_of(*reads: tuple[int, ...]) -> list[StageLine]:
    """Stages s0, s1, ... that read from the stages of these numbers."""
    names = [tuple(f"s{number}" for number in sources) for sources in reads]
    return [
        StageLine(f"s{place}", "curate", sources, "run", "because", StageState(f"s{place}", "curate", seconds=place))
        for place, sources in enumerate(names)
    ]


@given(st.data())
def test_the_picture_draws_every_stage_and_every_connection(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    reads = [data.draw(st.sets(st.integers(0, place - 1))) if place else set() for place in range(count)]
    root = ET.fromstring(pipeline_svg("run <1>", "done", lines_of(*(tuple(sorted(r)) for r in reads))))
    assert len(root.findall(f"{SVG}circle")) == count
    assert len(root.findall(f"{SVG}path")) == sum(map(len, reads))
    assert float(root.get("width", 0)) == WIDTH
    assert all(float(e.get("x", 0)) >= 0 for e in root.iter())


def test_wires_that_overlap_do_not_share_a_lane() -> None:
    lines = lines_of((), (), (0, 1), (0, 1), (2,))
    root = ET.fromstring(pipeline_svg("run", "done", lines))
    wires = [path.get("d", "") for path in root.findall(f"{SVG}path") if "q" in path.get("d", "")]
    lanes = {wire.split("H")[1].split(" ")[0] for wire in wires}
    assert len(wires) == 4 and len(lanes) == 3


def test_the_markdown_names_what_was_done_and_why(run: HandwrittenRun) -> None:
    text = (run.path / "report.md").read_text()
    assert "Status: **failed**" in text
    assert "| curate | run | 100 -> 40 | 1.5 |" in text and "- curate: curate is done" in text
    assert "- curate: its seed is new" in text
    assert "| register | failed |" in text and "- register: no room <script>" in text
    assert report_markdown(record_of(run), record_of(run).state()) == text
    assert ET.fromstring((run.path / "pipeline.svg").read_text()).tag == f"{SVG}svg"


def test_a_run_without_a_plan_has_no_reasons(run: HandwrittenRun) -> None:
    (run.path / "plan.json").unlink()
    lines = stage_lines(record_of(run), record_of(run).state())
    assert [line.why for line in lines] == ["", "", ""]


def test_the_page_holds_everything_and_nothing_else_is_loaded(run: HandwrittenRun) -> None:
    record = record_of(run)
    page = report_page(record, record.state())
    assert page.count("<iframe") == 1 and page.count("<img") == 2
    assert 'src="http' not in page and "src=&quot;http" not in page
    assert "<script" not in page.replace("&lt;script", "")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page and "and 31 more rows" in page
    assert "no room &lt;script&gt;" in page


def test_what_is_too_large_is_named_and_the_largest_goes_first(run: HandwrittenRun) -> None:
    record = record_of(run)
    (run.artifact("curate") / "report" / "huge.html").write_text("x" * 300_000)
    page = report_page(record, record.state(), limit=100_000)
    assert len(page.encode()) < 100_000
    assert "Left out of this page for its size: huge.html (0.3 MB)" in page
    assert page.count("<iframe") == 1
    assert report_page(record, record.state(), limit=1_000_000).count("<iframe") == 2


def test_markdown_shows_html_as_text_and_loads_no_picture() -> None:
    shown = markdown_html("<script>x</script>\n\n| a |\n|---|\n| 1 |\n\n![p](http://evil.test/x.png)")
    assert "<table>" in shown and "<script" not in shown and "<img" not in shown


def test_the_command_writes_the_file(run: HandwrittenRun, tmp_path: Path) -> None:
    path = tmp_path / "sent.html"
    done = CliRunner().invoke(app, ["report", run.id, "--store", str(run.store), "--output", str(path)])
    assert done.exit_code == 0, done.output
    assert run.id in path.read_text()


@pytest.mark.slow
def test_a_browser_draws_it_without_an_error(run: HandwrittenRun, tmp_path: Path, browser: Browser) -> None:  # noqa: F811
    path = tmp_path / "page.html"
    path.write_text(report_page(record_of(run), record_of(run).state()))
    with opened(browser, path.as_uri(), tmp_path / "report.png") as page:
        assert drawn(page) == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        page.locator("summary", has_text="clusters.html").click()
        assert page.frame_locator("iframe").locator("#inside").inner_text() == "clusters"
        assert page.evaluate("window.x") is None
