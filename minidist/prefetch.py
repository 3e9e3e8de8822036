"""Steer: put a rudder buffer in front of a loader's remote rows. Where the two packages meet."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minidist.comm.world import World
from minidist.sampling.loader import Loader
from minidist.store.partition_dir import Parts
from rudder.config import SteerConfig
from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.prefetcher import Prefetcher, RankContext
from rudder.presets import capacity_of, read_preset

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
    )
    prefetcher = Prefetcher(config, loader.store.remote, context, log)
    loader.use(prefetcher.store)
    return prefetcher
