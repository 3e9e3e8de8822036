"""Forward and backward of GraphSAGE on one minibatch: CSR aggregation against PyG's edge_index.

    python -m benchmarks.step

The same PyG SAGEConv modules and minibatch (1000 seeds, fanout 10,25, 100 features, hidden 64), one
thread, the two in turn; their outputs are compared first.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.command import Row, answer, at_least
from benchmarks.micro import benchmark_step, medians_ms
from rudder.cli.flags import flag, parse

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    repeats: int = flag(60, "steps of each, in turn")

    def __post_init__(self) -> None:
        at_least(self, 1, "repeats")


def measure(config: StepConfig) -> Row:
    """Sizes, milliseconds, and how much faster CSR is."""
    import torch

    from minidist.training.models import loss_sum

    torch.set_num_threads(1)
    batch, model = benchmark_step()
    edges = [batch.layer_edges(layer) for layer in range(2)]
    indices = [part.edge_index() for part in edges]

    def by_edge_index() -> "Tensor":
        h = batch.x
        for layer, conv in enumerate(model.convs):
            h = conv((h, h[: edges[layer].num_dst]), indices[layer])
            h = h.relu() if layer == 0 else h
        return h

    def training(forward: "Callable[[], Tensor]") -> Callable[[], object]:
        return lambda: loss_sum(forward(), batch.y).backward()  # type: ignore[no-untyped-call]

    ways = {"csr_ms": lambda: model.forward(batch), "edge_index_ms": by_edge_index}
    assert torch.allclose(ways["csr_ms"](), by_edge_index(), atol=1e-4)
    times = medians_ms({name: training(way) for name, way in ways.items()}, config.repeats)
    found: Row = {"benchmark": "step", "input_nodes": len(batch.n_id), "edges": len(batch.sources)}
    return {**found, **times, "ratio": times["edge_index_ms"] / times["csr_ms"]}


if __name__ == "__main__":
    answer(parse(StepConfig, __doc__), measure, json.dumps)
