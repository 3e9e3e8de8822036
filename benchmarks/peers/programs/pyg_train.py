"""PyG's side: NeighborLoader and DistributedDataParallel, as in PyG's distributed sampling example.

    python pyg_train.py SETTINGS.json RANK

The settings' folder ``out`` holds ``graph.npz`` and ``first_weights.npz``; each rank writes
``rank<R>.json`` there (every epoch's seconds), and rank 0 also ``weights.npz``.
D features, C classes.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.nn import SAGEConv


class GraphSAGE(nn.Module):
    """Mean aggregation, ReLU and dropout between the layers."""

    def __init__(self, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SAGEConv(width, out) for width, out in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        """h [nodes, D], edge_index [2, edges] -> logits [nodes, C]."""
        for number, conv in enumerate(self.convs):
            h = conv(h, edge_index)
            if number + 1 < len(self.convs):
                h = self.dropout(h.relu())
        return h


def weights_of(model: GraphSAGE) -> dict[str, Tensor]:
    """``self0``, ``neighbours0``, ``bias0`` and so on, which share the model's memory."""
    found = {}
    convs: Sequence[Any] = list(model.convs)
    for number, conv in enumerate(convs):
        found[f"self{number}"] = conv.lin_r.weight.data
        found[f"neighbours{number}"] = conv.lin_l.weight.data
        found[f"bias{number}"] = conv.lin_l.bias.data
    return found


def loader_of(
    settings: Mapping[str, Any], graph: Mapping[str, NDArray[Any]], rank: int
) -> NeighborLoader:
    """Minibatches of this rank's share of the training nodes, from the whole graph."""
    degrees = torch.from_numpy(np.diff(graph["indptr"]))
    destinations = torch.arange(len(degrees)).repeat_interleave(degrees)
    sources = torch.from_numpy(graph["indices"].astype(np.int64))
    data = Data(
        x=torch.from_numpy(graph["x"]),
        y=torch.from_numpy(graph["y"]),
        edge_index=torch.stack([sources, destinations]),
    )
    train_ids = torch.from_numpy(graph["train_ids"])
    share = -(-len(train_ids) // settings["ranks"])
    return NeighborLoader(
        data,
        num_neighbors=settings["fanout"],
        input_nodes=train_ids[rank * share : (rank + 1) * share],
        batch_size=settings["batch_size"],
        shuffle=True,
        num_workers=settings["workers"],
        persistent_workers=settings["workers"] > 0,
        is_sorted=True,
    )


def train(
    settings: Mapping[str, Any],
    loader: NeighborLoader,
    weights: Mapping[str, NDArray[np.float32]],
) -> tuple[list[dict[str, float]], GraphSAGE]:
    """Train, from the given weights; returns this rank's epochs, and the model."""
    model = GraphSAGE(settings["widths"], settings["dropout"])
    for name, tensor in weights_of(model).items():
        tensor.copy_(torch.from_numpy(weights[name]))
    parallel = nn.parallel.DistributedDataParallel(model)
    adam = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    epochs: list[dict[str, float]] = []
    for _ in range(settings["epochs"]):
        model.train()
        torch.distributed.barrier()
        times = dict.fromkeys(("wait_s", "train_s"), 0.0)
        steps = 0
        began = ended = time.perf_counter()
        for batch in loader:
            loaded = time.perf_counter()
            logits = parallel(batch.x, batch.edge_index)[: batch.batch_size]
            loss = F.cross_entropy(logits, batch.y[: batch.batch_size])
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            times["wait_s"] += loaded - ended
            ended = time.perf_counter()
            times["train_s"] += ended - loaded
            steps += 1
        epochs.append({"epoch_s": ended - began, "steps": steps, **times})
    return epochs, model


def main() -> None:
    """One rank's process."""
    settings, rank = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    out = Path(settings["out"])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"] + rank)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out / 'meet'}", rank=rank, world_size=settings["ranks"]
    )
    loader = loader_of(settings, dict(np.load(out / "graph.npz")), rank)
    epochs, model = train(settings, loader, dict(np.load(out / "first_weights.npz")))
    (out / f"rank{rank}.json").write_text(json.dumps({"epochs": epochs}))
    if rank == 0:
        arrays = {name: tensor.numpy() for name, tensor in weights_of(model).items()}
        np.savez(out / "weights.npz", **arrays)  # type: ignore[arg-type]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
