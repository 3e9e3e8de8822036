"""Loader: minibatches of one rank, prepared ahead of the training loop by bounded stages.

ahead = 0     sample 1, fetch 1, TRAIN 1, sample 2, fetch 2, TRAIN 2, ...       (one thread)

ahead = 2     sample  1 2 3 4 ...         dealt to the rank's workers, put back in order
              fetch     1 2 3 ...         at most ``ahead`` minibatches in front of the next
              TRAIN       1 2 ...         stage; fetch asks for the rows of one more while
                                          those of this one come

A buffer that looks W minibatches ahead (``FeatureStore.window``) sees each sample that much
earlier: it waits in the fetch stage.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidist.comm.world import World
from minidist.moment import Moment
from minidist.sampling.batch import MiniBatch, StageSeconds
from minidist.sampling.neighbor_sampler import NeighborSampler, Sample, serve_neighbors
from minidist.sampling.pipeline import ASKED_AHEAD, Pipeline, Run
from minidist.sampling.sampler_pool import SamplerPool
from minidist.sampling.seeds import SeedSchedule
from minidist.store.device_lane import make_lane
from minidist.store.feature_store import DistributedStore, PeerStore, RowsUnderWay
from minidist.store.host_shards import HostShards
from minidist.store.partition_book import Ids
from minidist.store.partition_dir import Parts
from minidist.store.row_placement import make_placement
from minidist.store.row_server import RowServer
from minidist.store.worker_pool import WorkerPool
from rudder.feature_store import FeatureStore


def default_threads(num_cores: int) -> int:
    """Workers of a rank with so many cores: two thirds of them.

    The others train, fetch and copy. With 16 cores and an H100 a step takes 3.7 ms with 10 workers
    and 4.2 with 15, which keep those three waiting for the interpreter's lock.
    """
    return max(1, 2 * num_cores // 3)


def _peers(world: World, shards: HostShards, wire_type: str) -> PeerStore:
    """The rows of other ranks: mapped, or by request."""
    mapped = [None if peer is None else peer.x for peer in shards.mapped]
    return PeerStore(world.transport, shards.own.book, mapped, wire_type=wire_type)


class Loader:
    """Minibatches of one rank: ``for batch in loader`` is one epoch, the next one each time.

    shards: our part, and what this host has of others.   store: the rows of any node.   samplers:
    draw the minibatches of ``schedule``.   server: answers peers.   ahead: minibatches that each
    stage may be in front of the next; 0 prepares each when asked.   most_workers: threads that
    sample, on the rank that has most. ``open`` makes one.
    """

    def __init__(
        self,
        shards: HostShards,
        store: DistributedStore,
        server: RowServer,
        samplers: SamplerPool,
        schedule: SeedSchedule,
        ahead: int,
        most_workers: int,
    ) -> None:
        self.shards, self.shard, self.store, self.server = shards, shards.own, store, server
        self.schedule, self.ahead, self._samplers = schedule, ahead, samplers
        self._most_workers = most_workers
        self.next_epoch = 0
        self.failure: BaseException | None = None
        self._pipeline: Pipeline | None = None

    @classmethod
    def open(
        cls,
        world: World,
        parts: Parts | HostShards,
        *,
        fanouts: Sequence[int],
        batch_size: int | None = None,
        seed: int = 0,
        ahead: int = 2,
        wire_type: str = "float32",
        sample_threads: int | None = None,
        features: str = "auto",
    ) -> "Loader":
        """The loader of this rank; every rank of the world must open one.

        fanouts: neighbours drawn per hop.   batch_size: the most seeds of a rank in a step; None:
        see ``SeedSchedule``.   sample_threads: None: see ``default_threads``.   features: where own
        rows are gathered (see ``store.row_placement``). Raises ValueError when no rank has training
        nodes, or for features this device lacks.
        """
        shards = parts if isinstance(parts, HostShards) else HostShards.open(parts, world)
        own, transport = shards.own, world.transport
        pool = WorkerPool(sample_threads or default_threads(world.num_cores))
        lane = make_lane(world.device, ahead + ASKED_AHEAD + 2)
        server = RowServer(transport, own.book, own.x)
        serve_neighbors(transport, own)
        placement = make_placement(features, np.asarray(own.x), own.first, lane, pool)
        store = DistributedStore(own.book, world.rank, placement, _peers(world, shards, wire_type))
        # Where ranks must make the same exchanges in one order, one worker samples.
        alone = transport.lockstep and any(shard is None for shard in shards.topology)
        ranks = world.group.all_gather(
            (len(own.train_ids), 1 if alone else pool.num_threads), "agreeing on the steps"
        )
        num_train, num_workers = zip(*ranks, strict=True)
        if sum(num_train) == 0:
            raise ValueError(f"{own.name}: no part holds a training node")
        schedule = SeedSchedule(own.train_ids, num_train, world.rank, batch_size, seed)
        how: dict[str, Any] = {"fanouts": fanouts, "seed": seed, "rank": world.rank}
        samplers = [
            NeighborSampler(own, shards.topology, transport=transport, **how)
            for _ in range(num_workers[world.rank])
        ]
        sampling = SamplerPool(samplers, schedule, store.split, pool)
        return cls(shards, store, server, sampling, schedule, ahead, max(num_workers))

    def use(self, remote: FeatureStore) -> None:
        """Put a store in front of the owners' rows, such as a buffer; before the first run."""
        self.store.remote = remote

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return self.schedule.num_steps

    def __iter__(self) -> Run:
        """One epoch: that after the last one begun, or the first."""
        return self.run(1)

    def run(self, num_epochs: int, start: Moment | None = None) -> Run:
        """``num_epochs`` epochs from ``start``, or from where the last run left off.

        An epoch that was left early is over, and the next run begins with the one after it.
        Beginning a run closes the one before (see ``Run.close``), which raises RuntimeError if it
        is asked again. Raises RuntimeError after a stage has failed.
        """
        if self._pipeline is not None:
            self._pipeline.close()
        if self.failure is not None:
            raise RuntimeError(
                f"this loader failed before ({self.failure!r}): make a new one"
            ) from self.failure
        start = Moment(self.next_epoch, 0) if start is None else start
        self.next_epoch = start.epoch
        moments = self.schedule.moments(start.epoch + num_epochs, start)
        self._pipeline = Pipeline(self, moments)
        return Run(self._pipeline)

    def check_current(self, pipeline: Pipeline) -> None:
        """Raise RuntimeError where another run has begun since."""
        if pipeline is not self._pipeline:
            raise RuntimeError(
                "another run of this loader has begun, which ended this one: a loader serves one "
                "loop at a time"
            )

    @property
    def lead(self) -> int:
        """The most minibatches that can be in front of training, the same on every rank.

        Each stage has a queue and one in its hands, and each worker may have one.
        """
        stages = 2 * (self.ahead + 1) + ASKED_AHEAD + self._most_workers if self.ahead else 0
        return stages + self.store.remote.most_window

    def presample(self, epoch: int, most: int) -> tuple[Ids, Ids]:
        """(ids, counts) of the remote nodes in the first ``most`` minibatches of an epoch.

        Distinct ids, ascending, and in how many of the minibatches each is. Every rank must call
        it. Pass the number of an epoch that is not trained on, and it tells how often nodes are
        drawn without telling which will be.
        """
        moments = (Moment(epoch, step) for step in range(min(len(self), most)))
        remote = [sample.n_id[sample.remote] for sample in self.samples(moments)]
        ids, counts = np.unique(np.concatenate(remote), return_counts=True)
        return ids, counts

    @property
    def num_workers(self) -> int:
        """Threads that sample."""
        return self._samplers.num_workers

    def sample(self, moment: Moment) -> Sample:
        """The sampled minibatch of a moment, drawn now by one thread."""
        return self._samplers.sample(moment)

    def samples(self, moments: Iterator[Moment]) -> Iterator[Sample]:
        """The sampled minibatches, in order."""
        return self._samplers.stream(moments) if self.ahead else map(self._samplers.sample, moments)

    def foreseen(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        """The same samples, each after the buffer saw those up to ``window`` behind it."""
        remote = self.store.remote
        waiting: deque[Sample] = deque()
        for sample in samples:
            if remote.window:
                remote.foresee(sample.n_id[sample.remote])
            waiting.append(sample)
            while len(waiting) > remote.window:
                yield waiting.popleft()
        yield from waiting

    def fetched(self, samples: Iterator[Sample], ahead: int) -> Iterator[MiniBatch]:
        """The minibatches of samples; the rows of ``ahead`` more are asked for meanwhile."""
        under_way: deque[tuple[Sample, RowsUnderWay, float]] = deque()
        for sample in samples:
            began = time.perf_counter()
            rows = self.store.request(sample.n_id, sample.own, sample.remote, sample.moment)
            under_way.append((sample, rows, time.perf_counter() - began))
            if len(under_way) > ahead:
                yield self._batch(*under_way.popleft())
        for each in under_way:
            yield self._batch(*each)

    def _batch(self, sample: Sample, rows: RowsUnderWay, asked_s: float) -> MiniBatch:
        began = time.perf_counter()
        y = np.asarray(self.shard.y)[sample.n_id[: sample.num_seeds] - self.shard.first]
        slot = rows.slot
        vectors = {"n_id": sample.n_id, "indptr": sample.indptr, "sources": sample.sources}
        if self.shard.multilabel:
            tensors = {**slot.send_all(vectors), "y": slot.send("y", y.astype(np.float32))}
        else:
            tensors = slot.send_all({**vectors, "y": y})
        x, counts = rows.wait()
        copied = slot.close()
        fetch_s = asked_s + time.perf_counter() - began
        return MiniBatch(
            moment=sample.moment,
            x=x,
            num_sampled_nodes=sample.num_sampled_nodes,
            num_sampled_edges=sample.num_sampled_edges,
            num_global_seeds=self.schedule.num_global_seeds(sample.moment.step),
            rows=counts,
            seconds=StageSeconds(sample=sample.seconds, fetch=fetch_s),
            copied=copied,
            **tensors,
        )
