"""Group: what ranks do together: sum gradients, share small objects, wait for each other.

``LocalGroup`` is the in-process twin (ranks are threads); ``TorchGroup`` is torch.distributed.
Every wait has a deadline, and its error names the ranks that did not come.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from minidist.comm.transport.base import PeerTimeout
from minidist.moment import OUTSIDE, Moment

T = TypeVar("T")


class Group(ABC):
    """The collective side of a world of P ranks."""

    rank: int
    size: int

    @abstractmethod
    def all_reduce(self, tensor: torch.Tensor, operation: str, moment: Moment) -> None:
        """Sum the tensor over all ranks, in place; shape and dtype are the same on every rank.

        Raises PeerTimeout.
        """

    @abstractmethod
    def all_gather(self, value: T, operation: str, moment: Moment = OUTSIDE) -> list[T]:
        """Every rank's value (anything that pickles), P in rank order. Raises PeerTimeout."""

    def barrier(self, operation: str, moment: Moment = OUTSIDE) -> None:
        """Wait for every rank. Raises PeerTimeout."""
        self.all_gather(None, operation, moment)

    @abstractmethod
    def first(self, work: Callable[[], T], operation: str) -> T:
        """Rank 0 does the work, however long it takes; every rank gets its result.

        An exception of the work is raised on every rank. The others wait as long as rank 0 lives.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the group."""


class LocalHall:
    """Where the threads of one process meet: a slot per rank, and a generation that all finish."""

    def __init__(self, size: int, timeout: float = 60.0) -> None:
        self.size, self.timeout = size, timeout
        self.changed = threading.Condition()
        self.slots: dict[int, Any] = {}
        self.generation = 0
        self.results: list[Any] = []
        self.failure: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """A rank died: wake everybody who waits."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()

    def meet(self, rank: int, value: Any, operation: str, moment: Moment, timeout: float) -> Any:
        """Leave a value, wait for all, and get everybody's values in rank order."""
        start = time.monotonic()
        with self.changed:
            generation = self.generation
            self.slots[rank] = value
            if len(self.slots) == self.size:
                self.results = [self.slots[peer] for peer in range(self.size)]
                self.slots = {}
                self.generation += 1
                self.changed.notify_all()
            arrived = self.changed.wait_for(
                lambda: self.generation > generation or self.failure is not None, timeout
            )
            if self.failure is not None and self.generation == generation:
                raise RuntimeError(f"rank {rank}: a peer failed: {self.failure}")
            if not arrived:
                missing = ", ".join(str(p) for p in range(self.size) if p not in self.slots)
                waited = time.monotonic() - start
                raise PeerTimeout(rank, missing, operation, moment, waited)
            return self.results


class LocalGroup(Group):
    """A thread's end of a ``LocalHall``; sums in rank order, so results are exactly repeatable."""

    def __init__(self, hall: LocalHall, rank: int) -> None:
        self._hall, self.rank, self.size = hall, rank, hall.size

    def all_reduce(self, tensor: torch.Tensor, operation: str, moment: Moment) -> None:
        parts = self.all_gather(tensor.clone(), operation, moment)
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        tensor.copy_(total)

    def all_gather(self, value: T, operation: str, moment: Moment = OUTSIDE) -> list[T]:
        hall = self._hall
        results: list[T] = hall.meet(self.rank, value, operation, moment, hall.timeout)
        return results

    def first(self, work: Callable[[], T], operation: str) -> T:
        outcome: tuple[T | None, Exception | None] = (None, None)
        if self.rank == 0:
            try:
                outcome = (work(), None)
            except Exception as error:
                outcome = (None, error)
        forever = threading.TIMEOUT_MAX
        outcome = self._hall.meet(self.rank, outcome, operation, OUTSIDE, forever)[0]
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    def fail(self, error: BaseException) -> None:
        """Tell the other threads that this rank died."""
        self._hall.fail(error)

    def close(self) -> None:
        """Nothing is held."""
