"""The demo website: OpenMoji's drawings on pages by category, with the faults that a real site has.

It has one stable address, whatever port it listens on, so that URLs in tables are the same in every run.
"""

from __future__ import annotations

import hashlib
import html
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stages.base import StageError
from stages.crawl.demo_catalogue import Drawing, by_category, drawings, svg_folder

HOST = "openmoji.localhost"
START_URL = f"http://{HOST}/"
LABEL_ATTRIBUTE = "data-category"
SIDE = 96
PER_PAGE = 100
ATTRIBUTION = "Pictures: OpenMoji, the open-source emoji and icon project (openmoji.org), licence CC BY-SA 4.0"
_MIME = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_RENDERERS = 4


def _fate(code: str) -> int:
    """A number from 0 to 99 that decides, for good, how the site shows a drawing besides its plain PNG."""
    return int.from_bytes(hashlib.sha256(code.encode()).digest()[:4], "big") % 100


def image_paths(drawing: Drawing) -> list[str]:
    """Paths under which the site shows a drawing: always its PNG; 3 in 100 also as a larger JPEG, 2 as a smaller WebP,
    and 2 a second time as the same file elsewhere."""
    fate = _fate(drawing.code)
    paths = [f"/images/{drawing.code}.png"]
    if fate < 3:
        paths.append(f"/large/{drawing.code}.jpg")
    elif fate < 5:
        paths.append(f"/small/{drawing.code}.webp")
    elif fate < 7:
        paths.append(f"/copies/{drawing.code}.png")
    return paths


class Site:
    """What stands at which path.

    renders: folder of the PNG renders.
    """

    def __init__(self, items: list[Drawing], renders: Path) -> None:
        self._items = items
        self._renders = renders
        self._codes = {item.code for item in items}

    @cached_property
    def pages(self) -> dict[str, bytes]:
        """HTML by path. The index links to every page, and to one that is gone."""
        pages, links = {}, []
        for category, items in by_category(self._items).items():
            slug = re.sub(r"[^a-z]+", "-", category.lower())
            for start in range(0, len(items), PER_PAGE):
                path = f"/{slug}/{start // PER_PAGE + 1}.html"
                links.append(f'<li><a href="{path}">{html.escape(category)}, from {start + 1}</a></li>')
                pages[path] = self._page(
                    category, items[start : start + PER_PAGE], dead=f"/images/gone-{slug}-{start}.png"
                )
        figures = "".join(_figure(path, "a damaged file", "Extras") for path in self._damaged())
        index = f'<ul>{"".join(links)}<li><a href="/retired.html">Retired</a></li></ul>{figures}<p>{ATTRIBUTION}</p>'
        pages["/"] = _document("OpenMoji", index)
        return pages

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """(HTTP status, content type, body) of a path."""
        if path in self.pages:
            return 200, "text/html; charset=utf-8", self.pages[path]
        if path in self._damaged():
            return 200, "image/png", self._damaged()[path]
        match = re.fullmatch(r"/(images|large|small|copies)/([0-9A-F-]+)(\.png|\.jpg|\.webp)", path)
        if match is None or match[2] not in self._codes:
            return 404, "text/html; charset=utf-8", _document("Not found", "<p>Not here.</p>")
        png = (self._renders / f"{match[2]}.png").read_bytes()
        return 200, _MIME[match[3]], png if match[3] == ".png" else _reencoded(png, match[3])

    def _damaged(self) -> dict[str, bytes]:
        png = (self._renders / f"{self._items[0].code}.png").read_bytes()
        return {
            "/images/truncated.png": png[: len(png) // 2],
            "/images/garbled.png": png[:33] + bytes(reversed(png[33:])),
            "/images/apology.png": _document("Sorry", "<p>This picture has moved.</p>"),
        }

    def _page(self, category: str, items: list[Drawing], dead: str) -> bytes:
        figures = [_figure(path, item.name, category) for item in items for path in image_paths(item)]
        figures.append(_figure(dead, "a picture that is gone", category))
        return _document(category, f'{"".join(figures)}<p><a href="/">All categories</a></p>')


def _figure(path: str, name: str, category: str) -> str:
    return (
        f'<figure {LABEL_ATTRIBUTE}="{html.escape(category)}"><img src="{path}" alt="{html.escape(name)}"></figure>\n'
    )


def _document(title: str, body: str) -> bytes:
    title = html.escape(title)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    return f"{head}<h1>{title}</h1>{body}".encode()


def _reencoded(png: bytes, suffix: str) -> bytes:
    """The picture on white as a JPEG of 128 pixels, or as it is as a WebP of 72."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    out = io.BytesIO()
    if suffix == ".webp":
        picture.resize((72, 72), Image.Resampling.LANCZOS).save(out, "WEBP", quality=80)
        return out.getvalue()
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    canvas.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS).save(out, "JPEG", quality=85)
    return out.getvalue()


def render_all(items: list[Drawing], folder: Path, on_progress: Callable[[int, int], None]) -> None:
    """Render the drawings that `folder` does not hold yet, on several processes.

    Raises StageError where the renderer fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [item.code for item in items if not (folder / f"{item.code}.png").exists()]
    processes = [_renderer(folder, missing[start::_RENDERERS]) for start in range(_RENDERERS) if missing[start:]]
    try:
        while any(process.poll() is None for process in processes):
            on_progress(min(len(items), len(os.listdir(folder))), len(items))  # noqa: PTH208 - counts thousands, often
            time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    absent = sum(1 for item in items if not (folder / f"{item.code}.png").exists())
    if absent:
        errors = (folder / "errors.txt").read_text(errors="replace").strip().splitlines()
        raise StageError(f"{absent} demo pictures could not be rendered: {errors[-1] if errors else 'no message'}")
    on_progress(len(items), len(items))


def _renderer(folder: Path, codes: list[str]) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("demo_render.py")
    command = [sys.executable, "-P", str(script), str(svg_folder()), str(folder), str(SIDE)]
    with (folder / "errors.txt").open("a") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, text=True)  # noqa: S603
    assert process.stdin is not None
    try:
        process.stdin.write("\n".join(codes))
        process.stdin.close()
    except BrokenPipeError:
        pass
    return process


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client hang up without a word; its own table says what it got."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class DemoServer:
    """The site on a free loopback port for as long as the context lasts."""

    def __init__(self, site: Site) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                status, mime, body = site.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", mime)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
                """Keep the stage's output clean; the crawl's own table says what was answered."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="demo-site")

    def __enter__(self) -> tuple[str, int]:
        """Start; gives the address to connect to in place of `HOST`."""
        self._thread.start()
        return "127.0.0.1", self._server.server_address[1]

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def prepare(limit: int | None, renders: Path, on_progress: Callable[[int, int], None]) -> DemoServer:
    """Render what is missing and make the server (not yet started). Raises StageError where that is not possible."""
    items = drawings(limit)
    render_all(items, renders, on_progress)
    return DemoServer(Site(items, renders))


def remove_renders(renders: Path) -> None:
    """Remove the renders: the crawl's table holds the pictures."""
    shutil.rmtree(renders, ignore_errors=True)
