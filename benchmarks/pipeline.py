"""Pipeline: when each minibatch is sampled, fetched and trained on, if each of that takes so long.

It is ``minidist.loader`` as a recurrence: a stage begins a minibatch when the one before is out of
its hands, and hands one over when the next stage has room; a step ends on all ranks at once.

P ranks, T minibatches.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """How long a minibatch is in each stage: float64 [P, T], seconds.

    sample, fetch: of the stages before training.   train: forward, backward and update.
    together: float64 [T], the sum over ranks, in which all ranks are from the slowest on.
    """

    sample: Seconds
    fetch: Seconds
    train: Seconds
    together: Seconds

    @property
    def num_steps(self) -> int:
        return int(self.train.shape[1])


def step_ends(stages: Stages, ahead: int, window: int = 0) -> Seconds:
    """When each step ended, float64 [T], from 0 at the start.

    ahead: minibatches that a stage may be in front of the next; 0: one after the other.
    window: minibatches that must be sampled beyond the one that is fetched.
    """
    if ahead == 0:
        alone = stages.sample + stages.fetch + stages.train
        return np.cumsum(alone.max(axis=0) + stages.together)
    num_ranks, num = stages.train.shape
    # [T, P]: when samples were put into their queue and taken out of it; the same of fetched ones.
    sampled, seen = np.zeros((num, num_ranks)), np.zeros((num, num_ranks))
    fetched, taken = np.zeros((num, num_ranks)), np.zeros((num, num_ranks))
    ends = np.zeros(num)
    num_seen = 0
    for step in range(num):
        while num_seen < min(step + window + 1, num):
            t = num_seen
            done = (sampled[t - 1] if t else 0.0) + stages.sample[:, t]
            sampled[t] = np.maximum(done, seen[t - ahead]) if t >= ahead else done
            before = [seen[t - 1]] if t else []
            free = [fetched[step - 1]] if step else []
            seen[t] = np.max([sampled[t], *before, *free], axis=0)
            num_seen += 1
        began = np.maximum(seen[num_seen - 1], fetched[step - 1] if step else 0.0)
        done = began + stages.fetch[:, step]
        fetched[step] = np.maximum(done, taken[step - ahead]) if step >= ahead else done
        taken[step] = np.maximum(fetched[step], ends[step - 1] if step else 0.0)
        ends[step] = (taken[step] + stages.train[:, step]).max() + stages.together[step]
    return ends


def epoch_seconds(ends: Seconds, steps_per_epoch: int) -> float:
    """The median epoch after the first, as a run's summary has it."""
    epochs = np.diff(ends[steps_per_epoch - 1 :: steps_per_epoch], prepend=0.0)
    return float(np.median(epochs[1:] if len(epochs) > 1 else epochs))
