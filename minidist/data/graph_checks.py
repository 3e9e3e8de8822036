"""Intake: raw arrays of any source become a checked Graph, or a ValueError a user can act on.

N nodes, E directed edges, D features, C classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.graph import Graph, check_finite, in_edges

Array = NDArray[Any]
SPLITS = ("train_mask", "val_mask", "test_mask")


def take_in(
    name: str,
    edge_index: Array,
    x: Array,
    y: Array,
    masks: Mapping[str, Array],
    num_classes: int | None = None,
    *,
    undirected: bool = False,
) -> Graph:
    """Check and convert the arrays of one graph.

    edge_index: integer [2, E], sources over destinations.
    x: numbers [N, D], finite, made float32.
    y: whole numbers [N], -1 or NaN where unlabelled, made int64; or 0/1 [N, C], made uint8.
    masks: bool [N] for each of train_mask, val_mask, test_mask.
    undirected: add the reverse of each edge; else edges are taken as directed as given.
    num_classes: C where the labels present may not tell; else the largest label + 1.

    Self loops and duplicate edges are dropped and isolated nodes kept, with a warning for each.
    Raises ValueError naming the graph, the array, what it holds and what was expected.
    """
    x = _features(name, x)
    num_nodes = len(x)
    y = _labels(name, y, num_nodes)
    if num_classes is None:
        num_classes = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
        if num_classes < 1:
            raise ValueError(f"graph {name!r}: no node has a label: y is -1 everywhere")
    for split in SPLITS:
        _check_mask(name, split, masks[split], num_nodes)
    check_finite(name, x)
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype.kind not in "iu":
        raise ValueError(
            f"graph {name!r}: edge_index must be integers of shape (2, E), sources over "
            f"destinations, got {edge_index.dtype} {edge_index.shape}"
            + ("; transpose it" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else "")
        )
    # A file's byte order may be foreign, and numba reads only ours.
    src, dst = edge_index.astype(edge_index.dtype.newbyteorder("="), copy=False)
    indptr, indices = in_edges(name, src, dst, num_nodes, undirected=undirected)
    return Graph(
        name=name,
        indptr=indptr,
        indices=indices,
        x=x,
        y=y,
        num_classes=num_classes,
        **{split: masks[split] for split in SPLITS},
    )


def _features(name: str, x: Array) -> NDArray[np.float32]:
    if x.ndim != 2 or x.dtype.kind not in "fiub" or not len(x):
        raise ValueError(
            f"graph {name!r}: features x must be numbers of shape (N, D), one row per node, "
            f"got {x.dtype} {x.shape}"
        )
    with np.errstate(over="ignore"):  # what overflows is found, and named, as infinity
        return np.ascontiguousarray(x, dtype=np.float32)


def _labels(name: str, y: Array, num_nodes: int) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "f" and (np.isnan(y) | (np.floor(y) == y)).all():
        y = np.where(np.isnan(y), -1, y).astype(np.int64)  # OGB marks the unlabelled with NaN
    if y.ndim not in (1, 2) or len(y) != num_nodes or y.dtype.kind not in "iub":
        raise ValueError(
            f"graph {name!r}: labels y must be whole numbers of shape ({num_nodes},), or 0/1 of "
            f"shape ({num_nodes}, C) for multi-label tasks, got {y.dtype} {y.shape}"
        )
    if y.ndim == 1:
        return y.astype(np.int64)
    if y.size and (int(y.min()) < 0 or int(y.max()) > 1):
        bad = int(y.min()) if int(y.min()) < 0 else int(y.max())
        raise ValueError(f"graph {name!r}: multi-label y must be 0 or 1, got {bad}")
    return y.astype(np.uint8)


def _check_mask(name: str, split: str, mask: Array, num_nodes: int) -> None:
    if mask.shape != (num_nodes,) or mask.dtype != np.bool_:
        hint = ""
        if mask.ndim == 2 and num_nodes in mask.shape:
            hint = "; it holds several splits, choose one"
        elif mask.dtype.kind in "iu" and mask.ndim == 1:
            hint = "; a list of node ids becomes a mask by mask = zeros(N, bool); mask[ids] = True"
        raise ValueError(
            f"graph {name!r}: {split} must be bool of shape ({num_nodes},), "
            f"got {mask.dtype} {mask.shape}{hint}"
        )
