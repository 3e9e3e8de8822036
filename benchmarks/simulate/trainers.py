"""Trainers: what any trainer of a partitioned graph would sample, none of them running.

A sample is a pure function of (seed, epoch, step, rank), so one trainer of 256 can be played alone,
with the seeds, the sampler and the ids of the real run: its trace is the trace of that run.

N nodes, E edges, T minibatches of a trainer, n nodes and e edges of a minibatch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from minidist.steered import PRESAMPLED

from minidist.moment import Moment
from minidist.sampling.neighbor_sampler import NeighborSampler, Sample
from minidist.sampling.seeds import SeedSchedule
from minidist.store.partition_book import Ids, PartitionBook
from minidist.store.partition_dir import Parts
from minidist.store.shard import Shard
from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.replay.trace import Trace, make_trace

# Bytes on the wire of a node that is asked for, and of a neighbour or a count in the answer where
# node ids fit into 32 bits.
ID_BYTES, NEIGHBOR_BYTES = 8, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """One trainer's run.

    rank: which it is.   trace: its remote ids.
    nodes, edges: int64 [T], n and e of each minibatch.
    asked, answered: int64 [T], nodes of other parts whose neighbours are asked for, and neighbours
    that the answers hold.
    owners: int64 [T, P], remote rows of each minibatch by the part that owns them.
    """

    rank: int
    trace: Trace
    nodes: Ids
    edges: Ids
    asked: Ids
    answered: Ids
    owners: Ids

    @property
    def reply_bytes(self) -> Ids:
        """Of neighbours: int64 [T], a count for each node and what was drawn."""
        return NEIGHBOR_BYTES * (self.asked + self.answered)

    @property
    def request_bytes(self) -> Ids:
        """Of neighbours: int64 [T], the ids."""
        return ID_BYTES * self.asked


@dataclass(frozen=True, kw_only=True)
class Trainers:
    """The trainers of a partition directory, a part each.

    fanouts, batch_size, epochs, seed: as ``minidist.train`` has them.
    """

    parts: Parts
    fanouts: Sequence[int]
    batch_size: int
    epochs: int
    seed: int = 0

    @property
    def count(self) -> int:
        return self.parts.num_parts

    @property
    def num_features(self) -> int:
        """Of the graph; ``benchmarks.simulate.split`` leaves them out of its directories."""
        return int(self.parts.statistics.get("num_features", self.parts.num_features))

    @cached_property
    def num_train(self) -> list[int]:
        """Training nodes of each part."""
        files = (self.parts.files[f"part{rank}/train_ids.npy"] for rank in range(self.count))
        return [file.shape[0] for file in files]

    def schedule(self, rank: int, shard: Shard) -> SeedSchedule:
        """A trainer's seeds."""
        return SeedSchedule(shard.train_ids, self.num_train, rank, self.batch_size, self.seed)

    def play(self, rank: int) -> Played:
        """All minibatches of a trainer, as a run with ``--trace-only`` would record them."""
        shard = self.parts.shard(rank, verify=False)
        schedule = self.schedule(rank, shard)
        sampler = NeighborSampler(
            self._topology, [self._topology], fanouts=self.fanouts, seed=self.seed, rank=rank
        )

        def remote_of(moment: Moment) -> tuple[Sample, Ids]:
            sample = sampler.sample(schedule.seeds(moment), moment)
            first, last = shard.book.range_of(rank)
            is_remote = (sample.n_id < first) | (sample.n_id >= last)
            return sample, np.flatnonzero(is_remote)

        steps = range(min(schedule.num_steps, PRESAMPLED))
        presampled = []
        for step in steps:
            sample, places = remote_of(Moment(self.epochs, step))
            presampled.append(sample.n_id[places])
        minibatches, measures, owners = [], [], []
        for moment in schedule.moments(self.epochs, Moment(0, 0)):
            sample, places = remote_of(moment)
            ids = sample.n_id[places]
            minibatches.append(ids)
            measures.append((len(sample.n_id), len(sample.sources), *_asked(sample, places)))
            owners.append(np.bincount(shard.book.owner(ids), minlength=self.count))
        nodes, edges, asked, answered = np.array(measures, np.int64).T
        trace = make_trace(
            f"{self.parts.path.name}/rank{rank}",
            minibatches,
            facts=self._facts(shard, schedule.num_steps),
            num_ids=self.parts.num_nodes,
            prior=_prior(shard, presampled),
            run={"dataset": self.parts.name, "rank": rank, "seed": self.seed},
        )
        return Played(
            rank=rank,
            trace=trace,
            nodes=nodes,
            edges=edges,
            asked=asked,
            answered=answered,
            owners=np.array(owners),
        )

    @cached_property
    def _topology(self) -> Shard:
        """All in-edges as the only part of a graph without features; part by part, as 256 maps of
        13 files each would be more files than a process may have open."""
        indptr = np.zeros(self.parts.num_nodes + 1, np.int64)
        indices = np.empty(self.parts.num_edges, self.parts.shard(0, verify=False).indices.dtype)
        for part in range(self.count):
            shard = self.parts.shard(part, verify=False)
            first, last = shard.book.range_of(part)
            indptr[first + 1 : last + 1] = indptr[first] + shard.indptr[1:]
            indices[indptr[first] : indptr[last]] = shard.indices
        none = np.zeros(0, np.int64)
        return Shard(
            name=self.parts.name,
            book=PartitionBook(np.array([0, self.parts.num_nodes])),
            part=0,
            num_classes=self.parts.num_classes,
            halo_hops=0,
            indptr=indptr,
            indices=indices,
            x=np.zeros((0, self.parts.num_features), np.float32),
            y=none,
            train_ids=none,
            val_ids=none,
            test_ids=none,
            node_ids=none,
            halo=none,
            halo_degrees=none,
            far_ids=none,
            far_indptr=np.zeros(1, np.int64),
            far_indices=indices[:0],
        )

    def _facts(self, shard: Shard, num_steps: int) -> Facts:
        return Facts(
            num_nodes=self.parts.num_nodes,
            num_edges=self.parts.num_edges,
            part_nodes=shard.num_nodes,
            part_edges=len(shard.indices),
            num_parts=self.count,
            halo_rows=len(shard.halo),
            capacity=0,
            row_bytes=4 * self.num_features,
            batch_size=self.batch_size,
            num_minibatches=self.epochs * num_steps,
            minibatches_per_epoch=num_steps,
        )


def _asked(sample: Sample, remote: Ids) -> tuple[int, int]:
    """Remote nodes whose neighbours were drawn, and how many those were."""
    asked = remote[remote < len(sample.indptr) - 1]
    return len(asked), int((sample.indptr[asked + 1] - sample.indptr[asked]).sum())


def _prior(shard: Shard, presampled: Sequence[Ids]) -> Prior:
    ids, counts = np.unique(np.concatenate(presampled), return_counts=True)
    return Prior(
        halo=np.asarray(shard.halo),
        halo_degrees=np.asarray(shard.halo_degrees),
        frequent=ids,
        frequencies=counts,
    )
