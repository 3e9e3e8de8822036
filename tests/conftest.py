"""Fixtures that most tests share: a literal graph of 12 nodes and a power-law graph generator."""

from collections.abc import Callable

import numpy as np
import pytest

from minidist.graph import Graph, in_edges

# Nodes 0-5 and 6-11 are two communities, joined by 5-6 and 2-9; node 0 is their hub.
EDGES_12 = (
    *((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 2), (3, 4), (4, 5)),
    *((6, 7), (6, 8), (7, 8), (8, 9), (9, 10), (9, 11), (10, 11)),
    *((5, 6), (2, 9)),
)


@pytest.fixture
def graph12() -> Graph:
    """12 nodes, 34 directed edges, 3 features, 2 classes, 6 training nodes (3 a community)."""
    ends = np.array(EDGES_12 + tuple((v, u) for u, v in EDGES_12))
    indptr, indices = in_edges("twelve", ends[:, 0], ends[:, 1], 12)
    node = np.arange(12)
    return Graph(
        name="twelve",
        indptr=indptr,
        indices=indices,
        x=np.stack([node, node % 3, -(node**2)], axis=1).astype(np.float32),
        y=(node >= 6).astype(np.int64),
        train_mask=np.isin(node, [0, 1, 3, 6, 8, 10]),
        val_mask=np.isin(node, [2, 7]),
        test_mask=np.isin(node, [4, 5, 9, 11]),
        num_classes=2,
    )


def make_power_law_graph(
    num_nodes: int, num_edges: int, seed: int = 0, directed: bool = False
) -> Graph:
    """Chung-Lu-like graph with communities; ``num_edges`` is before duplicates are dropped."""
    rng = np.random.default_rng(seed)
    num_blocks = max(2, num_nodes // 200)
    block = rng.integers(num_blocks, size=num_nodes)
    members = np.argsort(block, kind="stable")
    starts = np.searchsorted(block[members], np.arange(num_blocks + 1))
    half = num_edges if directed else num_edges // 2
    # u^2 N is a Zipf-like pick: low ids become hubs.
    src = (rng.random(half) ** 2 * num_nodes).astype(np.int64)
    inside = (starts[block[src]] + rng.random(half) ** 2 * np.diff(starts)[block[src]]).astype(int)
    anywhere = rng.integers(num_nodes, size=half)
    dst = np.where(rng.random(half) < 0.8, members[inside], anywhere)
    if not directed:
        src, dst = np.concatenate([src, dst]), np.concatenate([dst, src])
    indptr, indices = in_edges("power-law", src, dst, num_nodes, warn=False)
    draw = rng.random(num_nodes)
    return Graph(
        name="power-law",
        indptr=indptr,
        indices=indices,
        x=rng.standard_normal((num_nodes, 8), dtype=np.float32),
        y=block % 4,
        train_mask=draw < 0.2,
        val_mask=(draw >= 0.2) & (draw < 0.3),
        test_mask=draw >= 0.3,
        num_classes=4,
    )


@pytest.fixture
def power_law_graph() -> Callable[..., Graph]:
    """``power_law_graph(num_nodes, num_edges, seed=0, directed=False) -> Graph``."""
    return make_power_law_graph
