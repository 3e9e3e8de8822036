"""Distributed sampling equals one process on the same relabelled graph, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.sampling.kernels import draw_neighbors_plain, hop_key
from minidist.sampling.neighbor_sampler import (
    NeighborSampler,
    NeighborServer,
    Sample,
    serve_neighbors,
)
from minidist.store.shard import whole
from tests.parts import at_hand, split_graph

FANOUTS = (3, 4, 2)
MakeGraph = Callable[..., Graph]


def same(one: Sample, other: Sample) -> bool:
    """Whether two samples agree in every bit."""
    return (
        one.num_sampled_nodes == other.num_sampled_nodes
        and one.num_sampled_edges == other.num_sampled_edges
        and np.array_equal(one.n_id, other.n_id)
        and np.array_equal(one.indptr, other.indptr)
        and np.array_equal(one.sources, other.sources)
    )


@pytest.mark.parametrize("halo_hops", [0, 1, 2])
@pytest.mark.parametrize("placement", ["one host", "hosts apart", "replicated"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_equals_one_process(
    power_law_graph: MakeGraph, tmp_path: Path, size: int, placement: str, halo_hops: int
) -> None:
    parts = split_graph(power_law_graph(400, 5000), size, tmp_path / "p", halo_hops=halo_hops)
    reference = whole(parts.graph())

    def sample(world: World) -> None:
        shard = parts.shard(world.rank)
        topology = at_hand(parts, world, everywhere=placement == "replicated")
        serve_neighbors(world.transport, shard)
        sampler = NeighborSampler(
            shard, topology, fanouts=FANOUTS, seed=7, rank=world.rank, transport=world.transport
        )
        plain = NeighborSampler(reference, [reference], fanouts=FANOUTS, seed=7, rank=world.rank)
        for step in range(3):
            seeds = np.random.default_rng(step).permutation(shard.train_ids)[:10]
            moment = Moment(1, step)
            assert same(sampler.sample(seeds, moment), plain.sample(seeds, moment))

    run_in_threads(sample, size, hosts=None if placement == "one host" else range(size))


def test_is_a_pure_function(power_law_graph: MakeGraph) -> None:
    """Order, history and other minibatches change nothing; epoch, step, rank and seed do."""
    shard = whole(power_law_graph(300, 4000))
    seeds = shard.train_ids[:12]

    def fresh(seed: int = 0, rank: int = 0) -> NeighborSampler:
        return NeighborSampler(shard, [shard], fanouts=(4, 4), seed=seed, rank=rank)

    used = fresh()
    for step in range(5):
        used.sample(shard.train_ids[step::3], Moment(0, step))
    expected = fresh().sample(seeds, Moment(2, 9))
    assert same(used.sample(seeds, Moment(2, 9)), expected)
    assert not same(used.sample(seeds, Moment(2, 8)), expected)
    assert not same(used.sample(seeds, Moment(1, 9)), expected)
    assert not same(fresh(seed=1).sample(seeds, Moment(2, 9)), expected)
    assert not same(fresh(rank=1).sample(seeds, Moment(2, 9)), expected)


def test_every_row_is_the_plain_draw(power_law_graph: MakeGraph) -> None:
    graph = power_law_graph(200, 3000)
    shard, moment = whole(graph), Moment(0, 4)
    sample = NeighborSampler(shard, [shard], fanouts=(3, 5), seed=1, rank=2).sample(
        shard.train_ids[:9], moment
    )
    ends = np.cumsum(sample.num_sampled_nodes)
    for place in range(len(sample.indptr) - 1):
        node, hop = int(sample.n_id[place]), int(np.searchsorted(ends, place, side="right"))
        row = graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
        key = hop_key(1, 0, 4, 2, hop)
        drawn = sample.sources[sample.indptr[place] : sample.indptr[place + 1]]
        assert sample.n_id[drawn].tolist() == draw_neighbors_plain(row, node, key, (3, 5)[hop])


def test_no_seeds_make_an_empty_sample(graph12: Graph) -> None:
    shard = whole(graph12)
    sample = NeighborSampler(shard, [shard], fanouts=(2, 2), seed=0, rank=0).sample(
        np.zeros(0, np.int64), Moment(0, 0)
    )
    assert sample.num_sampled_nodes == (0, 0, 0)
    assert len(sample.n_id) == len(sample.sources) == 0


def test_fanout_must_be_positive(graph12: Graph) -> None:
    shard = whole(graph12)
    with pytest.raises(ValueError, match=r"--fanout \(3, 0\): expected one number of at least 1"):
        NeighborSampler(shard, [shard], fanouts=(3, 0), seed=0, rank=0)


def test_server_refuses_foreign_nodes(graph12: Graph, tmp_path: Path) -> None:
    server = NeighborServer(split_graph(graph12, 2, tmp_path / "p").shard(0))
    with pytest.raises(ValueError, match="asked of nodes 0 to 11, but this part owns 0 to"):
        server((0, 2), np.array([0, 11]), np.empty)
