"""Intake: raw arrays of any source become a checked Graph, or a ValueError a user can act on.

N nodes, E directed edges, D features, C classes.
"""

import warnings
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from minidist.graph import Array, Graph, check_finite, in_edges

SPLITS = ("train_mask", "val_mask", "test_mask")
# What else a source may hold of edges; a mean over neighbours counts each of them alike.
UNUSED = ("edge_weight", "edge_attr")
# More classes than this for each one that occurs, and labels are codes rather than class numbers.
MOST_CLASSES_PER_LABEL = 10


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
    y: whole numbers [N], -1 or NaN where unlabelled, made int64; or 0/1 [N, C], made uint8, or
    class numbers where each row has one 1.
    masks: bool or 0/1 [N] for each of train_mask, val_mask, test_mask.
    undirected: add the reverse of each edge; else edges are taken as directed as given.
    num_classes: C where the labels present may not tell; else the largest label + 1.

    Self loops and duplicate edges are dropped and isolated nodes kept, with a warning for each.
    Raises ValueError naming the graph, the array, what it holds and what was expected.
    """
    x = _features(name, x)
    y = _labels(name, y, len(x))
    if num_classes is None:
        num_classes = y.shape[1] if y.ndim == 2 else _count_classes(name, y)
    splits = {split: _mask(name, split, masks[split], len(x)) for split in SPLITS}
    check_finite(name, x)
    src, dst = _ends(name, edge_index)
    indptr, indices = in_edges(name, src, dst, len(x), undirected=undirected)
    return Graph(
        name=name, indptr=indptr, indices=indices, x=x, y=y, num_classes=num_classes, **splits
    )


def _ends(name: str, edge_index: Array) -> Array:
    """Checked, in our byte order: a file's may be foreign, and numba reads only ours."""
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype.kind not in "iu":
        raise ValueError(
            f"graph {name!r}: edge_index must be integers of shape (2, E), sources over "
            f"destinations, got {edge_index.dtype} {edge_index.shape}"
            + ("; transpose it" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else "")
        )
    return edge_index.astype(edge_index.dtype.newbyteorder("="), copy=False)


def note(name: str, text: str) -> None:
    """Warn of what is done with a graph that its user may not expect."""
    warnings.warn(f"graph {name!r}: {text}", UserWarning, stacklevel=3)


def random_splits(y: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.bool_]]:
    """bool [N] a split: 60% of the labelled nodes to train (at least one), 20% val, 20% test."""
    labelled = np.flatnonzero(y >= 0 if y.ndim == 1 else np.ones(len(y), np.bool_))
    labelled = np.random.default_rng(seed).permutation(labelled)
    ends = [0, -(-len(labelled) * 3 // 5), -(-len(labelled) * 4 // 5), len(labelled)]
    masks = {split: np.zeros(len(y), np.bool_) for split in SPLITS}
    for mask, (first, last) in zip(masks.values(), pairwise(ends), strict=True):
        mask[labelled[first:last]] = True
    return masks


def _features(name: str, x: Array) -> NDArray[np.float32]:
    if x.ndim != 2 or x.dtype.kind not in "fiub" or 0 in x.shape:
        raise ValueError(
            f"graph {name!r}: features x must be numbers of shape (N, D), one row per node and one "
            f"column at least, got {x.dtype} {x.shape}"
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
    if y.ndim == 2:
        y = _columns(name, y)
    return y.astype(np.int64 if y.ndim == 1 else np.uint8)


def _columns(name: str, y: Array) -> Array:
    """Checked 0/1 [N, C]: as they are, or class numbers [N] where each row has one 1."""
    if y.size and (int(y.min()) < 0 or int(y.max()) > 1):
        bad = int(y.min()) if int(y.min()) < 0 else int(y.max())
        raise ValueError(f"graph {name!r}: multi-label y must be 0 or 1, got {bad}")
    if (y.sum(axis=1) == 1).all():
        note(name, f"y is one-hot: taken as one of {y.shape[1]} classes a node")
        y = y.argmax(axis=1)
    else:
        note(name, f"y has {y.shape[1]} columns: a multi-label task, scored by micro-F1")
    return y


def _count_classes(name: str, y: NDArray[np.int64]) -> int:
    """The largest label + 1. Raises ValueError where that is no number of classes."""
    present = np.unique(y[y >= 0])
    if not len(present):
        raise ValueError(f"graph {name!r}: no node has a label: y is -1 everywhere")
    num_classes = int(present[-1]) + 1
    if num_classes > max(100, MOST_CLASSES_PER_LABEL * len(present)):
        raise ValueError(
            f"graph {name!r}: only {len(present)} of {num_classes} classes occur: labels y are "
            f"codes such as {present[0]} and {present[-1]}; number them anew: "
            "y[y >= 0] = numpy.unique(y[y >= 0], return_inverse=True)[1]"
        )
    if num_classes > len(present):
        note(name, f"{len(present)} of {num_classes} classes occur")
    return num_classes


def _mask(name: str, split: str, mask: Array, num_nodes: int) -> NDArray[np.bool_]:
    numbers = mask.shape == (num_nodes,) and mask.dtype.kind in "biuf"
    if numbers and (mask.dtype == np.bool_ or np.isin(mask, (0, 1)).all()):
        return mask.astype(np.bool_)
    hint = ""
    if mask.ndim == 2 and num_nodes in mask.shape:
        hint = "; it holds several splits, choose one"
    elif mask.dtype.kind in "iu" and mask.ndim == 1:
        hint = "; a list of node ids becomes a mask by mask = zeros(N, bool); mask[ids] = True"
    raise ValueError(
        f"graph {name!r}: {split} must be bool of shape ({num_nodes},), "
        f"got {mask.dtype} {mask.shape}{hint}"
    )
