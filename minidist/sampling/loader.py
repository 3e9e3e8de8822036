"""Loader: minibatches, prepared ahead of the training loop by bounded stages.

    ahead = 0     sample 1, fetch 1, TRAIN 1, sample 2, fetch 2, TRAIN 2, ...       (one thread)

    ahead = 2     sample  1 2 3 4 ...
                  fetch     1 2 3 ...       each stage a thread, at most ``ahead`` minibatches
                  TRAIN       1 2 ...       in front of the next; fetch asks for the rows of one
                                            more while those of this one come

    A buffer that looks W minibatches ahead (``RemoteRows.window``) sees each sample that much
    earlier: it waits in the fetch stage.

The stages run across epoch boundaries, so that short epochs overlap too.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from minidist.comm.world import World
from minidist.moment import Moment
from minidist.sampling.batch import MiniBatch
from minidist.sampling.neighbor_sampler import NeighborSampler, Sample, serve_neighbors
from minidist.sampling.seeds import SeedSchedule
from minidist.store.feature_store import DistFeatures, OwnersRows, RemoteRows
from minidist.store.partition_book import Ids
from minidist.store.row_copy import RowCounts
from minidist.store.row_server import RowServer
from minidist.store.shard import Shard

In = TypeVar("In")
Out = TypeVar("Out")

# How often a stage that waits looks whether the others are still there.
_LOOK_S = 0.1
# How long leaving the loop waits for stages; one that waits for a peer ends at its own deadline.
_JOIN_S = 2.0
# Minibatches whose rows the fetch stage asks for before those of the one before have come: links
# would be idle from the last row of one to the first of the next.
_ASKED_AHEAD = 1
_BEGIN = Moment(0, 0)
# A sample and the seconds it took.
_Sampled = tuple[Sample, float]


@dataclass(kw_only=True)
class Prepared:
    """A minibatch, what became of its remote rows, and the seconds it took.

    sample_s and fetch_s are of the threads that prepared it; wait_s is the training loop's.
    """

    batch: MiniBatch
    rows: RowCounts
    sample_s: float
    fetch_s: float
    wait_s: float = 0.0


@dataclass
class _Failure:
    error: BaseException


@dataclass
class _Stage:
    """A thread that feeds a bounded queue from an iterator, and stops when told to."""

    name: str
    source: Iterator[Any]
    size: int
    stop: threading.Event
    output: "queue.Queue[Any]" = field(init=False)

    def __post_init__(self) -> None:
        self.output = queue.Queue(self.size)
        self.thread = threading.Thread(target=self._run, name=f"minidist-{self.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for item in self.source:
                self._put(item)
                if self.stop.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(_Failure(error))

    def _put(self, item: Any) -> None:
        while not self.stop.is_set():
            try:
                self.output.put(item, timeout=_LOOK_S)
                return
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[Any]:
        while not self.stop.is_set():
            try:
                item = self.output.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item


class Loader:
    """Minibatches of one rank: ``for prepared in loader.run(num_epochs)``.

    shards: for each part the Shard that this host has mapped, or None (see ``Parts.at_hand``).
    topology: the same for in-edges alone, where the whole topology is replicated on every host.
    fanouts: neighbours drawn per hop.   batch_size: the most seeds of a rank in a step.
    ahead: minibatches that each stage may be in front of the next; 0 prepares each when asked.
    Raises ValueError when no rank has training nodes.
    """

    def __init__(
        self,
        world: World,
        shards: Sequence[Shard | None],
        *,
        fanouts: Sequence[int],
        batch_size: int,
        seed: int = 0,
        ahead: int = 2,
        wire_type: str = "float32",
        topology: Sequence[Shard | None] | None = None,
    ) -> None:
        shard = shards[world.rank]
        assert shard is not None
        self.shard, self._device, self._ahead = shard, world.device, ahead
        self.rows = RowServer(world.transport, shard.book, shard.x)
        serve_neighbors(world.transport, shard)
        self._sampler = NeighborSampler(
            shard,
            shards if topology is None else topology,
            fanouts=fanouts,
            seed=seed,
            rank=world.rank,
            transport=world.transport,
        )
        mapped = [None if peer is None else peer.x for peer in shards]
        self.owners = OwnersRows(world.transport, shard.book, mapped, wire_type=wire_type)
        self._features = DistFeatures(shard.book, world.rank, shard.x, self.owners)
        num_train = world.group.all_gather(len(shard.train_ids), "agreeing on the steps")
        if sum(num_train) == 0:
            raise ValueError(f"{shard.name}: no part holds a training node")
        self.schedule = SeedSchedule(shard.train_ids, num_train, world.rank, batch_size, seed)

    def use(self, remote: RemoteRows) -> None:
        """Put something between us and the owners' rows, such as a buffer in front of ``owners``.

        To be called before ``run``.
        """
        self._features.remote = remote

    def presample(self, epoch: int, most: int) -> tuple[Ids, Ids]:
        """(ids, counts) of the remote nodes in the first ``most`` minibatches of an epoch.

        Distinct ids, ascending, and in how many of the minibatches each is. Every rank must call
        it. Pass the number of an epoch that is not trained on, and it tells how often nodes are
        drawn without telling which will be.
        """
        steps = range(min(self.num_steps, most))
        samples = (self._sample(Moment(epoch, step))[0].node_ids for step in steps)
        remote = [ids[self._features.remote_places(ids)] for ids in samples]
        ids, counts = np.unique(np.concatenate(remote), return_counts=True)
        return ids, counts

    @property
    def num_steps(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return self.schedule.num_steps

    def run(self, num_epochs: int, start: Moment = _BEGIN) -> Iterator[Prepared]:
        """Every minibatch from ``start`` to the end of epoch ``num_epochs - 1``.

        Each is on the world's device. An error in a stage is raised here: PeerTimeout where a peer
        did not answer in time. Leaving the loop stops the stages.
        """
        moments = self.schedule.moments(num_epochs, start)
        if self._ahead == 0:
            for prepared in self._fetched(self._foreseen(map(self._sample, moments)), 0):
                prepared.wait_s = prepared.sample_s + prepared.fetch_s
                yield prepared
            return
        stop = threading.Event()
        samples = _Stage("sample", map(self._sample, moments), self._ahead, stop)
        fetched = _Stage(
            "fetch", self._fetched(self._foreseen(iter(samples)), _ASKED_AHEAD), self._ahead, stop
        )
        try:
            began = time.perf_counter()
            for prepared in fetched:
                prepared.wait_s = time.perf_counter() - began
                yield prepared
                began = time.perf_counter()
        finally:
            stop.set()
            for stage in (samples, fetched):
                stage.thread.join(_JOIN_S)

    def _sample(self, moment: Moment) -> _Sampled:
        began = time.perf_counter()
        sample = self._sampler.sample(self.schedule.seeds(moment), moment)
        return sample, time.perf_counter() - began

    def _foreseen(self, samples: Iterator[_Sampled]) -> Iterator[_Sampled]:
        """The same samples, each after the buffer saw those up to ``window`` behind it."""
        remote = self._features.remote
        waiting: deque[_Sampled] = deque()
        for sampled in samples:
            ids = sampled[0].node_ids
            if remote.window:
                remote.foresee(ids[self._features.remote_places(ids)])
            waiting.append(sampled)
            if len(waiting) > remote.window:
                yield waiting.popleft()
        yield from waiting

    def _fetched(self, samples: Iterator[_Sampled], ahead: int) -> Iterator[Prepared]:
        """The minibatches of samples; the rows of ``ahead`` more are asked for meanwhile."""
        under_way: deque[Callable[[], Prepared]] = deque()
        for sampled in samples:
            under_way.append(self._request(sampled))
            if len(under_way) > ahead:
                yield under_way.popleft()()
        for receive in under_way:
            yield receive()

    def _request(self, sampled: _Sampled) -> Callable[[], Prepared]:
        sample, sample_s = sampled
        began = time.perf_counter()
        wait = self._features.request(sample.node_ids, sample.moment)
        asked_s = time.perf_counter() - began

        def receive() -> Prepared:
            began = time.perf_counter()
            x, rows = wait()
            batch = self._batch(sample, x)
            self._features.remote.finish(batch.x)
            fetch_s = asked_s + time.perf_counter() - began
            return Prepared(batch=batch, rows=rows, sample_s=sample_s, fetch_s=fetch_s)

        return receive

    def _batch(self, sample: Sample, x: NDArray[np.float32]) -> MiniBatch:
        first = self.shard.book.range_of(self.shard.part)[0]
        y = torch.from_numpy(np.asarray(self.shard.y)[sample.node_ids[: sample.num_seeds] - first])
        return MiniBatch(
            moment=sample.moment,
            n_id=torch.from_numpy(sample.node_ids),
            x=torch.from_numpy(x),
            y=y.float() if self.shard.multilabel else y,
            indptr=torch.from_numpy(sample.indptr),
            sources=torch.from_numpy(sample.sources).long(),
            num_sampled_nodes=sample.nodes_per_hop,
            num_sampled_edges=sample.edges_per_hop,
            num_global_seeds=self.schedule.num_global_seeds(sample.moment.step),
        ).to(self._device)
