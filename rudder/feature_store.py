"""FeatureStore: where the feature rows of remote nodes come from. One interface, so stores stack.

    CachedStore    rows of a persistent buffer; what it does not hold comes from the store behind it
    HostStore      (minidist) the same for one buffer that all ranks of a host share
    PeerStore      (minidist) rows of other parts, by memory map or by request to their owners

A request returns at once with a ``Fetch``, the one object that stands for rows under way, so that
the next minibatch can be sampled and requested meanwhile.

R rows asked for, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.buffer.rows import Send
from rudder.row_counts import RowCounts

Array = NDArray[Any]
# Given how many spare rows a store needs, where rows go: (out [R + others + spare, D], positions
# int64 [R]). The row of ``ids[i]`` goes to ``out[positions[i]]``; the spare rows end ``out``.
Place = Callable[[int], tuple[Array, Ids]]


class When(Protocol):
    """Which minibatch: ``epoch`` and ``step``."""

    @property
    def epoch(self) -> int: ...

    @property
    def step(self) -> int: ...


class Fetch:
    """Rows under way. This class: rows that are in place already."""

    def __init__(self, counts: RowCounts) -> None:
        self.counts = counts

    def wait(self) -> RowCounts:
        """Return once the rows are in place; called once, fetches of a store in their order."""
        return self.counts

    def on_device(self, staged: torch.Tensor, send: Send) -> None:
        """Fill in rows that lie on the device already.

        staged: ``out``, copied there.   send: brings an array there, under a name of its own.
        """


class FeatureStore(ABC):
    """Brings rows of one table. For one thread at a time.

    window: how many minibatches ``foresee`` must be in front of ``request``.
    """

    window: int = 0

    @property
    def most_window(self) -> int:
        """The largest that ``window`` may become."""
        return self.window

    def foresee(self, ids: Ids) -> None:
        """A minibatch was sampled that will need these distinct ids."""
        return

    @abstractmethod
    def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
        """Ask for the rows of distinct ids, to be written where ``place`` says."""


class BufferedStore(FeatureStore):
    """A store with a persistent buffer.

    counts: of everything it was asked for so far, of this rank.   ring_bytes: the most that rows
    took that were on their way through memory which ranks share.
    """

    counts: RowCounts
    ring_bytes: int = 0

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint: the ids in the buffer and what its policy knows, no rows."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from ``state_dict()``; the rows themselves come with the first minibatch."""

    def close(self) -> None:
        """Let go of what is shared with other ranks."""
