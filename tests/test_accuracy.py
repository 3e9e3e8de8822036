"""Real graphs: distributed training reaches what PyG reaches on the whole graph."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import SAGEConv

from minidist.data.datasets import load_dataset
from minidist.graph import Graph

DATA = Path(__file__).parents[1] / "data" / "real"
# Flags for each graph, numbers of ranks, and the accuracy to reach.
GRAPHS = {
    "amazon_photo": ("--batch-size 50 --epochs 60", (2, 4), 0.93),
    "coauthor_cs": ("--batch-size 200 --epochs 20", (2,), 0.90),
    "facebook_pagepage": ("--batch-size 200 --epochs 30", (4,), 0.90),
}
_PYG_STEPS = 60


def dataset(name: str) -> str:
    path = DATA / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return f"npz:{path}"


def train(name: str, flags: str, ranks: int, folder: Path) -> dict[str, Any]:
    """The summary of ``python -m minidist.train`` on real MPI ranks."""
    file = folder / f"{ranks}.json"
    words = ["--dataset", dataset(name), "--ranks", str(ranks), "--json", str(file)]
    command = [sys.executable, "-m", "minidist.train", *words, *flags.split()]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    return dict(json.loads(file.read_text()))


def pyg_accuracy(graph: Graph) -> float:
    """Test accuracy, at the best validation, of full-batch GraphSAGE by PyG alone."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(graph.x), torch.from_numpy(graph.y)
    adjacency = torch.sparse_csr_tensor(
        torch.from_numpy(graph.indptr),
        torch.from_numpy(graph.indices.astype(np.int64)),
        torch.ones(graph.num_edges),
        size=(graph.num_nodes, graph.num_nodes),
    )
    convs = torch.nn.ModuleList(
        [SAGEConv(graph.num_features, 256), SAGEConv(256, graph.num_classes)]
    )
    adam = torch.optim.Adam(convs.parameters(), lr=0.003)
    train, val, test = (
        torch.from_numpy(getattr(graph, f"{split}_mask")) for split in ("train", "val", "test")
    )
    best = (0.0, 0.0)
    for _ in range(_PYG_STEPS):
        h = convs[0](x, adjacency).relu()
        predicted = convs[1](h, adjacency).argmax(dim=1)
        hits = (predicted == y).float()
        best = max(best, (float(hits[val].mean()), float(hits[test].mean())))
        logits = convs[1](F.dropout(h, 0.5), adjacency)
        adam.zero_grad()
        F.cross_entropy(logits[train], y[train]).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return best[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:graph 'amazon_photo'")
@pytest.mark.parametrize("name", GRAPHS)
def test_real_graphs(name: str, tmp_path: Path) -> None:
    flags, counts, least = GRAPHS[name]
    reference = pyg_accuracy(load_dataset(dataset(name)))
    for ranks in counts:
        summary = train(name, flags, ranks, tmp_path)
        assert summary["test_accuracy"] >= least
        assert summary["test_accuracy"] >= reference - 0.01
        rows, row_bytes = summary["rows"], summary["row_bytes"]
        assert (rows["misses"] + rows["replacements"]) * row_bytes == summary["bytes_moved"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_losses_of_a_real_graph_do_not_depend_on_the_pipeline(tmp_path: Path) -> None:
    flags = "--batch-size 100 --epochs 3"
    hashes = {
        train("amazon_photo", f"{flags} --prefetch {prefetch}", 3, tmp_path)["losses_sha256"]
        for prefetch in ("none", "overlap")
    }
    assert len(hashes) == 1
