"""The checks by name: which score each looks at, on which side of its threshold it speaks against an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.filters.cleanvision import PREFIX


@dataclass(frozen=True)
class Check:
    """name: the reason code. score: the column that it looks at. below: drops scores below the threshold, else those
    above it. text: what the score is, with its unit. flag: the threshold of a check that is only on or off."""

    name: str
    score: str
    below: bool
    text: str
    flag: float | None = None

    def against(self, scores: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
        """Which scores (N,) it speaks against; NaN, an image that cannot be judged, never is."""
        limit = np.float32(threshold)
        return np.less(scores, limit) if self.below else np.greater(scores, limit)


def _image(name: str, below: bool, text: str) -> Check:
    return Check(name, name, below, text)


def _caption(name: str, score: str, below: bool, text: str, flag: float | None = None) -> Check:
    return Check(f"caption_{name}", f"caption_{score}", below, text, flag)


IMAGE_CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        _image("small", True, "shorter side in pixels"),
        _image("aspect", False, "longer side over shorter side"),
        _image("odd_size", False, "side (square root of the area) over the pool's median, or the reverse"),
        _image("low_detail", True, "encoded bytes for each pixel"),
        _image("low_information", True, "entropy of the grey levels in bits, 0 to 8"),
        _image("near_blank", True, "standard deviation of the grey levels, as a share of white"),
        _image("dark", True, "grey level that 99 % of the pixels do not pass, as a share of white"),
        _image("bright", False, "grey level that 1 % of the pixels do not pass, as a share of white"),
        _image("blur", False, "blur effect, 0 sharp to 1 blurred"),
        _image("greyscale", True, "chroma (largest less smallest channel) that 99 % of the pixels do not pass"),
        _image("few_colours", True, "entropy of the colours in 512 bins, in bits, 0 to 9"),
        _image("text", False, "share of the picture's area that looks like lines of text"),
        _image("watermark", False, "probability of a watermark, by the model that was given"),
        _image("clip_score", True, "cosine of image and caption in the image-text model"),
        _image("aesthetic", True, "score of the linear head on the image-text model's image vector"),
    )
}
"""Checks of the picture; a threshold has the name of its check."""


def _cleanvision(name: str, text: str, flag: float | None = None) -> Check:
    return Check(PREFIX + name, PREFIX + name, True, f"{text}, 0 bad to 1 good, as cleanvision has it", flag)


CLEANVISION_CHECKS: Mapping[str, Check] = {
    "dark": _cleanvision("dark", "perceived brightness that 99 % of the pixels do not pass"),
    "light": _cleanvision("light", "darkness that 95 % of the pixels do not pass"),
    "blurry": _cleanvision("blurry", "edges and uneven grey levels at 64 pixels"),
    "low_information": _cleanvision("low_information", "a tenth of the entropy of the levels in bits"),
    "odd_aspect_ratio": _cleanvision("odd_aspect_ratio", "shorter side over longer side"),
    "odd_size": _cleanvision("odd_size", "how usual the side is among the pool's"),
    "grayscale": _cleanvision("grayscale", "0 where the file holds grey levels alone", 0.5),
}
"""cleanvision's issues by its names (see `curation.filters.cleanvision`)."""

CAPTION_CHECKS: Mapping[str, Check] = {
    "required": _caption("missing", "missing", False, "1 where there is no caption", 0.5),
    "min_words": _caption("short", "words", True, "words"),
    "max_words": _caption("long", "words", False, "words"),
    "min_characters": _caption("few_characters", "characters", True, "characters"),
    "max_repetition": _caption("repetition", "repetition", False, "share of content words said before"),
    "min_variety": _caption("variety", "variety", True, "different words over all words"),
    "max_capitals": _caption("capitals", "capitals", False, "share of capitalised words after the first"),
    "first_capital": _caption("lower_start", "first_capital", True, "1 where it begins with a capital", 0.5),
    "determiner": _caption("no_determiner", "determiners", True, "determiners", 0.5),
    "preposition": _caption("no_preposition", "prepositions", True, "prepositions", 0.5),
    "noun": _caption("no_content", "content_words", True, "content words", 0.5),
    "max_content": _caption("word_list", "content", False, "share of content words"),
    "max_codes": _caption("codes", "codes", False, "share of tokens that are links, file names or numbers"),
    "boilerplate": _caption("boilerplate", "boilerplate", False, "1 where nothing but boilerplate is there", 0.5),
    "blacklist": _caption("blacklist", "blacklist", False, "words and phrases of the blacklist", 0.5),
    "max_unknown": _caption("unknown_words", "unknown", False, "share of words beyond the vocabulary"),
    "min_language": _caption("language", "language", True, "probability of an accepted language"),
    "max_copies": _caption("repeated", "copies", False, "images of the pool that have the same caption"),
}
"""Checks of the caption by the parameter that holds their threshold."""


def checks_in_use(
    image: Mapping[str, float | None],
    captions: Mapping[str, float | bool | None],
    cleanvision: Mapping[str, float | bool | None] | None = None,
) -> list[tuple[Check, float]]:
    """The checks that thresholds are given for, with the thresholds; None and False leave a check out."""
    chosen = [(IMAGE_CHECKS[name], float(value)) for name, value in image.items() if value is not None]
    named = [(CAPTION_CHECKS[name], value) for name, value in captions.items()]
    named += [(CLEANVISION_CHECKS[name], value) for name, value in (cleanvision or {}).items()]
    for check, value in named:
        if check.flag is not None and value:
            chosen.append((check, check.flag))
        elif check.flag is None and value is not None:
            chosen.append((check, float(value)))
    return chosen


def odd_size_scores(areas: NDArray[np.floating]) -> NDArray[np.float64]:
    """How many times an image's side is the median side of the pool, or the reverse; areas (N,) in pixels."""
    sides = np.sqrt(areas)
    median = np.median(sides) if len(sides) else 1.0
    return np.maximum(sides / median, median / sides)
