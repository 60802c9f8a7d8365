import base64
import json
import os

import fsspec
import pytest

from stages.base import StageError
from stages.crawl.discovery import source_digest
from stages.crawl.folders import file_path, file_uri, folder_targets, list_folder, listing_digest
from stages.crawl.reading import Reader
from stages.crawl.remote_folders import remote_digest, remote_targets
from stages.crawl.sources import FolderSource
from tests.stages.crawl.loopback import picture


def _tree(root):
    (root / "birds" / "small").mkdir(parents=True)
    (root / "birds" / "small" / "wren.png").write_bytes(b"1")
    (root / "birds" / "small" / "wren.txt").write_text("A wren.\nde.utf8=Ein Zaunkönig.\n")
    (root / "top.jpg").write_bytes(b"22")
    return root


def test_labels_and_captions(tmp_path):
    targets = {target.url.rsplit("/", 1)[1]: target for target in _targets(_tree(tmp_path))}
    assert targets["wren.png"].label == "small"
    assert targets["wren.png"].caption == "A wren."
    assert targets["top.jpg"].label is None and targets["top.jpg"].caption is None
    outer = {target.url.rsplit("/", 1)[1]: target for target in _targets(tmp_path, label_depth=1, caption="none")}
    assert outer["wren.png"].label == "birds" and outer["wren.png"].caption is None


def _targets(folder, **options):
    return list(folder_targets(FolderSource(folder=str(folder), **options), "source"))


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    root = _tree(tmp_path / "root")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "new.png").write_bytes(b"333")
    (root / "loop").symlink_to(root)
    (root / "birds" / "up").symlink_to("..")
    (root / "again.jpg").symlink_to(root / "top.jpg")
    (root / "more").symlink_to(outside)
    (root / "more-too").symlink_to(outside)
    (root / "dead").symlink_to("nowhere")
    listing = list_folder(str(root))
    names = [name for name, _, _ in listing.files]
    assert names == ["birds/small/wren.png", "birds/small/wren.txt", "more/new.png", "top.jpg"]
    assert listing.skipped == [("again.jpg", "linked_twice"), ("dead", "broken_link")]


def test_the_digest_sees_names_sizes_and_times_only(tmp_path):
    root = str(_tree(tmp_path))
    before = listing_digest(root)
    assert listing_digest(root) == before
    os.utime(tmp_path / "top.jpg", ns=(1, 1))
    touched = listing_digest(root)
    (tmp_path / "new.jpg").write_bytes(b"")
    assert len({before, touched, listing_digest(root)}) == 3


def test_names_that_are_no_text_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9 #1%.png")
    (tmp_path / name).write_bytes(b"x")
    (target,) = _targets(tmp_path)
    assert target.url.isascii() and file_path(target.url).read_bytes() == b"x"
    assert file_path(file_uri("/a b/ü?.png")).as_posix() == "/a b/ü?.png"


def test_missing_folder_and_file_in_its_place(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StageError, match="does not exist"):
        list_folder(str(tmp_path / "nowhere"))
    with pytest.raises(StageError, match="is a file"):
        list_folder(str(tmp_path / "file"))


def test_the_digest_of_ten_thousand_files_notices_one_more(tmp_path):
    for folder in range(100):
        (tmp_path / str(folder)).mkdir()
        for file in range(100):
            (tmp_path / str(folder) / f"{file}.png").touch()
    before = listing_digest(str(tmp_path))
    assert listing_digest(str(tmp_path)) == before
    (tmp_path / "7" / "100.png").touch()
    assert listing_digest(str(tmp_path)) != before


def test_a_folder_behind_another_file_system():
    system = fsspec.filesystem("memory")
    for path, content in (
        ("birds/wren.png", picture(1)), ("birds/wren.txt", b"A wren\n"), ("top.jpg", b"no"), ("birds/none.png", b""),
    ):  # fmt: skip
        with system.open(f"/pool/{path}", "wb") as file:
            file.write(content)
    source = FolderSource(folder="memory://pool", licence="CC0")
    before = remote_digest(source)
    targets = list(remote_targets(source, "pool"))
    rows = {row["url"].rpartition("/")[2]: row for row in Reader({}, 10**6).rows(targets)}
    assert rows["wren.png"]["bytes"] == picture(1)
    assert (rows["wren.png"]["caption"], rows["wren.png"]["label"], rows["wren.png"]["licence"]) == (
        "A wren", "birds", "CC0",
    )  # fmt: skip
    assert [rows[name]["reason"] for name in ("top.jpg", "none.png", "wren.txt")] == [
        "not_image",
        "empty",
        "not_image",
    ]
    system.rm("/pool/top.jpg")
    assert remote_digest(source) != before
    assert Reader({}, 10**6).rows([t for t in targets if t.url.endswith("top.jpg")])[0]["reason"] == "missing"
    system.rm("/pool", recursive=True)
    with pytest.raises(StageError, match="holds no file"):
        remote_digest(source)


def test_masks_go_with_the_pictures_of_their_name(tmp_path):
    root, masks = _tree(tmp_path / "root"), tmp_path / "masks"
    (masks / "birds" / "small").mkdir(parents=True)
    (masks / "birds" / "small" / "wren.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    targets = {target.url.rsplit("/", 1)[1]: target for target in _targets(root, masks=str(masks))}
    (held,) = json.loads(targets["wren.png"].metadata).values()
    assert base64.b64decode(held) == b"\x89PNG\r\n\x1a\nrest"
    assert targets["top.jpg"].metadata is None
    (masks / "top.png").write_bytes(b"\x89PNG\r\n\x1a\ntop")
    inside = root / "masks"
    masks.rename(inside)
    targets = {target.url.rsplit("/", 1)[1]: target for target in _targets(root, masks=str(inside))}
    assert targets["top.jpg"].metadata and "top.png" not in targets
    (inside / "top.png").write_bytes(b"JPEG")
    with pytest.raises(StageError, match=r"top\.png' is no PNG"):
        _targets(root, masks=str(inside))


def test_the_digest_sees_masks_too_and_they_have_to_be_local(tmp_path):
    root, masks = _tree(tmp_path / "root"), tmp_path / "masks"
    masks.mkdir()
    source = FolderSource(folder=str(root), masks=str(masks))
    before = source_digest(source)
    assert before != source_digest(FolderSource(folder=str(root)))
    (masks / "top.png").write_bytes(b"")
    assert source_digest(source) != before
    with pytest.raises(ValueError, match="folders of this machine only"):
        FolderSource(folder="memory://pictures", masks=str(masks))
