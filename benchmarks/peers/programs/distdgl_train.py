"""DistDGL's side: its server or its trainer (DGL_ROLE), as in DGL's distributed GraphSAGE example.

    python distdgl_train.py SETTINGS.json

The trainers write ``rank<R>.json`` (seconds of every epoch) and rank 0 also ``weights.npz`` into
the settings' ``out``. B seeds, D features, H hidden units.
"""

import json
import os
import sys
import time
import types
from itertools import pairwise
from pathlib import Path

# dgl 2.1 loads a library for GraphBolt, which exists for old PyTorch only; nothing here needs it.
# At the top of the file, as sampler processes import it before they import dgl.
_graphbolt = types.ModuleType("dgl.graphbolt")
_graphbolt.FusedCSCSamplingGraph = type("FusedCSCSamplingGraph", (), {})
sys.modules["dgl.graphbolt"] = _graphbolt

import dgl  # noqa: E402
import dgl.distributed  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from dgl.nn.pytorch import SAGEConv  # noqa: E402
from torch import nn  # noqa: E402


class GraphSAGE(nn.Module):
    """Mean aggregation, ReLU and dropout between the layers."""

    def __init__(self, widths, dropout):
        super().__init__()
        self.convs = nn.ModuleList(SAGEConv(width, out, "mean") for width, out in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, blocks, h):
        """Blocks, outermost first, and h [input nodes, D] -> logits [B, C]."""
        for number, (conv, block) in enumerate(zip(self.convs, blocks, strict=True)):
            h = conv(block, h)
            if number + 1 < len(self.convs):
                h = self.dropout(h.relu())
        return h


def weights_of(model):
    """``self0``, ``neighbours0``, ``bias0`` and so on, as numpy arrays."""
    found = {}
    for number, conv in enumerate(model.convs):
        found[f"self{number}"] = conv.fc_self.weight
        found[f"neighbours{number}"] = conv.fc_neigh.weight
        found[f"bias{number}"] = conv.fc_self.bias
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def train(settings):
    """Train; returns what this rank measured, and the model."""
    torch.manual_seed(settings["seed"])
    graph = dgl.distributed.DistGraph(settings["name"])
    book = graph.get_partition_book()
    train_ids = dgl.distributed.node_split(graph.ndata["train_mask"], book, force_even=True)
    # DGL lists fan-outs from the inputs to the seeds.
    sampler = dgl.dataloading.NeighborSampler(settings["fanout"][::-1])
    loader = dgl.dataloading.DistNodeDataLoader(
        graph, train_ids, sampler, batch_size=settings["batch_size"], shuffle=True, drop_last=False
    )
    model = GraphSAGE(settings["widths"], settings["dropout"])
    parallel = nn.parallel.DistributedDataParallel(model)
    adam = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    epochs = []
    for _ in range(settings["epochs"]):
        model.train()
        torch.distributed.barrier()
        times = dict.fromkeys(("sample_s", "fetch_s", "train_s"), 0.0)
        steps, rows = 0, 0
        began = ended = time.perf_counter()
        for input_nodes, seeds, blocks in loader:
            sampled = time.perf_counter()
            x = graph.ndata["x"][input_nodes]
            y = graph.ndata["y"][seeds]
            fetched = time.perf_counter()
            loss = F.cross_entropy(parallel(blocks, x), y)
            adam.zero_grad()
            loss.backward()
            adam.step()
            times["sample_s"] += sampled - ended
            times["fetch_s"] += fetched - sampled
            ended = time.perf_counter()
            times["train_s"] += ended - fetched
            steps, rows = steps + 1, rows + len(input_nodes)
        epochs.append({"epoch_s": ended - began, "steps": steps, "input_nodes": rows, **times})
    return {"epochs": epochs}, model


def main():
    settings = json.loads(Path(sys.argv[1]).read_text())
    # A server serves here, and leaves from here.
    dgl.distributed.initialize(settings["ip_config"])
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found, model = train(settings)
    out = Path(settings["out"])
    (out / f"rank{rank}.json").write_text(json.dumps(found))
    if rank == 0:
        np.savez(out / "weights.npz", **weights_of(model))


if __name__ == "__main__":
    main()
