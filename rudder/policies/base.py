"""The seam of policies: they watch which rows minibatches ask for, and say what to keep.

For one run, and in it for each minibatch:

    start()                      ids to fill the buffer with before the first minibatch

    foresee(ids)                 up to ``window`` minibatches earlier, where the policy looks ahead
    observe(slots, misses, missed)   where the minibatch's remote ids lie, and those that do not
    propose(replace)             (slots, ids): rows to write, and whose rows go there
    the source fetches misses and proposed rows in ONE request, serves the minibatch, then swaps

C capacity in rows; N ids in all. slots int64 in [0, C); ids int64 in [0, N), distinct in one call.
Per-id state lies in arrays of N entries made by ``np.zeros``: untouched pages cost nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def no_ids() -> Ids:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """What is known of remote nodes before the first minibatch.

    halo int64 [h] ascending: remote nodes with an edge into our part; halo_degrees int64 [h].
    frequent int64 [f], distinct: remote nodes of pre-sampled minibatches; frequencies int64 [f]:
    in how many of those each was (empty where nothing was pre-sampled).
    """

    halo: Ids
    halo_degrees: Ids
    frequent: Ids = field(default_factory=no_ids)
    frequencies: Ids = field(default_factory=no_ids)


class Policy(ABC):
    """Decides what to replace. ``num_ids`` is N; a capacity of 0 is valid and proposes nothing.

    name: as the user gives it to ``--prefetch``.   window: minibatches it wants to foresee.
    """

    name: str
    window: int = 0

    def __init__(self, capacity: int, num_ids: int) -> None:
        self.capacity, self.num_ids = capacity, num_ids

    def start(self) -> Ids:
        """At most C distinct ids whose rows fill slots 0, 1, ... before the first minibatch."""
        return no_ids()

    def foresee(self, ids: Ids) -> None:
        """The remote ids of the next minibatch that was sampled; called once each, in order.

        Called for minibatch t + window (or as far as there are any) before ``observe`` of t.
        """
        return

    @abstractmethod
    def observe(self, slots: Ids, misses: Ids, missed: Ids) -> None:
        """A minibatch asks for R distinct remote ids. slots: int64 [R], -1 for a miss.

        misses: int64 [m], ascending, the places of those in ``slots``; missed: int64 [m], their
        ids.
        """

    @abstractmethod
    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        """(slots, ids) of one length: write the row of ``ids[i]`` into ``slots[i]``.

        Called once after each ``observe``. Slots are distinct; ids are distinct and not in the
        buffer. replace: the decider's word. Demand-filled policies propose misses of this minibatch
        whatever it says, since those rows are moved anyway. The policy counts on the proposal being
        carried out in full.
        """

    @property
    def stale(self) -> int:
        """Rows (free slots among them) the policy would give up if it were asked now."""
        return 0

    @property
    def candidates(self) -> int:
        """Rows outside the buffer that the policy could take in if it were asked now."""
        return 0

    @property
    def proven(self) -> int:
        """Those of the candidates that were missed more than once."""
        return 0

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of everything that ``load`` needs; arrays by id are stored sparsely."""

    @abstractmethod
    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from ``state()`` of a policy with the same settings."""
