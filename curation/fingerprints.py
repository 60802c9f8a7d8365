"""What is remembered of a picture to find its copies: pHash, PDQ and the digest of its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.hashing import low_frequencies, phash_codes
from curation.luma import Luma, luma_of, read_luma
from curation.pdq import SHORTEST_SIDE, SIDE, dihedral_hashes, qualities, sampled

_BAND_PIXELS = 1 << 20


@dataclass(frozen=True)
class Hashes:
    """Hashes of N pictures. phash: (N, 8) uint8. pdq: (N, 8, 32) uint8, the forms of `curation.pdq.FORMS`.
    quality: (N,) int8, PDQ's, 0 to 100; -1 where a side is too short for PDQ, whose bytes are then zero."""

    phash: NDArray[np.uint8]
    pdq: NDArray[np.uint8]
    quality: NDArray[np.int8]


@dataclass(frozen=True)
class Fingerprint:
    """phash: 8 bytes. pdq: 256 bytes, the hashes of the 8 forms of `curation.pdq.FORMS`, and pdq_quality 0 to 100;
    None where a side is too short. pixel_digest: 16 bytes, equal for equal upright pixels whatever the file; None
    where they were not all decoded."""

    phash: bytes
    pdq: bytes | None
    pdq_quality: int | None
    pixel_digest: bytes | None


def fingerprint(picture: Image.Image) -> Fingerprint:
    """Fingerprint of an upright RGB picture."""
    return fingerprint_of(hash_lumas([luma_of(picture)]), 0, pixel_digest(picture))


def fingerprint_of(hashes: Hashes, row: int, digest: bytes | None = None) -> Fingerprint:
    """One row of `hashes` with the digest of its pixels."""
    if hashes.quality[row] < 0:
        return Fingerprint(hashes.phash[row].tobytes(), None, None, digest)
    return Fingerprint(hashes.phash[row].tobytes(), hashes.pdq[row].tobytes(), int(hashes.quality[row]), digest)


def hash_encoded(images: Sequence[tuple[bytes, int]]) -> Hashes:
    """Hashes of encoded pictures, JPEGs from a reduced-scale decode.

    images: encoded bytes with the EXIF orientation to apply. Raises curation.decoding.DecodeError at the first that
    is no picture.
    """
    return hash_lumas([read_luma(data, orientation) for data, orientation in images])


def hash_lumas(lumas: Sequence[Luma]) -> Hashes:
    """Hashes of a batch of grey pictures of any sizes."""
    frequencies = np.zeros((len(lumas), 8, 8))
    samples = np.zeros((len(lumas), SIDE, SIDE), np.float32)
    for row, luma in enumerate(lumas):
        frequencies[row] = low_frequencies(luma)
        if min(luma.size) >= SHORTEST_SIDE:
            samples[row] = sampled(np.asarray(luma.image), luma.size, luma.block)
    short = np.array([min(luma.size) < SHORTEST_SIDE for luma in lumas], bool)
    pdq, quality = dihedral_hashes(samples), qualities(samples)
    pdq[short], quality[short] = 0, -1
    return Hashes(phash_codes(frequencies), pdq, quality)


def pixel_digest(picture: Image.Image) -> bytes:
    """The first 16 bytes of the SHA-256 of an RGB picture's size and pixels."""
    width, height = picture.size
    digest = hashlib.sha256(b"%d x %d RGB;" % (width, height))
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        digest.update(picture.crop((0, top, width, min(height, top + rows))).tobytes())
    return digest.digest()[:16]
