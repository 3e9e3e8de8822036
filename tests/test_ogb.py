"""OGB's three graphs from small files in the real raw layout, through the ogb package's readers."""

import gzip
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.data.datasets import load_dataset
from minidist.data.ogb import SOURCES, download

NUM_NODES = 6
# Node 1 and 2 cite each other; the rest is a chain.
EDGES = [(0, 1), (1, 2), (2, 1), (2, 3), (3, 4), (4, 5)]
UNDIRECTED = [[1], [0, 2], [1, 3], [2, 4], [3, 5], [4]]
FEATURES = np.random.default_rng(0).random((NUM_NODES, 4)).round(3)

pytest.importorskip("ogb")


def write_csv(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as out:
        for row in rows:
            out.write(",".join(map(str, np.atleast_1d(row).tolist())) + "\n")


def write_splits(folder: Path, split: str) -> None:
    for part, ids in (("train", [0, 2]), ("valid", [3]), ("test", [1, 5])):
        write_csv(folder / "split" / split / f"{part}.csv.gz", ids)


def write_csv_dataset(folder: Path, split: str) -> None:
    """The files of arxiv.zip and products.zip."""
    raw = folder / "raw"
    write_csv(raw / "edge.csv.gz", EDGES)
    write_csv(raw / "num-node-list.csv.gz", [NUM_NODES])
    write_csv(raw / "num-edge-list.csv.gz", [len(EDGES)])
    write_csv(raw / "node-feat.csv.gz", FEATURES)
    write_csv(raw / "node-label.csv.gz", [3, 1, 4, 1, 5, 9])
    write_csv(raw / "node_year.csv.gz", [2018] * NUM_NODES)
    write_splits(folder, split)
    (folder / "RELEASE_v1.txt").touch()


def rows_of(graph: Any) -> list[list[int]]:
    return [graph.indices[graph.indptr[v] : graph.indptr[v + 1]].tolist() for v in range(NUM_NODES)]


@pytest.mark.parametrize(
    ("name", "split", "num_classes"),
    [("ogbn-arxiv", "time", 40), ("ogbn-products", "sales_ranking", 47)],
)
def test_csv_datasets(tmp_path: Path, name: str, split: str, num_classes: int) -> None:
    write_csv_dataset(tmp_path / name.replace("-", "_"), split)
    for _ in range(2):
        graph = load_dataset(name, root=tmp_path)
        assert rows_of(graph) == UNDIRECTED
        assert np.allclose(graph.x, FEATURES)
        assert graph.y.tolist() == [3, 1, 4, 1, 5, 9]
        assert graph.num_classes == num_classes
        assert np.flatnonzero(graph.train_mask).tolist() == [0, 2]
        assert np.flatnonzero(graph.val_mask).tolist() == [3]
        assert np.flatnonzero(graph.test_mask).tolist() == [1, 5]


def write_papers(folder: Path) -> None:
    """The files of papers100M-bin.zip; most papers have no label (NaN)."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    np.savez(
        raw / "data.npz",
        edge_index=np.array(EDGES).T,
        num_nodes_list=np.array([NUM_NODES]),
        num_edges_list=np.array([len(EDGES)]),
        node_feat=FEATURES.astype(np.float32),
        node_year=np.full((NUM_NODES, 1), 2018),
    )
    labels = np.array([3, 1, 4, 1, np.nan, 9], np.float32)[:, None]
    np.savez(raw / "node-label.npz", node_label=labels)
    write_splits(folder, "time")


def test_papers100m(tmp_path: Path) -> None:
    write_papers(tmp_path / "ogbn_papers100M")
    for _ in range(2):
        graph = load_dataset("ogbn-papers100M", root=tmp_path)
        assert rows_of(graph) == UNDIRECTED
        assert graph.y.tolist() == [3, 1, 4, 1, -1, 9]
        assert graph.num_classes == 172
        assert np.array_equal(graph.x, FEATURES.astype(np.float32))


@pytest.mark.parametrize("file", ["raw/node-feat.csv.gz", "split/time/valid.csv.gz"])
def test_a_missing_file_is_named_with_its_home(tmp_path: Path, file: str) -> None:
    write_csv_dataset(tmp_path / "ogbn_arxiv", "time")
    (tmp_path / "ogbn_arxiv" / file).unlink()
    with pytest.raises(ValueError, match=rf"{file} is missing; unpack http://.*/arxiv\.zip"):
        load_dataset("ogbn-arxiv", root=tmp_path)


def test_papers100m_is_never_fetched_unasked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.npz is missing; unpack .*bin\.zip \(57 GB\)"):
        load_dataset("ogbn-papers100M", root=tmp_path)


@pytest.mark.parametrize("file", ["edge", "node-feat", "node-label"])
def test_a_truncated_file_is_an_error(tmp_path: Path, file: str) -> None:
    write_csv_dataset(tmp_path / "ogbn_arxiv", "time")
    path = tmp_path / "ogbn_arxiv" / "raw" / f"{file}.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"a file in .*raw is damaged, perhaps cut short"):
        load_dataset("ogbn-arxiv", root=tmp_path)


def test_out_of_range_ids_and_labels_and_short_features_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "ogbn_arxiv"
    write_csv_dataset(folder, "time")
    write_csv(folder / "split/time/test.csv.gz", [1, 6])
    with pytest.raises(ValueError, match=r"test\.csv\.gz: node id 6 is out of range: .* 0 to 5"):
        load_dataset("ogbn-arxiv", root=tmp_path)
    write_splits(folder, "time")
    write_csv(folder / "raw/node-label.csv.gz", [3, 1, 4, 1, 5, 40])
    with pytest.raises(ValueError, match="label 40 is out of range: expected 0 to 39"):
        load_dataset("ogbn-arxiv", root=tmp_path)
    write_csv(folder / "raw/node-feat.csv.gz", FEATURES[:4])
    with pytest.raises(ValueError, match="node features must have 6 rows, got 4"):
        load_dataset("ogbn-arxiv", root=tmp_path)


def test_download_unpacks_into_place(tmp_path: Path) -> None:
    write_csv_dataset(tmp_path / "made" / "arxiv", "time")
    archive = tmp_path / "arxiv.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted((tmp_path / "made").rglob("*.gz")):
            out.write(path, path.relative_to(tmp_path / "made"))
    source = replace(SOURCES["ogbn-arxiv"], url=archive.as_uri())
    download(source, tmp_path / "data" / "ogbn_arxiv")
    assert load_dataset("ogbn-arxiv", root=tmp_path / "data").num_nodes == NUM_NODES
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["ogbn_arxiv"]


def test_no_network_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"could not be downloaded .*arxiv\.zip \(0\.1 GB\)"):
        load_dataset("ogbn-arxiv", root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_absent_package_names_the_extra(tmp_path: Path) -> None:
    write_csv_dataset(tmp_path / "ogbn_arxiv", "time")
    code = (
        "import sys; sys.modules['ogb'] = None\n"
        "from minidist.data.datasets import load_dataset\n"
        f"try: load_dataset('ogbn-arxiv', root={str(tmp_path)!r})\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install minidist[ogb]" in done.stdout, done.stderr
