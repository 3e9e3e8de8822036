"""Share: put a rank's end of its host's buffer together."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minidist.host_buffer.links import Link
from minidist.host_buffer.store import PRIOR, Follower, HostStore, Leader, Sharing
from minidist.sampling.loader import Loader
from minidist.sampling.pipeline import ASKED_AHEAD
from minidist.store.feature_store import PeerStore
from minidist.store.partition_book import Ids
from minidist.store.shard import Shard
from rudder.config import SteerConfig
from rudder.host_planner import far_prior, make_host_planner
from rudder.policies.base import Prior
from rudder.prefetcher import RankContext
from rudder.presets import capacity_of, read_preset
from rudder.replay.recorder import Recorder


def prior_of(shard: Shard, frequent: Ids, frequencies: Ids) -> Prior:
    """What is known of the nodes around a part before the first minibatch (see ``Prior``)."""
    halo, degrees = np.asarray(shard.halo), np.asarray(shard.halo_degrees)
    return Prior(halo=halo, halo_degrees=degrees, frequent=frequent, frequencies=frequencies)


def share(
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
        priors.append(prior_of(shard, *known))
    planner = make_host_planner(
        config,
        replace(context.facts, capacity=sharing.capacity),
        [far_prior(each, offsets, near) for each in priors],
        context.num_ids,
    )
    # No step needs more. Memory is taken for those that come in fact.
    ring_rows = int(np.diff(offsets)[~near].sum())
    return Leader(peers, sharing, recorder, planner, ring_rows)
