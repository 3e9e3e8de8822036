"""Steer: put a rudder buffer in front of a loader's remote rows. Where the two packages meet."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from minidist.comm.host import available_bytes
from minidist.comm.world import World
from minidist.moment import Moment
from minidist.sampling.loader import Loader
from minidist.store.partition_dir import Parts
from rudder.config import SteerConfig, bytes_of
from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.prefetcher import Prefetcher, RankContext
from rudder.presets import capacity_of, read_preset
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
    preset, shard = read_preset(config), loader.shard
    if not preset.has_buffer and not config.records:
        raise ValueError(f"--prefetch {config.prefetch}: expected a preset with a buffer")
    presampled = {}
    if preset.presamples or config.records:
        # An epoch that no run of this length trains on.
        ids, counts = loader.presample(num_epochs, PRESAMPLED)
        presampled = {"frequent": ids, "frequencies": counts}
    facts = Facts(
        num_nodes=parts.num_nodes,
        num_edges=parts.num_edges,
        part_nodes=shard.num_nodes,
        part_edges=len(shard.indices),
        num_parts=world.size,
        halo_rows=len(shard.halo),
        capacity=capacity_of(config, preset, len(shard.halo)),
        row_bytes=4 * shard.num_features,
        batch_size=loader.schedule.batch_size,
        num_minibatches=num_epochs * len(loader),
        minibatches_per_epoch=len(loader),
    )
    context = RankContext(
        facts=facts,
        prior=Prior(
            halo=np.asarray(shard.halo), halo_degrees=np.asarray(shard.halo_degrees), **presampled
        ),
        num_ids=parts.num_nodes,
        rank=world.rank,
        seed=seed + world.rank,
        device=world.device,
        run=dict(run or {}),
        host=_host(config, world) if preset.sizes_itself else None,
    )
    prefetcher = Prefetcher(config, loader.store.remote, context, log)
    loader.use(prefetcher.store)
    return prefetcher


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
