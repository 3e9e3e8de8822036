"""Trainers: what any trainer of a partitioned graph samples, without running the others.

A sample is a pure function of (seed, epoch, step, rank), so one of P trainers can be played alone,
with the seeds, the sampler and the ids of the real run: its trace is the trace of that run.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from minidist.config import TrainConfig
from minidist.host_buffer.share import prior_of
from minidist.moment import Moment
from minidist.prefetch import PRESAMPLED
from minidist.sampling.neighbor_sampler import NeighborSampler
from minidist.sampling.seeds import SeedSchedule
from minidist.store.partition_book import Ids, PartitionBook
from minidist.store.partition_dir import Parts
from minidist.store.shard import Shard
from minidist.training.models import GNN, build_model
from rudder.observations import Facts
from rudder.replay.trace import Trace, make_trace

# Bytes on the wire of a node that is asked for, and of a neighbour or a count in the answer where
# node ids fit into 32 bits.
ID_BYTES, NEIGHBOR_BYTES = 8, 4


class Played(NamedTuple):
    """A trainer's T minibatches. trace: their remote ids.   nodes, edges: int64 [T], of each.

    request_bytes, reply_bytes: int64 [T], of neighbours of nodes of other hosts: the ids, and a
    count for each with what was drawn.   owners: int64 [T, P], remote rows by the part they are of.
    """

    rank: int
    trace: Trace
    nodes: Ids
    edges: Ids
    request_bytes: Ids
    reply_bytes: Ids
    owners: Ids


def sage_of(parts: Parts, run: TrainConfig) -> GNN:
    """GraphSAGE as a run has it, with weights drawn anew."""
    return build_model(
        "sage",
        num_features=parts.num_features,
        hidden=run.hidden,
        num_classes=parts.num_classes,
        num_layers=len(run.fanout),
        dropout=run.dropout,
    )


@dataclass(frozen=True)
class Trainers:
    """Those of a partition directory, one a part, under a run's settings.

    ranks_per_host: trainers that need no link between them: what they ask each other is not counted
    as bytes.
    """

    parts: Parts
    run: TrainConfig
    ranks_per_host: int = 1

    @property
    def count(self) -> int:
        return self.parts.num_parts

    @property
    def num_features(self) -> int:
        return self.parts.num_features

    @property
    def num_parameters(self) -> int:
        return sum(each.numel() for each in sage_of(self.parts, self.run).parameters())

    def play(self, rank: int) -> Played:
        """All minibatches of a trainer, as a run with ``--trace-only`` would record them."""
        shard = self.parts.shard(rank, verify=False)
        files = (self.parts.files[f"part{part}/train_ids.npy"] for part in range(self.count))
        num_train, run = [file.shape[0] for file in files], self.run
        schedule = SeedSchedule(shard.train_ids, num_train, rank, run.batch_size, run.seed)
        graph = self._topology
        sampler = NeighborSampler(graph, [graph], fanouts=run.fanout, seed=run.seed, rank=rank)
        first, last = shard.book.range_of(rank)
        host = rank - rank % self.ranks_per_host
        begin, end = shard.book.offsets[[host, host + self.ranks_per_host]]

        def sample(moment: Moment) -> tuple[Ids, tuple[int, ...]]:
            drawn = sampler.sample(schedule.seeds(moment), moment)
            remote = np.flatnonzero((drawn.n_id < first) | (drawn.n_id >= last))
            expanded = drawn.n_id[: len(drawn.indptr) - 1]
            asked = np.flatnonzero((expanded < begin) | (expanded >= end))
            answered = len(asked) + int((drawn.indptr[asked + 1] - drawn.indptr[asked]).sum())
            wire = (ID_BYTES * len(asked), NEIGHBOR_BYTES * answered)
            return drawn.n_id[remote], (len(drawn.n_id), len(drawn.sources), *wire)

        steps = schedule.num_steps
        minibatches, sizes = zip(
            *(sample(moment) for moment in schedule.moments(run.epochs, Moment(0, 0))), strict=True
        )
        nodes, edges, requests, replies = np.array(sizes, np.int64).T
        owners = [np.bincount(shard.book.owner(ids), minlength=self.count) for ids in minibatches]
        # Of an epoch that no run of this length trains on.
        moments = (Moment(run.epochs, step) for step in range(min(steps, PRESAMPLED)))
        presampled = np.concatenate([sample(moment)[0] for moment in moments])
        trace = make_trace(
            f"{self.parts.path.name}/rank{rank}",
            minibatches,
            facts=self._facts(shard, schedule),
            num_ids=self.parts.num_nodes,
            prior=prior_of(shard, *np.unique(presampled, return_counts=True)),
            run={"dataset": self.parts.name, "rank": rank, "seed": run.seed},
        )
        return Played(rank, trace, nodes, edges, requests, replies, np.array(owners))

    @cached_property
    def _topology(self) -> Shard:
        """All in-edges as those of one part, read part by part: 256 maps of 13 files each would be
        more files than a process may have open."""
        parts = self.parts
        indptr = np.zeros(parts.num_nodes + 1, np.int64)
        indices = np.empty(parts.num_edges, parts.shard(0, verify=False).indices.dtype)
        for part in range(self.count):
            shard = parts.shard(part, verify=False)
            first, last = parts.book.range_of(part)
            indptr[first + 1 : last + 1] = indptr[first] + shard.indptr[1:]
            indices[indptr[first] : indptr[last]] = shard.indices
        book = PartitionBook(np.array([0, parts.num_nodes]))
        return replace(shard, part=0, book=book, indptr=indptr, indices=indices)

    def _facts(self, shard: Shard, schedule: SeedSchedule) -> Facts:
        return Facts(
            num_nodes=self.parts.num_nodes,
            num_edges=self.parts.num_edges,
            part_nodes=shard.num_nodes,
            part_edges=len(shard.indices),
            num_parts=self.count,
            halo_rows=len(shard.halo),
            capacity=0,
            row_bytes=4 * self.num_features,
            batch_size=schedule.batch_size,
            num_minibatches=self.run.epochs * schedule.num_steps,
            minibatches_per_epoch=schedule.num_steps,
        )
