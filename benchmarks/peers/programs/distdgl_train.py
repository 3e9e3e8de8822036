"""DistDGL's side: its server or its trainer (DGL_ROLE), as in DGL's distributed GraphSAGE example.

    python distdgl_train.py SETTINGS.json

See ``sage_loop`` for what it reads and writes.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

# dgl 2.1 loads a library for GraphBolt, which exists for old PyTorch only; nothing here needs it.
# At the top of the file, as sampler processes import it before they import dgl.
sys.modules["dgl.graphbolt"] = ModuleType("dgl.graphbolt")
sys.modules["dgl.graphbolt"].FusedCSCSamplingGraph = type("None", (), {})  # type: ignore[attr-defined]

import dgl  # type: ignore[import-not-found]  # noqa: E402
import dgl.distributed  # type: ignore[import-not-found]  # noqa: E402
import torch  # noqa: E402
from dgl.nn.pytorch import SAGEConv  # type: ignore[import-not-found]  # noqa: E402
from sage_loop import GraphSAGE, train  # type: ignore[import-not-found]  # noqa: E402
from torch import Tensor  # noqa: E402


def named(conv: Any) -> dict[str, Tensor]:
    """A layer's tensors, by the names that both sides give them."""
    own, neighbours, bias = conv.fc_self.weight, conv.fc_neigh.weight, conv.fc_self.bias
    return {"self": own, "neighbours": neighbours, "bias": bias}


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    # A server serves here, and leaves from here.
    dgl.distributed.initialize(settings["ip_config"])
    torch.distributed.init_process_group("gloo")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(settings["seed"])
    graph = dgl.distributed.DistGraph(settings["name"])
    book = graph.get_partition_book()
    train_ids = dgl.distributed.node_split(graph.ndata["train_mask"], book, force_even=True)
    # DGL lists fan-outs from the inputs to the seeds.
    sampler = dgl.dataloading.NeighborSampler(settings["fanout"][::-1])
    loader = dgl.dataloading.DistNodeDataLoader(
        graph, train_ids, sampler, batch_size=settings["batch_size"], shuffle=True, drop_last=False
    )

    def steps(spent: dict[str, float]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
        began = time.perf_counter()
        for input_nodes, seeds, blocks in loader:
            sampled = time.perf_counter()
            x, y = graph.ndata["x"][input_nodes], graph.ndata["y"][seeds]
            spent["sample_s"] += sampled - began
            spent["fetch_s"] += time.perf_counter() - sampled
            yield (x, blocks), y
            began = time.perf_counter()

    convs = (SAGEConv(width, out, "mean") for width, out in pairwise(settings["widths"]))
    model = GraphSAGE(convs, settings["dropout"])
    train(settings, torch.distributed.get_rank(), model, named, steps)


if __name__ == "__main__":
    main()
