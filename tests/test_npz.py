"""npz archives: what is read, and what each kind of bad input is told."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.data.datasets import load_dataset

SHARED = Path(__file__).parents[1] / "data" / "real"


def arrays() -> dict[str, Any]:
    """A ring of 6 nodes, both directions."""
    ring = np.arange(6)
    forward = np.stack([ring, (ring + 1) % 6])
    return {
        "edge_index": np.concatenate([forward, forward[::-1]], axis=1).astype(np.int32),
        "x": np.arange(18, dtype=np.float32).reshape(6, 3),
        "y": ring % 2,
        "train_mask": ring < 2,
        "val_mask": ring == 2,
        "test_mask": ring > 2,
    }


def save(tmp_path: Path, **changes: Any) -> str:
    """Write the ring with some keys replaced, or left out where the value is None."""
    kept = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(tmp_path / "ring.npz", **kept)
    return f"npz:{tmp_path / 'ring.npz'}"


def test_dense_archive(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = load_dataset(save(tmp_path, train_masks=np.ones((6, 10), bool)))
    assert (graph.name, graph.num_nodes, graph.num_edges, graph.num_classes) == ("ring", 6, 12, 2)
    assert graph.indices[graph.indptr[2] : graph.indptr[3]].tolist() == [1, 3]
    assert np.array_equal(graph.x, arrays()["x"])


def test_edges_point_from_row_0_to_row_1(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="4 isolated nodes kept"):
        graph = load_dataset(save(tmp_path, edge_index=np.array([[4], [1]])))
    assert graph.indices.tolist() == [4]
    assert graph.indptr.tolist() == [0, 0, 1, 1, 1, 1, 1]


def test_csr_features_equal_dense_ones(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    dense[dense < 0.7] = 0
    x = sparse.csr_matrix(dense)
    parts = {"x_data": x.data, "x_indices": x.indices, "x_indptr": x.indptr.astype(np.int64)}
    graph = load_dataset(save(tmp_path, x=None, x_shape=np.array(x.shape), **parts))
    assert np.array_equal(graph.x, dense)
    assert graph.x.dtype == np.float32


def test_foreign_byte_order_and_half_precision_are_read(tmp_path: Path) -> None:
    edges = arrays()["edge_index"].astype(">i8")
    graph = load_dataset(save(tmp_path, edge_index=edges, x=arrays()["x"].astype(">f2")))
    assert graph.num_edges == 12
    assert np.array_equal(graph.x, arrays()["x"])
    half = {**CSR, "x_data": np.ones(2, np.float16)}
    assert load_dataset(save(tmp_path, x=None, **half)).x.sum() == 2


@pytest.mark.parametrize(
    ("changes", "told", "wanted"),
    [
        (
            {"y": np.eye(6, 4, dtype=np.int64)},
            "y has 4 columns: a multi-label task, scored by micro-F1",
            {"multilabel": True, "num_classes": 4},
        ),
        (
            {"y": np.eye(6) > 0},
            "y is one-hot: taken as one of 6 classes a node",
            {"multilabel": False, "num_classes": 6},
        ),
        ({"y": 2 * arrays()["y"]}, "2 of 3 classes occur", {"num_classes": 3}),
        (
            {"edge_weight": np.ones(12)},
            "edge_weight is not used: every edge counts alike",
            {"num_edges": 12},
        ),
        (
            {"edge_index": np.zeros((2, 1), int)},
            "6 isolated nodes kept: they are classified from their own features",
            {"num_edges": 0},
        ),
    ],
)
def test_what_is_made_of_unusual_arrays_is_told(
    tmp_path: Path, changes: dict[str, Any], told: str, wanted: dict[str, Any]
) -> None:
    with pytest.warns(UserWarning, match="graph 'ring'") as caught:
        graph = load_dataset(save(tmp_path, **changes))
    assert f"graph 'ring': {told}" in [str(warning.message) for warning in caught]
    assert {field: getattr(graph, field) for field in wanted} == wanted


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_masks_may_be_zeros_and_ones(tmp_path: Path, dtype: Any) -> None:
    graph = load_dataset(save(tmp_path, train_mask=arrays()["train_mask"].astype(dtype)))
    assert np.array_equal(graph.train_mask, arrays()["train_mask"])


def nan_features() -> Any:
    x = arrays()["x"]
    x[4, 1] = np.nan
    return x


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no y": ({"y": None}, "missing y; a graph needs edge_index, y, train_mask"),
    "no x": ({"x": None}, r"missing x; .* and x \(or x_data, x_indices, x_indptr, x_shape\)"),
    "half a csr": ({"x": None, "x_data": np.ones(3)}, "missing x_indices, x_indptr, x_shape"),
    "edges transposed": (
        {"edge_index": np.zeros((9, 2), int)},
        r"shape \(2, E\).*got int64 \(9, 2\); transpose it",
    ),
    "float edges": ({"edge_index": np.zeros((2, 3))}, "edge_index must be integers"),
    "edge id too large": ({"edge_index": np.array([[0], [6]])}, "edge id 6 is out of range"),
    "edge id negative": ({"edge_index": np.array([[-1], [2]])}, "edge id -1 is out of range"),
    "x is a vector": ({"x": np.ones(6)}, r"x must be numbers of shape \(N, D\)"),
    "x has no column": ({"x": np.ones((6, 0))}, r"one column at least, got float64 \(6, 0\)"),
    "x is text": ({"x": np.array([["a"]] * 6)}, "x must be numbers"),
    "NaN": ({"x": nan_features()}, "features of node 4 hold NaN or infinity"),
    "too large for float32": ({"x": np.full((6, 1), 1e300)}, "node 0 hold NaN or infinity"),
    "y too short": ({"y": np.zeros(5, int)}, r"y must be whole numbers of shape \(6,\)"),
    "fractional y": ({"y": np.full(6, 0.5)}, "y must be whole numbers"),
    "negative label": ({"y": np.array([0, 1, 0, -2, 1, 0])}, "label -2 is out of range"),
    "no label": ({"y": np.full(6, -1)}, "no node has a label"),
    "labels are codes": (
        {"y": np.array([13, 7_000_013, 14_000_013, 13, -1, 13])},
        r"only 3 of 14000014 classes occur: .* codes such as 13 and 14000013; number them anew",
    ),
    "unlabelled training node": (
        {"y": np.array([0, -1, 0, 1, 1, 0])},
        "node 1 is in the train split but has no label",
    ),
    "multi-label of 2": ({"y": np.full((6, 2), 2)}, "multi-label y must be 0 or 1, got 2"),
    "mask of ids": ({"val_mask": np.array([1, 2])}, "val_mask must be bool.*node ids becomes"),
    "mask of twos": ({"val_mask": np.full(6, 2)}, "val_mask must be bool.*node ids becomes"),
    "several splits": ({"test_mask": np.ones((6, 10), bool)}, "several splits, choose one"),
    "no training nodes": ({"train_mask": np.zeros(6, bool)}, "has no training nodes"),
    "objects": ({"y": np.array([{}] * 6)}, "save plain arrays, not objects"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        load_dataset(save(tmp_path, **changes))


CSR: dict[str, Any] = {
    "x_data": np.ones(2, np.float32),
    "x_indices": np.array([0, 2]),
    "x_indptr": np.array([0, 1, 1, 1, 1, 1, 2]),
    "x_shape": np.array([6, 3]),
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x_shape", np.array([6.0, 3.0]), "x_shape must be integers"),
        ("x_indptr", np.array([0, 2]), r"x_indptr must be integers of shape \(7,\)"),
        ("x_indptr", np.array([0, 2, 1, 1, 1, 1, 2]), "x_indptr must rise from 0 to 2"),
        ("x_indices", np.array([0, 3]), "x_indices must lie between 0 and 2"),
        ("x_indices", np.array([0.0, 1.0]), "x_indices must be integers"),
        ("x_data", np.ones((2, 1)), "x_data must be numbers"),
    ],
)
def test_bad_csr_features_are_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(save(tmp_path, x=None, **{**CSR, key: value}))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.npz: no such file"):
        load_dataset(f"npz:{tmp_path / 'gone.npz'}")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_truncated_file(tmp_path: Path, kept: float) -> None:
    path = Path(save(tmp_path).removeprefix("npz:"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"ring\.npz: not a complete \.npz archive.*cut short"):
        load_dataset(f"npz:{path}")


def test_damaged_bytes_inside(tmp_path: Path) -> None:
    path = tmp_path / "ring.npz"
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    content[200:240] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ring\.npz: "):
        load_dataset(f"npz:{path}")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ValueError, match=r"not a complete \.npz archive"):
        load_dataset(f"npz:{path}")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("facebook_pagepage", (22_470, 341_646, 4_714, 4)),
        ("amazon_photo", (7_650, 238_162, 745, 8)),
        ("coauthor_cs", (18_333, 163_788, 6_805, 15)),
        ("tolokers", (11_758, 1_038_000, 10, 2)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*isolated nodes kept")
def test_real_graphs(name: str, shape: tuple[int, ...]) -> None:
    path = SHARED / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    graph = load_dataset(f"npz:{path}")
    assert (graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes) == shape
