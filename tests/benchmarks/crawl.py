"""Crawling against img2dataset: images per CPU-second and per second, on the same list of real JPEGs.

python -m tests.benchmarks.crawl [PART ...], with the parts `plain` (files kept as they are; the peer decodes
and encodes them anew), `untouched` (the peer too keeps them as they are), `resized` (shorter side
256), `slow_hosts` (1 host in 100 answers after 20 s), `memory` (100,000 URLs) and `ray` (2 workers); default: all.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.crawl_corpus import corpus
from tests.benchmarks.peers import RESULTS, ROOT, keep_result, peer_python

COUNT = 5000
ROUNDS = 3
SERVER = Path(__file__).with_name("crawl_server.py")
CURATRAIN = Path(__file__).with_name("crawl_run.py")
PEER = """
import sys
from img2dataset import download
if __name__ == "__main__":
    kind, urls, out = sys.argv[1:]
    sizes = {"resize_mode": "keep_ratio", "image_size": 256}
    if kind != "resized":
        sizes = {"resize_mode": "no", "disable_all_reencoding": kind == "untouched"}
    download(url_list=urls, input_format="txt", output_folder=out, output_format="webdataset", processes_count=2,
             thread_count=32, retries=1, timeout=30, disallowed_header_directives=[], **sizes)
"""


@contextmanager
def server() -> Iterator[int]:
    """The port of a running server; its CPU time is not counted."""
    process = subprocess.Popen([sys.executable, SERVER, *corpus(COUNT)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def measured(command: list[str], images: int) -> dict[str, float]:
    """Run a command to its end; CPU time is that of the process and of all that it waited for."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {
        **os.environ,
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",  # compiled modules are kept, as where either is installed
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "images": images,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "images_per_s": round(images / wall, 1),
        "images_per_cpu_s": round(images / cpu, 1),
    }


def curatrain(listing: Path, out: Path, **params: Any) -> list[str]:
    """The command that crawls a list with our stage."""
    return [sys.executable, str(CURATRAIN), str(listing), str(out), json.dumps(params)]


def peer(kind: str, listing: Path, out: Path) -> list[str]:
    """The command that crawls a list with img2dataset."""
    script = out.parent / "peer.py"
    script.write_text(PEER)
    return [str(peer_python("img2dataset", ["img2dataset==1.47.0"])), str(script), kind, str(listing), str(out)]


def images_of(out: Path) -> int:
    """The number of images in what either crawler wrote."""
    if (out / "fetches").exists():
        import pyarrow.dataset as ds

        return int(ds.dataset(out / "fetches").count_rows(filter=ds.field("status") == "ok"))
    return sum(json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json"))


def against(kind: str, **params: Any) -> dict[str, Any]:
    """Both crawlers on the same list, taking turns."""
    runs: dict[str, list[dict[str, float]]] = {"curatrain": [], "img2dataset": []}
    with server() as port, tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "list.txt"
        listing.write_text("".join(f"http://127.0.0.1:{port}/{n}.jpg\n" for n in range(COUNT)))
        for number in range(ROUNDS):
            for name in runs:
                out = Path(folder) / f"{name}-{number}"
                command = curatrain(listing, out, **params) if name == "curatrain" else peer(kind, listing, out)
                figures = measured(command, COUNT)
                assert images_of(out) == COUNT, f"{name} got {images_of(out)} of {COUNT}"
                runs[name].append(figures)
                subprocess.run(["rm", "-r", str(out)], check=True)
                print(name, kind, figures, flush=True)
    best = {name: max(run["images_per_cpu_s"] for run in of) for name, of in runs.items()}
    return {**runs, "ratio_per_cpu_s": round(best["curatrain"] / best["img2dataset"], 2)}


def slow_hosts() -> dict[str, Any]:
    """1,000 hosts of 5 URLs each, of which 10 answer every image after 20 s, against the same without slow ones."""
    results = {}
    with server() as port, tempfile.TemporaryDirectory() as folder:
        for name, slow in (("without", 0), ("with", 10)):
            fast = [f"127.0.{host // 250 + 1}.{host % 250 + 1}" for host in range(1000 - slow)]
            hosts = [f"127.0.99.{number + 1}" for number in range(slow)] + fast
            listing = Path(folder) / f"{name}.txt"
            urls = [f"http://{hosts[n % 1000]}:{port}/{n}.jpg" for n in range(COUNT)]
            listing.write_text("\n".join(urls))
            results[name] = measured(curatrain(listing, Path(folder) / name), COUNT)
            print("slow hosts", name, results[name], flush=True)
    return results


def memory() -> dict[str, Any]:
    """Peak memory of a crawl of 10,000 and of 100,000 URLs of small pictures."""
    results = {}
    with server() as port, tempfile.TemporaryDirectory() as folder:
        for count in (10_000, 100_000):
            listing = Path(folder) / f"{count}.txt"
            listing.write_text("".join(f"http://127.0.0.1:{port}/tiny/{n}.png\n" for n in range(count)))
            out = Path(folder) / str(count)
            figures = measured(curatrain(listing, out), count)
            figures["peak_mib"] = json.loads((out / "run.json").read_text())["peak_mib"]
            results[str(count)] = figures
            print("memory", count, figures, flush=True)
    return results


def ray() -> dict[str, Any]:
    """The plain crawl over 100 hosts on Ray with 2 workers; the CPU time is that of the workers and their driver."""
    with server() as port, tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "list.txt"
        hosts = [f"127.0.1.{number + 1}" for number in range(100)]
        listing.write_text("".join(f"http://{hosts[n % 100]}:{port}/{n}.jpg\n" for n in range(COUNT)))
        out = Path(folder) / "out"
        figures: dict[str, Any] = measured(curatrain(listing, out, workers=2, ray=True), COUNT)
        figures.pop("cpu_s"), figures.pop("images_per_cpu_s")
        figures.update(json.loads((out / "run.json").read_text()))
        assert images_of(out) == COUNT
    print("ray", figures, flush=True)
    return figures


PARTS = {
    "plain": lambda: against("plain"),
    "untouched": lambda: against("untouched"),
    "resized": lambda: against("resized", resize=256),
    "slow_hosts": slow_hosts,
    "memory": memory,
    "ray": ray,
}

if __name__ == "__main__":
    kept = RESULTS / "crawl.json"
    for part in sys.argv[1:] or list(PARTS):
        measurement = PARTS[part]()
        figures = json.loads(kept.read_text())["figures"] if kept.exists() else {}
        keep_result("crawl", "python -m tests.benchmarks.crawl", {**figures, part: measurement})
