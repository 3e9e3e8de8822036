"""Metrics collector and context builder (paper, section 4.2): what an agent reads of a context."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rudder.observations import Action, Context, Outcome, Snapshot, relative_change

# Past decisions that are told one by one; all those of the context count in the means.
HISTORY = 6
# Minibatches whose mean the latest is compared with.
_BEFORE = 4


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What decisions of one kind did on average; units as in ``Outcome``."""

    count: int
    hits_change: float
    moved_change: float


@dataclass(kw_only=True)
class Metrics:
    """The latest minibatch in figures that mean the same at any size, and what came of decisions.

    hits_change: %-Hits against the mean of the minibatches before, in points.
    jitter: mean change of %-Hits from one minibatch to the next, in points, without its sign.
    ahead_change: %-Hits that minibatch + 2 will have in the buffer as it stands, against now.
    moved_pct, swap_pct: communication volume, and rows that a replacement now would swap, of the
    remote rows of this minibatch.   moved_change: in percent of the mean of the minibatches before.
    replaced_pct, stale_pct, candidates_pct, filled_pct: of the capacity.
    proven_pct: of the rows that a replacement would bring in, those that were missed repeatedly.
    reach_pct: capacity over remote rows of this minibatch (C/b), the most that %-Hits can be.
    spent_pct: rows that recent replacements moved on purpose, of the remote rows of their
    minibatches.   since: minibatches since rows were last replaced.
    fetch_pct: time of fetching in percent of that of computing, over the latest minibatches.
    size_pct: capacity in percent of its limit.
    past: the latest decisions, oldest first.   effects: over all that are remembered.
    None where there was none or it is not known.
    """

    now: Snapshot
    hits_change: float
    jitter: float
    ahead_change: float | None
    moved_pct: float
    moved_change: float
    replaced_pct: float
    stale_pct: float
    candidates_pct: float
    swap_pct: float
    proven_pct: float
    filled_pct: float
    reach_pct: float
    spent_pct: float | None
    since: int | None
    fetch_pct: float | None
    size_pct: float | None
    past: Sequence[Outcome]
    effects: Mapping[Action, Effect]


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


def _jitter(recent: Sequence[Snapshot]) -> float:
    hits = [snapshot.hits_pct for snapshot in recent]
    steps = [abs(after - before) for before, after in itertools.pairwise(hits)]
    return statistics.fmean(steps) if steps else 0.0


def _fetch(latest: Sequence[Snapshot]) -> float | None:
    if any(snapshot.fetch_ms < 0 for snapshot in latest):
        return None
    return _percent(sum(s.fetch_ms for s in latest), sum(s.compute_ms for s in latest))


def _effects(outcomes: Sequence[Outcome]) -> dict[Action, Effect]:
    by_action: dict[Action, list[Outcome]] = {}
    for outcome in outcomes:
        by_action.setdefault(outcome.decision.action, []).append(outcome)
    return {
        action: Effect(
            count=len(those),
            hits_change=statistics.fmean([one.hits_change for one in those]),
            moved_change=statistics.fmean([one.moved_change for one in those]),
        )
        for action, those in by_action.items()
    }


def collect(context: Context) -> Metrics:
    """The metrics of the latest minibatch of a context."""
    now, recent, outcomes = context.latest, context.recent, context.outcomes
    before = recent[-1 - _BEFORE : -1] or [now]
    ahead, swapped = now.ahead_hits_pct, min(now.stale, now.candidates)
    swaps = [one for one in recent if one.replaced]
    spent = [_percent(swap.replacement_rows, swap.remote) for swap in swaps]
    replaced = [swap.minibatch for swap in swaps]
    replaced += [outcome.applied for outcome in outcomes if outcome.decision.replace]
    return Metrics(
        now=now,
        hits_change=now.hits_pct - statistics.fmean([s.hits_pct for s in before]),
        jitter=_jitter(recent),
        ahead_change=None if ahead is None else ahead - now.hits_pct,
        moved_pct=_percent(now.moved, now.remote),
        moved_change=relative_change(statistics.fmean([s.moved for s in before]), now.moved),
        replaced_pct=_percent(now.replaced, now.capacity),
        stale_pct=_percent(now.stale, now.capacity),
        candidates_pct=_percent(now.candidates, now.capacity),
        swap_pct=_percent(swapped, now.remote),
        proven_pct=_percent(min(now.proven, swapped), swapped),
        filled_pct=_percent(now.filled, now.capacity),
        reach_pct=_percent(now.capacity, now.remote),
        spent_pct=statistics.fmean(spent) if spent else None,
        since=now.minibatch - max(replaced) if replaced else None,
        fetch_pct=_fetch(recent[-_BEFORE:]),
        size_pct=_percent(now.capacity, now.limit) if now.limit >= 0 else None,
        past=outcomes[-HISTORY:],
        effects=_effects(outcomes),
    )
