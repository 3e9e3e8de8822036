"""What the peers' programs share: GraphSAGE (mean), its training loop, and what they leave behind.

The settings' folder ``out`` holds ``first_weights.npz``; each rank writes ``rank<R>.json`` there
(every epoch's seconds by stage), and rank 0 also ``weights.npz``.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Minibatches: what the model takes, and the seeds' labels. Stages add their seconds.
Steps = Callable[[dict[str, float]], Iterator[tuple[tuple[Any, ...], Tensor]]]


class GraphSAGE(nn.Module):
    """Mean aggregation, ReLU and dropout between the layers."""

    def __init__(self, convs: Iterable[nn.Module], dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, edges: Any) -> Tensor:
        """h [nodes, D]; edges: of all layers, or a list of each one's -> logits [nodes, C]."""
        for number, conv in enumerate(self.convs):
            h = conv(edges[number], h) if isinstance(edges, list) else conv(h, edges)
            if number + 1 < len(self.convs):
                h = self.dropout(h.relu())
        return h


def train(
    settings: Mapping[str, Any],
    rank: int,
    model: GraphSAGE,
    named: Callable[[Any], Mapping[str, Tensor]],
    steps: Steps,
) -> None:
    """Train from the first weights, and write the result.

    named: a layer's tensors ``self``, ``neighbours`` and ``bias``.
    """
    out = Path(settings["out"])
    weights, first = dict[str, Tensor](), np.load(out / "first_weights.npz")
    for number, conv in enumerate(model.convs):
        weights |= {f"{name}{number}": tensor.data for name, tensor in named(conv).items()}
    for name, tensor in weights.items():
        tensor.copy_(torch.from_numpy(first[name]))
    parallel = nn.parallel.DistributedDataParallel(model)
    adam = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    epochs = []
    for _ in range(settings["epochs"]):
        model.train()
        torch.distributed.barrier()
        found = defaultdict[str, float](float)
        began = time.perf_counter()
        for inputs, y in steps(found):
            ready = time.perf_counter()
            loss = F.cross_entropy(parallel(*inputs)[: len(y)], y)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            found["steps"] += 1
            found["train_s"] += time.perf_counter() - ready
        epochs.append({"epoch_s": time.perf_counter() - began, **found})
    (out / f"rank{rank}.json").write_text(json.dumps({"epochs": epochs}))
    if rank == 0:
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        np.savez(out / "weights.npz", **arrays)  # type: ignore[arg-type]
