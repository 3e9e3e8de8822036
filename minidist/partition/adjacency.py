"""Adjacency: a graph's edges without their direction, as partitioners want them.

N nodes, E directed edges.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from minidist.graph import Array, Graph, in_edges


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Undirected neighbours: ``adjacent[starts[v]:starts[v + 1]]``; int64 [N + 1] and ids."""

    starts: NDArray[np.int64]
    adjacent: Array

    @classmethod
    def of(cls, graph: Graph) -> "Adjacency":
        """The graph's own arrays where every edge has its reverse; else the union of both."""
        if is_symmetric(graph):
            return cls(graph.indptr, graph.indices)
        num_nodes, degrees = graph.num_nodes, np.diff(graph.indptr)
        ends = np.repeat(np.arange(num_nodes, dtype=graph.indices.dtype), degrees)
        sources = graph.indices
        return cls(*in_edges(graph.name, sources, ends, num_nodes, undirected=True, warn=False))


def is_symmetric(graph: Graph) -> bool:
    """Whether every edge has its reverse."""
    return bool(_is_symmetric(graph.indptr, graph.indices))


def edge_cut(adjacency: Adjacency, assignment: Array) -> int:
    """Undirected edges whose ends lie in different parts."""
    return int(count_cut(adjacency.starts, adjacency.adjacent, assignment)) // 2


@njit(cache=True, nogil=True)
def _is_symmetric(indptr, indices):  # type: ignore[no-untyped-def]
    """Rows are sorted, so v ascends through the rows of its sources if every edge is mirrored."""
    cursor = indptr[:-1].copy()
    for v in range(len(indptr) - 1):
        for i in range(indptr[v], indptr[v + 1]):
            u = indices[i]
            if cursor[u] == indptr[u + 1] or indices[cursor[u]] != v:
                return False
            cursor[u] += 1
    return True


@njit(cache=True, nogil=True)
def count_cut(starts, adjacent, part):  # type: ignore[no-untyped-def]
    num_cut = 0
    for v in range(len(starts) - 1):
        for i in range(starts[v], starts[v + 1]):
            num_cut += part[adjacent[i]] != part[v]
    return num_cut
