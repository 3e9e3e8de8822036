"""Exact evaluation: distributed and layer by layer equals PyG on the whole graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATConv, SAGEConv

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.data.synthetic import PRESETS, generate
from minidist.graph import Graph
from minidist.store.row_server import RowServer
from minidist.training.evaluate import LayerwiseInference, evaluate, split_edges
from minidist.training.models import GNN, build_model
from tests.parts import at_hand, split_graph

MakeGraph = Callable[..., Graph]


def full_forward(model: GNN, graph: Graph) -> torch.Tensor:
    """PyG's own convs, with the model's weights, on the whole graph's edge_index."""
    sources = torch.from_numpy(graph.indices.astype(np.int64))
    targets = torch.arange(graph.num_nodes).repeat_interleave(
        torch.from_numpy(np.diff(graph.indptr))
    )
    edge_index, h = torch.stack([sources, targets]), torch.from_numpy(graph.x)
    with torch.no_grad():
        for number, conv in enumerate(model.convs):
            h = conv(h, edge_index)
            h = h.relu() if number + 1 < len(model.convs) else h
    return h


@pytest.mark.parametrize("chunk_items", [1, 400, 1 << 24])
@pytest.mark.parametrize("share_hosts", [True, False])
@pytest.mark.parametrize(("size", "name"), [(1, "sage"), (2, "sage"), (3, "sage"), (2, "gat")])
def test_equals_full_forward(
    power_law_graph: MakeGraph,
    tmp_path: Path,
    size: int,
    name: str,
    share_hosts: bool,
    chunk_items: int,
) -> None:
    parts = split_graph(power_law_graph(150, 1500), size, tmp_path / "p")
    graph = parts.graph()

    def infer(world: World) -> None:
        shard = parts.shard(world.rank)
        rows = RowServer(world.transport, shard.book, shard.x)
        model = world.group.first(
            lambda: build_model(
                name, num_features=8, hidden=8, num_classes=4, num_layers=3, dropout=0.5
            ),
            "building",
        )
        inference = LayerwiseInference(world, rows, at_hand(parts, world), chunk_items)
        logits = torch.cat([chunk for _, chunk in inference.run(model)])
        first, last = shard.book.range_of(world.rank)
        expected = full_forward(model, graph)[first:last]
        assert torch.allclose(logits, expected, atol=1e-5, rtol=1e-5)

    run_in_threads(infer, size, hosts=None if share_hosts else range(size))


@pytest.mark.parametrize("most", [50, 1000])
def test_chunks_stay_bounded_at_a_hub(power_law_graph: MakeGraph, most: int) -> None:
    graph = power_law_graph(150, 1500)
    hub = np.random.default_rng(0).integers(150, size=20_000).astype(np.int32)
    indices = np.concatenate([graph.indices, hub, graph.indices])
    indptr = np.concatenate([graph.indptr, len(graph.indices) + len(hub) + graph.indptr])
    pieces = split_edges(indptr, indices, 0, 75, 4, 12, 8, most, True)
    for start, stop, begin, end in pieces:
        own = np.count_nonzero(indices[begin:end] < 75)
        assert 8 * (stop - start) + 4 * own + 12 * (end - begin - own) <= most
        whole = (begin, end) == (indptr[start], indptr[stop])
        assert whole or stop == start + 1
    # One after the other they are all edges, and a node's come under one node.
    assert [piece[2] for piece in pieces] == [0, *(piece[3] for piece in pieces[:-1])]
    assert pieces[-1][3] == len(indices)
    assert sorted({v for piece in pieces for v in range(*piece[:2])}) == [*range(301)]
    whole_nodes = split_edges(indptr, indices, 0, 75, 4, 12, 8, most, False)
    assert all((indptr[piece[0]], indptr[piece[1]]) == piece[2:] for piece in whole_nodes)


@pytest.mark.parametrize("preset", ["tiny", "tiny-multilabel"])
def test_scores_equal_those_of_the_whole_graph(tmp_path: Path, preset: str) -> None:
    parts = split_graph(generate(PRESETS[preset], 0), 2, tmp_path / "p")
    graph = parts.graph()

    def score(world: World) -> None:
        shard = parts.shard(world.rank)
        rows = RowServer(world.transport, shard.book, shard.x)
        model = world.group.first(
            lambda: build_model(
                "sage",
                num_features=graph.num_features,
                hidden=8,
                num_classes=graph.num_classes,
                num_layers=2,
                dropout=0.0,
            ),
            "building",
        )
        inference = LayerwiseInference(world, rows, at_hand(parts, world))
        scores = evaluate(inference, model, world, shard)
        logits = full_forward(model, graph).numpy()
        for split in ("train", "val", "test"):
            mask = getattr(graph, f"{split}_mask")
            if graph.multilabel:
                predicted, truth = logits[mask] > 0, graph.y[mask] > 0
                expected = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
            else:
                expected = (logits[mask].argmax(axis=1) == graph.y[mask]).mean()
            assert getattr(scores, split) == pytest.approx(expected, abs=0.01)
        assert scores.metric == ("micro_f1" if graph.multilabel else "accuracy")

    run_in_threads(score, 2)


def test_convs_are_pygs_own() -> None:
    def build(name: str) -> GNN:
        return build_model(name, num_features=5, hidden=8, num_classes=3, num_layers=2, dropout=0.5)

    assert all(isinstance(conv, SAGEConv) for conv in build("sage").convs)
    assert all(isinstance(conv, GATConv) for conv in build("gat").convs)
    assert build("GATv2Conv").widths == (5, 8, 3)
