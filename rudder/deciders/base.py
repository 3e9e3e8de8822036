"""The seam of deciders: a snapshot and the recent past in, a decision out.

A decider touches no buffer, tensor or clock. Quick ones are asked inline at every minibatch; slow
ones live in the thread of ``worker``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rudder.snapshot import Decision, Outcome, Snapshot


class Decider(ABC):
    """Decides when to replace.

    name: as the user gives it to ``--decider``.
    slow: True where a decision takes longer than a look-up, so that it needs a thread of its own.
    """

    name: str
    slow: bool = False

    @abstractmethod
    def decide(self, snapshot: Snapshot, history: Sequence[Outcome]) -> Decision:
        """Decide on the newest snapshot; history: recent outcomes, oldest first.

        May raise: the caller counts the failure and keeps the buffer as it is.
        """

    def close(self) -> None:
        """Release what the decider holds."""
