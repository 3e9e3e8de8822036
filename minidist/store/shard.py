"""Shard: what one rank holds of the graph, memory-mapped from one part's folder.

N nodes, P parts, n owned nodes, e their in-edges, h halo nodes, D features, C classes.
Ids are global (relabelled, see ``book``) unless they say ``local_`` (= global - first owned id).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.graph import Graph
from minidist.store.partition_book import Ids, PartitionBook

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """One part of a partitioned graph.

    indptr int64 [n + 1], indices int32/int64 [e]: in-edges of owned nodes, sources as global ids,
    ascending within a row.
    x float32 [n, D]; y int64 [n] (-1 unlabelled) or uint8 [n, C].
    train_ids, val_ids, test_ids: int64 global ids of owned nodes, ascending.
    node_ids: int64 [n], the original id of each owned node.
    halo: int64 [h] ascending, remote sources of in-edges of owned nodes; halo_degrees int64 [h],
    the in-degree of each.
    far_ids int64 [f] ascending, far_indptr int64 [f + 1], far_indices: in-edges of remote nodes up
    to ``halo_hops`` hops away, kept so that sampling at them needs no network (f = 0 at 0 hops).
    """

    name: str
    book: PartitionBook
    part: int
    num_classes: int
    halo_hops: int
    indptr: NDArray[np.int64]
    indices: Array
    x: NDArray[np.float32]
    y: Array
    train_ids: Ids
    val_ids: Ids
    test_ids: Ids
    node_ids: Ids
    halo: Ids
    halo_degrees: Ids
    far_ids: Ids
    far_indptr: NDArray[np.int64]
    far_indices: Array

    @property
    def num_nodes(self) -> int:
        return len(self.indptr) - 1

    @property
    def first(self) -> int:
        """The first owned id."""
        return self.book.range_of(self.part)[0]

    @property
    def num_features(self) -> int:
        return int(self.x.shape[1])

    @property
    def multilabel(self) -> bool:
        return self.y.ndim == 2


def whole(graph: Graph) -> Shard:
    """The graph as the only part of itself: what one process trains on, and the reference."""
    empty = np.zeros(0, np.int64)
    return Shard(
        name=graph.name,
        book=PartitionBook(np.array([0, graph.num_nodes])),
        part=0,
        num_classes=graph.num_classes,
        halo_hops=0,
        indptr=graph.indptr,
        indices=graph.indices,
        x=graph.x,
        y=graph.y,
        train_ids=np.flatnonzero(graph.train_mask),
        val_ids=np.flatnonzero(graph.val_mask),
        test_ids=np.flatnonzero(graph.test_mask),
        node_ids=np.arange(graph.num_nodes),
        halo=empty,
        halo_degrees=empty,
        far_ids=empty,
        far_indptr=np.zeros(1, np.int64),
        far_indices=graph.indices[:0],
    )
