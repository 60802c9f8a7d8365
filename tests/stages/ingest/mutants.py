"""Damaged files: real pictures of each format, changed as transfers, disks and attackers change them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

from PIL import Image
from sklearn.datasets import load_sample_image


def seeds() -> dict[str, bytes]:
    """A real photograph in each format, and in the odd modes of each."""
    photo = Image.fromarray(load_sample_image("flower.jpg")).resize((96, 64))
    frames = [photo, photo.transpose(Image.Transpose.ROTATE_180)]
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Maker", "Model"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    deep = photo.convert("I").point(lambda value: value * 257).convert("I;16")
    ways = {
        "jpeg": (photo, "JPEG", {"exif": exif}), "jpeg-progressive": (photo, "JPEG", {"progressive": True}),
        "jpeg-cmyk": (photo.convert("CMYK"), "JPEG", {}), "jpeg-grey": (photo.convert("L"), "JPEG", {}),
        "png": (photo, "PNG", {"exif": exif}), "png-palette": (photo.convert("P"), "PNG", {"transparency": 3}),
        "png-16": (deep, "PNG", {}), "png-alpha": (photo.convert("RGBA"), "PNG", {}),
        "apng": (photo, "PNG", {"save_all": True, "append_images": frames}), "bmp": (photo, "BMP", {}),
        "webp": (photo, "WEBP", {"exif": exif}), "webp-lossless": (photo, "WEBP", {"lossless": True}),
        "webp-animated": (photo, "WEBP", {"save_all": True, "append_images": frames}),
        "gif": (photo, "GIF", {}), "gif-animated": (photo, "GIF", {"save_all": True, "append_images": frames}),
        "tiff": (photo, "TIFF", {"exif": exif}), "tiff-lzw": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-jpeg": (photo, "TIFF", {"compression": "jpeg"}), "tiff-16": (deep, "TIFF", {}),
        "avif": (photo, "AVIF", {"speed": 10}), "jp2": (photo, "JPEG2000", {}), "ppm": (photo, "PPM", {}),
    }  # fmt: skip
    found = {}
    for name, (image, format_, options) in ways.items():
        out = io.BytesIO()
        image.save(out, format_, **options)
        found[name] = out.getvalue()
    return found


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files with what was done to each; the same for the same seed."""
    chance = random.Random(seed)
    files = seeds()
    names = sorted(files)
    for number in range(count):
        name = names[number % len(names)]
        way = chance.choice(_WAYS)
        yield f"{name} {way.__name__}", way(bytearray(files[name]), chance, files[chance.choice(names)])


def _flip_bits(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    for _number in range(chance.choice((1, 4, 30))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _edit_header(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    """Sizes, counts and offsets live here."""
    for _number in range(chance.choice((1, 2, 8))):
        data[chance.randrange(min(len(data), 200))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(data)


def _large_field(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    place = chance.randrange(max(1, min(len(data), 300) - 4))
    data[place : place + 4] = chance.choice(
        (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x01\x00\x00")
    )
    return bytes(data)


def _cut(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def _cut_out(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 200)]
    return bytes(data)


def _repeat(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 200)]
    data[start:start] = piece * chance.choice((1, 3, 50))
    return bytes(data)


def _splice(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    return bytes(data[: chance.randrange(len(data))]) + other[chance.randrange(len(other)) :]


def _zeros(data: bytearray, chance: random.Random, _: bytes) -> bytes:
    start = chance.randrange(len(data))
    length = min(chance.randrange(1, 2000), len(data) - start)
    data[start : start + length] = bytes(length)
    return bytes(data)


def _append(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    return bytes(data) + chance.choice((other, bytes(500), b"<script>alert(1)</script>", chance.randbytes(300)))


_WAYS = (_flip_bits, _edit_header, _large_field, _cut, _cut_out, _repeat, _splice, _zeros, _append)
