"""The section of measures that need no labels, and of what they cost."""

from __future__ import annotations

from curation.review_page import PageSection, paragraph, table_html
from stages.evaluate.pages.contestants import Metrics, interval_words

_MEASURES = {
    "rankme": ("RankMe", "directions that features spread over; more is usually better"),
    "effective_rank": ("effective rank", "the same of the covariance"),
    "stable_rank": ("stable rank", "energy over that of the first direction"),
    "nesum": ("NESum", "sum of eigenvalues over the first"),
    "alpha_req": ("alpha-ReQ", "decay of the eigenvalues; near 1 is best"),
    "unit_std": ("spread on the sphere", "0: collapsed"),
    "uniformity": ("uniformity", "lower is more even"),
    "alignment": ("alignment", "distance of views of one image; lower is nearer"),
    "tolerance": ("tolerance", "similarity within classes"),
    "lidar": ("LiDAR", "directions that tell images from their views"),
    "cluster_learnability": ("cluster learnability", "how well clusters can be told by neighbours"),
    "intrinsic_dimension": ("intrinsic dimension", "of the surface that features lie on"),
    "norm_outlier_share": ("norm outliers", "share of the patch tokens of abnormal length"),
    "pck_0.1": ("correspondence", "share of the points found again within a tenth of the side"),
}
_RISK = {
    "risk_approximation": "of the best member of the architecture, taken as 0",
    "risk_usability": "of the best probe on these features beyond that",
    "risk_probe_generalisation": "because the probe saw few images",
    "risk_encoder_generalisation": "because the backbone never saw the tested images",
    "risk_total": "of the probe on held-out images",
}


def label_free_section(metrics: Metrics) -> PageSection | None:
    """Measures of the features alone, before and after training."""
    rows = [
        [label, *(_value(metrics, f"{name}_{contestant}") for contestant in ("trained", "untrained")), meaning]
        for name, (label, meaning) in _MEASURES.items()
        if f"{name}_trained" in metrics
    ]
    if not rows:
        return None
    body = table_html(["", "trained", "untrained", "meaning"], rows, numeric_from=4)
    risks = [
        [
            name.removeprefix("risk_").replace("_", " "),
            *(f"{metrics[kind + name]:+.3f}" if kind + name in metrics else "" for kind in ("", "few_shot_")),
            why,
        ]
        for name, why in _RISK.items()
        if name in metrics
    ]
    if risks:
        head = ["part", "all labels", "5 a class", "the error"]
        body += "<h3>Where the error comes from</h3>" + table_html(head, risks, numeric_from=4)
    return PageSection("label-free", "Without labels", paragraph("Of the training images' features.") + body)


def _value(metrics: Metrics, name: str) -> str:
    if name not in metrics:
        return ""
    return interval_words(metrics, name) if f"{name}_lo" in metrics else f"{metrics[name]:.4g}"
