"""The rows that a buffer of each size would move, from a sample of the ids that minibatches need.

A hash of an id says whether it is in the sample: either all its uses are, or none. So a buffer of
C / k rows in front of one id in k sees the reuse that one of C rows sees in front of all
(Waldspurger et al., SHARDS, FAST 2015). The policy itself plays the sample once for each size.

R remote ids of a minibatch.
"""

from collections.abc import Sequence

import numpy as np

from rudder.buffer.index import Buffer, Ids, no_ids
from rudder.policies.lookahead import LookaheadPolicy

# Minibatches that are kept, and the ids of each that are enough. On real traces the rows foretold
# are within 3 in 100 of those that no buffer moves.
NUM_MINIBATCHES, ENOUGH = 64, 1000
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Fibonacci hashing


class ReuseSample:
    """The first minibatches' remote ids, one in ``every`` of them, by the size of the first."""

    def __init__(self) -> None:
        self.every = 0
        self._minibatches: list[Ids] = []
        self._num_ids: list[int] = []

    def __len__(self) -> int:
        return len(self._minibatches)

    @property
    def is_full(self) -> bool:
        """Whether there are as many minibatches as are kept: what was learnt stays true."""
        return len(self) == NUM_MINIBATCHES

    def add(self, ids: Ids) -> None:
        """The next minibatch's distinct ids."""
        self.every = self.every or max(1, len(ids) // ENOUGH)
        hashed = (ids.astype(np.uint64) * _ODD) >> np.uint64(32)
        self._minibatches.append(ids[hashed * np.uint64(self.every) < np.uint64(2**32)])
        self._num_ids.append(len(ids))

    def moved(self, capacities: Sequence[int], window: int) -> list[float]:
        """Rows a minibatch that ``lookahead`` would move with buffers of these sizes.

        The first half of the minibatches fills the buffer, the others count.
        """
        ids, places = np.unique(np.concatenate([no_ids(), *self._minibatches]), return_inverse=True)
        ends = np.cumsum([len(each) for each in self._minibatches])
        minibatches = np.split(places.astype(np.int64), ends[:-1])
        counted = sum(map(len, minibatches[len(minibatches) // 2 :]))
        mean = float(np.mean(self._num_ids)) if self._num_ids else 0.0
        return [
            mean * _misses(minibatches, len(ids), round(capacity / self.every), window) / counted
            if capacity and counted
            else mean
            for capacity in capacities
        ]


def _misses(minibatches: Sequence[Ids], num_ids: int, capacity: int, window: int) -> int:
    """Those of the second half of the minibatches."""
    policy = LookaheadPolicy(Buffer(capacity, num_ids, no_ids()), window=window)
    for ids in minibatches[:window]:
        policy.foresee(ids)
    misses = 0
    for number, ids in enumerate(minibatches):
        if number + window < len(minibatches):
            policy.foresee(minibatches[number + window])
        found = policy.buffer.look_up(ids)
        policy.observe(ids, found)
        swap = policy.propose(False)
        policy.buffer.assign(swap.slots, swap.ids, swap.tallies)
        misses += len(found.misses) if number >= len(minibatches) // 2 else 0
    return misses
