"""Tighten: of many starts, the tightest balance that the edge cut can afford.

Communities differ in density, so that even shares of nodes and of edges can cost many times the cut
of METIS alone. Nodes and training nodes then stay within their bounds, and edges come as close to
theirs as the cut allows.

N nodes, P parts.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from minidist.graph import Graph
from minidist.partition.adjacency import Adjacency, edge_cut
from minidist.partition.balance import balance
from minidist.partition.balance_limits import (
    CUT_TOLERANCE,
    EDGE_TOLERANCE,
    Bounds,
    node_loads,
    part_loads,
)

LOOSER = 1.03  # steps of the bound of the edges
NUM_KEPT = 8  # best starts that are tried again under looser bounds


def tighten(
    graph: Graph,
    adjacency: Adjacency,
    starts: Sequence[NDArray[np.int32]],
    num_parts: int,
    *,
    progress: bool = False,
) -> NDArray[np.int32]:
    """Part of each node, int32 [N], within the bounds and ``CUT_TOLERANCE`` where there is a way.

    starts: assignments to correct; the cut of the first, METIS alone, is the yardstick.
    """
    most_cut = CUT_TOLERANCE * edge_cut(adjacency, starts[0])
    correct = functools.partial(_correct, graph, adjacency, node_loads(graph), num_parts, progress)
    tight = correct(0, starts)
    ranked = sorted(range(len(starts)), key=lambda i: tight[i][:2])
    best = tight[ranked[0]]
    if best[1] <= most_cut:
        return best[2]
    kept = ranked[:NUM_KEPT]
    starts = [starts[0], *(starts[i] for i in kept if i > 0), *(tight[i][2] for i in kept)]

    # As loose as METIS alone; then halfway between what cost too much and what did not.
    edges = part_loads(graph, starts[0], num_parts)[:, 1]
    ratio = edges.max() / max(1.0, edges.mean()) / EDGE_TOLERANCE
    too_tight, loose = 0, max(1, math.ceil(math.log(max(1.0, ratio)) / math.log(LOOSER)))
    loosest = min(correct(loose, starts), key=lambda result: result[:2])
    if loosest[1] > most_cut:
        return min(best, loosest, key=lambda result: result[1])[2]
    best = loosest
    while loose - too_tight > 1:
        middle = (too_tight + loose) // 2
        found = min(correct(middle, starts), key=lambda result: result[:2])
        if found[1] <= most_cut:
            loose, best = middle, found
        else:
            too_tight = middle
    return best[2]


def _correct(
    graph: Graph,
    adjacency: Adjacency,
    weights: NDArray[np.int64],
    num_parts: int,
    progress: bool,
    steps: int,
    starts: Sequence[NDArray[np.int32]],
) -> list[tuple[float, int, NDArray[np.int32]]]:
    """(excess, cut, part) of each start, with the bound of the edges so many steps looser."""
    tolerance = EDGE_TOLERANCE * LOOSER**steps
    bounds = Bounds.of(graph, num_parts, tolerance)
    results = []
    for start in tqdm(starts, f"edges within {tolerance - 1:.0%}", disable=not progress):
        part = balance(adjacency, weights, start, bounds)
        excess = bounds.excess(part_loads(graph, part, num_parts))
        results.append((excess, edge_cut(adjacency, part), part))
    return results
