"""Steer: put a rudder buffer in front of a loader's remote rows. Where the two packages meet."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minidist.comm.host_links import Link, hosts_of, link_hosts
from minidist.comm.world import World
from minidist.sampling.loader import ASKED_AHEAD, Loader
from minidist.store.feature_store import PeerStore
from minidist.store.host_store import PRIOR, Follower, HostStore, Leader, Sharing
from minidist.store.partition_book import Ids
from minidist.store.partition_dir import Parts
from minidist.store.shard import Shard
from rudder.config import SteerConfig
from rudder.host_planner import far_prior, make_host_planner
from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.prefetcher import Prefetcher, RankContext
from rudder.presets import capacity_of, read_preset, scope_of
from rudder.replay.recorder import Recorder

# Minibatches that are sampled to learn how often nodes are drawn, where a policy asks.
PRESAMPLED = 50


def _unlogged(event: str, **fields: Any) -> None:
    """For runs that keep no event log."""


def steer(
    config: SteerConfig,
    world: World,
    parts: Parts,
    loader: Loader,
    *,
    num_epochs: int,
    seed: int = 0,
    log: Callable[..., None] = _unlogged,
    run: Mapping[str, Any] | None = None,
) -> Prefetcher:
    """Put the buffer, policy and decider that ``config`` asks for between a loader and the owners.

    Every rank must call it, before the loader is run, and close what is returned after it.
    num_epochs: that will be trained.   log: ``log(event, **fields)``, told each decision and what
    came of it.   run: what a trace should know of the run. Raises ValueError where the decider, its
    model or the trace cannot be had, or on a preset without a buffer if nothing is recorded either.
    """
    preset, hosts = read_preset(config), hosts_of(world)
    near = tuple(rank for rank, host in enumerate(hosts) if host == hosts[world.rank])
    scope = scope_of(config, hosts)
    if not preset.has_buffer and not config.records and scope == "rank":
        raise ValueError(f"--prefetch {config.prefetch}: expected a preset with a buffer")
    presampled = {}
    if preset.presamples or config.records:
        # An epoch that no run of this length trains on.
        ids, counts = loader.presample(num_epochs, PRESAMPLED)
        presampled = {"frequent": ids, "frequencies": counts}
    context = RankContext(
        facts=_facts(config, parts, loader, num_epochs),
        prior=_prior(loader.shard, **presampled),
        num_ids=parts.num_nodes,
        rank=world.rank,
        seed=seed + world.rank,
        device=world.device,
        run={**(run or {}), "buffer_scope": scope, "hosts": hosts},
        scope=scope,
        sharing=near if scope == "host" and len(near) > 1 else (),
    )
    # All ranks of the world meet, also those that are alone on their host.
    links = link_hosts(world, hosts) if scope == "host" else []
    shares = functools.partial(_shared_store, config, loader, context, links)
    make_store = shares if context.sharing else None
    prefetcher = Prefetcher(config, loader.store.remote, context, log, make_store)
    loader.use(prefetcher.store)
    return prefetcher


def _facts(config: SteerConfig, parts: Parts, loader: Loader, num_epochs: int) -> Facts:
    shard = loader.shard
    return Facts(
        num_nodes=parts.num_nodes,
        num_edges=parts.num_edges,
        part_nodes=shard.num_nodes,
        part_edges=len(shard.indices),
        num_parts=parts.num_parts,
        halo_rows=len(shard.halo),
        capacity=capacity_of(config, read_preset(config), len(shard.halo)),
        row_bytes=4 * shard.num_features,
        batch_size=loader.schedule.batch_size,
        num_minibatches=num_epochs * len(loader),
        minibatches_per_epoch=len(loader),
    )


def _prior(shard: Shard, **presampled: Ids) -> Prior:
    halo, degrees = np.asarray(shard.halo), np.asarray(shard.halo_degrees)
    return Prior(halo=halo, halo_degrees=degrees, **presampled)


def _shared_store(
    config: SteerConfig,
    loader: Loader,
    context: RankContext,
    links: Sequence[Link],
    recorder: Recorder | None,
) -> HostStore:
    """Our end of the buffer of this host, of the sum of its ranks' capacities."""
    peers, preset, prior = loader.store.remote, read_preset(config), context.prior
    assert isinstance(peers, PeerStore)
    shards = [shard for shard in loader.shards.mapped if shard is not None]
    in_halo = np.zeros(context.num_ids, bool)
    in_halo[prior.halo] = True
    sharing = Sharing(
        links=links,
        in_halo=in_halo,
        width=context.facts.row_bytes // 4,
        capacity=sum(capacity_of(config, preset, len(shard.halo)) for shard in shards),
        num_steps=ASKED_AHEAD + 2,
    )
    if context.rank != context.sharing[0]:
        for each in (prior.frequent, prior.frequencies):
            links[0].send(PRIOR, each, "sharing the host's buffer")
        return Follower(peers, sharing, recorder)
    offsets = loader.shard.book.offsets
    near = np.isin(np.arange(len(offsets) - 1), context.sharing)
    priors = [prior]
    for shard, link in zip(shards[1:], links, strict=True):
        known = [link.receive(PRIOR, "sharing the host's buffer") for _ in range(2)]
        priors.append(_prior(shard, frequent=known[0], frequencies=known[1]))
    planner = make_host_planner(
        config,
        replace(context.facts, capacity=sharing.capacity),
        [far_prior(each, offsets, near) for each in priors],
        context.num_ids,
    )
    # No step needs more. Memory is taken for those that come in fact.
    ring_rows = int(np.diff(offsets)[~near].sum())
    return Leader(peers, sharing, recorder, planner, ring_rows)
