"""Snap: com-orkut and com-friendster of the Stanford Large Network Dataset Collection.

SNAP gives edges and communities, no features and no labels. As in Rudder's evaluation, a node's
label is the index of its top-5000 community, and its features are node2vec embeddings. Files in
``root/<name>`` (each gzipped or not; edges.bin, ids.npy and node2vec-*.npy are made there once,
from these):

    com-orkut.ungraph.txt.gz        "u <tab> v" lines, each undirected edge once
    com-orkut.top5000.cmty.txt.gz   one community a line, its node ids with tabs between

A node in several communities takes the largest (of equals, the first), which leaves the classes
with the most nodes to learn from; nodes in none are unlabelled (-1). Labelled nodes are split
60/20/20 by seed. Source: Yang and Leskovec, "Defining and evaluating network communities", 2012.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidist.data.edge_list import open_text, read_edge_list
from minidist.data.graph_checks import random_splits
from minidist.data.node2vec import Node2vec, Vectors
from minidist.graph import Array, Graph, in_edges

EMBEDDINGS = {
    "com-orkut": Node2vec(dimensions=8),
    "com-friendster": Node2vec(dimensions=128, num_walks=1),
}


def load_snap(name: str, root: Path, seed: int = 0, progress: bool = False) -> Graph:
    """Read one of the two; the first call parses and embeds, which takes minutes to hours.

    Raises ValueError naming the file that is missing or damaged, its line, and where to get it.
    """
    folder = root / name
    edges_text = _find(name, folder, f"{name}.ungraph.txt")
    communities_text = _find(name, folder, f"{name}.top5000.cmty.txt")
    listed = read_edge_list(edges_text, progress)
    num_nodes = len(listed.ids)
    indptr, indices = in_edges(
        name, listed.edges[:, 0], listed.edges[:, 1], num_nodes, undirected=True
    )
    y, num_classes = read_communities(communities_text, listed.ids)
    return Graph(
        name=name,
        indptr=indptr,
        indices=indices,
        x=_features(name, folder, indptr, indices, seed, progress),
        y=y,
        num_classes=num_classes,
        **random_splits(y, seed),
    )


def read_communities(path: Path, ids: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
    """Label of each node, int64 [N], and the number of communities, from a line per community.

    ids: int32 [N] ascending, SNAP's id of each node. Raises ValueError naming the bad line.
    """
    with open_text(path) as text:
        lines = [line for line in text if line.strip() and not line.startswith(b"#")]
    if not lines:
        raise ValueError(f"{path}: holds no communities")
    members = []
    for number, line in enumerate(lines, 1):
        try:
            given = np.array(line.split(), np.int64)
        except ValueError:
            raise ValueError(
                f"{path}, community {number}: expected node ids, got {line!r}"
            ) from None
        nodes = np.minimum(np.searchsorted(ids, given), len(ids) - 1)
        if (ids[nodes] != given).any():
            stranger = int(given[ids[nodes] != given][0])
            raise ValueError(
                f"{path}, community {number}: node {stranger} has no edge in the graph"
            )
        members.append(nodes)
    y = np.full(len(ids), -1, np.int64)
    for label in sorted(range(len(members)), key=lambda label: (len(members[label]), -label)):
        y[members[label]] = label  # ascending in size, so the largest writes last
    return y, len(members)


def _find(name: str, folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            return path
    raise ValueError(
        f"{name}: {folder / stem}.gz is missing; "
        f"get it from https://snap.stanford.edu/data/{name}.html"
    )


def _features(
    name: str, folder: Path, indptr: NDArray[np.int64], indices: Array, seed: int, progress: bool
) -> Vectors:
    """Cached embeddings, memory-mapped; made anew where the edges are newer than they."""
    node2vec = EMBEDDINGS[name]
    path = folder / f"node2vec-{node2vec.dimensions}-seed{seed}.npy"
    if not path.exists() or path.stat().st_mtime < (folder / "edges.bin").stat().st_mtime:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            half_done = Path(scratch) / path.name
            np.save(half_done, node2vec.embed(indptr, indices, seed, progress))
            half_done.replace(path)
    x: Vectors = np.load(path, mmap_mode="r")
    return x
