"""Minibatches: what all ranks of a run needed and moved, step by step.

T minibatches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rudder.pages.buckets import Floats, Ints
from rudder.pages.runlog import RunLog


@dataclass(frozen=True, kw_only=True, eq=False)
class Minibatches:
    """What all ranks of a run needed and moved for each minibatch, [T] each, in order.

    number: epoch x minibatches of an epoch + step.   remote, ...: as in a summary's ``rows``.
    """

    number: Ints
    loss: Floats
    remote: Ints
    hits: Ints
    misses: Ints
    replacements: Ints

    @classmethod
    def of(cls, logs: Sequence[RunLog], per_epoch: int) -> "Minibatches":
        """Those that every rank has written down, added up over the ranks."""
        moments = sorted(set.intersection(*(set(log.steps) for log in logs))) if logs else []

        def total(name: str) -> Ints:
            sums = [sum(getattr(log.steps[moment], name) for log in logs) for moment in moments]
            return np.array(sums, np.int64)

        return cls(
            number=np.array([epoch * per_epoch + step for epoch, step in moments], np.int64),
            loss=np.array([logs[0].steps[moment].loss for moment in moments], np.float64),
            **{name: total(name) for name in ("remote", "hits", "misses", "replacements")},
        )

    def __len__(self) -> int:
        return len(self.number)

    @property
    def hits_pct(self) -> Floats:
        """%-Hits of each minibatch, NaN where it needed no remote row."""
        share = np.full(len(self), np.nan)
        np.divide(100.0 * self.hits, self.remote, out=share, where=self.remote > 0)
        return share

    @property
    def moved(self) -> Ints:
        return self.misses + self.replacements
