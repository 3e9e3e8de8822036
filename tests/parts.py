"""Partitioned graphs in memory-mapped form, and the one-process graph they must equal."""

from pathlib import Path

import numpy as np

from minidist.comm.world import World
from minidist.graph import Graph
from minidist.partition.writer import write_parts
from minidist.store.partition_dir import Parts
from minidist.store.shard import Shard


def split_graph(
    graph: Graph,
    num_parts: int,
    folder: Path,
    *,
    halo_hops: int = 0,
    seed: int = 0,
    even: bool = True,
) -> Parts:
    """The graph in random parts; each holds half the training nodes of the last, unless even."""
    rng = np.random.default_rng(seed)
    part = rng.integers(num_parts, size=graph.num_nodes)
    train = np.flatnonzero(graph.train_mask)
    deal = rng.permutation(len(train))
    part[train] = deal % num_parts if even else np.log2(len(train) / (deal + 1)) % num_parts
    write_parts(
        folder,
        graph,
        part.astype(np.int32),
        halo_hops=halo_hops,
        method="random",
        seed=seed,
        statistics={},
        num_parts=num_parts,
    )
    return Parts.open(folder)


def at_hand(parts: Parts, world: World, everywhere: bool = False) -> list[Shard | None]:
    """The shards this rank's host has mapped; all of them where ``everywhere``."""
    return [
        parts.shard(part) if everywhere or world.transport.shares_host(part) else None
        for part in range(parts.num_parts)
    ]
