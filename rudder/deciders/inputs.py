"""What classifiers see: the numbers that a language model reads, as one row.

Training and run time both call ``inputs``; its NAMES are saved with a model and checked on load.
None depends on the size of a graph or of a buffer, so that a model fits runs it was not fitted on.
Logarithms for figures without bound, and a flag for what will stay as it is, made five points of
accuracy of a linear model's decisions on graphs it had not seen, and 1 of a forest's. F inputs.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rudder.agent.context import Effect, Past, build_history
from rudder.agent.metrics import Metrics, collect
from rudder.observations import STAGNANT_POINTS, Context

# Name and unit. "log": log1p of the size, with the sign, of figures that have no bound.
_EFFECT = ("count [log]", "hits_change [points]", "moved_change [log %]")
NAMES = (
    "hits [%]",
    "hits_change [points]",
    "jitter [points]",
    "halo_hits [%]",
    "ahead [%]",
    "ahead_change [points]",
    "ahead_change [log points]",
    "ahead_stagnant [flag]",
    "ahead_known [flag]",
    "moved [%]",
    "moved_change [log %]",
    "replaced [%]",
    "stale [%]",
    "candidates [log %]",
    "swap [log %]",
    "proven [%]",
    "filled [%]",
    "reach [log %]",
    "spent [log %]",
    "spent_known [flag]",
    "since [log minibatches]",
    "since_known [flag]",
    "done [log minibatches]",
    "left [log minibatches]",
    *(f"if_replaced: {name}" for name in _EFFECT),
    *(f"if_kept: {name}" for name in _EFFECT),
    "passed [% of the latest]",
    "last_known [flag]",
    "last_replace [flag]",
    "last_ago [log minibatches]",
    "last_hits_change [points]",
    "last_moved_change [log %]",
)


def inputs(context: Context) -> NDArray[np.float32]:
    """float32 [F], in the order of NAMES. Unknown numbers are 0, beside a flag that says so."""
    history = build_history(context)
    row = (
        *_of_metrics(collect(context)),
        *_of_effect(history.replaced),
        *_of_effect(history.kept),
        *_of_past(history.past),
    )
    return np.array(row, np.float32)


def _log(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def _of_metrics(now: Metrics) -> tuple[float, ...]:
    ahead_change = now.ahead_change or 0.0
    ahead_known = now.ahead_change is not None
    return (
        now.hits_pct,
        now.hits_change,
        now.jitter,
        now.halo_hits_pct,
        now.ahead_pct or 0.0,
        ahead_change,
        _log(ahead_change),
        ahead_known and abs(ahead_change) <= STAGNANT_POINTS,
        ahead_known,
        now.moved_pct,
        _log(now.moved_change),
        now.replaced_pct,
        now.stale_pct,
        _log(now.candidates_pct),
        _log(now.swap_pct),
        now.proven_pct,
        now.filled_pct,
        _log(now.reach_pct),
        _log(now.spent_pct or 0.0),
        now.spent_pct is not None,
        _log(now.since or 0),
        now.since is not None,
        _log(now.done),
        _log(now.left),
    )


def _of_effect(effect: Effect | None) -> tuple[float, ...]:
    if effect is None:
        return (0.0,) * len(_EFFECT)
    return (_log(effect.count), effect.hits_change, _log(effect.moved_change))


def _of_past(past: Sequence[Past]) -> tuple[float, ...]:
    if not past:
        return (0.0,) * 6
    last = past[-1]
    return (
        100.0 * sum(one.passed for one in past) / len(past),
        True,
        last.replace,
        _log(last.ago),
        last.hits_change,
        _log(last.moved_change),
    )
