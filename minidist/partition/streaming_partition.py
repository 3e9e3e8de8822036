"""Stream: a partitioner that reads the graph in passes and keeps O(N) numbers beside it.

Linear deterministic greedy [Stanton and Kliot, KDD 2012] with three loads in place of one, and
restreaming [Nishimura and Ugander, KDD 2013]: each node joins the part that holds the most of its
in-neighbours, discounted by how full that part is; later passes see the labels of earlier ones.

N nodes, P parts, K = 3 loads.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tqdm import tqdm

from minidist.graph import Array, Graph
from minidist.partition.balance_limits import Bounds, part_loads

NUM_PASSES = 5  # the cut falls by 20 to 60% over these, and hardly after them


def stream(
    graph: Graph, num_parts: int, bounds: Bounds, *, progress: bool = False
) -> NDArray[np.int32]:
    """Part of each node, int32 [N].

    Nodes come in the order of their ids, in which real graphs keep neighbours close. (Hubs first
    fills some parts with edges and the others with nodes, until no part has room for both.)
    """
    part = np.full(graph.num_nodes, -1, np.int32)
    loads = np.zeros((num_parts, 3), np.int64)
    # Room for training nodes is kept tight, so that no part is left with few of them.
    most = bounds.most.copy()
    most[2] = -(-int(graph.train_mask.sum()) // num_parts)
    for _ in tqdm(range(NUM_PASSES), "streaming", disable=not progress):
        stream_pass(graph.indptr, graph.indices, graph.train_mask, most, part, loads)
    _level_training_nodes(graph, part, num_parts, int(bounds.least[2]))
    return part


def _level_training_nodes(graph: Graph, part: Array, num_parts: int, least: int) -> None:
    """Give parts short of training nodes those with the fewest edges of the richest parts."""
    counts = part_loads(graph, part, num_parts)[:, 2]
    while counts.min() < min(least, counts.max() - 1):
        rich, poor = int(counts.argmax()), int(counts.argmin())
        owned = np.flatnonzero((part == rich) & graph.train_mask)
        second = np.partition(counts, -2)[-2]
        num_moved = min(least - counts[poor], max(1, counts[rich] - max(second, least)))
        degrees = graph.indptr[owned + 1] - graph.indptr[owned]
        part[owned[np.argsort(degrees, kind="stable")[:num_moved]]] = poor
        counts[rich] -= num_moved
        counts[poor] += num_moved


@njit(cache=True, nogil=True)
def stream_pass(indptr, indices, train, most, part, loads):  # type: ignore[no-untyped-def]
    """Place every node once more; ``part`` [N] (-1: nowhere yet) and ``loads`` [P, K] change."""
    num_parts = loads.shape[0]
    links = np.zeros(num_parts, np.int64)
    for v in range(len(part)):
        weights = (1, indptr[v + 1] - indptr[v], np.int64(train[v]))
        if part[v] >= 0:
            for k in range(3):
                loads[part[v], k] -= weights[k]
        links[:] = 0
        for i in range(indptr[v], indptr[v + 1]):
            if part[indices[i]] >= 0:
                links[part[indices[i]]] += 1
        best, best_score, best_room = 0, -np.inf, -np.inf
        for q in range(num_parts):
            room = 1.0
            for k in range(3):
                if weights[k] > 0:
                    room = min(room, 1.0 - (loads[q, k] + weights[k]) / most[k])
            # A full part takes a node only where all are full, and then the least full one.
            score = (links[q] + 1e-3) * room if room >= 0 else -1.0
            if score > best_score or (score == best_score and room > best_room):
                best, best_score, best_room = q, score, room
        part[v] = best
        for k in range(3):
            loads[best, k] += weights[k]
