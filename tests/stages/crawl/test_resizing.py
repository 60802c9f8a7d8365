import asyncio
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from stages.crawl import resizing
from stages.crawl.resizing import Resizer, resized
from stages.tables import read_table
from tests.stages.crawl.killing import resized_or_killed
from tests.stages.crawl.loopback import picture, run_crawl


def _photo(size=(640, 427), format_="JPEG", mode="RGB", **options):
    out = io.BytesIO()
    Image.fromarray(load_sample_image("china.jpg")).resize(size).convert(mode).save(out, format_, **options)
    return out.getvalue()


def _open(data):
    return Image.open(io.BytesIO(data))


def test_a_copy_has_the_shorter_side_and_looks_the_same():
    photo = _photo()
    copy = _open(resized(photo, 128, 90))
    assert copy.size == (192, 128) and copy.format == "JPEG"
    reference = _open(photo).resize((192, 128), Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(copy, int) - np.asarray(reference, int))
    assert difference.mean() < 6


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_modes_that_become_jpegs(mode):
    assert _open(resized(_photo(mode=mode), 64, 90)).size == (96, 64)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_and_palettes(mode):
    copy = _open(resized(_photo(format_="PNG", mode=mode), 64, 90))
    assert copy.format == ("JPEG" if mode == "P" else "WEBP") and copy.size == (96, 64)


def test_orientation_and_other_exif_data_go_along():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    copy = _open(resized(_photo(exif=exif), 64, 90))
    assert copy.getexif()[0x0112] == 6 and copy.getexif()[0x010F] == "Camera" and copy.size == (96, 64)


@pytest.mark.parametrize(
    "data",
    [
        _photo((60, 40)),
        b"\xff\xd8\xff" + bytes(90),
        _photo(format_="PNG")[:500],
        b"",
        _photo(format_="PNG", mode="I;16"),
    ],
    ids=["small", "garbage", "truncated", "empty", "16 bits"],
)
def test_what_stays_as_it_is(data):
    assert resized(data, 64, 90) is None


def test_a_huge_picture_is_not_decoded(monkeypatch):
    monkeypatch.setattr(resizing, "MAX_PIXELS", 10_000)
    assert resized(_photo(), 64, 90) is None


def test_a_file_that_kills_its_process_takes_no_other_with_it(monkeypatch):
    monkeypatch.setattr(resizing, "resized_all", resized_or_killed)
    photo = _photo()

    async def run():
        async with Resizer(64, 90, processes=1) as resizer:
            return await asyncio.gather(*(resizer.copy(data) for data in (photo, b"kill")))

    first, killed = asyncio.run(run())
    assert first == resized(photo, 64, 90) and killed is None


def test_a_crawl_keeps_copies(web, tmp_path):
    web.routes["/a.jpg"] = (200, {}, _photo())
    web.routes["/small.png"] = (200, {}, picture(1))
    listing = tmp_path / "list.txt"
    listing.write_text(f"{web.url}/a.jpg\n{web.url}/small.png\n")
    run_crawl(tmp_path / "work", sources=[str(listing)], allow_hosts=["127.0.0.1"], resize=64, resize_quality=80)
    rows = {row["url"].rsplit("/", 1)[1]: row for row in read_table(tmp_path / "work", "fetches").to_pylist()}
    assert rows["a.jpg"]["bytes"] == resized(_photo(), 64, 80) and rows["a.jpg"]["size"] == len(rows["a.jpg"]["bytes"])
    assert rows["small.png"]["bytes"] == picture(1)
