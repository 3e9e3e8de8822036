"""Families of generated graphs, and the traces of training on them.

The only file of rudder that imports minidist: it trains nothing, but needs a real sampler, real
partitions and real halos. Held-out families are shapes that no family of the training set has.

N nodes, P parts.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rudder.replay.trace import Trace, read_traces

_SHARE_TRAINED = 0.3


@dataclass(frozen=True, kw_only=True)
class Family:
    """A shape of graphs, and how it is partitioned and sampled.

    shape: fields of ``minidist.data.synthetic.SyntheticSpec`` besides sizes.
    minibatches: of a rank.
    """

    name: str
    num_nodes: int
    mean_degree: float
    shape: dict[str, Any]
    parts: int
    fanout: tuple[int, ...]
    batch_size: int
    method: str = "metis"
    minibatches: int = 120


def _vary(name: str, num_nodes: int, mean_degree: float, **shape: Any) -> list[Family]:
    """A shape under three ways of partitioning and sampling."""
    base = Family(
        name=name,
        num_nodes=num_nodes,
        mean_degree=mean_degree,
        shape=shape,
        parts=2,
        fanout=(10, 25),
        batch_size=40,
    )
    return [
        base,
        replace(base, name=f"{name}-wide", parts=4, fanout=(5, 10), batch_size=100),
        replace(base, name=f"{name}-cut", parts=3, fanout=(10, 10), batch_size=60, method="random"),
    ]


TRAINED = (
    *_vary("hubs", 12_000, 18, exponent=2.1),
    *_vary("even", 10_000, 12, exponent=3.5),
    *_vary("dense", 8_000, 50, exponent=2.4),
    *_vary("sparse", 16_000, 6, exponent=2.4),
    *_vary("local", 12_000, 16, locality=0.95, global_share=0.01),
    *_vary("mixed", 12_000, 20, homophily=0.3, global_share=0.4),
)
HELD_OUT = (
    *_vary("villages", 14_000, 10, community_size=60, locality=0.9, exponent=2.8),
    *_vary("metropolis", 20_000, 30, community_size=4000, homophily=0.9, exponent=2.2),
    Family(
        name="deep",
        num_nodes=15_000,
        mean_degree=14,
        shape={"exponent": 2.6},
        parts=4,
        fanout=(4, 4, 4),
        batch_size=50,
    ),
)


def record(families: Sequence[Family], seed: int = 0) -> list[Trace]:
    """All ranks' traces of sampling each family's graph; a function of its arguments alone."""
    traces: list[Trace] = []
    with tempfile.TemporaryDirectory(prefix="rudder-distill-") as folder:
        for number, family in enumerate(tqdm(families, "traces", disable=None)):
            home = Path(folder) / family.name
            _rehearse(family, home, seed + number)
            traces += read_traces(home)
    return traces


def _rehearse(family: Family, home: Path, seed: int) -> None:
    """Generate, partition and sample; the trace is in ``home`` then."""
    from minidist.data.synthetic import SyntheticSpec, generate
    from minidist.partition.partitioner import assign
    from minidist.partition.writer import write_parts
    from minidist.run import train_in_threads
    from minidist.run_config import RunConfig

    num_train = int(_SHARE_TRAINED * family.num_nodes)
    spec = SyntheticSpec(
        num_nodes=family.num_nodes,
        num_features=2,
        num_classes=8,
        num_train=num_train,
        num_val=100,
        mean_degree=family.mean_degree,
        **family.shape,
    )
    graph = generate(spec, seed, family.name)
    assignment = assign(graph, family.parts, family.method, seed)
    parts = home.with_name(f"{home.name}-parts")
    write_parts(
        parts,
        graph,
        assignment.part,
        halo_hops=0,
        method=family.method,
        seed=seed,
        statistics={},
        num_parts=family.parts,
    )
    steps = -(-num_train // (family.parts * family.batch_size))
    train_in_threads(
        RunConfig(
            parts=str(parts),
            ranks=family.parts,
            transport="local",
            fanout=family.fanout,
            batch_size=family.batch_size,
            epochs=max(round(family.minibatches / steps), 1),
            seed=seed,
            prefetch="overlap",
            trace=str(home),
            trace_only=True,
        ),
        quiet=True,
    )
