"""Run: the minibatches of some epochs, prepared ahead of the training loop by bounded stages.

Each stage is a thread that feeds a queue; an error in one is raised in the training loop. The
stages run across epoch boundaries, so that short epochs overlap too.
"""

import math
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minidist.moment import Moment
from minidist.sampling.batch import MiniBatch

if TYPE_CHECKING:
    from minidist.sampling.loader import Loader

# How often a stage that waits looks whether the others are still there.
_LOOK_S = 0.1
# How long leaving a run waits for its threads, which have nothing left to do by then.
_JOIN_S = 2.0
# How long leaving a run waits for a minibatch, and at least thrice the longest wait in the run.
_LEAVE_S = 5.0
# Minibatches whose rows the fetch stage asks for before those of the one before have come: links
# would be idle from the last row of one to the first of the next.
ASKED_AHEAD = 1


@dataclass
class _Failure:
    error: BaseException


@dataclass
class _Stage:
    """A thread that feeds a bounded queue from an iterator, until that ends or ``stop`` is set."""

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
        return self.within(math.inf)

    def within(self, patience: float) -> Iterator[Any]:
        """What comes, in order. Raises TimeoutError where nothing has for so many seconds."""
        came = time.monotonic()
        while not self.stop.is_set():
            try:
                item = self.output.get(timeout=_LOOK_S)
            except queue.Empty:
                if time.monotonic() - came > patience:
                    raise TimeoutError(f"no minibatch of the {self.name} stage came") from None
                continue
            if item is None:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item
            came = time.monotonic()


class Pipeline(Iterator[MiniBatch]):
    """The stages of one run, and how far training is."""

    def __init__(self, loader: "Loader", moments: Iterator[Moment]) -> None:
        self._loader, self._taken, self._over = loader, 0, False
        self._limit: int | None = None
        self._longest_s = 0.0
        self._stop = threading.Event()
        self._began = time.perf_counter()
        samples = loader.samples(self._up_to_limit(moments))
        if loader.ahead == 0:
            self._stages: list[_Stage] = []
            self._source = loader.fetched(loader.foreseen(samples), 0)
            return
        sampling = _Stage("sample", samples, loader.ahead, self._stop)
        fetched = loader.fetched(loader.foreseen(iter(sampling)), ASKED_AHEAD)
        self._stages = [sampling, _Stage("fetch", fetched, loader.ahead, self._stop)]
        self._source = iter(self._stages[-1])

    def _up_to_limit(self, moments: Iterator[Moment]) -> Iterator[Moment]:
        for count, moment in enumerate(moments):
            if self._limit is not None and count >= self._limit:
                return
            yield moment

    def __next__(self) -> MiniBatch:
        if self._over:
            self._loader.check_current(self)
            raise StopIteration
        if self._stages:
            self._began = time.perf_counter()
        try:
            batch = next(self._source, None)
        except BaseException as error:
            self._end(error)
            raise
        if batch is None:
            self._end()
            raise StopIteration
        self._taken += 1
        self._loader.next_epoch = batch.moment.epoch + 1
        batch.await_copies()
        batch.seconds.wait = (
            time.perf_counter() - self._began
            if self._stages
            else batch.seconds.sample + batch.seconds.fetch
        )
        self._longest_s = max(self._longest_s, batch.seconds.wait)
        return batch

    def close(self) -> None:
        """See ``Run.close``."""
        if self._over:
            return
        self._limit = self._taken + self._loader.lead
        patience = max(_LEAVE_S, 3 * self._longest_s)
        try:
            for _ in self._stages[-1].within(patience) if self._stages else self._source:
                pass
        except BaseException as error:
            self._end(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._end()

    def _end(self, error: BaseException | None = None) -> None:
        self._over = True
        self._loader.failure = self._loader.failure or error
        self._stop.set()
        for stage in self._stages:
            stage.thread.join(_JOIN_S)


class Run(Iterator[MiniBatch]):
    """The minibatches of some epochs, in order; each is on the world's device.

    An error in a stage is raised here: PeerTimeout where a peer did not answer in time.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._thread = pipeline, threading.get_ident()

    def __next__(self) -> MiniBatch:
        return next(self._pipeline)

    def close(self) -> None:
        """Leave the run, as ``break`` does: the stages go on to ``Loader.lead`` minibatches more.

        Those are dropped. So every row has come that a buffer's index says is there, and ranks
        that leave at the same step have made the same exchanges, whatever the timing. A rank that
        leaves alone, as by an exception, does not wait long for what others no longer send. An
        error on the way is raised when the next run begins.
        """
        self._pipeline.close()

    def __del__(self) -> None:
        # The garbage collector may run in a thread that the stages need, such as one of theirs.
        # Then the next run of the loader ends this one.
        if threading.get_ident() == self._thread and not sys.is_finalizing():
            self.close()
