"""Inline: a quick decider, asked at every minibatch by the thread that fetches."""

from rudder.deciders.base import Decider
from rudder.deciders.ledger import Ledger, Log, unlogged
from rudder.observations import Action, Context, Snapshot


class Inline:
    """Decides on the minibatch before, at once. A failure counts, and means to keep.

    log: as ``Ledger``'s.
    """

    def __init__(self, decider: Decider, log: Log = unlogged) -> None:
        self._decider = decider
        self._latest: Snapshot | None = None
        self.ledger = Ledger(decider.name, log)
        self.looks_ahead = decider.looks_ahead

    def take(self, minibatch: int) -> Action:
        """What to do at this minibatch."""
        before, self._latest = self._latest, None
        if before is None:
            return Action.KEEP
        context = self.ledger.context() if self._decider.looks_back else Context(recent=(before,))
        try:
            decision = self.ledger.ask(self._decider, context, lambda action: None)
        except Exception as error:
            self.ledger.fail(f"{type(error).__name__}: {error}")
            return Action.KEEP
        self.ledger.apply(decision, before, minibatch)
        return decision.action

    def post(self, snapshot: Snapshot) -> None:
        """A minibatch was served."""
        self._latest = snapshot
        self.ledger.see(snapshot)

    def state(self) -> str:
        """What the decider remembers, for a checkpoint."""
        return self.ledger.state()

    def load(self, state: str) -> None:
        """Go on from ``state()``."""
        self.ledger.load(state)
        self._latest = self.ledger.latest

    def close(self) -> None:
        """Let the decider release what it holds."""
        self._decider.close()
