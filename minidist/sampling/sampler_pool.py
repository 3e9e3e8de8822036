"""SamplerPool: minibatches sampled by several threads at once, in the order of training.

A sample is a pure function of its moment, so which worker draws it changes no bit.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

from minidist.moment import Moment
from minidist.sampling.neighbor_sampler import NeighborSampler, Sample
from minidist.sampling.seeds import SeedSchedule
from minidist.store.partition_book import Ids
from minidist.store.worker_pool import WorkerPool

Split = Callable[[Ids], tuple[Ids, Ids]]


class SamplerPool:
    """Deals moments to samplers.

    samplers: one for each worker that samples, all alike.   split: where among ids the rank's own
    nodes are, and where those of others (``DistributedStore.split``).
    """

    def __init__(
        self,
        samplers: Sequence[NeighborSampler],
        schedule: SeedSchedule,
        split: Split,
        pool: WorkerPool,
    ) -> None:
        self.num_workers = len(samplers)
        self._idle: queue.SimpleQueue[NeighborSampler] = queue.SimpleQueue()
        for sampler in samplers:
            self._idle.put(sampler)
        self._schedule, self._split, self._pool = schedule, split, pool

    def sample(self, moment: Moment) -> Sample:
        """The minibatch of a moment, drawn now."""
        return self._draw(self._schedule.seeds(moment), moment)

    def stream(self, moments: Iterable[Moment]) -> Iterator[Sample]:
        """The minibatches of moments, in order; each worker draws one at a time, ahead of time."""
        if self.num_workers == 1:
            yield from map(self.sample, moments)
            return
        drawing: deque[Future[Sample]] = deque()
        for moment in moments:
            seeds = self._schedule.seeds(moment)
            drawing.append(self._pool.submit(self._draw, seeds, moment))
            if len(drawing) > self.num_workers:
                yield drawing.popleft().result()
        for future in drawing:
            yield future.result()

    def _draw(self, seeds: Ids, moment: Moment) -> Sample:
        began = time.perf_counter()
        sampler = self._idle.get()
        try:
            sample = sampler.sample(seeds, moment)
        finally:
            self._idle.put(sampler)
        own, remote = self._split(sample.n_id)
        return replace(sample, own=own, remote=remote, seconds=time.perf_counter() - began)
