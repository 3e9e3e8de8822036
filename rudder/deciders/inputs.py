"""What classifiers see: the numbers that a language model reads, as one row.

Training and run time both call ``inputs``; its NAMES are saved with a model and checked on load.
"""

import math
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.agent.context import Effect, build_history
from rudder.agent.metrics import Metrics, collect
from rudder.snapshot import Context

# Counts, whose scale is that of the run: as log(1 + n). Everything else is in points or percent.
_COUNTS = ("moved", "since", "done", "left")
_UNKNOWN = ("ahead_pct", "ahead_change", "spent_pct", "since")
_EFFECT = ("count", "hits_change", "moved_change")
NAMES = (
    *(field.name for field in fields(Metrics)),
    *(f"{name}_known" for name in _UNKNOWN),
    *(f"{kind}_{name}" for kind in ("replaced", "kept") for name in _EFFECT),
    *("last_replaced", "last_hits_change", "last_passed"),
)
# Percentages beyond this say no more.
_LIMIT = 400.0


def inputs(context: Context) -> NDArray[np.float32]:
    """float32 [F], in the order of NAMES. Unknown numbers are 0, beside a flag that says so."""
    metrics, history = collect(context), build_history(context)
    row = [_number(field.name, getattr(metrics, field.name)) for field in fields(Metrics)]
    row += [float(getattr(metrics, name) is not None) for name in _UNKNOWN]
    for effect in (history.replaced, history.kept):
        row += _effect(effect)
    last = history.past[-1] if history.past else None
    row += (
        [0.0] * 3 if last is None else [float(last.replace), last.hits_change, float(last.passed)]
    )
    return np.clip(np.array(row, np.float32), -_LIMIT, _LIMIT)


def _number(name: str, value: Any) -> float:
    if value is None:
        return 0.0
    return math.log1p(value) if name in _COUNTS else float(value)


def _effect(effect: Effect | None) -> list[float]:
    if effect is None:
        return [0.0] * len(_EFFECT)
    return [math.log1p(effect.count), effect.hits_change, effect.moved_change]
