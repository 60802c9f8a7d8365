import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from stages.crawl.sniffing import SNIFF_BYTES, image_mime

FORMATS = {
    "JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp", "TIFF": "image/tiff",
    "BMP": "image/bmp", "PPM": "image/x-portable-anymap", "AVIF": "image/avif", "JPEG2000": "image/jp2",
}  # fmt: skip


@pytest.mark.parametrize("format_", FORMATS)
def test_written_images_are_known_by_their_first_bytes(format_):
    if format_ == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    out = io.BytesIO()
    Image.new("RGB", (20, 10), "teal").save(out, format_)
    assert image_mime(out.getvalue()[:SNIFF_BYTES]) == FORMATS[format_]


@pytest.mark.parametrize(
    "head",
    [b"", b"B", b"BM", b"OggS\0\0", b"<svg xmlns=", b"<?xml version", b"%PDF-1.7", b"GIF", b"RIFF....WAVE", b"P"],
)
def test_other_files_are_no_images(head):
    assert image_mime(head) is None


@given(st.binary(max_size=SNIFF_BYTES))
def test_any_bytes_have_an_answer(head):
    found = image_mime(head)
    assert found is None or found.startswith("image/")
