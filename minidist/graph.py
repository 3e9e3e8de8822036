"""Graph: one node-classification problem in memory, edges as a CSR of in-edges.

N nodes, E directed edges, D features, C classes.

An edge u -> v carries a message from u to v, so sampling and aggregation at v read v's in-edges:
``indices[indptr[v]:indptr[v + 1]]`` are the sources u, ascending, without duplicates or self loops.
"""

import warnings
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A graph with features, labels and splits; checked on construction.

    name: what people call it.
    indptr: int64 [N + 1].   indices: int32 [E] (int64 where N needs it), sources of in-edges.
    x: float32 [N, D]; may be memory-mapped.
    y: int64 [N], -1 where unlabelled; or uint8 [N, C] of 0/1 for multi-label tasks.
    train_mask, val_mask, test_mask: bool [N], disjoint; training nodes must be labelled.
    num_classes: C.

    Raises ValueError that names the array, what it holds and what was expected.
    """

    name: str
    indptr: NDArray[np.int64]
    indices: Array
    x: NDArray[np.float32]
    y: Array
    train_mask: NDArray[np.bool_]
    val_mask: NDArray[np.bool_]
    test_mask: NDArray[np.bool_]
    num_classes: int

    def __post_init__(self) -> None:
        n, c = self.num_nodes, self.num_classes
        self._require(n >= 1, "has no nodes")
        self._require(
            self.indptr[0] == 0 and self.indptr[-1] == len(self.indices),
            f"indptr ends at {self.indptr[-1]}, but there are {len(self.indices)} edges",
        )
        self._require_array("x", np.float32, (n, self.x.shape[-1]))
        self._require_array("y", *((np.uint8, (n, c)) if self.multilabel else (np.int64, (n,))))
        masks = {split: getattr(self, f"{split}_mask") for split in ("train", "val", "test")}
        for split in masks:
            self._require_array(f"{split}_mask", np.bool_, (n,))
        self._check_labels(masks)
        for one, other in combinations(masks, 2):
            both = np.flatnonzero(masks[one] & masks[other])
            self._require(
                not len(both),
                f"node {both.min(initial=n)} is in both the {one} and the {other} split",
            )
        self._require(masks["train"].any(), "has no training nodes: train_mask is all False")

    def _require(self, condition: bool, text: str) -> None:
        if not condition:
            raise ValueError(f"graph {self.name!r}: {text}")

    def _require_array(self, field: str, dtype: type, shape: tuple[int, ...]) -> None:
        array, expected = getattr(self, field), np.dtype(dtype)
        self._require(
            array.shape == shape and array.dtype == expected,
            f"{field} must be {expected} of shape {shape}, got {array.dtype} {array.shape}",
        )

    def _check_labels(self, masks: dict[str, NDArray[np.bool_]]) -> None:
        """Labels are 0 to C - 1, -1 where unlabelled; or 0 and 1 of a multi-label task."""
        low, high = (int(self.y.min()), int(self.y.max())) if self.y.size else (0, 0)
        if self.multilabel:
            self._require(high <= 1, f"multi-label y must be 0 or 1, got {high}")
            return
        self._require(
            low >= -1 and high < self.num_classes,
            f"label {low if low < -1 else high} is out of range: "
            f"expected 0 to {self.num_classes - 1}, or -1 for an unlabelled node",
        )
        for split, mask in masks.items():
            node = np.flatnonzero(mask & (self.y < 0)).min(initial=self.num_nodes)
            self._require(
                node == self.num_nodes, f"node {node} is in the {split} split but has no label (-1)"
            )

    @property
    def num_nodes(self) -> int:
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        return len(self.indices)

    @property
    def num_features(self) -> int:
        return int(self.x.shape[1])

    @property
    def multilabel(self) -> bool:
        return self.y.ndim == 2


def check_finite(name: str, x: NDArray[np.float32], rows: int = 1 << 16) -> None:
    """Raise ValueError naming the first node whose features hold a NaN or infinity; x is [N, D]."""
    for start in range(0, len(x), rows):
        finite = np.isfinite(x[start : start + rows]).all(axis=1)
        if not finite.all():
            node = start + int(np.flatnonzero(~finite)[0])
            raise ValueError(f"graph {name!r}: the features of node {node} hold NaN or infinity")


def in_edges(
    name: str,
    src: Array,
    dst: Array,
    num_nodes: int,
    *,
    undirected: bool = False,
    warn: bool = True,
) -> tuple[NDArray[np.int64], Array]:
    """CSR of in-edges (indptr int64 [N + 1], indices [E]) of the edges ``src[i] -> dst[i]``.

    Sources are sorted within a row. Self loops and duplicate edges are dropped, and isolated nodes
    are kept; a UserWarning counts each. Raises ValueError on ids outside ``[0, num_nodes)``.
    undirected: also add each edge's reverse, in place, at no cost in memory for a longer list; an
    edge that was given in both directions is then no duplicate worth a warning.
    """
    if src.shape != dst.shape or src.ndim != 1:
        shapes = f"got {src.shape} and {dst.shape}"
        raise ValueError(f"graph {name!r}: edge ends must be two vectors of one length, {shapes}")
    for ends in (src, dst):
        if len(ends) and (int(ends.min()) < 0 or int(ends.max()) >= num_nodes):
            bad = int(ends.min()) if int(ends.min()) < 0 else int(ends.max())
            raise ValueError(
                f"graph {name!r}: edge id {bad} is out of range: "
                f"the graph has nodes 0 to {num_nodes - 1}"
            )
    dtype = np.int32 if num_nodes <= np.iinfo(np.int32).max else np.int64
    indptr, indices, num_loops, num_duplicates = _sorted_rows(
        np.asarray(src), np.asarray(dst), num_nodes, undirected, np.zeros(0, dtype)
    )
    if warn:
        touched = np.diff(indptr) > 0
        touched[indices] = True
        num_isolated = int(num_nodes - touched.sum())
        _warn(name, num_loops, "self loops dropped")
        _warn(name, 0 if undirected else num_duplicates, "duplicate edges dropped")
        _warn(
            name, num_isolated, "isolated nodes kept: they are classified from their own features"
        )
    return indptr, indices


def _warn(name: str, count: int, what: str) -> None:
    if count:
        warnings.warn(f"graph {name!r}: {count} {what}", UserWarning, stacklevel=3)


@njit(cache=True, nogil=True)
def _sorted_rows(src, dst, num_nodes, undirected, like):  # type: ignore[no-untyped-def]
    """Counting sort by dst, then sort and unique each row, in place."""
    indptr = np.zeros(num_nodes + 1, np.int64)
    num_loops = 0
    for i in range(len(src)):
        if src[i] == dst[i]:
            num_loops += 1
            continue
        indptr[dst[i] + 1] += 1
        if undirected:
            indptr[src[i] + 1] += 1
    for v in range(num_nodes):
        indptr[v + 1] += indptr[v]
    indices = np.empty(indptr[num_nodes], like.dtype)
    cursor = indptr[:-1].copy()
    for i in range(len(src)):
        if src[i] == dst[i]:
            continue
        indices[cursor[dst[i]]] = src[i]
        cursor[dst[i]] += 1
        if undirected:
            indices[cursor[src[i]]] = dst[i]
            cursor[src[i]] += 1
    end = 0
    for v in range(num_nodes):
        start, stop = indptr[v], indptr[v + 1]
        row = indices[start:stop]
        row.sort()
        indptr[v] = end
        last = -1
        for i in range(start, stop):
            if indices[i] != last:
                last = indices[i]
                indices[end] = last
                end += 1
    num_duplicates = indptr[num_nodes] - end
    indptr[num_nodes] = end
    return indptr, indices[:end].copy() if num_duplicates else indices, num_loops, num_duplicates


def in_edges_plain(
    src: list[int], dst: list[int], num_nodes: int, undirected: bool = False
) -> list[list[int]]:
    """Plain twin of ``in_edges``: the row of sources of each node."""
    rows: list[set[int]] = [set() for _ in range(num_nodes)]
    for u, v in zip(src, dst, strict=True):
        if u != v:
            rows[v].add(u)
            if undirected:
                rows[u].add(v)
    return [sorted(row) for row in rows]
