"""Steer: put a rudder buffer in front of a loader's remote rows. Where the two packages meet."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from minidist.comm.host import available_bytes
from minidist.comm.world import World
from minidist.host_buffer.links import hosts_of, link_hosts
from minidist.host_buffer.share import prior_of, share
from minidist.moment import Moment
from minidist.sampling.loader import Loader
from minidist.store.partition_book import no_ids
from minidist.store.partition_dir import Parts
from rudder.config import SteerConfig, bytes_of
from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.prefetcher import Prefetcher, RankContext
from rudder.presets import capacity_of, read_preset, scope_of
from rudder.sizing.choice import View
from rudder.sizing.governor import Host

# Minibatches that are sampled to learn how often nodes are drawn, where a policy asks.
PRESAMPLED = 50
# Of the memory that is free, what the buffers of a host may take that choose their size.
_SHARE_OF_FREE = 0.25


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
    context = RankContext(
        facts=_facts(config, parts, loader, num_epochs),
        prior=_prior(config, loader, num_epochs),
        num_ids=parts.num_nodes,
        rank=world.rank,
        seed=seed + world.rank,
        device=world.device,
        run={**(run or {}), "buffer_scope": scope, "hosts": hosts},
        scope=scope,
        sharing=near if scope == "host" and len(near) > 1 else (),
        host=_host(config, world) if preset.sizes_itself else None,
    )
    # All ranks of the world meet, also those that are alone on their host.
    links = link_hosts(world, hosts) if scope == "host" else []
    shares = functools.partial(share, config, loader, context, links) if context.sharing else None
    try:
        prefetcher = Prefetcher(config, loader.store.remote, context, log, shares)
    except BaseException:
        for link in links:  # or the others would wait for us
            link.close()
        raise
    loader.use(prefetcher.store)
    return prefetcher


def _prior(config: SteerConfig, loader: Loader, num_epochs: int) -> Prior:
    """What a policy may know before the first minibatch."""
    # Of an epoch that no run of this length trains on.
    presamples = read_preset(config).presamples or config.records
    frequent = loader.presample(num_epochs, PRESAMPLED) if presamples else (no_ids(), no_ids())
    return prior_of(loader.shard, *frequent)


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


def _host(config: SteerConfig, world: World) -> Host:
    """The ranks that choose one size with us, and the memory that each may take for it.

    Raises ValueError where the host has less than ``--buffer-memory``.
    """
    near = [rank for rank in range(world.size) if world.transport.shares_host(rank)]
    free: float | None = available_bytes()
    if config.buffer_device == "cuda":
        free = float(torch.cuda.mem_get_info(world.device)[0])
    most = float("inf") if free is None else _SHARE_OF_FREE * free
    if config.buffer_memory is not None:
        most = bytes_of(config.buffer_memory)
        if free is not None and most > free:
            raise ValueError(
                f"--buffer-memory {config.buffer_memory}: {free / 1e9:.2f}GB are free on this "
                "host; give less, or leave it out for a quarter of that"
            )
    found = world.group.all_gather(most, "agreeing on the buffer's memory")

    def agree(view: View, moment: Any) -> list[View]:
        at = Moment(moment.epoch, moment.step)
        return world.group.all_gather(view, "choosing the buffer's size", at)

    most_bytes = min(found[rank] for rank in near) / world.local_size
    return Host(agree=agree, ranks=near, most_bytes=most_bytes)
