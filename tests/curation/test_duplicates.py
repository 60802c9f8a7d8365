import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicates import Limits, candidate_edges, kept_by_threshold, verdicts

LIMITS = Limits(radius=4, confirm=0.9, threshold=0.98)


def pool(seed: int, count: int = 30):
    """Vectors and hashes around a few bases, so that all kinds of pairs occur."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 6, count)
    vectors = rng.normal(size=(6, 24))[base] + rng.choice([0.02, 0.1, 0.3], count)[:, None] * rng.normal(
        size=(count, 24)
    )
    flips = np.packbits(rng.random((count, 64)) < rng.choice([0.01, 0.08], count)[:, None], axis=1)
    hashes = rng.integers(0, 256, (6, 8), dtype=np.uint8)[base] ^ flips
    return hashes, vectors, rng


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_edges_are_those_of_the_definition(seed):
    hashes, vectors, _ = pool(seed)
    edges = candidate_edges(hashes, vectors, LIMITS)
    units = vectors.astype(np.float32).astype(float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    cosine = units @ units.T
    hamming = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    joined = (cosine >= 0.98) | ((hamming <= 4) & (cosine >= 0.9))
    expected = {(i, j) for i, j in zip(*np.nonzero(np.triu(joined, 1)), strict=True)}
    used = np.flatnonzero(edges.used)
    assert {(int(edges.i[e]), int(edges.j[e])) for e in used} == expected
    assert (edges.hamming == hamming[edges.i, edges.j]).all()
    assert np.allclose(edges.cosine, cosine[edges.i, edges.j], atol=1e-5)


def test_a_hash_alone_joins_nothing():
    hashes = np.zeros((3, 8), np.uint8)
    vectors = np.eye(3)
    assert not candidate_edges(hashes, vectors, LIMITS).used.any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_verdicts_do_not_depend_on_row_order(seed):
    hashes, vectors, rng = pool(seed)
    count = len(hashes)
    ids = [f"{i:03d}" for i in range(count)]
    pixels, sizes = rng.integers(1, 3, count), rng.integers(1, 3, count)

    def by_id(order):
        names = [ids[o] for o in order]
        edges = candidate_edges(hashes[order], vectors[order], LIMITS)
        found = verdicts(names, pixels[order], sizes[order], edges)
        return {
            name: (
                names[found.groups.keepers[row]],
                names[found.groups.first[row]],
                None if found.edge[row] < 0 else (edges.hamming[found.edge[row]], edges.cosine[found.edge[row]]),
            )
            for row, name in enumerate(names)
        }

    assert by_id(np.arange(count)) == by_id(rng.permutation(count))


def test_each_dropped_row_has_an_edge_of_its_own_and_keepers_have_none():
    hashes, vectors, _ = pool(3, 60)
    edges = candidate_edges(hashes, vectors, LIMITS)
    ones = np.ones(60, np.int64)
    found = verdicts([f"{i:03d}" for i in range(60)], ones, ones, edges)
    dropped = np.flatnonzero(found.groups.keepers != np.arange(60))
    assert len(dropped) > 5
    assert ((found.edge >= 0) == (found.groups.keepers != np.arange(60))).all()
    for row in dropped:
        assert row in (edges.i[found.edge[row]], edges.j[found.edge[row]])


def test_a_stricter_threshold_keeps_more():
    hashes, vectors, _ = pool(5, 80)
    kept = kept_by_threshold(80, candidate_edges(hashes, vectors, LIMITS), [0.9, 0.95, 0.98, 1.0])
    assert kept == sorted(kept)
    assert kept[0] < kept[-1] <= 80
