"""Deal: nodes go to parts at random, like cards, and yet every load is balanced.

N nodes, P parts.
"""

import numpy as np
from numpy.typing import NDArray

from minidist.graph import Graph


def deal(graph: Graph, num_parts: int, seed: int) -> NDArray[np.int32]:
    """Part of each node, int32 [N]; the same for the same seed.

    Training nodes first, then hubs first, each P in a row are dealt to the P parts in random order.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(graph.num_nodes)
    degrees = np.diff(graph.indptr)
    order = order[np.lexsort((-degrees[order], ~graph.train_mask[order]))]
    num_hands = -(-graph.num_nodes // num_parts)
    hands = np.tile(np.arange(num_parts, dtype=np.int32), (num_hands, 1))
    part = np.empty(graph.num_nodes, np.int32)
    part[order] = rng.permuted(hands, axis=1).reshape(-1)[: graph.num_nodes]
    return part
