"""`patches.html`: what the backbone makes of single patches: attention, principal components, lengths, matches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.page_shell import text_html
from curation.review_page import PageSection, Thumbnails, page_html, paragraph
from stages.charts import STYLE as CHARTS
from stages.charts import Line, line_chart
from stages.evaluate.evaluated import Evaluated, TokenSamples
from stages.evaluate.pages.contestants import Metrics, interval_words
from stages.evaluate.pages.objects import objects_section
from stages.evaluate.pages.segments import segments_section
from stages.inline_pictures import COLOURS, STYLE, cells_path, picture_src, shared_picture, shot_html
from stages.pictures import read_pictures
from training.evaluation.attention import overlay
from training.evaluation.correspondence import match_points
from training.evaluation.norm_outliers import NormOutliers, norm_outliers
from training.evaluation.patch_pca import patch_colours

_TILE, _HEAD, _PAIR = 100, 66, 132
_HEADS, _HEADS_BYTES = 16, 900_000
_PAIRS = 6
_BINS = 40
_DARK = "#0b0e14"


def patches_page(evaluated: Evaluated, samples: TokenSamples) -> str:
    """The HTML page of the samples' patches."""
    metrics: Metrics = evaluated.record["metrics"]
    pictures = read_pictures(evaluated.images, samples.ids)
    names = [pictures[i].label or pictures[i].caption or i[:10] if i in pictures else i[:10] for i in samples.ids]
    outliers = norm_outliers(samples.norms.reshape(len(samples.ids), -1, 1))
    shown = {f"p{n}": pixels for n, pixels in enumerate(samples.pixels)}
    if evaluated.segmented is not None:
        shown |= {f"m{n}": pixels for n, pixels in enumerate(evaluated.segmented.pixels)}
    style = STYLE + CHARTS + "".join(shared_picture(name, picture_src(pixels)) for name, pixels in shown.items())
    sections = [PageSection("maps", "Maps", _maps(samples, outliers, names))]
    if samples.attention is not None:
        local = evaluated.record.get("local") or {}
        body = _heads(samples.attention, names) + _distances(local.get("attention_distance", []))
        sections.append(PageSection("heads", "Heads", body))
    sections.append(objects_section(evaluated, samples, names))
    if evaluated.segmented is not None:
        sections.append(segments_section(evaluated, evaluated.segmented))
    sections.append(PageSection("matches", "Matches", _matches(samples, names, metrics)))
    sections.append(PageSection("lengths", "Lengths", _lengths(outliers, metrics)))
    rows, columns = samples.patches.shape[1:3]
    lead = paragraph(f"{len(samples.ids)} images, chosen by hash, as {rows} x {columns} patches of the last layer.")
    return page_html("Patches", lead, sections, Thumbnails(_TILE), style)


def _maps(samples: TokenSamples, outliers: NormOutliers, names: list[str]) -> str:
    """A row for each image: the picture, attention, components before and after training, lengths."""
    after, before = patch_colours(samples.patches), patch_colours(samples.untrained_patches)
    dark = None if samples.attention is None else _dark(samples.attention.mean(axis=1, keepdims=True))[:, 0]
    body = ""
    for n, name in enumerate(names):
        tiles = [_shown(n, name)]
        if dark is not None:
            tiles.append(_shown(n, "attention", _cover(dark[n])))
        tiles += [
            shot_html(picture_src(colours[n]), (_TILE, _TILE), caption=caption)
            for colours, caption in ((after, "components"), (before, "components, untrained"))
        ]
        tiles.append(_length_tile(samples.norms[n], outliers, n))
        body += f'<div class="row">{"".join(tiles)}</div>'
    note = (
        "Components: the first three principal components of all patches as red, green and blue, one basis for all "
        "images. Lengths: of the patch tokens before the last norm, longer is lighter; outliers are framed red."
    )
    if dark is not None:
        note = (
            "Attention: the patches that hold 60 % of the last block's attention stay light, heads averaged. " + note
        )
    return paragraph(note) + (f'<div class="beside">{body}</div>' if dark is None else body)


def _shown(n: int, caption: str, over: str = "", side: int = _TILE) -> str:
    return shot_html("", (side, side), shared=f"p{n}", over=over, caption=caption)


def _dark(attention: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(n, heads, rows, columns) true outside of what holds most of the attention."""
    white = np.full((len(attention), *attention.shape[2:], 3), 255, np.uint8)
    return overlay(white, attention)[..., 0] < 255


def _cover(dark: NDArray[np.bool_]) -> str:
    return f'<path d="{cells_path(dark)}" fill="{_DARK}" fill-opacity=".72"/>'


def _length_tile(norms: NDArray[np.float32], outliers: NormOutliers, n: int) -> str:
    low, high = np.percentile(outliers.norms, [1, 99])
    light = np.clip((norms - low) / max(high - low, 1e-9), 0, 1)
    pixels = np.round(np.stack([255 * light, 40 + 190 * light, 90 + 110 * light], axis=2)).astype(np.uint8)
    frames = cells_path(outliers.outlier[n].reshape(norms.shape))
    over = f'<path d="{frames}" fill="none" stroke="#ff2a2a" stroke-width="1.5"/>' if frames else ""
    return shot_html(
        picture_src(pixels), (_TILE, _TILE), over=over, caption=f"lengths {norms.min():.1f} .. {norms.max():.1f}"
    )


def _heads(attention: NDArray[np.float32], names: list[str]) -> str:
    shown = min(_HEADS, attention.shape[1])
    dark = _dark(attention[:, :shown])
    rows: list[str] = []
    for n, name in enumerate(names):
        tiles = [_shown(n, name, side=_HEAD)]
        tiles += [_shown(n, f"head {head + 1}", _cover(dark[n, head]), _HEAD) for head in range(shown)]
        rows.append(f'<div class="row">{"".join(tiles)}</div>')
        if sum(map(len, rows)) > _HEADS_BYTES:
            break
    note = f"Each head of the last block: what holds 60 % of its attention. {shown} of {attention.shape[1]} heads"
    note += "." if len(rows) == len(names) else f", of the first {len(rows)} images, to keep this page small."
    return paragraph(note) + "".join(rows)


def _distances(by_head: Sequence[float]) -> str:
    if not by_head:
        return ""
    told = ", ".join(f"{head + 1}: {distance:.1f}" for head, distance in enumerate(by_head))
    return paragraph(f"Mean distance in patches between a patch and what it attends to, by head: {told}.")


def _matches(samples: TokenSamples, names: list[str], metrics: Metrics) -> str:
    """Points of one picture and the places in another whose patches are most alike, after and before training."""
    told = "; ".join(
        f"{contestant} {words}"
        for contestant in ("trained", "untrained")
        if (words := interval_words(metrics, f"pck_0.1_{contestant}"))
    )
    note = "Nine points of the left picture, and the patches of the right one that are most alike."
    if told:
        note += f" Between two crops of one photograph, points are found within a tenth of the side: {told}."
    body = ""
    for left, right in _alike(samples, names):
        figures = ""
        for label, patches in (("trained", samples.patches), ("untrained", samples.untrained_patches)):
            figures += _pair(
                left, right, _lines(patches[left], patches[right]), f"{names[left]}, {names[right]}: {label}"
            )
        body += f'<div class="row">{figures}</div>'
    return paragraph(note) + body


def _alike(samples: TokenSamples, names: list[str]) -> list[tuple[int, int]]:
    """Pairs of pictures: each with that of nearest mean patch, one of its own class if there is any."""
    means = samples.patches.mean(axis=(1, 2), dtype=np.float64)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    near = means @ means.T + np.array([[2.0 * (a == b) for b in names] for a in names])
    np.fill_diagonal(near, -np.inf)
    pairs: list[tuple[int, int]] = []
    for left in np.argsort(-near.max(axis=1), kind="stable").tolist() if len(names) > 1 else []:
        right = int(near[left].argmax())
        if (right, left) not in pairs:
            pairs.append((left, right))
    return pairs[:_PAIRS]


def _lines(source: NDArray[np.float32], target: NDArray[np.float32]) -> str:
    """SVG over two pictures side by side: nine points, and lines to where they are found."""
    centres = (np.arange(3) + 0.5) / 3
    points = np.stack([axis.ravel() for axis in np.meshgrid(centres, centres)], axis=1)
    shapes = ""
    for n, ((x, y), (u, v)) in enumerate(
        zip(points.tolist(), match_points(source, target, points).tolist(), strict=True)
    ):
        colour = COLOURS[n % len(COLOURS)]
        start, end = (x / 2, y), (0.5 + u / 2, v)
        shapes += (
            f'<line x1="{start[0]:.3f}" y1="{start[1]:.3f}" x2="{end[0]:.3f}" y2="{end[1]:.3f}" stroke="{colour}" '
            'stroke-width="1.6"/>'
        )
        for across, down in (start, end):
            shapes += f'<ellipse cx="{across:.3f}" cy="{down:.3f}" rx=".012" ry=".024" fill="{colour}"/>'
    return shapes


def _pair(left: int, right: int, lines: str, caption: str) -> str:
    halves = "".join(
        f'<span class="p{n}" style="position:absolute;top:0;bottom:0;left:{side};width:50%"></span>'
        for n, side in ((left, "0"), (right, "50%"))
    )
    return (
        f'<figure style="width:{2 * _PAIR}px"><span class="shot" role="img" aria-label="{text_html(caption)}" '
        f'style="height:{_PAIR}px">{halves}<svg viewBox="0 0 1 1" preserveAspectRatio="none">{lines}</svg></span>'
        f"<figcaption>{text_html(caption)}</figcaption></figure>"
    )


def _lengths(outliers: NormOutliers, metrics: Metrics) -> str:
    """A histogram of the patch tokens' lengths, and how many are abnormal."""
    counts, edges = np.histogram(outliers.norms, _BINS)
    points = [(float(x), float(y)) for x, y in zip((edges[1:] + edges[:-1]) / 2, counts, strict=True)]
    share = interval_words(metrics, "norm_outlier_share_trained") or f"{outliers.share:.3f}"
    ends = {points[0][0]: f"{edges[0]:.1f}", points[-1][0]: f"{edges[-1]:.1f}"}
    chart = line_chart("Patch tokens by length", [Line("tokens", points)], note="Number of tokens.", x_ticks=ends)
    note = (
        f"Share of the tokens that are abnormally long: {share}. Here the limit is {outliers.threshold:.1f}. Such "
        "tokens hold facts about the whole image in patches of no content and spoil maps; registers "
        "(backbone_options.reg_tokens) prevent them."
    )
    return paragraph(note) + f'<div class="charts">{chart}</div>'
