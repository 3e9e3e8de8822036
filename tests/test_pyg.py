"""PyTorch Geometric: any Data, and Reddit and Yelp from small files in their real raw layout."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from minidist.data.datasets import from_pyg, load_dataset

NUM_NODES = 8
RING = np.stack([np.arange(NUM_NODES), (np.arange(NUM_NODES) + 1) % NUM_NODES])
BOTH = np.concatenate([RING, RING[::-1]], axis=1)


def ring_data(**changes: Any) -> Data:
    node = torch.arange(NUM_NODES)
    fields = {
        "x": torch.randn(NUM_NODES, 4),
        "edge_index": torch.from_numpy(BOTH),
        "y": node % 3,
        "train_mask": node < 3,
        "val_mask": node == 3,
        "test_mask": node > 3,
    }
    return Data(**{**fields, **changes})


def test_any_data() -> None:
    data = ring_data()
    graph = from_pyg(data, "ring")
    assert np.array_equal(graph.x, data.x.numpy())
    assert graph.y.tolist() == data.y.tolist()
    assert (graph.name, graph.num_edges, graph.num_classes) == ("ring", 16, 3)


def test_sparse_features_column_labels_and_float_multilabels() -> None:
    dense = torch.eye(NUM_NODES)
    assert np.array_equal(from_pyg(ring_data(x=dense.to_sparse()), "ring").x, dense.numpy())
    column = from_pyg(ring_data(y=torch.arange(NUM_NODES)[:, None] % 2), "ring")
    assert column.num_classes == 2
    assert not column.multilabel
    several = from_pyg(ring_data(y=torch.ones(NUM_NODES, 5)), "ring")
    assert several.multilabel
    assert several.num_classes == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "the Data has no x$"),
        ({"train_mask": None}, "the Data has no train_mask; .*RandomNodeSplit adds masks"),
        ({"edge_index": None, "adj_t": torch.eye(8)}, "no edge_index; turn adj_t back"),
        ({"val_mask": torch.ones(8, 10) > 0}, "several splits, choose one"),
        ({"x": torch.full((8, 1), float("inf"))}, "node 0 hold NaN or infinity"),
    ],
)
def test_bad_data_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_pyg(ring_data(**changes), "ring")


def write_reddit(raw: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    raw.mkdir(parents=True)
    np.savez(
        raw / "reddit_data.npz",
        feature=np.random.default_rng(0).random((NUM_NODES, 6)),
        label=np.arange(NUM_NODES) % 4,
        node_types=np.array([1, 1, 1, 1, 2, 2, 3, 3]),
        node_ids=np.arange(NUM_NODES),
    )
    sparse.save_npz(
        raw / "reddit_graph.npz", sparse.coo_matrix((np.ones(16), BOTH), (NUM_NODES, NUM_NODES))
    )


def write_yelp(raw: Path) -> Any:
    sparse = pytest.importorskip("scipy.sparse")
    raw.mkdir(parents=True)
    adjacency = sparse.coo_matrix((np.ones(16), BOTH), (NUM_NODES, NUM_NODES)).tocsr()
    np.savez(
        raw / "adj_full.npz",
        data=adjacency.data,
        indices=adjacency.indices,
        indptr=adjacency.indptr,
        shape=adjacency.shape,
    )
    np.save(raw / "feats.npy", np.random.default_rng(0).random((NUM_NODES, 3)))
    labels = np.random.default_rng(1).integers(2, size=(NUM_NODES, 5))
    (raw / "class_map.json").write_text(json.dumps(dict(enumerate(labels.tolist()))))
    (raw / "role.json").write_text(json.dumps({"tr": [0, 2, 4, 6], "va": [1, 3], "te": [5, 7]}))
    return labels


def test_reddit(tmp_path: Path) -> None:
    write_reddit(tmp_path / "reddit" / "raw")
    for _ in range(2):  # the second call reads what the first one processed
        graph = load_dataset("reddit", root=tmp_path)
        assert (graph.num_nodes, graph.num_edges, graph.num_features) == (NUM_NODES, 16, 6)
        assert graph.y.tolist() == [0, 1, 2, 3] * 2
        assert np.flatnonzero(graph.train_mask).tolist() == [0, 1, 2, 3]
        assert np.flatnonzero(graph.test_mask).tolist() == [6, 7]


def test_yelp_is_multilabel(tmp_path: Path) -> None:
    labels = write_yelp(tmp_path / "yelp" / "raw")
    for _ in range(2):
        graph = load_dataset("yelp", root=tmp_path)
        assert graph.multilabel
        assert graph.y.dtype == np.uint8
        assert np.array_equal(graph.y, labels)
        assert np.flatnonzero(graph.val_mask).tolist() == [1, 3]
        assert graph.num_edges == 16


@pytest.mark.parametrize(("name", "file"), [("reddit", "reddit_data.npz"), ("yelp", "role.json")])
def test_missing_files_and_their_home_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    pytest.importorskip("scipy.sparse")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network, wherever this runs
    with pytest.raises(ValueError, match=f"{name}: .*not be downloaded.*{file}.* in .*https://"):
        load_dataset(name, root=tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "reddit" / "raw"
    write_reddit(raw)
    content = (raw / "reddit_data.npz").read_bytes()
    (raw / "reddit_data.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"reddit: the dataset is damaged .*reddit_data\.npz"):
        load_dataset("reddit", root=tmp_path)


def test_an_absent_package_names_the_extra(tmp_path: Path) -> None:
    write_reddit(tmp_path / "reddit" / "raw")
    code = (
        "import sys; sys.modules['scipy.sparse'] = None\n"
        "from minidist.data.datasets import load_dataset\n"
        f"try: load_dataset('reddit', root={str(tmp_path)!r})\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install minidist[ogb]" in done.stdout, done.stderr
