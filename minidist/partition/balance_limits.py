"""Bounds: how much of each load a part may hold.

N nodes, P parts, K = 3 loads: nodes, in-edges of owned nodes, training nodes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidist.graph import Array, Graph

LOADS = ("nodes", "edges", "training nodes")
# Largest part over the mean.
NODE_TOLERANCE = 1.15
EDGE_TOLERANCE = 1.15
TRAIN_TOLERANCE = 1.05
# The edge cut over that of METIS alone; past it, edges are balanced less strictly.
CUT_TOLERANCE = 1.10


@dataclass(frozen=True, eq=False)
class Bounds:
    """The least and the most of each load that a part may hold, int64 [K] each."""

    num_parts: int
    least: NDArray[np.int64]
    most: NDArray[np.int64]

    @classmethod
    def of(cls, graph: Graph, num_parts: int, edge_tolerance: float = EDGE_TOLERANCE) -> "Bounds":
        """Training nodes are bounded on both sides, and no part is empty or without them.

        Where a mean is small a part may hold the mean rounded up, and any part may hold one hub.
        """
        totals = np.array([graph.num_nodes, graph.num_edges, graph.train_mask.sum()], np.int64)
        means = totals / num_parts
        largest = np.array([1, max(1, np.diff(graph.indptr).max()), 1])
        tolerances = np.array([NODE_TOLERANCE, edge_tolerance, TRAIN_TOLERANCE])
        most = np.maximum(np.maximum(means * tolerances, np.ceil(means)), largest)
        least_train = min(np.ceil(means[2] * (2 - TRAIN_TOLERANCE)), totals[2] // num_parts)
        least = np.array([1, 0, max(1, least_train)], np.int64)
        return cls(num_parts, least, most.astype(np.int64))

    def excess(self, loads: Array) -> float:
        """How far [P, K] loads are out of bounds, in units of the bound; 0 where all hold."""
        over, under = np.maximum(loads - self.most, 0), np.maximum(self.least - loads, 0)
        return float(((over + under) / self.most).sum())


def node_loads(graph: Graph) -> NDArray[np.int64]:
    """int64 [N, K]: what each node adds to the loads of its part."""
    ones = np.ones(graph.num_nodes, np.int64)
    return np.stack([ones, np.diff(graph.indptr), graph.train_mask], axis=1).astype(np.int64)


def part_loads(graph: Graph, assignment: Array, num_parts: int) -> NDArray[np.int64]:
    """int64 [P, K]: nodes, in-edges and training nodes of each part."""
    weights = node_loads(graph)
    columns = [np.bincount(assignment, column, num_parts) for column in weights.T]
    return np.stack(columns, axis=1).astype(np.int64)
