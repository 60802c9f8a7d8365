"""Headless Chromium for tests of what a person looks at. Import the fixture: `from tests.browser import browser`.

    def test_page(browser, tmp_path):
        with opened(browser, path.as_uri(), tmp_path / "page.png") as page:
            assert page.locator("img").count() == 12

Screenshots go to the folder `CURATRAIN_SCREENSHOTS`, if it is set, to be looked at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Frame, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped, with the reason, where there is none or nothing to drive it by."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    # module scope: while the driver lives its event loop runs, which other modules' asyncio would trip over
    with driver.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@contextlib.contextmanager
def opened(
    browser: Browser, url: str, screenshot: Path | None = None, width: int = 600, known: str = "\0"
) -> Iterator[Page]:
    """A page of `width` CSS pixels, after which no error may stand in its console; a screenshot of the whole page.

    known: part of an address that may fail to load. Raises AssertionError with the messages where a script failed, or
    something else could not be loaded.
    """
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and known not in message.location["url"]:
            errors.append(f"{message.text} ({message.location['url']})")

    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(url, wait_until="load")
        yield page
        if screenshot is not None:
            photograph(page, screenshot)
        assert errors == []
    finally:
        page.close()


def photograph(page: Page, path: Path) -> None:
    """A screenshot of the whole page at `path`, or in the folder `CURATRAIN_SCREENSHOTS` where that is set."""
    folder = Path(os.environ.get("CURATRAIN_SCREENSHOTS", path.parent))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / path.name, full_page=True)


def drawn(page: Page | Frame) -> int:
    """How many pictures of the page (or of a frame in it) are drawn. Raises AssertionError where one cannot be."""
    states = page.eval_on_selector_all(
        "img", "all => all.map(i => [i.complete, i.naturalWidth, i.outerHTML.slice(0, 80)])"
    )
    broken = [text for complete, width, text in states if complete and not width]
    assert broken == []
    return sum(bool(width) for _, width, _ in states)
