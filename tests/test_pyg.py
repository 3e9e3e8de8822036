"""PyTorch Geometric: any Data, and Reddit and Yelp from small files in their real raw layout."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import Data
from torch_geometric.datasets import Amazon

from minidist.data.datasets import from_pyg, load_dataset
from minidist.data.graph_checks import SPLITS

NUM_NODES = 8
NODE, DENSE = torch.arange(NUM_NODES), torch.eye(NUM_NODES)
RING = torch.stack([NODE, (NODE + 1) % NUM_NODES])
BOTH = torch.cat([RING, RING.flip(0)], dim=1)


def ring_data(**changes: Any) -> Data:
    fields = {
        "x": torch.randn(NUM_NODES, 4),
        "edge_index": BOTH,
        "y": NODE % 3,
        "train_mask": NODE < 3,
        "val_mask": NODE == 3,
        "test_mask": NODE > 3,
    }
    return Data(**{**fields, **changes})


def test_any_data() -> None:
    data = ring_data()
    graph = from_pyg(data, "ring")
    assert np.array_equal(graph.x, data.x.numpy())
    assert graph.y.tolist() == data.y.tolist()
    assert (graph.name, graph.num_edges, graph.num_classes) == ("ring", 16, 3)


@pytest.mark.filterwarnings("ignore:graph .ring.. y", "ignore:Sparse CSR")
@pytest.mark.parametrize(
    ("changes", "num_classes", "multilabel"),
    [
        ({"x": DENSE.to_sparse()}, 3, False),
        ({"x": DENSE.bfloat16()}, 3, False),
        ({"x": DENSE.tolist()}, 3, False),
        ({"x": DENSE.numpy().astype(">f8")}, 3, False),
        ({"edge_index": EdgeIndex(BOTH).contiguous()}, 3, False),
        ({"edge_index": BOTH.tolist()}, 3, False),
        ({"y": NODE[:, None] % 2}, 2, False),
        ({"y": (NODE % 3).bfloat16()}, 3, False),
        ({"y": torch.eye(NUM_NODES).to_sparse()}, NUM_NODES, False),
        ({"y": torch.ones(NUM_NODES, 5)}, 5, True),
        ({"train_mask": (NODE < 3).to(torch.uint8)}, 3, False),
    ],
)
def test_tensors_of_any_kind_arrays_and_lists(
    changes: dict[str, Any], num_classes: int, multilabel: bool
) -> None:
    graph = from_pyg(ring_data(**{"x": DENSE, **changes}), "ring")
    assert (graph.num_edges, graph.train_mask.sum()) == (16, 3)
    assert (graph.num_classes, graph.multilabel) == (num_classes, multilabel)
    assert np.array_equal(graph.x, DENSE.numpy())


def test_edge_weights_are_dropped_with_a_word() -> None:
    with pytest.warns(UserWarning, match="'ring': edge_weight is not used: every edge counts alik"):
        from_pyg(ring_data(edge_weight=torch.rand(16)), "ring")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "the Data has no x$"),
        ({"train_mask": None}, "the Data has no train_mask; .*RandomNodeSplit adds masks"),
        ({"edge_index": None, "adj_t": torch.eye(8)}, "no edge_index; turn adj_t back"),
        (
            {"edge_index": torch.eye(8).to_sparse()},
            "edge_index is a sparse matrix; .*to_edge_index",
        ),
        ({"x": [[1.0], [1.0, 2.0]]}, "x makes no array"),
        ({"y": torch.complex(DENSE, DENSE)}, "y must be whole numbers"),
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
    with pytest.raises(
        ValueError, match=r"reddit: the dataset is damaged .*not a zip file.*/reddit"
    ):
        load_dataset("reddit", root=tmp_path)


def process_amazon(root: Path, *graphs: Data) -> None:
    """What PyG's Amazon leaves when it has processed these graphs."""
    dataset = object.__new__(Amazon)
    dataset.root, dataset.name = str(root / "Amazon"), "photo"
    Path(dataset.processed_dir).mkdir(parents=True)
    dataset.save(list(graphs), dataset.processed_paths[0])


def test_any_dataset_by_the_name_of_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    # Processed files are enough. Amazon has no splits of its own.
    process_amazon(tmp_path, Data(x=DENSE, edge_index=BOTH, y=NODE % 3))
    with pytest.warns(UserWarning, match="no split of its own: 60% of the nodes train"):
        graphs = [load_dataset("pyg:Amazon/Photo", root=tmp_path, seed=seed) for seed in (0, 1)]
    assert [graphs[0].num_nodes, graphs[0].num_edges] == [8, 16]
    assert [int(getattr(graphs[0], mask).sum()) for mask in SPLITS] == [5, 2, 1]
    assert np.array_equal(graphs[0].train_mask, graphs[1].train_mask)
    karate = load_dataset("pyg:KarateClub", root=tmp_path)  # which keeps no files
    assert (karate.num_nodes, karate.num_classes, karate.val_mask.sum()) == (34, 4, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"Amazon"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "pyg:Planetoid/Cora",
            r"Cora: could not be downloaded .*; expected ind\.cora\.x, .*https:",
        ),
        ("pyg:Amazon/Photos", r"damaged or of another name \(.*delete that folder"),
        ("pyg:Planetoid", r"expected pyg:Planetoid/NAME, see https:"),
        ("pyg:Reddit/x", r"expected pyg:Reddit, see https:"),
        ("pyg:planetoyd/Cora", "unknown dataset 'pyg:planetoyd/Cora': did you mean pyg:Planetoid"),
        ("pyg:Amazon/Photo", "pyg:Amazon/Photo: holds 2 graphs; a dataset of one graph is"),
    ],
)
def test_a_dataset_that_cannot_be_had_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    process_amazon(tmp_path, ring_data(), ring_data())
    with pytest.raises(ValueError, match=message) as raised:
        load_dataset(name, root=tmp_path)
    assert "\n" not in str(raised.value)
    assert not [*tmp_path.rglob("raw/*")]


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
