"""Inline: a quick decider, asked at every minibatch by the thread that fetches."""

import time
from collections.abc import Callable

from rudder.deciders.base import Decider
from rudder.deciders.ledger import Ledger
from rudder.observations import Context, Outcome, Snapshot

Settle = Callable[[Outcome], None]


def no_settling(outcome: Outcome) -> None:
    """For those who do not ask what came of a decision."""


class Inline:
    """Decides on the minibatch before, at once. A failure counts, and means to keep.

    on_outcome: told of each decision and what came of it.
    """

    def __init__(self, decider: Decider, on_outcome: Settle = no_settling) -> None:
        self._decider, self._on_outcome = decider, on_outcome
        self._latest: Snapshot | None = None
        self.ledger = Ledger(decider.name)
        self.looks_ahead = decider.looks_ahead

    def take(self, minibatch: int) -> bool:
        if self._latest is None:
            return False
        before, self._latest = self._latest, None
        context = self.ledger.context() if self._decider.looks_back else Context(recent=(before,))
        acted_ms: list[float] = []
        began = time.perf_counter()

        def act(replace: bool) -> None:
            acted_ms.append(1e3 * (time.perf_counter() - began))

        try:
            decision = self._decider.decide(context, act)
        except Exception as error:
            self.ledger.fail(f"{type(error).__name__}: {error}")
            return False
        answered_ms = 1e3 * (time.perf_counter() - began)
        self.ledger.tally.decided_ms.append(acted_ms[0] if acted_ms else answered_ms)
        self.ledger.tally.answered_ms.append(answered_ms)
        self._tell(self.ledger.apply(decision, before, minibatch))
        return decision.replace

    def post(self, snapshot: Snapshot) -> None:
        self._latest = snapshot
        self._tell(self.ledger.see(snapshot))

    def _tell(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._on_outcome(outcome)

    def past(self) -> str:
        """What the decider remembers, for a checkpoint."""
        return self.ledger.state()

    def recall(self, past: str) -> None:
        """Go on from ``past()``."""
        self.ledger.load(past)
        self._latest = self.ledger.latest

    def close(self) -> None:
        """Let the decider release what it holds."""
        self._decider.close()
