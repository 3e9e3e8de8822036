"""Draws: a pure function, uniform without replacement, equal to its plain twin."""

import numpy as np
import pytest

from minidist.counter_rng import GOLDEN, MASK, mix_plain
from minidist.sampling.kernels import (
    draw_neighbors,
    draw_neighbors_plain,
    hop_key,
    place_nodes,
    place_nodes_plain,
)


def draw(degree: int, nodes: np.ndarray, key: int, fanout: int) -> np.ndarray:
    """Draw for each node from the row 0 .. degree - 1; [nodes, min(degree, fanout)]."""
    indptr, indices = np.array([0, degree]), np.arange(degree, dtype=np.int32)
    width = min(degree, fanout)
    out = np.empty(len(nodes) * width, np.int32)
    starts = np.arange(len(nodes) + 1) * width
    tables, rows = np.zeros((2, len(nodes)), np.int64)
    taken = np.zeros(degree + 1, np.int64)
    draw_neighbors((indptr,), (indices,), nodes, tables, rows, key, fanout, starts, out, taken, 0)
    return out.reshape(len(nodes), width)


def test_mix_is_splitmix64() -> None:
    """The published outputs of SplitMix64 seeded with 1234567."""
    outputs = [mix_plain((1234567 + i * GOLDEN) & MASK) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_key_depends_on_every_part() -> None:
    keys = {hop_key(*parts) for parts in np.ndindex(3, 3, 3, 3, 3)}
    assert len(keys) == 3**5
    assert all(-(1 << 63) <= key < 1 << 63 for key in keys)


@pytest.mark.parametrize("degree", [0, 1, 4, 5, 6, 64, 65, 1000])
@pytest.mark.parametrize("fanout", [1, 5, 25])
def test_kernel_equals_plain_twin(degree: int, fanout: int) -> None:
    nodes = np.array([0, 1, 77, 10**9, 2**40])
    row = np.arange(degree)
    for key in (0, -5, hop_key(1, 2, 3, 4, 5)):
        expected = [draw_neighbors_plain(row, int(node), key, fanout) for node in nodes]
        assert draw(degree, nodes, key, fanout).tolist() == expected


def test_draws_are_without_replacement() -> None:
    drawn = draw(30, np.arange(2000), hop_key(0, 0, 0, 0, 0), 25)
    assert all(len(set(row)) == 25 for row in drawn.tolist())


@pytest.mark.parametrize(("degree", "fanout"), [(7, 3), (40, 10), (26, 25)])
def test_draws_are_uniform(degree: int, fanout: int) -> None:
    """Chi-square over slots, and over pairs of slots, of many nodes and steps."""
    num_nodes, num_steps = 4000, 5
    counts, pairs = np.zeros(degree), np.zeros((degree, degree))
    for step in range(num_steps):
        drawn = draw(degree, np.arange(num_nodes), hop_key(3, 0, step, 0, 1), fanout)
        chosen = np.zeros((num_nodes, degree))
        chosen[np.arange(num_nodes)[:, None], drawn] = 1
        counts += chosen.sum(axis=0)
        pairs += chosen.T @ chosen
    draws = num_nodes * num_steps
    # Slots of one node are drawn without replacement, which shrinks the variance by 1 - k / d.
    expected, spread = draws * fanout / degree, 1 - fanout / degree
    statistic = ((counts - expected) ** 2 / (expected * spread)).sum() * (degree - 1) / degree
    freedom = degree - 1
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)
    share = fanout * (fanout - 1) / (degree * (degree - 1))
    upper = pairs[np.triu_indices(degree, 1)]
    assert abs(upper - draws * share).max() < 6 * np.sqrt(draws * share * (1 - share))


def test_places_equal_plain_twin() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        seeds = rng.permutation(50)[:5]
        neighbors = rng.integers(50, size=40).astype(np.int32)
        places = np.full(50, -1, np.int32)
        places[seeds] = np.arange(5)
        node_ids = np.empty(5 + 40 + 1, np.int64)
        node_ids[:5] = seeds
        expected_ids = seeds.tolist()
        expected = place_nodes_plain(neighbors.tolist(), expected_ids)
        num_nodes = place_nodes(neighbors, places, node_ids, 5)
        assert neighbors.tolist() == expected
        assert node_ids[:num_nodes].tolist() == expected_ids
