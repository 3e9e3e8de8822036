"""Ledger: what was seen, what was decided on it, when that was applied, and what came of it."""

import json
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from rudder.deciders.judge import Tally
from rudder.observations import Context, Decision, Outcome, Snapshot, Trend

RECENT, OUTCOMES = 16, 32


class _Applied(NamedTuple):
    decision: Decision
    before: Snapshot
    applied: int


def _read_outcome(fields: dict[str, Any]) -> Outcome:
    decision = fields["decision"]
    trends = {
        name: None if decision[name] is None else Trend(decision[name])
        for name in ("expect_hits", "expect_moved")
    }
    return Outcome(
        decision=Decision(**{**decision, **trends}),
        before=Snapshot(**fields["before"]),
        applied=fields["applied"],
        after=Snapshot(**fields["after"]),
    )


@dataclass
class Ledger:
    """One decider's book. Not locked: the thread that owns it is whoever holds it.

    tally: counts for the summary.   failures: how often the decider failed, by reason.
    """

    name: str
    tally: Tally = field(default_factory=Tally)
    failures: Counter[str] = field(default_factory=Counter)
    _recent: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=RECENT))
    _outcomes: deque[Outcome] = field(default_factory=lambda: deque(maxlen=OUTCOMES))
    _open: deque[_Applied] = field(default_factory=deque)
    _last_applied: int | None = None

    def see(self, snapshot: Snapshot) -> list[Outcome]:
        """Note a minibatch; returns the outcomes that it settles."""
        self._recent.append(snapshot)
        return self._settle()

    @property
    def latest(self) -> Snapshot | None:
        """The newest minibatch that was seen, if any."""
        return self._recent[-1] if self._recent else None

    def context(self) -> Context:
        """What a decider decides on now. At least one minibatch must have been seen."""
        return Context(recent=tuple(self._recent), outcomes=tuple(self._outcomes))

    def apply(self, decision: Decision, before: Snapshot, applied: int) -> list[Outcome]:
        """A decision was carried out at minibatch ``applied``; returns what this settles."""
        self.tally.count += 1
        self.tally.replace += decision.replace
        self.tally.valid += decision.valid
        if self._last_applied is not None:
            self.tally.gaps.append(applied - self._last_applied)
        self._last_applied = applied
        # A resumed run may apply what was decided on minibatches that it is yet to see again.
        if before.minibatch < applied:
            self._open.append(_Applied(decision, before, applied))
        return self._settle()

    def fail(self, reason: str) -> None:
        """The decider failed; the buffer was kept as it is."""
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

    def _settle(self) -> list[Outcome]:
        """Pair decisions with the minibatch after the one that applied them; drop those where that
        is known no more."""
        settled: list[Outcome] = []
        latest = self.latest
        while latest is not None and self._open and self._open[0].applied < latest.minibatch:
            entry = self._open.popleft()
            after = self._seen(entry.applied + 1)
            if after is None:
                continue  # too long ago: a slow answer
            outcome = Outcome(
                decision=entry.decision, before=entry.before, applied=entry.applied, after=after
            )
            self._outcomes.append(outcome)
            self.tally.judged += 1
            self.tally.passed += outcome.passed
            settled.append(outcome)
        return settled

    def _seen(self, minibatch: int) -> Snapshot | None:
        """What a minibatch showed, if it is remembered."""
        back = self._recent[-1].minibatch - minibatch
        found = self._recent[-1 - back] if back < len(self._recent) else None
        return found if found is not None and found.minibatch == minibatch else None
