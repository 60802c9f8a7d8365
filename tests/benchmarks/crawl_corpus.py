"""Real JPEGs to crawl in benchmarks: crops of the wallpapers in Debian's plasma-workspace-wallpapers."""

from __future__ import annotations

import io
import json
import random
import subprocess
from pathlib import Path

from PIL import Image

from tests.benchmarks.peers import ENVIRONMENTS

WIDTH, HEIGHT = 800, 600
QUALITY = 95
PACKAGE = "plasma-workspace-wallpapers"


def wallpapers() -> list[Path]:
    """The package's pictures of at least 1,600 x 1,200 pixels, downloaded by apt at first."""
    home = ENVIRONMENTS / PACKAGE
    if not home.exists():
        home.mkdir(parents=True)
        subprocess.run(["apt-get", "download", PACKAGE], cwd=home, check=True)
        (archive,) = home.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(home / "files")], check=True)
    found = [p for p in home.rglob("*") if p.suffix in (".jpg", ".png") and p.is_file() and not p.is_symlink()]
    return sorted(path for path in found if min(Image.open(path).size) >= 1200)


def corpus(count: int) -> tuple[Path, Path]:
    """`count` crops of 800 x 600 pixels between 40 and 250 kB in one file, and the index of their places in it."""
    home = ENVIRONMENTS / "crawl-corpus"
    data, index = home / f"{count}.bin", home / f"{count}.json"
    if index.exists():
        return data, index
    home.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    places: dict[str, list[int]] = {}
    sources = wallpapers()
    with data.open("wb") as file:
        for number, path in enumerate(sources):
            wanted = count * (number + 1) // len(sources)
            image = Image.open(path).convert("RGB")
            tries = 0
            while len(places) < wanted and tries < 4 * count:
                tries += 1
                encoded = _crop(image, generator)
                if 40_000 <= len(encoded) <= 250_000:
                    places[f"{len(places)}.jpg"] = [file.tell(), len(encoded)]
                    file.write(encoded)
    if len(places) < count:
        raise SystemExit(f"only {len(places)} of {count} crops are of the size that is wanted")
    index.write_text(json.dumps(places))
    return data, index


def _crop(image: Image.Image, generator: random.Random) -> bytes:
    left = generator.randrange(image.width - WIDTH + 1)
    top = generator.randrange(image.height - HEIGHT + 1)
    out = io.BytesIO()
    image.crop((left, top, left + WIDTH, top + HEIGHT)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
