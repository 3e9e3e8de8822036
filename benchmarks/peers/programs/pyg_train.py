"""PyG's side: NeighborLoader and DistributedDataParallel, as in PyG's distributed sampling example.

    python pyg_train.py SETTINGS.json RANK

The settings' folder ``out`` also holds ``graph.npz``. See ``sage_loop`` for the rest.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sage_loop import GraphSAGE, train  # type: ignore[import-not-found]
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.nn import SAGEConv


def loader_of(settings: Mapping[str, Any], rank: int) -> NeighborLoader:
    """Minibatches of this rank's share of the training nodes, from the whole graph."""
    graph = np.load(Path(settings["out"]) / "graph.npz")
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


def named(conv: Any) -> dict[str, Tensor]:
    """A layer's tensors, by the names that both sides give them."""
    own, neighbours, bias = conv.lin_r.weight, conv.lin_l.weight, conv.lin_l.bias
    return {"self": own, "neighbours": neighbours, "bias": bias}


def main() -> None:
    settings, rank = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"] + rank)
    meet = f"file://{Path(settings['out']) / 'meet'}"
    torch.distributed.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=settings["ranks"]
    )
    loader = loader_of(settings, rank)

    def steps(spent: dict[str, float]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
        began = time.perf_counter()
        for batch in loader:
            spent["wait_s"] += time.perf_counter() - began
            yield (batch.x, batch.edge_index), batch.y[: batch.batch_size]
            began = time.perf_counter()

    convs = (SAGEConv(width, out) for width, out in pairwise(settings["widths"]))
    train(settings, rank, GraphSAGE(convs, settings["dropout"]), named, steps)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
