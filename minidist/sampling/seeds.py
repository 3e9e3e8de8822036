"""SeedSchedule: which training nodes a rank takes in which step.

Every rank takes every step: the number of steps of an epoch is agreed once, and each rank spreads
its training nodes evenly over them. A pure function of (seed, epoch, step), so training can start
at any step and any minibatch can be prepared ahead.

T training nodes of a rank, S steps of an epoch, B seeds of a rank in a step.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from minidist.moment import Moment
from minidist.store.partition_book import Ids

# Seeds of a rank in a step where the user names no number: so many on large graphs, and on small
# ones as many as leave an epoch this many steps, or nothing is learned and nothing is to be seen.
_USUAL_BATCH, _FEWEST_STEPS = 2000, 12


class SeedSchedule:
    """The seeds of one rank.

    train_ids: int64 [T] of each rank's training nodes is known to that rank alone;
    num_train: T of every rank, in rank order.   batch_size: the most seeds a rank takes in a step;
    None: 2000, or fewer where an epoch would have less than 12 steps.
    """

    def __init__(
        self, train_ids: Ids, num_train: Sequence[int], rank: int, batch_size: int | None, seed: int
    ) -> None:
        assert num_train[rank] == len(train_ids)
        if batch_size is None:
            batch_size = max(1, min(_USUAL_BATCH, -(-max(num_train) // _FEWEST_STEPS)))
        self._train_ids, self._num_train = train_ids, num_train
        self._rank, self._seed, self.batch_size = rank, seed, batch_size
        self.num_steps = max(1, max(-(-count // batch_size) for count in num_train))
        self._epoch, self._order = -1, train_ids

    def seeds(self, moment: Moment) -> Ids:
        """int64 [B] distinct global ids; may be empty on a rank with fewer nodes than steps."""
        if moment.epoch != self._epoch:
            key = [self._seed, moment.epoch, self._rank]
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
            self._epoch, self._order = moment.epoch, generator.permutation(self._train_ids)
        first, last = self._span(len(self._order), moment.step)
        return self._order[first:last]

    def num_global_seeds(self, step: int) -> int:
        """Seeds of all ranks together in a step, without asking them."""
        spans = (self._span(count, step) for count in self._num_train)
        return sum(last - first for first, last in spans)

    def moments(self, num_epochs: int, start: Moment) -> Iterator[Moment]:
        """Every step from ``start`` to the end of the last epoch."""
        for epoch in range(start.epoch, num_epochs):
            first = start.step if epoch == start.epoch else 0
            for step in range(first, self.num_steps):
                yield Moment(epoch, step)

    def _span(self, count: int, step: int) -> tuple[int, int]:
        return count * step // self.num_steps, count * (step + 1) // self.num_steps
