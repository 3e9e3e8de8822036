"""SNAP's two graphs from small files in the real format."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from minidist.data.datasets import load_dataset
from minidist.data.edge_list import read_edge_list

HEADER = (
    "# Undirected graph: ../../data/output/orkut.txt\n# Nodes: 7 Edges: 7\n# FromNodeId\tToNodeId\n"
)
# SNAP's ids start at 1 and have gaps: 1 2 3 5 8 13 21 become 0 to 6.
PAIRS = [(1, 2), (1, 3), (2, 3), (3, 5), (5, 8), (8, 13), (13, 21)]
COMMUNITIES = "5\t8\n1\t2\t3\t5\n8\t13\n"


def write(path: Path, text: str, *, zipped: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_snap(root: Path, name: str, *, zipped: bool = True) -> Path:
    folder = root / name
    lines = "".join(f"{u}\t{v}\n" for u, v in PAIRS)
    write(folder / f"{name}.ungraph.txt", HEADER + lines, zipped=zipped)
    write(folder / f"{name}.top5000.cmty.txt", COMMUNITIES, zipped=zipped)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("name", "dimensions"), [("com-orkut", 8), ("com-friendster", 128)])
def test_load(tmp_path: Path, name: str, dimensions: int, zipped: bool) -> None:
    write_snap(tmp_path, name, zipped=zipped)
    graph = load_dataset(name, root=tmp_path)
    assert (graph.num_nodes, graph.num_edges, graph.num_classes) == (7, 14, 3)
    assert graph.indices[graph.indptr[2] : graph.indptr[3]].tolist() == [0, 1, 3]
    # Node 5 (now 3) is in a community of 2 and in one of 4: the largest wins; 8 (now 4) is in two
    # of 2: the first wins.
    assert graph.y.tolist() == [1, 1, 1, 1, 0, 2, -1]
    assert graph.x.shape == (7, dimensions)
    assert graph.x.dtype == np.float32
    assert np.isfinite(graph.x).all()
    masks = graph.train_mask.astype(int) + graph.val_mask + graph.test_mask
    assert masks.tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert graph.train_mask.sum() == 4


def test_the_second_load_reads_the_cached_embedding(tmp_path: Path) -> None:
    folder = write_snap(tmp_path, "com-orkut")
    first = load_dataset("com-orkut", root=tmp_path, seed=3)
    assert len(list(folder.iterdir())) == 5  # two texts, edges, ids and the embedding
    cached = folder / "node2vec-8-seed3.npy"
    stamp = cached.stat().st_mtime_ns
    again = load_dataset("com-orkut", root=tmp_path, seed=3)
    assert cached.stat().st_mtime_ns == stamp
    assert np.array_equal(first.x, again.x)
    assert np.array_equal(first.train_mask, again.train_mask)
    other = load_dataset("com-orkut", root=tmp_path, seed=4)
    assert not np.array_equal(first.x, other.x)


def test_new_edges_make_everything_anew(tmp_path: Path) -> None:
    folder = write_snap(tmp_path, "com-orkut")
    load_dataset("com-orkut", root=tmp_path)
    path = folder / "com-orkut.ungraph.txt.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"1\t34\n"))
    for made in (*folder.glob("*.npy"), folder / "edges.bin"):
        os.utime(made, (1, 1))  # long before the text
    graph = load_dataset("com-orkut", root=tmp_path)
    assert (graph.num_nodes, graph.num_edges) == (8, 16)
    assert len(graph.x) == 8


@pytest.mark.parametrize("missing", ["ungraph", "top5000.cmty"])
def test_a_missing_file_is_named_with_its_home(tmp_path: Path, missing: str) -> None:
    folder = write_snap(tmp_path, "com-orkut")
    (folder / f"com-orkut.{missing}.txt.gz").unlink()
    with pytest.raises(
        ValueError,
        match=rf"com-orkut\.{missing}\.txt\.gz is missing; get it from https://snap\.stanford\.edu",
    ):
        load_dataset("com-orkut", root=tmp_path)


@pytest.mark.parametrize("missing", ["ungraph", "top5000.cmty"])
def test_a_truncated_file_is_an_error(tmp_path: Path, missing: str) -> None:
    path = write_snap(tmp_path, "com-orkut") / f"com-orkut.{missing}.txt.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{missing}\.txt\.gz: cut short or damaged"):
        load_dataset("com-orkut", root=tmp_path)


@pytest.mark.parametrize(
    ("communities", "message"),
    [
        ("1\t2\n3\tx\n", "community 2: expected node ids"),
        ("1\t2\n3\t4\n", "community 2: node 4 has no edge in the graph"),
        ("1\t99\n", "community 1: node 99 has no edge"),
        ("\n", "holds no communities"),
    ],
)
def test_bad_communities_are_named(tmp_path: Path, communities: str, message: str) -> None:
    folder = write_snap(tmp_path, "com-orkut", zipped=False)
    (folder / "com-orkut.top5000.cmty.txt").write_text(communities)
    with pytest.raises(ValueError, match=message):
        load_dataset("com-orkut", root=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# c\n1\t2\n3\n", r"line 3: expected two node ids .*got b'3'"),
        ("1 2 3\n", "line 1: expected two node ids"),
        ("1\t2\n\na b\n", "line 3: .*got b'a b'"),
        ("1,2\n", "line 1"),
        ("1 2\n1.5 2\n", "line 2"),
        ("1 -2\n", "line 1"),
        ("1 2147483647\n", "line 1: .* from 0 to 2147483646"),
        ("1 99999999999999999999999\n", "line 1"),
        ("# nothing\n", "holds no edges"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "g.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_edge_list(path)
    assert [left.name for left in tmp_path.iterdir()] == ["g.txt"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1 << 24])
def test_chunks_may_cut_lines_anywhere(tmp_path: Path, chunk_bytes: int, end: str) -> None:
    pairs = np.random.default_rng(0).integers(1000, size=(40, 2))
    lines = ["# head 1 2", *(f"{u}\t{v}" for u, v in pairs.tolist()), "", "5 6"]
    path = tmp_path / "g.txt"
    path.write_bytes(end.join(lines).encode())  # and no end of line at the end
    listed = read_edge_list(path, chunk_bytes=chunk_bytes)
    assert listed.ids[listed.edges].tolist() == [*pairs.tolist(), [5, 6]]
