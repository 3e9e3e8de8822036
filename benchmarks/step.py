"""Forward and backward of GraphSAGE on one minibatch: CSR aggregation against PyG's edge_index.

    python -m benchmarks.step

The same PyG SAGEConv modules and minibatch (1000 seeds, fanout 10,25, 100 features, hidden 64), one
thread, the two in turn; their outputs are compared first.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.powerlaw import benchmark_step
from minidist.training.models import loss_sum


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    batch, model = benchmark_step()
    edges = [batch.layer_edges(layer) for layer in range(2)]
    indices = [part.edge_index() for part in edges]

    def by_csr() -> Tensor:
        return model.forward(batch)

    def by_edge_index() -> Tensor:
        h = batch.x
        for layer, conv in enumerate(model.convs):
            h = conv((h, h[: edges[layer].num_dst]), indices[layer])
            h = h.relu() if layer == 0 else h
        return h

    assert torch.allclose(by_csr(), by_edge_index(), atol=1e-4)

    def seconds(forward: Callable[[], Tensor]) -> float:
        began = time.perf_counter()
        loss_sum(forward(), batch.y).backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - began

    times = np.array([(seconds(by_csr), seconds(by_edge_index)) for _ in range(options.repeats)])
    csr, edge_index = (1e3 * statistics.median(column) for column in times[5:].T)
    found = {
        "benchmark": "step",
        "input_nodes": len(batch.n_id),
        "edges": len(batch.sources),
        "csr_ms": csr,
        "edge_index_ms": edge_index,
        "ratio": edge_index / csr,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
