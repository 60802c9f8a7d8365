"""The quality checks against cleanvision: `python -m tests.benchmarks.curation_filters`.

Speed: all pixel scores of 640 x 480 JPEGs in images a CPU-second, one process each, in turns. Verdicts: on the same
photographs and on those with a planted defect, by our own checks (at cleanvision's thresholds where its measure is the
same) and by the preset that follows cleanvision; for each of its issue types how often both say the same, and how many
of the planted defects and of the untouched pictures each one flags. Text: how often a photograph with print has a
larger text share than one without (area under the ROC curve), printed on a panel and straight onto the photograph.
cleanvision (AGPL) runs in an environment of its own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from curation.filters.checks import CLEANVISION_CHECKS, IMAGE_CHECKS, Check, odd_size_scores
from curation.filters.cleanvision import size_scores
from curation.filters.pixels import working_picture
from curation.filters.text_share import text_share
from stages.filter.parameters import FilterParams
from stages.filter.presets import CLEANVISION
from stages.filter.scorers import worker_settings
from stages.filter.worker import FilterWorker
from stages.image_rows import row_tasks
from tests.benchmarks.filter_pictures import PLANTED, with_print, write_pictures
from tests.benchmarks.peers import ENVIRONMENTS, keep_result, peer_python
from tests.stages.pool import write_images_artifact

Checks = dict[str, tuple[Check, float]]

OWN: Checks = {
    "dark": (IMAGE_CHECKS["dark"], 0.32),
    "light": (IMAGE_CHECKS["bright"], 0.95),
    "blurry": (IMAGE_CHECKS["blur"], 0.65),
    "low_information": (IMAGE_CHECKS["low_information"], 0.3 * 8),
    "odd_aspect_ratio": (IMAGE_CHECKS["aspect"], 1 / 0.35),
    "odd_size": (IMAGE_CHECKS["odd_size"], 2.0),
    "grayscale": (IMAGE_CHECKS["greyscale"], 0.01),
}
"""Our check and threshold for each of cleanvision's issue types."""

PRESET: Checks = {
    issue: (CLEANVISION_CHECKS[issue], CLEANVISION_CHECKS[issue].flag or float(threshold))
    for issue, threshold in CLEANVISION["cleanvision"].items()
}

REPEATS = 3


def main() -> None:
    home = ENVIRONMENTS / "filter-pictures"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        write_pictures(home / "files", per_wallpaper=6, share=3)
        (home / "done").touch()
    python = peer_python("cleanvision", ["cleanvision==0.3.6"])
    speeds: dict[str, list[float]] = {"ours": [], "cleanvision": []}
    for _ in range(REPEATS):
        theirs = _cleanvision(python, home / "files" / "real")
        speeds["cleanvision"].append(len(theirs["rows"]) / theirs["cpu_seconds"])
        speeds["ours"].append(_ours(home / "files" / "real", home / "work")[1])
    ours, _ = _ours(home / "files", home / "work")
    theirs = _cleanvision(python, home / "files")
    figures: dict[str, Any] = {
        "images_per_cpu_second": {name: round(median(found), 1) for name, found in speeds.items()},
        "pictures": len(ours),
        "verdicts": _compared(OWN, ours, theirs["rows"]),
        "verdicts_of_the_preset": _compared(PRESET, ours, theirs["rows"]),
        "text": _text(sorted((home / "files" / "real").glob("*.jpg"))),
    }
    keep_result("curation_filters", "python -m tests.benchmarks.curation_filters", figures)
    print(json.dumps(figures, indent=1))


def _ours(folder: Path, work: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Scores by file name below `folder`, and images a CPU-second of the scoring worker, from Parquet to Parquet."""
    shutil.rmtree(work, ignore_errors=True)
    files = sorted(folder.rglob("*.jpg"))
    items = [(str(path.relative_to(folder)), None, path.read_bytes()) for path in files]
    images = write_images_artifact(work / "images", items)
    tasks = [
        {**task, "digest": ""} for task in row_tasks(images, images.table(["image_id"])["image_id"][:0], str(work))
    ]
    worker = FilterWorker(**worker_settings(FilterParams()))
    started = time.process_time()
    for task in tasks:
        worker(task)
    spent = time.process_time() - started
    names = dict(zip(*images.table(["image_id", "url"]).to_pydict().values(), strict=True))
    rows = ds.dataset(sorted(map(str, work.glob("part-*.parquet")))).to_table().to_pylist()
    areas = np.array([row["area"] for row in rows])
    for row, odd, usual in zip(rows, odd_size_scores(areas), size_scores(areas), strict=True):
        row |= {"odd_size": odd, CLEANVISION_CHECKS["odd_size"].score: usual}
    return {names[row["image_id"]].removeprefix("file:///pool/"): row for row in rows}, len(rows) / spent


def _cleanvision(python: Path, folder: Path) -> dict[str, Any]:
    out = ENVIRONMENTS / "cleanvision.json"
    script = Path(__file__).parent / "peer_cleanvision.py"
    command = [str(python), str(script), str(folder), str(out)]
    subprocess.run(command, check=True, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads(out.read_text())


def _compared(checks: Checks, ours: dict[str, dict[str, float]], theirs: dict[str, Any]) -> dict[str, Any]:
    names = sorted(set(ours) & set(theirs))
    found = {}
    for issue, (check, threshold) in checks.items():
        scores = np.array([ours[name][check.score] for name in names], np.float64)
        mine = check.against(scores, threshold)
        other = np.array([theirs[name][issue][1] for name in names])
        planted = np.array([name.startswith(f"{issue}/") for name in names])
        real = np.array([name.startswith("real/") for name in names])
        found[issue] = {
            "agreement": round(float((mine == other).mean()), 3),
            "both": int((mine & other).sum()),
            "only_ours": int((mine & ~other).sum()),
            "only_cleanvision": int((~mine & other).sum()),
            "planted_found": [round(float(v[planted].mean()), 3) for v in (mine, other)],
            "untouched_flagged": [round(float(v[real].mean()), 3) for v in (mine, other)],
        }
    assert set(found) == set(PLANTED)
    return found


def _text(files: list[Path]) -> dict[str, float]:
    without = np.array([text_share(_grey(Image.open(path))) for path in files])
    found = {}
    for panel in (True, False):
        for size in (14, 22, 34):
            printed = [text_share(_grey(with_print(Image.open(path), size, panel))) for path in files[::4]]
            above = [(share > without).mean() + (share == without).mean() / 2 for share in printed]
            found[f"{'panel' if panel else 'straight'}, {size} pixels"] = round(float(np.mean(above)), 3)
    return found


def _grey(picture: Image.Image) -> np.ndarray:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return np.asarray(working_picture(buffer.getvalue()).convert("L"))


if __name__ == "__main__":
    main()
