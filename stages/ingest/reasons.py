"""Why a fetched file is no image: the codes of `rejected.reason`, each with its meaning."""

from __future__ import annotations

REASONS = {
    "empty": "no bytes at all",
    "not_an_image": "the bytes are of no known picture format",
    "vector": "vector graphics: what they show depends on who draws them",
    "polyglot": "a picture and something else at once: a zip archive, a PDF document, a script",
    "truncated": "the file ends before the picture does",
    "corrupt": "the decoder cannot make sense of the file",
    "unsupported_mode": "its pixels are of a kind that has no rule",
    "too_many_pixels": "more pixels than ingest.max_pixels, by its header",
    "too_small": "a side shorter than ingest.min_side",
    "out_of_memory": "it takes more memory to decode than ingest.max_decode_mb",
    "decoder_timeout": "it takes longer to decode than ingest.max_decode_s",
    "decoder_crash": "the decoder died at it, twice",
    "takedown": "named by a takedown list",
}
