"""The seam of policies: they watch which rows minibatches ask for, and say what to keep.

For one minibatch, in this order:

    foresee(ids)                 up to W minibatches earlier, where the policy looks ahead
    observe(ids, slots)          the minibatch's distinct remote ids and their slots (-1: a miss)
    propose(replace)             (slots, ids): rows to write, and whose rows go there
    the source fetches misses and proposed rows in ONE request, serves, then swaps

C capacity in rows; slots int64 in [0, C); ids int64 global.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Policy(ABC):
    """Decides what to replace.

    name: as the user gives it to ``--prefetch``.   window: minibatches it wants to foresee.
    """

    name: str
    window: int = 0

    def foresee(self, ids: Ids) -> None:
        """The next minibatch that was sampled needs these remote rows; called in order."""

    @abstractmethod
    def observe(self, ids: Ids, slots: Ids) -> None:
        """A minibatch asks for these distinct remote ids; ``slots[i]`` is -1 for a miss."""

    @abstractmethod
    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        """(slots, ids) of one length: write the row of ``ids[i]`` into ``slots[i]``.

        Slots are distinct, ids distinct and not in the buffer. replace: the decider's word.
        Demand-filled policies propose misses of this minibatch whatever it says, since those rows
        are moved anyway. The policy counts on the proposal being carried out.
        """

    @property
    def stale(self) -> int:
        """Rows the policy would give up if it were asked to replace now."""
        return 0
