"""The seam of policies: they watch which rows minibatches ask for, and say what to keep.

For one run, and in it for each minibatch:

    start()                      ids to fill the buffer with before the first minibatch

    foresee(ids)         up to ``window`` minibatches earlier, where the policy looks ahead
    observe(ids, found)  the minibatch's remote ids, and where the buffer has them
    propose(replace)     rows to write, and whose rows go there
    the source fetches misses and proposed rows in ONE request, serves the minibatch, then swaps

C capacity in rows; N ids in all. slots in [0, C); ids int64 in [0, N), distinct in one call. What a
policy keeps of an id is best kept as the tally in the id's entry (see ``rudder.buffer.index``),
which the look-up has read; else in arrays made by ``np.zeros``, whose untouched pages cost nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rudder.buffer.index import Buffer, Found, Ids, Int32s, Resize, no_ids


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """What is known of remote nodes before the first minibatch.

    halo int64 [h] ascending: remote nodes with an edge into our part; halo_degrees int64 [h].
    frequent int64 [f] ascending: remote nodes of pre-sampled minibatches; frequencies int64 [f]:
    in how many of those each was (empty where nothing was pre-sampled).
    """

    halo: Ids
    halo_degrees: Ids
    frequent: Ids = field(default_factory=no_ids)
    frequencies: Ids = field(default_factory=no_ids)


class Proposal(NamedTuple):
    """Rows to swap in: the row of ``ids[i]`` goes to ``slots[i]``.

    slots, ids: int64 [k], distinct; no id is held.   places: int32 [k], where among the minibatch's
    ids an id is, or -1.   tallies: int32 [k], what the buffer is to keep of the id that gives way.
    num_extra: how many have no place, so that their rows are moved for the buffer alone.
    """

    slots: Ids
    ids: Ids
    places: Int32s
    tallies: Int32s
    num_extra: int


NOTHING = Proposal(no_ids(), no_ids(), np.zeros(0, np.int32), np.zeros(0, np.int32), 0)


class Policy(ABC):
    """Decides what to replace in ``buffer``; a capacity of 0 is valid and proposes nothing.

    It reads and writes tallies and marks in the buffer's entries, and leaves slots to others.
    name: as the user gives it to ``--prefetch``.   window: minibatches it wants to foresee.
    """

    name: str
    window: int = 0

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    @property
    def capacity(self) -> int:
        """C, the buffer's."""
        return self.buffer.capacity

    def resize(self, capacity: int) -> Resize:
        """Change the buffer's capacity, between two minibatches; the caller moves the rows.

        Raises ValueError where the policy has no rule for it.
        """
        raise ValueError(f"--prefetch {self.name}: the size of its buffer is fixed")

    def start(self) -> Ids:
        """At most C distinct ids whose rows fill slots 0, 1, ... before the first minibatch."""
        return no_ids()

    def foresee(self, ids: Ids) -> None:
        """The remote ids of the next minibatch that was sampled; called once each, in order.

        Called for minibatch t + window (or as far as there are any) before ``observe`` of t.
        """
        return

    @abstractmethod
    def observe(self, ids: Ids, found: Found) -> None:
        """A minibatch asks for these distinct remote ids, and the buffer has found them so."""

    @abstractmethod
    def propose(self, replace: bool) -> Proposal:
        """Which rows to swap in.

        Called once after each ``observe``. replace: the decider's word. Demand-filled policies
        propose misses of this minibatch whatever it says, since those rows are moved anyway. The
        policy counts on the proposal being carried out in full.
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
        """Copies of everything that ``load`` needs beside the buffer; arrays by id are sparse."""

    @abstractmethod
    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from ``state()`` of a policy with the same settings; the buffer goes on already."""
