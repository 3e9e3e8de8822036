"""Graph checks, and in-edges against the plain twin."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minidist.graph import Graph, check_finite, in_edges, in_edges_plain


@pytest.mark.parametrize("undirected", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_in_edges_equal_the_plain_twin(seed: int, undirected: bool, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    num_nodes = int(rng.integers(1, 40))
    src, dst = rng.integers(num_nodes, size=(2, int(rng.integers(0, 200)))).astype(dtype)
    indptr, indices = in_edges("g", src, dst, num_nodes, undirected=undirected, warn=False)
    rows = [indices[indptr[v] : indptr[v + 1]].tolist() for v in range(num_nodes)]
    assert rows == in_edges_plain(src.tolist(), dst.tolist(), num_nodes, undirected)
    assert indptr.dtype == np.int64
    assert indices.dtype == np.int32


def test_in_edges_take_columns_of_a_wider_array() -> None:
    edges = np.array([[0, 1], [2, 1], [0, 2]], np.int32)
    indptr, indices = in_edges("g", edges[:, 0], edges[:, 1], 3)
    assert indptr.tolist() == [0, 0, 2, 3]
    assert indices.tolist() == [0, 2, 0]


def test_dropped_edges_and_isolated_nodes_are_counted() -> None:
    src, dst = np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 1, 0])
    with pytest.warns(UserWarning, match="graph 'g'") as caught:
        indptr, indices = in_edges("g", src, dst, 4)
    assert [str(warning.message) for warning in caught] == [
        "graph 'g': 1 self loops dropped",
        "graph 'g': 2 duplicate edges dropped",
        "graph 'g': 2 isolated nodes kept: they are classified from their own features",
    ]
    assert indptr.tolist() == [0, 1, 2, 2, 2]
    assert indices.tolist() == [1, 0]


def test_an_edge_given_both_ways_is_no_duplicate_of_an_undirected_graph() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        indptr, indices = in_edges("g", np.array([0, 1]), np.array([1, 0]), 2, undirected=True)
    assert indptr.tolist() == [0, 1, 2]
    assert indices.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("src", "dst", "message"),
    [
        ([0, 7], [1, 0], "edge id 7 is out of range: the graph has nodes 0 to 2"),
        ([0, 1], [-4, 0], "edge id -4 is out of range"),
        ([0, 1], [1], "two vectors of one length"),
    ],
)
def test_bad_edges_are_named(src: list[int], dst: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        in_edges("g", np.array(src), np.array(dst), 3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "x",
            np.zeros((11, 3), np.float32),
            r"x must be float32 of shape \(12, 3\), got float32 \(11, 3\)",
        ),
        ("x", np.zeros((12, 3)), "got float64"),
        ("y", np.zeros(12, np.int32), r"y must be int64 of shape \(12,\), got int32"),
        ("y", np.full(12, 2), "label 2 is out of range: expected 0 to 1, or -1"),
        ("y", np.full(12, -3), "label -3 is out of range"),
        ("y", np.full(12, -1), "node 0 is in the train split but has no label"),
        ("y", np.zeros((12, 2)), "y must be uint8"),
        ("y", np.full((12, 2), 2, np.uint8), "multi-label y must be 0 or 1, got 2"),
        ("val_mask", np.zeros(12, np.int8), "val_mask must be bool"),
        ("test_mask", np.ones(5, bool), r"test_mask must be bool of shape \(12,\)"),
        ("train_mask", np.zeros(12, bool), "no training nodes"),
        ("indices", np.zeros(3, np.int32), "indptr ends at 34, but there are 3 edges"),
    ],
)
def test_bad_arrays_are_named(graph12: Graph, field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(graph12, **{field: value})


def test_overlapping_splits_are_named(graph12: Graph) -> None:
    with pytest.raises(ValueError, match="node 0 is in both the train and the test split"):
        replace(graph12, test_mask=graph12.train_mask)


def test_a_non_finite_feature_names_its_node() -> None:
    x = np.zeros((10, 3), np.float32)
    check_finite("g", x)
    x[7, 2] = np.nan
    with pytest.raises(ValueError, match="features of node 7 hold NaN or infinity"):
        check_finite("g", x, rows=4)
