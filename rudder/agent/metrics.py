"""Metrics collector (paper, section 4.2): from snapshots, the numbers that an agent reads."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rudder.observations import Context, Snapshot, relative_change

# Minibatches whose mean the latest is compared with.
_BEFORE = 4


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The latest minibatch in figures that mean the same at any size. *_pct in percent.

    hits_change: %-Hits against the mean of the minibatches before, in points.
    jitter: mean change of %-Hits from one minibatch to the next, in points, without its sign.
    ahead_pct, ahead_change: %-Hits that minibatch + 2 will have in the buffer as it stands, and
    that against now, in points; None where not known.
    moved: communication volume in rows; moved_pct: of the remote rows of this minibatch;
    moved_change: against the mean of the minibatches before, in percent of it.
    replaced_pct, stale_pct, candidates_pct, filled_pct: of the capacity.
    swap_pct: rows that a replacement now would swap, of the remote rows of this minibatch.
    proven_pct: of the rows that it would bring in, those that were missed more than once.
    reach_pct: capacity over remote rows of this minibatch (C/b), the most that %-Hits can be.
    spent_pct: rows that recent replacements moved on purpose, of the remote rows of their
    minibatches; None where there was none.
    since: minibatches since rows were last replaced; None where that is not known.
    fetch_pct: time of fetching in percent of that of computing, over the latest minibatches;
    size_pct: capacity in percent of its limit. None where that is not known.
    """

    hits_pct: float
    hits_change: float
    jitter: float
    halo_hits_pct: float
    ahead_pct: float | None
    ahead_change: float | None
    moved: int
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
    done: int
    left: int
    fetch_pct: float | None = None
    size_pct: float | None = None


def percent(part: float, whole: float) -> float:
    """100 part / whole; 0 where there is no whole."""
    return 100.0 * part / whole if whole else 0.0


def _since(context: Context) -> int | None:
    """Minibatches since the last one that rows were swapped in at."""
    now = context.latest.minibatch
    swaps = [snapshot.minibatch for snapshot in context.recent if snapshot.replaced]
    swaps += [outcome.applied for outcome in context.outcomes if outcome.decision.replace]
    return now - max(swaps) if swaps else None


def _spent(recent: Sequence[Snapshot]) -> float | None:
    swaps = [snapshot for snapshot in recent if snapshot.replaced]
    if not swaps:
        return None
    return statistics.fmean([percent(swap.replacement_rows, swap.remote) for swap in swaps])


def _fetch(latest: Sequence[Snapshot]) -> float | None:
    if any(snapshot.fetch_ms < 0 for snapshot in latest):
        return None
    return percent(sum(s.fetch_ms for s in latest), sum(s.compute_ms for s in latest))


def _jitter(recent: Sequence[Snapshot]) -> float:
    hits = [snapshot.hits_pct for snapshot in recent]
    steps = [abs(after - before) for before, after in itertools.pairwise(hits)]
    return statistics.fmean(steps) if steps else 0.0


def collect(context: Context) -> Metrics:
    """The metrics of the latest minibatch of a context."""
    now = context.latest
    before = context.recent[-1 - _BEFORE : -1] or [now]
    ahead, swapped = now.ahead_hits_pct, min(now.stale, now.candidates)
    return Metrics(
        hits_pct=now.hits_pct,
        hits_change=now.hits_pct - statistics.fmean([s.hits_pct for s in before]),
        jitter=_jitter(context.recent),
        halo_hits_pct=now.halo_hits_pct,
        ahead_pct=ahead,
        ahead_change=None if ahead is None else ahead - now.hits_pct,
        moved=now.moved,
        moved_pct=percent(now.moved, now.remote),
        moved_change=relative_change(statistics.fmean([s.moved for s in before]), now.moved),
        replaced_pct=percent(now.replaced, now.capacity),
        stale_pct=percent(now.stale, now.capacity),
        candidates_pct=percent(now.candidates, now.capacity),
        swap_pct=percent(swapped, now.remote),
        proven_pct=percent(min(now.proven, swapped), swapped),
        filled_pct=percent(now.filled, now.capacity),
        reach_pct=percent(now.capacity, now.remote),
        spent_pct=_spent(context.recent),
        since=_since(context),
        done=now.minibatch + 1,
        left=now.left,
        fetch_pct=_fetch(context.recent[-_BEFORE:]),
        size_pct=percent(now.capacity, now.limit) if now.limit >= 0 else None,
    )
