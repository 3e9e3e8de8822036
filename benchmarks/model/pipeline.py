"""Pipeline: when each minibatch is sampled, fetched and trained on, if each of that takes so long.

It is ``minidist.sampling.loader`` as a recurrence: a stage begins a minibatch when the one before is out of
its hands, and hands one over when the next stage has room; the fetch stage asks for the rows of a
minibatch before it waits for those of the one before; a step ends on all ranks at once.

P ranks, T minibatches.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """How long a minibatch is in each stage: float64 [P, T], seconds.

    sample, fetch: computing of the stages before training.   carry: of its remote rows on the way.
    train: forward, backward and update.
    together: float64 [T], the sum over ranks, in which all ranks are from the slowest on.
    """

    sample: Seconds
    fetch: Seconds
    carry: Seconds
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
        alone = stages.sample + stages.fetch + stages.carry + stages.train
        return np.cumsum(alone.max(axis=0) + stages.together)
    num_ranks, num = stages.train.shape
    # [T, P]: when samples were put into their queue and taken out of it; when rows were asked for
    # and had come; when minibatches were put into their queue and taken out of it.
    sampled, seen = np.zeros((num, num_ranks)), np.zeros((num, num_ranks))
    asked, come = np.zeros((num, num_ranks)), np.zeros((num, num_ranks))
    fetched, taken = np.zeros((num, num_ranks)), np.zeros((num, num_ranks))
    ends = np.zeros(num)

    def ask(step: int) -> None:
        """The fetch stage sees samples and asks for the rows of one minibatch."""
        free = fetched[step - 2] if step > 1 else np.zeros(num_ranks)
        first = step + window if step else 0
        for t in range(first, min(step + window + 1, num)):
            done = (sampled[t - 1] if t else 0.0) + stages.sample[:, t]
            sampled[t] = np.maximum(done, seen[t - ahead]) if t >= ahead else done
            free = seen[t] = np.maximum(sampled[t], np.maximum(free, seen[t - 1] if t else 0.0))
        asked[step] = np.maximum(free, asked[step - 1] if step else 0.0)
        come[step] = np.maximum(asked[step], come[step - 1] if step else 0.0)
        come[step] += stages.carry[:, step]

    ask(0)
    for step in range(num):
        free = fetched[step - 1] if step else asked[0]
        if step + 1 < num:
            ask(step + 1)
            free = asked[step + 1]
        # Own rows are copied while those of others come.
        done = np.maximum(free + stages.fetch[:, step], come[step])
        fetched[step] = np.maximum(done, taken[step - ahead]) if step >= ahead else done
        taken[step] = np.maximum(fetched[step], ends[step - 1] if step else 0.0)
        ends[step] = (taken[step] + stages.train[:, step]).max() + stages.together[step]
    return ends


def epoch_seconds(ends: Seconds, steps_per_epoch: int) -> float:
    """The median epoch after the first, as a run's summary has it."""
    epochs = np.diff(ends[steps_per_epoch - 1 :: steps_per_epoch], prepend=0.0)
    return float(np.median(epochs[1:] if len(epochs) > 1 else epochs))
