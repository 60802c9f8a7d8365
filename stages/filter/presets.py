"""The presets of the filter stage: which checks they make, and how strictly."""

from __future__ import annotations

from typing import Any

IMAGE_THRESHOLDS = (
    "small", "aspect", "odd_size", "low_detail", "low_information", "near_blank", "dark", "bright", "blur",
    "greyscale", "few_colours", "text", "watermark", "clip_score", "aesthetic",
)  # fmt: skip
"""Parameters that hold a threshold of `curation.filters.checks.IMAGE_CHECKS`."""

NONE: dict[str, Any] = dict.fromkeys(IMAGE_THRESHOLDS)

STRICT: dict[str, Any] = {
    "small": 64, "aspect": 2.86, "low_detail": 0.03, "low_information": 2.4, "near_blank": 0.01, "dark": 0.32,
    "bright": 0.95, "blur": 0.7, "greyscale": 0.04, "few_colours": 0.3, "text": 0.25,
}  # fmt: skip
"""For photographs: drawings, black-and-white and night pictures go too."""

CC3M: dict[str, Any] = {
    **NONE,
    "small": 401,
    "aspect": 2.0,
    "formats": ["jpeg"],
    "captions": {
        "required": True, "min_words": 3, "max_repetition": 0.2, "min_variety": 0.6, "max_capitals": 0.5,
        "first_capital": True, "determiner": True, "preposition": True, "noun": True, "max_content": 0.8,
        "max_codes": 0.0, "max_unknown": 0.0, "boilerplate": True, "languages": ["en"],
    },
}  # fmt: skip
"""Conceptual Captions (Sharma et al., ACL 2018): sides above 400 pixels, aspect up to 2, JPEG, well-formed English
sentences. The paper names no numbers for repetition, variety and capitals; its tagger's noun ratio is read as the
share of content words, its vocabulary applies where one is given."""

CC12M: dict[str, Any] = {
    **NONE,
    "small": 401,
    "aspect": 2.5,
    "formats": ["jpeg"],
    "captions": {
        "required": True, "min_words": 3, "max_words": 256, "max_repetition": 0.2, "determiner": True, "noun": True,
        "boilerplate": True, "languages": ["en"],
    },
}  # fmt: skip
"""Conceptual 12M (Changpinyo et al., arXiv:2102.08981, section 2): aspect up to 2.5, 3 to 256 words, no preposition,
variety and capitalisation asked for, at most .2 of the words repeated."""

DATACOMP: dict[str, Any] = {
    **NONE,
    "small": 200,
    "aspect": 3.0,
    "captions": {"required": True, "min_words": 3, "min_characters": 6, "languages": ["en"]},
}
"""DataComp's basic filter (Gadre et al., arXiv:2304.14108): English, more than 2 words and 5 characters, sides of at
least 200 pixels, aspect up to 3."""

CLEANVISION: dict[str, Any] = {
    **NONE,
    "cleanvision": {
        "dark": 0.32, "light": 0.05, "blurry": 0.29, "low_information": 0.3, "odd_aspect_ratio": 0.35, "odd_size": 0.5,
        "grayscale": True,
    },
}  # fmt: skip
"""The issues of a single picture that cleanvision 0.3 finds, at its own thresholds. Black-and-white files go, and so
does every image of another size where most have one; the blur of 'basic' finds more."""

PRESETS: dict[str, dict[str, Any]] = {
    "none": NONE,
    "basic": {},
    "strict": STRICT,
    "cc3m": CC3M,
    "cc12m": CC12M,
    "datacomp": DATACOMP,
    "cleanvision": CLEANVISION,
}


def with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """The given parameters over those of the preset that they name; nested ones are merged too."""
    preset = PRESETS.get(str(given.get("preset", "basic")), {})
    merged = {**preset, **given}
    for group in ("captions", "cleanvision"):
        if isinstance(given.get(group), dict):
            merged[group] = {**preset.get(group, {}), **given[group]}
    return merged
