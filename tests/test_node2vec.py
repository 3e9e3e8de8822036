"""node2vec: kernels against their plain twins, and embeddings that tell communities apart."""

from typing import Any

import numpy as np
import pytest

from minidist.data.node2vec import Node2vec, train, train_plain, walk, walk_plain
from minidist.graph import Graph, in_edges


def random_rows(seed: int, num_nodes: int = 30, num_edges: int = 60) -> tuple[Any, Any]:
    src, dst = np.random.default_rng(seed).integers(num_nodes, size=(2, num_edges))
    return in_edges("g", src, dst, num_nodes, undirected=True, warn=False)


def as_lists(indptr: Any, indices: Any) -> list[list[int]]:
    return [indices[indptr[v] : indptr[v + 1]].tolist() for v in range(len(indptr) - 1)]


@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (0.25, 4.0), (4.0, 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_walks_equal_the_plain_twin(seed: int, p: float, q: float) -> None:
    indptr, indices = random_rows(seed)
    starts = np.arange(30)
    key = np.uint64((1 << 63) + seed)
    walks = walk(indptr, indices, starts, 12, p, q, key)
    plain = walk_plain(as_lists(indptr, indices), starts.tolist(), 12, p, q, int(key))
    assert walks.tolist() == plain


def test_next_nodes_come_with_the_papers_weights() -> None:
    # From 1, having come from 0: back to 0 (1/p), on to 2, a neighbour of 0 (1), or to 3 (1/q).
    edges = np.array([[0, 0, 1, 1], [1, 2, 2, 3]])
    indptr, indices = in_edges("g", edges[0], edges[1], 4, undirected=True)
    p, q = 0.5, 4.0
    walks = walk(indptr, indices, np.zeros(60_000, np.int64), 3, p, q, np.uint64(1))
    third = walks[walks[:, 1] == 1, 2]
    shares = np.bincount(third, minlength=4) / len(third)
    expected = np.array([1 / p, 0, 1, 1 / q])
    assert np.allclose(shares, expected / expected.sum(), atol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_training_equals_the_plain_twin(seed: int) -> None:
    indptr, indices = random_rows(seed, 12, 20)
    rng = np.random.default_rng(seed)
    walks = walk(indptr, indices, np.arange(12), 6, 1.0, 1.0, np.uint64(5))
    keep = np.maximum(np.diff(indptr), 1).astype(np.float32) ** -0.25
    start, fast, plain = (rng.random((2, 12, 5)).astype(np.float32) for _ in range(3))
    fast[:], plain[:] = start, start
    train(walks, fast[0], fast[1], indices, keep, 2, 3, np.float32(0.1), np.uint64(9))
    train_plain(walks.tolist(), plain[0], plain[1], indices, keep, 2, 3, 0.1, 9)
    assert not np.allclose(fast, start, atol=1e-3)
    assert np.allclose(fast, plain, rtol=1e-4, atol=1e-5)


def test_one_seed_gives_one_embedding(graph12: Graph) -> None:
    node2vec = Node2vec(dimensions=4)
    first, again, other = (
        node2vec.embed(graph12.indptr, graph12.indices, seed) for seed in (0, 0, 1)
    )
    assert first.dtype == np.float32
    assert first.shape == (12, 4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_communities_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    src = rng.integers(200, size=3000)
    other_side = rng.random(3000) < 0.05
    dst = (rng.integers(100, size=3000) + 100 * ((src >= 100) ^ other_side)) % 200
    indptr, indices = in_edges("g", src, dst, 200, undirected=True, warn=False)
    vectors = Node2vec(dimensions=8, num_walks=20).embed(indptr, indices)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    inside = (alike[:100, :100].mean() + alike[100:, 100:].mean()) / 2
    assert inside > alike[:100, 100:].mean() + 0.2


def test_isolated_nodes_keep_a_vector() -> None:
    indptr, indices = in_edges("g", np.array([0]), np.array([1]), 3, undirected=True, warn=False)
    assert np.isfinite(Node2vec(dimensions=4).embed(indptr, indices)).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dimensions", 0, "dimensions must be at least 1"),
        ("window", 0, "window must be at least 1"),
        ("walk_length", 1, "walk_length must be at least 2"),
        ("p", 0.0, "p, q and learning_rate positive"),
    ],
)
def test_a_senseless_field_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Node2vec(**{"dimensions": 4, field: value})
