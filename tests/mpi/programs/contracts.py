"""Each rank samples and fetches by request alone, and compares with the whole graph."""

import numpy as np

from minidist.comm.transport.base import Op
from minidist.comm.world import World
from minidist.moment import Moment
from minidist.sampling.neighbor_sampler import NeighborSampler, serve_neighbors
from minidist.store.feature_store import DistributedStore, PeerStore
from minidist.store.partition_dir import Parts
from minidist.store.row_placement import HostPlacement
from minidist.store.row_server import RowServer
from minidist.store.shard import whole

FANOUTS = (4, 3)


def check_contracts(world: World, path: str) -> None:
    """path: a partition directory with as many parts as ranks."""
    parts = Parts.open(path)
    graph, shard = parts.graph(), parts.shard(world.rank)
    # As if every peer were on another host.
    alone = [shard if part == world.rank else None for part in range(world.size)]
    RowServer(world.transport, shard.book, shard.x)
    serve_neighbors(world.transport, shard)
    world.group.barrier("serving")
    sampler = NeighborSampler(
        shard, alone, fanouts=FANOUTS, seed=5, rank=world.rank, transport=world.transport
    )
    reference = whole(graph)
    plain = NeighborSampler(reference, [reference], fanouts=FANOUTS, seed=5, rank=world.rank)
    rows = [None if part is None else part.x for part in alone]
    peers = PeerStore(world.transport, shard.book, rows)
    placement = HostPlacement(np.asarray(shard.x), shard.book.range_of(world.rank)[0])
    features = DistributedStore(shard.book, world.rank, placement, peers)
    counted = 0
    for step in range(5):
        moment = Moment(3, step)
        seeds = shard.train_ids[step :: 7 + world.rank]
        sample, expected = sampler.sample(seeds, moment), plain.sample(seeds, moment)
        assert sample.num_sampled_nodes == expected.num_sampled_nodes
        assert np.array_equal(sample.n_id, expected.n_id)
        assert np.array_equal(sample.indptr, expected.indptr)
        assert np.array_equal(sample.sources, expected.sources)
        x, counts = features.fetch(sample.n_id, moment)
        assert np.array_equal(x.numpy(), graph.x[sample.n_id])
        counted += counts.misses
    world.group.barrier("fetching")
    traffic = world.transport.traffic
    mine = (counted, traffic.received[Op.ROWS], traffic.served[Op.ROWS])
    ranks = world.group.all_gather(mine, "adding up")
    received = sum(int(table.sum()) for _, table, _ in ranks)
    assert received == sum(int(table.sum()) for _, _, table in ranks)
    assert received == sum(rows for rows, _, _ in ranks) * graph.num_features * 4
    assert received > 0 or world.size == 1
