"""Judging decisions: Pass@1 and the figures beside it, over all ranks of a run.

Pass@1 is the share of decisions whose expected direction of %-Hits is what the first minibatch
served by the buffer as they left it showed, against the minibatch they were taken on (the paper's
reference-free check, section 4.6). Its interval is Wilson's, 95%.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_Z = 1.959964


@dataclass
class Tally:
    """Counts of one decider's decisions.

    count: applied; valid, replace, grow, shrink: those of them; judged: those whose effect was
    seen, passed: as expected. gaps: minibatches between consecutive ones. decided_ms, answered_ms:
    latencies until the decision could be acted on and until the whole answer was there.
    """

    count: int = 0
    valid: int = 0
    replace: int = 0
    judged: int = 0
    passed: int = 0
    gaps: list[int] = field(default_factory=list)
    decided_ms: list[float] = field(default_factory=list)
    answered_ms: list[float] = field(default_factory=list)
    grow: int = 0
    shrink: int = 0

    def __iadd__(self, other: "Tally") -> "Tally":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def wilson(passed: int, judged: int) -> tuple[float, float]:
    """95% confidence interval of a share, in percent (Wilson 1927)."""
    share, square = passed / judged, _Z**2 / judged
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / judged + square / (4 * judged)) / (1 + square)
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)


def _share(part: int, whole: int) -> float | None:
    return 100.0 * part / whole if whole else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value with at least this share of values at or below it."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else None


def decisions(name: str, tally: Tally, failures: Counter[str]) -> dict[str, Any]:
    """The ``decisions`` of a summary. Shares in percent; None where there is nothing to share.

    count: decisions applied.   interval: r, minibatches between them on average.
    failures: how often the decider failed, whether or not it went on; failure_reasons: of what.
    """
    return {
        "decider": name,
        "pass_at_1": _share(tally.passed, tally.judged),
        "pass_at_1_ci": list(wilson(tally.passed, tally.judged)) if tally.judged else None,
        "valid_pct": _share(tally.valid, tally.count),
        "replace_pct": _share(tally.replace, tally.count),
        "grow_pct": _share(tally.grow, tally.count),
        "shrink_pct": _share(tally.shrink, tally.count),
        "interval": statistics.fmean(tally.gaps) if tally.gaps else None,
        "latency_ms_p50": _quantile(tally.decided_ms, 0.5),
        "latency_ms_p95": _quantile(tally.decided_ms, 0.95),
        "answer_ms_p50": _quantile(tally.answered_ms, 0.5),
        "answer_ms_p95": _quantile(tally.answered_ms, 0.95),
        "count": tally.count,
        "failures": sum(failures.values()),
        "failure_reasons": dict(failures),
    }
