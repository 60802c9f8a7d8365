import itertools
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.filters.checks import CAPTION_CHECKS, IMAGE_CHECKS, Check, checks_in_use, odd_size_scores
from curation.filters.histograms import histogram_svg
from curation.filters.keep_probability import drawn, probabilities_from_losses

SCORES = st.lists(st.floats(-10, 10, width=32) | st.just(float("nan")), min_size=1, max_size=50)


@given(SCORES, st.floats(-5, 5), st.floats(0, 5), st.booleans())
def test_a_stricter_threshold_drops_a_superset_and_nan_never(values, threshold, more, below):
    scores = np.array(values, np.float32)
    check = Check("any", "any", below, "")
    loose = check.against(scores, threshold)
    strict = check.against(scores, threshold + more if below else threshold - more)
    assert not (loose & ~strict).any()
    assert not (loose & np.isnan(scores)).any()


def test_a_score_at_its_threshold_passes():
    for below in (True, False):
        assert not Check("any", "any", below, "").against(np.array([0.1], np.float32), 0.1).any()


def test_only_checks_with_a_threshold_are_made():
    chosen = checks_in_use({"blur": 0.8, "dark": None}, {"required": True, "noun": False, "min_words": 3})
    assert [(check.name, threshold) for check, threshold in chosen] == [
        ("blur", 0.8), ("caption_missing", 0.5), ("caption_short", 3.0),
    ]  # fmt: skip
    names = [check.name for check in [*IMAGE_CHECKS.values(), *CAPTION_CHECKS.values()]]
    assert len(set(names)) == len(names)


def test_odd_sizes_are_measured_against_the_median():
    assert odd_size_scores(np.array([100.0, 400.0, 400.0, 40000.0])).tolist() == [2, 1, 1, 10]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.floats(0.5, 4))
def test_larger_losses_are_kept_with_larger_probability(losses, power):
    found = probabilities_from_losses(np.array(losses), power)
    assert ((found > 0) & (found <= 1)).all()
    assert found[np.argmax(losses)] == 1
    order = np.argsort(losses, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_the_draw_keeps_the_share_it_is_told_and_more_with_more():
    ids = [f"{row:04x}" for row in range(4000)]
    some, more = (drawn(ids, np.full(4000, share), seed=1) for share in (0.3, 0.5))
    assert abs(some.mean() - 0.3) < 0.03
    assert not (some & ~more).any()
    assert drawn(ids, np.ones(4000), 1).all()
    assert (drawn(ids[::-1], np.full(4000, 0.3), 1)[::-1] == some).all()
    assert (drawn(ids, np.full(4000, 0.3), 2) != some).any()


def test_a_histogram_shows_both_sides_of_the_threshold():
    svg = histogram_svg(np.array([0.1, 0.2, 0.9, np.nan], np.float32), 0.5, below=False)
    assert svg.count("<rect") == 3
    assert svg.count("#c2503c") == 1
    assert "No image" in histogram_svg(np.array([np.nan]), 0.5, below=True)


def test_numbers_below_a_histogram_do_not_touch():
    scores = np.linspace(0, 1, 200, dtype=np.float32)
    for threshold in (0.0, 0.01, 0.1, 0.5, 0.9, 0.999, 1.0, 3.0):
        texts = re.findall(r'<text x="(\d+)".*?>([^<]+)<', histogram_svg(scores, threshold, below=True))
        places = sorted(float(x) for x, _ in texts)
        assert f"{threshold:.3g}" in [number for _, number in texts] and len(texts) >= 2
        assert all(right - left >= 80 for left, right in itertools.pairwise(places))
