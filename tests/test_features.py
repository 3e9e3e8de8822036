"""A fetch is exact, and its traffic adds up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.transport.base import Op
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.store.feature_store import DistributedStore, PeerStore
from minidist.store.partition_dir import Parts
from minidist.store.row_copy import copy_rows
from minidist.store.row_placement import HostPlacement
from minidist.store.row_server import RowServer
from tests.parts import at_hand, split_graph

MakeGraph = Callable[..., Graph]


def open_store(
    parts: Parts, world: World, wire_type: str = "float32"
) -> tuple[DistributedStore, RowServer]:
    """This rank's store, and the server that answers its peers."""
    shard = parts.shard(world.rank)
    server = RowServer(world.transport, shard.book, shard.x)
    mapped = [None if s is None else s.x for s in at_hand(parts, world)]
    peers = PeerStore(world.transport, shard.book, mapped, wire_type=wire_type)
    placement = HostPlacement(np.asarray(shard.x), shard.book.range_of(world.rank)[0])
    return DistributedStore(shard.book, world.rank, placement, peers), server


@pytest.mark.parametrize("share_hosts", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_are_exact_and_add_up(
    power_law_graph: MakeGraph, tmp_path: Path, size: int, share_hosts: bool
) -> None:
    parts = split_graph(power_law_graph(300, 2000), size, tmp_path / "p")
    graph = parts.graph()

    def fetch(world: World) -> tuple[int, int, int, int]:
        shard = parts.shard(world.rank)
        features, _ = open_store(parts, world)
        world.group.barrier("serving")
        counted = 0
        for step in range(4):
            rng = np.random.default_rng(10 * world.rank + step)
            ids = rng.permutation(graph.num_nodes)[: 60 * step]
            rows, counts = features.fetch(ids, Moment(0, step))
            assert np.array_equal(rows.numpy().view(np.int32), graph.x[ids].view(np.int32))
            first, last = shard.book.range_of(world.rank)
            assert counts.remote == counts.misses == ((ids < first) | (ids >= last)).sum()
            counted += counts.misses
        world.group.barrier("done")
        traffic = world.transport.traffic
        moved, read, sent = (
            int(table[Op.ROWS].sum())
            for table in (traffic.received, traffic.mapped, traffic.served)
        )
        return counted, moved, read, sent

    results = np.array(run_in_threads(fetch, size, hosts=None if share_hosts else range(size)))
    counted, received, mapped, served = results.sum(axis=0)
    assert received == served
    assert received + mapped == counted * graph.num_features * 4
    assert (mapped == 0) if not share_hosts else (received == 0)


def test_float16_wire_rounds_only_what_crosses_hosts(
    power_law_graph: MakeGraph, tmp_path: Path
) -> None:
    parts = split_graph(power_law_graph(100, 500), 2, tmp_path / "p")
    graph = parts.graph()

    def fetch(world: World) -> None:
        shard = parts.shard(world.rank)
        features, _ = open_store(parts, world, "float16")
        world.group.barrier("serving")
        ids = np.arange(graph.num_nodes)
        rows, _ = features.fetch(ids, Moment(0, 0))
        is_own = shard.book.owner(ids) == world.rank
        rounded = graph.x.astype(np.float16).astype(np.float32)
        assert np.array_equal(rows.numpy(), np.where(is_own[:, None], graph.x, rounded))

    run_in_threads(fetch, 2, hosts=range(2))


def test_ids_outside_the_graph_are_named(graph12: Graph, tmp_path: Path) -> None:
    parts = split_graph(graph12, 2, tmp_path / "p")

    def fetch(world: World) -> None:
        features, server = open_store(parts, world)
        with pytest.raises(
            ValueError, match="node id 12 is out of range: the graph has ids 0 to 11"
        ):
            features.fetch(np.array([3, 12]), Moment(0, 0))
        with pytest.raises(ValueError, match=f"but part {world.rank} owns"):
            server._answer((0, 0), np.array([0, 11]), np.empty)

    run_in_threads(fetch, 2)


@pytest.mark.parametrize("width", [1, 7, 8, 100])
def test_copy_rows_equals_indexing(width: int) -> None:
    rng = np.random.default_rng(0)
    table, out = rng.random((50, width), np.float32), np.zeros((30, width), np.float32)
    rows, positions = rng.integers(1, 50, size=20), rng.permutation(30)[:20]
    copy_rows(table, rows, out, positions)
    expected = np.zeros_like(out)
    expected[positions] = table[rows]
    assert np.array_equal(out, expected)
    picked = np.array([3, 5, 11])
    copy_rows(table, rows + 4, out, positions, 5, picked)
    expected[positions[picked]] = table[rows[picked] - 1]
    assert np.array_equal(out, expected)
