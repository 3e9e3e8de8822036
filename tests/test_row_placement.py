"""Rows that a device gathers equal those that the host does; here the CPU is the device."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import torch

from minidist import Loader, steer
from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.store.device_lane import HostLane
from minidist.store.row_placement import DevicePlacement, make_placement
from minidist.store.worker_pool import WorkerPool
from rudder import SteerConfig
from tests.parts import split_graph

MakeGraph = Callable[..., Graph]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("buffer_device", ["cpu", "cuda"])
@pytest.mark.parametrize("prefetch", [None, "lookahead", "fixed", "lru"])
@pytest.mark.parametrize("size", [1, 3])
def test_every_row_is_exact(
    power_law_graph: MakeGraph,
    tmp_path: Path,
    size: int,
    prefetch: str | None,
    buffer_device: str,
    dense: bool,
) -> None:
    """``buffer_device`` cuda: the rows of a device buffer, with the CPU as the device."""
    parts = split_graph(power_law_graph(300, 3000), size, tmp_path / "p")
    graph = parts.graph()

    def load(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(3, 2), batch_size=20)
        first, last = loader.shard.book.range_of(world.rank)
        rows = torch.from_numpy(graph.x[first:last].copy())
        loader.store.placement = DevicePlacement("cuda", rows, dense, first, HostLane())
        with ExitStack() as stack:
            if prefetch is not None:
                config = SteerConfig(prefetch=prefetch, buffer_rows=30, buffer_device=buffer_device)
                stack.enter_context(closing(steer(config, world, parts, loader, num_epochs=2)))
            for batch in loader.run(2):
                assert np.array_equal(batch.x.numpy(), graph.x[batch.n_id.numpy()])

    run_in_threads(load, size, hosts=range(size))


def test_memory_of_a_live_minibatch_is_not_used_again() -> None:
    lane = HostLane()
    kept = []
    for number in range(20):
        slot = lane.slot()
        slot.array("rows", (50, 4), np.float32)[:] = number
        kept.append(slot.send("rows")[:10])
        del slot
        if number % 3 == 2:
            kept.pop(0)
    assert [int(rows[0, 0]) for rows in kept] == list(range(6, 20))
    assert all((rows == rows[0, 0]).all() for rows in kept)


def test_a_pool_covers_every_item_once() -> None:
    counts = np.zeros(100_001, np.int64)

    def work(first: int, last: int) -> None:
        counts[first:last] += 1

    with closing(WorkerPool(4)) as pool:
        pool.spread(work, len(counts))
    assert (counts == 1).all()


def test_features_that_this_device_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="--features cuda: training runs on cpu; use host"):
        make_placement("cuda", np.zeros((3, 2), np.float32), 0, HostLane(), None)
