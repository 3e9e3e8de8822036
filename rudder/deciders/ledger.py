"""Ledger: what was seen, what was decided on it, when that was applied, and what came of it.

The one place where a decision's latency is measured, and where decisions are logged.
"""

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from rudder.deciders.base import Act, Decider
from rudder.deciders.judge import Tally
from rudder.observations import (
    Action,
    Context,
    Decision,
    Outcome,
    Snapshot,
    Trend,
    hits_trend,
    moved_trend,
)

RECENT, OUTCOMES = 16, 32
# Told of an event and its fields, which are JSON values.
Log = Callable[..., None]


def unlogged(event: str, **fields: Any) -> None:
    """For those who keep no log."""


def _read_outcome(fields: dict[str, Any]) -> Outcome:
    decision = Decision(**fields["decision"])
    decision.action = Action(decision.action)
    decision.expect_hits = decision.expect_hits and Trend(decision.expect_hits)
    decision.expect_moved = decision.expect_moved and Trend(decision.expect_moved)
    return Outcome(
        decision=decision,
        before=Snapshot(**fields["before"]),
        applied=fields["applied"],
        after=Snapshot(**fields["after"]),
    )


@dataclass
class Ledger:
    """One decider's book. Not locked: the thread that owns it is whoever holds it.

    log: told of each exchange with a decider (event ``exchange``), of each outcome (``decision``)
    and of the first failure (``decider failed``).
    tally: counts for the summary.   failures: how often the decider failed, by reason.
    """

    name: str
    log: Log = unlogged
    tally: Tally = field(default_factory=Tally)
    failures: Counter[str] = field(default_factory=Counter)
    _recent: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=RECENT))
    _outcomes: deque[Outcome] = field(default_factory=lambda: deque(maxlen=OUTCOMES))
    # Decisions without an outcome yet, what they were taken on, and where they were applied.
    _open: deque[tuple[Decision, Snapshot, int]] = field(default_factory=deque)
    _last_applied: int | None = None

    def see(self, snapshot: Snapshot) -> None:
        """Note a minibatch, and the outcomes that it shows."""
        self._recent.append(snapshot)
        self._settle()

    @property
    def latest(self) -> Snapshot | None:
        """The newest minibatch that was seen, if any."""
        return self._recent[-1] if self._recent else None

    def context(self) -> Context:
        """What a decider decides on now. At least one minibatch must have been seen."""
        return Context(recent=tuple(self._recent), outcomes=tuple(self._outcomes))

    def ask(self, decider: Decider, context: Context, act: Act) -> Decision:
        """Have a decider decide; note how long its action and its whole answer took.

        Needs no lock. Raises what the decider raises, and RuntimeError where its action was taken
        and the rest of its answer cannot be used.
        """
        decided_ms, began = None, time.perf_counter()

        def act_early(action: Action) -> None:
            nonlocal decided_ms
            decided_ms = 1e3 * (time.perf_counter() - began)
            act(action)

        decision = decider.decide(context, act_early)
        answered_ms = 1e3 * (time.perf_counter() - began)
        was_early = decided_ms is not None
        if decided_ms is None:
            decided_ms = answered_ms
            act(decision.action)
        self.tally.decided_ms.append(decided_ms)
        self.tally.answered_ms.append(answered_ms)
        if decider.exchange:
            times = {"decided_ms": decided_ms, "answered_ms": answered_ms}
            self.log("exchange", **decider.exchange, **times)
        if was_early and not decision.valid:
            raise RuntimeError("the answer was cut off after its decision")
        return decision

    def apply(self, decision: Decision, before: Snapshot, applied: int) -> None:
        """A decision was carried out at minibatch ``applied``."""
        self.tally.count += 1
        self.tally.valid += decision.valid
        self.tally.replace += decision.action == Action.REPLACE
        self.tally.grow += decision.action == Action.GROW
        self.tally.shrink += decision.action == Action.SHRINK
        if self._last_applied is not None:
            self.tally.gaps.append(applied - self._last_applied)
        self._last_applied = applied
        # A resumed run may apply what was decided on minibatches that it is yet to see again.
        if before.minibatch < applied:
            self._open.append((decision, before, applied))
        self._settle()

    def fail(self, reason: str) -> None:
        """The decider failed, and the buffer was kept as it is; the log is told the first time."""
        if not self.failures:
            self.log(
                "decider failed",
                error=f"the decider {self.name} failed ({reason}); training goes on and keeps the "
                "buffer as it is; further failures are counted in the summary",
            )
        self.failures[reason] += 1

    def state(self) -> str:
        """The recent past as JSON, for a checkpoint."""
        # Copies, because another thread may go on meanwhile.
        recent = [asdict(seen) for seen in tuple(self._recent)]
        return json.dumps([recent, [asdict(each) for each in tuple(self._outcomes)]])

    def load(self, state: str) -> None:
        """Go on from ``state()``."""
        recent, outcomes = json.loads(state)
        self._recent.extend(Snapshot(**fields) for fields in recent)
        self._outcomes.extend(_read_outcome(fields) for fields in outcomes)

    def _settle(self) -> None:
        """Pair decisions with the minibatch after the one that applied them; drop those where that
        is known no more, after a slow answer."""
        latest = self.latest
        while latest is not None and self._open and self._open[0][-1] < latest.minibatch:
            decision, before, applied = self._open.popleft()
            for after in reversed(self._recent):
                if after.minibatch == applied + 1:
                    self._note(
                        Outcome(decision=decision, before=before, applied=applied, after=after)
                    )
                    break

    def _note(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self.tally.judged += 1
        self.tally.passed += outcome.passed
        self.log("decision", **_described(outcome))


def _described(outcome: Outcome) -> dict[str, Any]:
    """The fields of the event ``decision``."""
    before, after, decision = outcome.before, outcome.after, outcome.decision
    return {
        "minibatch": before.minibatch,
        "applied": outcome.applied,
        "replace": decision.replace,
        "action": decision.action.word,
        "valid": decision.valid,
        "reason": decision.reason,
        "expect_hits": decision.expect_hits,
        "expect_moved": decision.expect_moved,
        "hits_pct_before": before.hits_pct,
        "hits_pct_after": after.hits_pct,
        "moved_before": before.moved,
        "moved_after": after.moved,
        "hits": hits_trend(before, after),
        "moved": moved_trend(before, after),
        "passed": outcome.passed,
    }
