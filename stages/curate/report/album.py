"""Pictures of an artifact on a page: read in small lots, so that the encoded originals are never in memory at once."""

from __future__ import annotations

from collections.abc import Sequence

from curation.review_page import Figure, Thumbnails
from stages.artifact import Artifact
from stages.pictures import read_pictures

_LOT = 256
_SMALLEST = 400  # bytes below which hardly a picture fits


class Album:
    """The thumbnails of a page with a caption for each: the picture's own, else its label, else its id."""

    def __init__(self, thumbnails: Thumbnails) -> None:
        self.thumbnails = thumbnails
        self._captions: dict[str, str] = {}

    def put(self, images: Artifact, ids: Sequence[str], more: int) -> None:
        """Put pictures on the page, in this order, as long as `more` bytes (and what was left) allow."""
        self.thumbnails.allow(more)
        wanted = list(dict.fromkeys(name for name in ids if not self.thumbnails.has(name)))
        for start in range(0, len(wanted), _LOT):
            if self.thumbnails.budget < _SMALLEST:
                return
            lot = wanted[start : start + _LOT]
            pictures = read_pictures(images, lot)
            for name in lot:
                if name in pictures and self.thumbnails.add(name, pictures[name].bytes, pictures[name].orientation):
                    self._captions[name] = (pictures[name].caption or pictures[name].label or name[:10])[:80]

    def figure(self, name: str, text: str = "", tone: str = "") -> Figure:
        """A picture with `text` before its own caption, unless the text says that already."""
        own = self._captions.get(name, "")
        return Figure(name, " · ".join(filter(None, [text, "" if own in text else own])), tone)

    def entry(self, name: str, text: str = "", dropped: bool = False) -> tuple[int, str, int]:
        """The same for the page's script: place of the thumbnail (-1 for none), caption, and 1 for a grey picture."""
        return self.thumbnails.place(name), self.figure(name, text).caption, int(dropped)
