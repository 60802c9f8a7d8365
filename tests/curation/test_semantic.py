import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.prototypes import cluster_by_id, prototypical_rows
from curation.row_blocks import unit_rows
from curation.sampling import id_keys
from curation.semantic import semantic_pairs

LABELS, CLUSTERS = 4, 5


def pool(seed: int, count: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Vectors with near-duplicates and exact ones, ids, labels and centroids (one cluster may be empty)."""
    rng = np.random.default_rng(seed)
    bases = rng.normal(size=(max(1, count // 3), 6))
    vectors = (
        bases[rng.integers(0, len(bases), count)]
        + rng.normal(size=(count, 6)) * rng.choice([0, 0.1, 0.4], count)[:, None]
    )
    ids = [f"{name:05d}" for name in rng.permutation(count)]
    return vectors.astype(np.float32), ids, rng.integers(0, LABELS, count), rng.normal(size=(CLUSTERS, 6))


def cosine(a: np.ndarray, b: np.ndarray) -> np.float32:
    return np.float32((unit_rows(a[None])[0].astype(np.float64) * unit_rows(b[None])[0]).sum())


def by_hand(vectors, ids, labels, centroids, epsilon, order, nearest, chain_removal) -> set[str]:
    """The kept ids, one item and one comparison at a time."""
    to_centroid = [cosine(v, centroids[c]) for v, c in zip(vectors, labels, strict=True)]
    keys = id_keys(ids, 3, "semantic")
    near = {(c, c) for c in range(CLUSTERS)}
    for c in range(CLUSTERS):
        others = sorted((o for o in range(CLUSTERS) if o != c), key=lambda o: -cosine(centroids[c], centroids[o]))
        near |= {pair for o in others[:nearest] for pair in ((c, o), (o, c))}
    value = {"hard": lambda r: to_centroid[r], "easy": lambda r: -to_centroid[r], "random": lambda r: keys[r]}[order]
    kept, before = [], []
    for row in sorted(range(len(ids)), key=lambda row: (value(row), ids[row])):
        rivals = before if chain_removal else kept
        if not any(
            (labels[row], labels[r]) in near and cosine(vectors[row], vectors[r]) > np.float32(1 - epsilon)
            for r in rivals
        ):
            kept.append(row)
        before.append(row)
    return {ids[row] for row in kept}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from(["hard", "easy", "random"]), st.integers(0, 6),
    st.floats(0, 0.5), st.booleans(),
)  # fmt: skip
def test_what_is_kept_is_what_the_rule_says(seed, count, order, nearest, epsilon, chain_removal):
    vectors, ids, labels, centroids = pool(seed, count)
    found = semantic_pairs(vectors, ids, labels, centroids, widest=0.5, order=order, seed=3, nearest_clusters=nearest)
    kept = {ids[row] for row in np.flatnonzero(found.kept(epsilon, chain_removal=chain_removal))}
    assert kept == by_hand(vectors, ids, labels, centroids, epsilon, order, nearest, chain_removal)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 200), st.sampled_from(["hard", "easy", "random"]))
def test_row_order_changes_nothing_and_the_kept_are_maximal(seed, count, order):
    vectors, ids, labels, centroids = pool(seed, count)
    shuffled = np.random.default_rng(seed).permutation(count)
    options = {"widest": 0.3, "order": order, "nearest_clusters": 9}
    one = semantic_pairs(vectors, ids, labels, centroids, **options)
    names = [ids[row] for row in shuffled]
    two = semantic_pairs(vectors[shuffled], names, labels[shuffled], centroids, **options)
    assert np.array_equal(one.kept(0.1)[shuffled], two.kept(0.1))
    assert np.array_equal(one.rank[shuffled], two.rank) and np.array_equal(one.similarity, two.similarity)
    kept = one.kept(0.1)
    close = one.similarity > 0.9
    assert not (kept[one.earlier[close]] & kept[one.later[close]]).any()
    dropped = np.flatnonzero(~kept)
    assert np.isin(dropped, one.later[close][kept[one.earlier[close]]]).all()
    assert (one.kept(0.1, chain_removal=True) <= kept).all()


def angles(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_a_chain_keeps_both_ends_unless_the_paper_is_followed():
    chain, ids, one = angles(50, 40, 30), ["a", "b", "c"], np.zeros(3, int)
    found = semantic_pairs(chain, ids, one, angles(0), widest=0.02)
    assert found.kept(0.02).tolist() == [True, False, True]
    assert found.kept(0.02, chain_removal=True).tolist() == [True, False, False]
    best, similarity = found.scores()
    assert best.tolist() == [-1, 0, 1] and np.allclose(similarity, [0, *[np.cos(np.radians(10))] * 2])


def test_duplicates_across_a_border_are_seen_with_nearest_clusters():
    vectors, labels, centroids = angles(44, 46, 200), np.array([0, 1, 2]), angles(20, 70, 200)
    alone = semantic_pairs(vectors, ["a", "b", "c"], labels, centroids, widest=0.1)
    assert alone.kept(0.1).all() and len(alone.earlier) == 0
    across = semantic_pairs(vectors, ["a", "b", "c"], labels, centroids, widest=0.1, nearest_clusters=1)
    assert across.kept(0.1).sum() == 2 and across.kept(0.1)[2]


@pytest.mark.parametrize("chain_removal", [False, True])
@pytest.mark.parametrize("share", [0.95, 0.7, 0.5])
def test_epsilon_is_tuned_to_a_share(share, chain_removal):
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(150, 8)), 4, axis=0) + rng.normal(size=(600, 8)) * rng.uniform(
        0, 0.6, (600, 1)
    )
    ids = [f"{row:03d}" for row in range(600)]
    clustering = cluster_by_id(vectors, ids, 6, seed=0, iterations=10)
    found = semantic_pairs(vectors, ids, clustering.labels, clustering.centroids, widest=0.6)
    epsilon = found.epsilon_for(share, chain_removal=chain_removal)
    assert abs(found.kept(epsilon, chain_removal=chain_removal).mean() - share) < 0.005


def test_what_cannot_be_asked_is_refused():
    found = semantic_pairs(angles(0, 1), ["a", "b"], np.zeros(2, int), angles(0), widest=0.1)
    assert found.epsilon_for(0.01) == 0.1
    with pytest.raises(ValueError, match=r"not between 0 and 0\.1"):
        found.kept(0.2)
    with pytest.raises(ValueError, match="share"):
        found.epsilon_for(0)
    with pytest.raises(ValueError, match="widest"):
        semantic_pairs(angles(0), ["a"], np.zeros(1, int), angles(0), widest=3)


def test_the_most_prototypical_of_the_rows_inside_are_those_nearest_to_their_new_centroid():
    rng = np.random.default_rng(1)
    vectors, ids = rng.normal(size=(200, 8)), [f"{row:03d}" for row in rng.permutation(200)]
    inside = np.arange(200) < 150
    settings = {"clusters": 4, "share": 0.2, "seed": 0, "iterations": 10}
    gone, cosine = prototypical_rows(vectors, ids, inside, **settings)
    assert gone.sum() == 30 and not gone[~inside].any() and np.isnan(cosine[~inside]).all()
    assert cosine[gone].min() >= np.sort(cosine[inside])[-30]
    centroids = cluster_by_id(vectors[inside], [ids[row] for row in range(150)], 4, seed=0, iterations=10).centroids
    units = vectors[inside] / np.linalg.norm(vectors[inside], axis=1, keepdims=True)
    assert cosine[inside] == pytest.approx((units @ centroids.T).max(axis=1), abs=1e-5)
    mixed = rng.permutation(200)
    again, _ = prototypical_rows(vectors[mixed], [ids[row] for row in mixed], inside[mixed], **settings)
    assert np.array_equal(gone[mixed], again)
    with pytest.raises(ValueError, match="prototypical"):
        prototypical_rows(vectors, ids, inside, clusters=4, share=1, seed=0)


def test_clusters_are_spherical_and_follow_the_ids():
    rng = np.random.default_rng(2)
    vectors, ids = rng.normal(size=(60, 5)), [f"{row:02d}" for row in rng.permutation(60)]
    found = cluster_by_id(vectors, ids, 7, seed=1)
    scaled = cluster_by_id(vectors[::-1] * 3, ids[::-1], 7, seed=1)
    assert np.array_equal(found.labels[::-1], scaled.labels)
    assert np.allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-6)
    to_all = unit_rows(vectors) @ found.centroids.T
    assert np.array_equal(to_all.argmax(axis=1), found.labels)
    mask, cosine = prototypical_rows(vectors, ids, np.ones(60, bool), clusters=7, share=0.1, seed=1)
    assert np.allclose(cosine, to_all.max(axis=1), atol=1e-6)
    assert mask.sum() == 6 and cosine[mask].min() >= cosine[~mask].max()


def test_the_most_prototypical_are_cut_by_id_on_ties():
    vectors, ids = angles(0, 20, 20, 40, 90), ["e", "c", "b", "d", "a"]
    mask, cosine = prototypical_rows(vectors, ids, np.arange(5) < 4, clusters=1, share=0.25, seed=0)
    assert mask.tolist() == [False, False, True, False, False] and np.isnan(cosine).tolist() == [False] * 4 + [True]
    assert not prototypical_rows(vectors, ids, np.zeros(5, bool), clusters=1, share=0.5, seed=0)[0].any()


def test_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr("curation.semantic._MOST_PAIRS", 5)
    with pytest.raises(ValueError, match="more than 5 pairs"):
        semantic_pairs(np.ones((4, 3)), list("abcd"), np.zeros(4, int), np.ones((1, 3)), widest=0.1)
