"""The settings that make two results comparable, under one versioned name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """Everything about a measurement that is not the features and not the split.

    Two figures may be compared only where their protocol `id` is the same: one setting changed is a new id.

    neighbours, temperature: weighted kNN (Wu et al., 2018, arXiv:1805.01978), settings of DINO (arXiv:2104.14294).
    regularisations: inverse strengths C that the linear probe chooses from on `selection_share` of the
        training rows.
    rank_eps: added to the normalised singular values of RankMe (arXiv:2210.02885).
    confidence: of every interval. resamples: of every bootstrap. pixel_side: of the raw pixel baseline.
    """

    id: str
    neighbours: int = 20
    temperature: float = 0.07
    regularisations: tuple[float, ...] = tuple(10.0 ** (e / 2) for e in range(-10, 1))
    selection_share: float = 0.2
    rank_eps: float = 1e-7
    confidence: float = 0.95
    resamples: int = 1000
    pixel_side: int = 32

    def settings(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class RobustnessSettings:
    """How much of `training.evaluation.robustness` and its neighbours is measured.

    corruptions, severities: each of the one at each of the other. queries: pictures that are shifted. crops: shares of
    the side that the middle is cut to. invariance_images: plain pictures of the invariance scores; firing_rate: of
    their units. marked_rows: bank rows of the shortcut test. self_learning: corruptions, such as "fog_3", that a
    classifier learns from by itself, fitted on `marked_rows` too.
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    queries: int
    crops: tuple[float, ...]
    invariance_images: int
    firing_rate: float
    marked_rows: int
    self_learning: tuple[str, ...]


@dataclass(frozen=True)
class SegmentationSettings:
    """Of segmentation where images have masks.

    bank, queries: images to learn from and to test on, at most. side: of the squares that answers are scored at.
    c: of the linear layer. neighbours, temperature: of patch kNN. max_patches: that either learns from.
    """

    bank: int = 300
    queries: int = 200
    side: int = 128
    c: float = 0.01
    neighbours: int = 30
    temperature: float = 0.07
    max_patches: int = 20_000


_ALL_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic", "pixelate", "jpeg"),
)

QUICK = RobustnessSettings(
    corruptions=("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg"),
    severities=(1, 3, 5),
    queries=200,
    crops=(0.8, 0.6, 0.4),
    invariance_images=100,
    firing_rate=0.05,
    marked_rows=500,
    self_learning=(),
)

FULL = RobustnessSettings(
    corruptions=_ALL_CORRUPTIONS,
    severities=(1, 2, 3, 4, 5),
    queries=2_000,
    crops=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4),
    invariance_images=1_000,
    firing_rate=0.01,
    marked_rows=2_000,
    self_learning=("gaussian_noise_3", "defocus_blur_3", "fog_3", "contrast_3", "jpeg_3"),
)


@dataclass(frozen=True)
class WideProtocol(Protocol):
    """Settings of `training.evaluation.battery` beside those of `Protocol`.

    k_grid: all kNN accuracies, of one search. interpolation: shares of kNN to choose from. per_class, percents,
    draws: training rows of the low-shot probes, and how often they are drawn. penalties: of ridge. recall_at: ranks
    of retrieval. alpha_ranks: of alpha-ReQ's fit. clusters: of CLID, at most a tenth of the rows. bins: of the
    calibration error. max_label_free, max_pairs, max_retrieval: rows, chosen by seed, that the measures of the
    spectrum, those of all pairs, and retrieval see.

    Of the backbone itself: layers: blocks or stages looked at, evenly spread over the depth, the last one among them.
    grid_steps: of the linear heads on these, in batches of 256. view_images, views: images and augmented views of
    each (`training.evaluation.views`) for LiDAR, alignment and copy detection. dense_images: whose patches are looked
    at. boxed_images: with true boxes, to find objects in. attentive_rows: bank rows of the attentive probe, at most.
    tuned_share: of the blocks that partial fine-tuning tunes. quick, full: of robustness. segmentation: where images
    have masks.

    open_branches: the untrained backbone begins with gains of one where its library begins with norms of zero gain at
    the ends of residual branches (`training.evaluation.untrained`).
    """

    k_grid: tuple[int, ...] = (10, 20, 100, 200)
    interpolation: tuple[float, ...] = tuple(tenth / 10 for tenth in range(11))
    per_class: tuple[int, ...] = (1, 2, 3, 4, 5)
    percents: tuple[float, ...] = (1.0, 10.0)
    draws: int = 3
    penalties: tuple[float, ...] = tuple(10.0 ** (e / 2) for e in range(-12, 7))
    recall_at: tuple[int, ...] = (1, 5, 10)
    alpha_ranks: tuple[int, int] = (4, 100)
    clusters: int = 100
    bins: int = 15
    max_label_free: int = 25_600
    max_pairs: int = 5_000
    max_retrieval: int = 10_000
    layers: int = 4
    grid_steps: int = 300
    view_images: int = 500
    views: int = 5
    dense_images: int = 64
    boxed_images: int = 1_000
    attentive_rows: int = 5_000
    tuned_share: float = 0.25
    quick: RobustnessSettings = QUICK
    full: RobustnessSettings = FULL
    segmentation: SegmentationSettings = SegmentationSettings()
    open_branches: bool = True


V1 = Protocol(id="curatrain-v1")

V2 = WideProtocol(id="curatrain-v2", regularisations=tuple(10.0 ** (e / 2) for e in range(-12, 11)))
"""C runs over the range of DINOv2's public logistic regression (arXiv:2304.07193), in V1's steps."""

PROTOCOLS = {protocol.id: protocol for protocol in (V1, V2)}
"""Every protocol by id. An id once used never changes its meaning."""
