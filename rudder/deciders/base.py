"""The seam of deciders: what was seen in, a decision out.

A decider touches no buffer, tensor or clock, and keeps no log. ``worker`` asks it, at once or in a
thread, through ``ledger``, which measures how long that takes and writes down what came of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from rudder.observations import Action, Context, Decision

Act = Callable[[Action], None]


class Decider(ABC):
    """Decides when to replace.

    name: as the user gives it to ``--decider``.
    slow: True where a decision takes longer than a look-up, so that it needs a thread of its own.
    looks_ahead: whether it reads what snapshots tell of minibatch + 2.
    about: what the log should know of it, once.   exchange: what its latest decision was asked for
    with and read from, for the log. Both are empty where there is nothing to tell.
    """

    name: str
    slow: bool = False
    looks_ahead: bool = True
    about: Mapping[str, Any] = {}
    exchange: Mapping[str, Any] = {}

    @abstractmethod
    def decide(self, context: Context, act: Act) -> Decision:
        """Decide on ``context.latest``; the decision's ``minibatch`` is that snapshot's.

        act: may be called once, early, with the decision's action as soon as it is certain; the
        decision returned must then say the same. Others need not call it.
        May raise: the caller counts the failure and keeps the buffer as it is.
        """

    def interrupt(self) -> None:
        """Another thread wants ``decide`` to end now, by any error; it will not be called again."""
        return

    def close(self) -> None:
        """Release what the decider holds; called by the thread that called ``decide``."""
        return
