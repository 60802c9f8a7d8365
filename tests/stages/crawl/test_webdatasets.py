import base64
import gzip
import io
import json
import tarfile

import pytest

from stages.base import StageError
from stages.crawl.sources import WebDatasetSource
from stages.crawl.webdatasets import dataset_digest, dataset_targets
from stages.tables import read_table
from tests.stages.crawl.loopback import picture, run_crawl


def _tar(path, samples, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in samples:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


SAMPLES = [
    ("a/000.png", picture(0)), ("a/000.txt", b"A zero\n"), ("a/000.cls", b"7"),
    ("a/001.json", json.dumps({"caption": "one", "url": "http://o/1.png", "license": "CC0", "n": 1}).encode()),
    ("a/001.left.png", picture(1)), ("a/001.right.png", picture(11)),
    ("b/000.png", picture(2)), ("b/000.json", b"[broken"),
    ("c.txt", b"no picture"),
    ("d.jpg", b"not really"), ("e.png", b""),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_samples_with_their_texts(tmp_path, mode):
    path = tmp_path / f"set.tar{mode[1:].replace(':', '.')}"
    _tar(path, SAMPLES, mode)
    result = run_crawl(tmp_path / "work", sources=[{"path": str(path), "licence": "CC-BY", "weight": 0.5}])
    rows = {row["url"].rpartition("#")[2]: row for row in read_table(tmp_path / "work", "fetches").to_pylist()}
    assert result.rows_out == 4 and len(rows) == 7
    zero, left, right = (rows[name] for name in ("a/000.png", "a/001.left.png", "a/001.right.png"))
    assert (zero["bytes"], zero["caption"], zero["label"]) == (picture(0), "A zero", "7")
    assert (left["bytes"], right["bytes"]) == (picture(1), picture(11))
    assert (left["caption"], left["licence"], left["final_url"]) == ("one", "CC0", "http://o/1.png")
    assert json.loads(left["metadata"]) == {"n": 1} and zero["licence"] == "CC-BY"
    assert rows["b/000.png"]["bytes"] == picture(2) and rows["b/000.png"]["source_weight"] == 0.5
    reasons = {name: row["reason"] for name, row in rows.items() if row["status"] != "ok"}
    assert reasons == {"c.txt": "no_picture", "d.jpg": "not_image", "e.png": "empty"}


def test_masks_of_samples_are_no_pictures_of_their_own(tmp_path):
    _tar(tmp_path / "set.tar", [("a.jpg", picture(0)), ("a.mask.png", picture(1)), ("b.png", picture(2))])
    first, second = dataset_targets(WebDatasetSource(webdataset=str(tmp_path / "set.tar")), "set")
    assert json.loads(first.metadata) == {"mask": base64.b64encode(picture(1)).decode()}
    assert (first.url.rpartition("#")[2], second.url.rpartition("#")[2], second.metadata) == ("a.jpg", "b.png", None)


def test_a_folder_of_archives_one_of_which_breaks_off(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    _tar(folder / "0.tar", [(f"{n}.png", picture(n)) for n in range(5)])
    _tar(folder / "1.tar", [(f"{n}.png", picture(n)) for n in range(5, 10)])
    whole = (folder / "1.tar").read_bytes()
    (folder / "1.tar").write_bytes(whole[: 3 * 1024 + 700])
    (folder / "2.tar").write_bytes(b"nothing of the kind" * 100)
    (folder / "3.tar.gz").write_bytes(gzip.compress(whole)[:-300])
    result = run_crawl(tmp_path / "work", sources=[str(folder)])
    rows = read_table(tmp_path / "work", "fetches").to_pylist()
    damaged = [row["url"].rpartition("/")[2] for row in rows if row["reason"] == "damaged_container"]
    assert any(name.startswith("1.tar") for name in damaged) and "2.tar" in damaged
    assert any(name.startswith("3.tar.gz") for name in damaged)
    assert result.rows_out >= 5 and len({row["url"] for row in rows}) == len(rows)


def test_links_and_devices_in_an_archive_are_left_alone(tmp_path):
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        for name, type_ in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("d.png")
        info.size = len(picture(1))
        archive.addfile(info, io.BytesIO(picture(1)))
    targets = list(dataset_targets(WebDatasetSource(webdataset=str(tmp_path / "odd.tar")), "set"))
    assert [target.url.rpartition("#")[2] for target in targets] == ["d.png"]


def test_the_digest_follows_the_content_and_a_missing_file_says_so(tmp_path):
    _tar(tmp_path / "a.tar", [("0.png", picture(0))])
    source = WebDatasetSource(webdataset=str(tmp_path / "a.tar"))
    before = dataset_digest(source)
    _tar(tmp_path / "a.tar", [("0.png", picture(1))])
    assert dataset_digest(source) != before
    with pytest.raises(StageError, match="cannot be read"):
        dataset_digest(WebDatasetSource(webdataset=str(tmp_path / "missing.tar")))
