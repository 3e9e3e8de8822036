"""The seam between ranks: a rank asks the owners of nodes for rows or for sampled neighbours.

A ``Transport`` carries requests to the handlers that each rank registers, and replies back into
buffers the caller owns. ``local`` is the in-process twin, ``mpi`` the default on clusters,
``collective`` the one for torchrun.

P ranks; ids are global node ids, int64.
"""

import enum
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.moment import Moment

Array = NDArray[Any]
Ids = NDArray[np.int64]


class Op(enum.IntEnum):
    """What a request asks for."""

    ROWS = 0  # header (table, 0); reply: one row of the table per id
    NEIGHBORS = 1  # header (key, fanout); reply: a count per id, then the neighbours
    LAYER_ROWS = 2  # as ROWS, for evaluation, so that the traffic of training stays apart


class PeerTimeout(TimeoutError):
    """A peer did not answer in time: says who waited for whom, for what, where and how long."""

    def __init__(
        self, rank: int, peer: int | str, operation: str, moment: Moment, seconds: float
    ) -> None:
        super().__init__(
            f"rank {rank} waited {seconds:.1f} s for rank {peer} ({operation}, {moment}): "
            "that rank is stopped, overloaded or cut off; if it is only slow, raise --fetch-timeout"
        )
        self.rank, self.peer, self.operation = rank, peer, operation
        self.moment, self.seconds = moment, seconds


# A handler gets the header and ids of a request and an allocator of scratch memory that stays
# untouched until the reply is sent; it returns the reply, contiguous and one-dimensional.
Allocate = Callable[[int, Any], Array]
Handler = Callable[[tuple[int, int], Ids, Allocate], Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One request to one peer and the buffer for its reply.

    reply: one-dimensional, contiguous; filled from its start.
    items_per_id: the exact number of reply items for each id, so that a transport may cut a large
    call in pieces; None where the reply's length depends on the data (then ``reply`` holds the
    most that can come).
    """

    peer: int
    header: tuple[int, int]
    ids: Ids
    reply: Array
    items_per_id: int | None = None


class Traffic:
    """Bytes by operation and peer, of replies only; what the counts of rows must add up to.

    received[op, peer]: replies to our calls.   served[op, peer]: replies we sent.
    mapped[op, peer]: read from a same-host peer's memory map instead of being sent.
    """

    def __init__(self, size: int) -> None:
        shape = (len(Op), size)
        self.received = np.zeros(shape, np.int64)
        self.served = np.zeros(shape, np.int64)
        self.mapped = np.zeros(shape, np.int64)


class Transport(ABC):
    """Moves requests and replies between P ranks. Thread-safe.

    Every rank registers its handlers with ``serve`` before any rank calls ``exchange``. Every rank
    makes the same sequence of exchanges per lane (collective needs it; see ``exchange``), with no
    calls in them where it needs nothing.
    """

    # Whether ranks must make the same exchanges of a lane, in one order, with or without calls.
    lockstep: bool = False

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.traffic = Traffic(size)
        self._handlers: dict[Op, Handler] = {}

    def serve(self, op: Op, handler: Handler) -> None:
        """Answer requests for ``op`` with ``handler``, which may run in any thread."""
        self._handlers[op] = handler

    @abstractmethod
    def exchange(self, op: Op, calls: Sequence[Call], moment: Moment, lane: str) -> list[int]:
        """Make all calls at once and wait for their replies.

        lane: the stage that calls ("sample", "fetch", "evaluate"): exchanges of different lanes may
        overlap in any order, those of one lane come in the same order on every rank.
        Returns the number of items written into each call's ``reply``.
        Raises PeerTimeout when a peer does not answer in time.
        """

    def begin(
        self, op: Op, calls: Sequence[Call], moment: Moment, lane: str
    ) -> Callable[[], list[int]]:
        """Make all calls; what is returned waits for their replies, as ``exchange`` does.

        Exchanges of a lane are waited for in the order they began in. Where a lane can have but one
        under way, as here, the calls are made when they are waited for.
        """
        return functools.partial(self.exchange, op, calls, moment, lane)

    def shares_host(self, peer: int) -> bool:
        """Whether the peer's files and memory maps are ours too (same machine and namespace)."""
        return True

    @abstractmethod
    def close(self) -> None:
        """Wait until no peer needs our answers any more, then stop serving."""
