"""DistDGL's side: its server or its trainer (DGL_ROLE), as in DGL's distributed GraphSAGE example.

    python distdgl_train.py SETTINGS.json

The settings' folder ``out`` holds ``first_weights.npz``; the trainers write ``rank<R>.json`` there
(every epoch's seconds), and rank 0 also ``weights.npz``. B seeds, D features, C classes.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
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
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from dgl.nn.pytorch import SAGEConv  # type: ignore[import-not-found]  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor, nn  # noqa: E402


class GraphSAGE(nn.Module):
    """Mean aggregation, ReLU and dropout between the layers."""

    def __init__(self, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SAGEConv(width, out, "mean") for width, out in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, blocks: Sequence[Any], h: Tensor) -> Tensor:
        """Blocks, outermost first, and h [input nodes, D] -> logits [B, C]."""
        for number, (conv, block) in enumerate(zip(self.convs, blocks, strict=True)):
            h = conv(block, h)
            if number + 1 < len(self.convs):
                h = self.dropout(h.relu())
        return h


def weights_of(model: GraphSAGE) -> dict[str, Tensor]:
    """``self0``, ``neighbours0``, ``bias0`` and so on, which share the model's memory."""
    found = {}
    convs: Sequence[Any] = list(model.convs)
    for number, conv in enumerate(convs):
        found[f"self{number}"] = conv.fc_self.weight.data
        found[f"neighbours{number}"] = conv.fc_neigh.weight.data
        found[f"bias{number}"] = conv.fc_self.bias.data
    return found


def train(
    settings: dict[str, Any], weights: dict[str, NDArray[np.float32]]
) -> tuple[list[dict[str, float]], GraphSAGE]:
    """Train, from the given weights; returns this rank's epochs, and the model."""
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
    for name, tensor in weights_of(model).items():
        tensor.copy_(torch.from_numpy(weights[name]))
    parallel = nn.parallel.DistributedDataParallel(model)
    adam = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    epochs: list[dict[str, float]] = []
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
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            times["sample_s"] += sampled - ended
            times["fetch_s"] += fetched - sampled
            ended = time.perf_counter()
            times["train_s"] += ended - fetched
            steps, rows = steps + 1, rows + len(input_nodes)
        epochs.append({"epoch_s": ended - began, "steps": steps, "input_nodes": rows, **times})
    return epochs, model


def main() -> None:
    """The server's or the trainer's process."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    # A server serves here, and leaves from here.
    dgl.distributed.initialize(settings["ip_config"])
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    out = Path(settings["out"])
    epochs, model = train(settings, dict(np.load(out / "first_weights.npz")))
    (out / f"rank{rank}.json").write_text(json.dumps({"epochs": epochs}))
    if rank == 0:
        arrays = {name: tensor.numpy() for name, tensor in weights_of(model).items()}
        np.savez(out / "weights.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
