"""Demand-filled policies: only misses come in, whose rows are moved anyway. No decider is asked.

After each minibatch the best C of the rows held and the rows missed stay: the most recently asked
for (``lru``) or the most often (``lfu``). A minibatch counts once; at a tie rows held stay, so a
minibatch larger than the buffer does not sweep through it, and else lower slots give way first, and
earlier misses come in first.

C capacity, N ids, R remote ids of a minibatch, m of them misses, k rows swapped.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.policies.base import Ids, Policy, no_ids
from rudder.policies.choose import sparse


@njit(cache=True, nogil=True)
def _note_recent(slots, now, last, num_last):  # type: ignore[no-untyped-def]
    """Note hits by slot. last: [C + 1], whose last entry takes the misses, which saves a branch.

    num_last: how many slots were last asked for at each minibatch.
    """
    nowhere = len(last) - 1
    last[nowhere] = now
    for slot in slots:
        at = np.uint64(slot if slot >= 0 else nowhere)
        num_last[np.uint64(last[at])] -= 1
        last[at] = now
    # Misses took one away each, too.
    num_last[now] += len(slots)


@njit(cache=True, nogil=True)
def _give_up_oldest(num, oldest, now, last, num_last):  # type: ignore[no-untyped-def]
    """The ``num`` slots asked for longest ago, now filled; returns (slots, the oldest left)."""
    slots = np.empty(num, np.int64)
    left = num
    while num_last[oldest] <= left and oldest < now:
        left -= num_last[oldest]
        num_last[oldest] = 0
        oldest += 1
    num_last[oldest] -= left
    num_last[now] += num
    size = 0
    for slot in range(len(last) - 1):
        if size == num:
            break
        time = last[slot]
        left -= 1 if time == oldest else 0
        goes = time < oldest or (time == oldest and left >= 0)
        slots[np.uint64(size)] = slot
        last[slot] = now if goes else time
        size += 1 if goes else 0
    return slots, oldest


@njit(cache=True, nogil=True)
def _note_often(slots, misses, often, count, miss_counts):  # type: ignore[no-untyped-def]
    """Count hits by slot, and misses by id.

    often: [C + 8], whose last entries take the misses, which saves a branch; in turn, because
    additions to one number wait for each other.
    """
    spare = len(often) - 8
    for i in range(len(slots)):
        often[np.uint64(slots[i] if slots[i] >= 0 else spare + (i & 7))] += 1
    for k in range(len(misses)):
        miss_counts[k] = count[np.uint64(misses[k])] + 1
    for k in range(len(misses)):
        count[np.uint64(misses[k])] = miss_counts[k]


@njit(cache=True, nogil=True)
def _replace_rarest(misses, miss_counts, held, often, count):  # type: ignore[no-untyped-def]
    """Misses asked for more often than the rarest rows take their slots; returns (slots, ids)."""
    rarest = often[0]
    for slot in range(len(held)):
        rarest = min(rarest, often[slot])
    ids, num = np.empty(len(misses), np.int64), 0
    for k in range(len(misses)):
        ids[np.uint64(num)] = misses[k]
        num += 1 if miss_counts[k] > rarest else 0
    slots, size = np.empty(num, np.int64), 0
    for slot in range(len(held)):
        if size == num:
            break
        slots[np.uint64(size)] = slot
        size += 1 if often[slot] == rarest else 0
    for k in range(size):
        slot = slots[k]
        if held[slot] >= 0:
            count[held[slot]] = often[slot]
        held[slot], often[slot] = ids[k], count[ids[k]]
    return slots[:size], ids[:size]


class LruPolicy(Policy):
    """Keeps the most recently asked for."""

    name = "lru"

    def __init__(self, capacity: int, num_ids: int) -> None:
        super().__init__(capacity, num_ids)
        # By slot, the minibatch that last asked for it, 0 while it is free.
        self._last, self._now, self._oldest = np.zeros(capacity + 1, np.int32), 0, 0
        self._num_last = np.zeros(1024, np.int32)
        self._num_last[0] = capacity
        self._misses = no_ids()

    def observe(self, slots: Ids, misses: Ids, missed: Ids) -> None:
        self._now += 1
        if self._now >= len(self._num_last):
            self._num_last = np.append(self._num_last, np.zeros_like(self._num_last))
        _note_recent(slots, self._now, self._last, self._num_last)
        self._misses = missed

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        num = min(len(self._misses), self.capacity - int(self._num_last[self._now]))
        if num == 0:
            return no_ids(), no_ids()
        slots, self._oldest = _give_up_oldest(
            num, self._oldest, self._now, self._last, self._num_last
        )
        return slots, self._misses[:num]

    def state(self) -> dict[str, NDArray[Any]]:
        return {"last": self._last[: self.capacity].copy(), "now": np.array(self._now)}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._last[: self.capacity], self._now = state["last"], int(state["now"])
        self._num_last = np.zeros(self._now + 1024, np.int32)
        times, counts = np.unique(state["last"], return_counts=True)
        self._num_last[times] = counts


class LfuPolicy(Policy):
    """Keeps the most often asked for, counted since the run began, in the buffer or out of it.

    An id outside was never asked for more often than the rarest row inside: it stayed out, or gave
    way, when it was not, and counts inside only grow. So its next miss beats the rarest rows at
    most, which are all there is to look for.
    """

    name = "lfu"

    def __init__(self, capacity: int, num_ids: int) -> None:
        super().__init__(capacity, num_ids)
        self._held = np.full(capacity, -1, np.int64)
        self._often = np.zeros(capacity + 8, np.int32)  # 0 in a free slot
        self._count = np.zeros(num_ids, np.int32)  # of ids outside
        self._misses, self._miss_counts = no_ids(), np.zeros(0, np.int32)

    def observe(self, slots: Ids, misses: Ids, missed: Ids) -> None:
        self._misses, self._miss_counts = missed, np.empty(len(missed), np.int32)
        _note_often(slots, self._misses, self._often, self._count, self._miss_counts)

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        if self.capacity == 0 or len(self._misses) == 0:
            return no_ids(), no_ids()
        slots, ids = _replace_rarest(
            self._misses, self._miss_counts, self._held, self._often, self._count
        )
        return slots, ids

    def state(self) -> dict[str, NDArray[Any]]:
        counts = sparse("count", self._count)
        return {"held": self._held.copy(), "often": self._often[: self.capacity].copy(), **counts}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._held[:], self._often[: self.capacity] = state["held"], state["often"]
        self._count[state["count_at"]] = state["count"]


class PlainDemand:
    """The plain twin of ``LruPolicy`` and ``LfuPolicy``: dictionaries and a sort."""

    def __init__(self, capacity: int, recent: bool) -> None:
        self.held: list[int] = [-1] * capacity
        self.recent, self.now = recent, 0
        self.last: dict[int, int] = {}
        self.often: dict[int, int] = {}
        self.misses: list[int] = []

    def observe(self, ids: Ids, slots: Ids) -> None:
        self.now += 1
        for id_ in ids.tolist():
            self.last[id_], self.often[id_] = self.now, self.often.get(id_, 0) + 1
        self.misses = ids[slots < 0].tolist()

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        worth = self.last if self.recent else self.often
        # By worth, 0 for a free slot; then rows held, then misses in order.
        rows = [(-worth.get(id_, 0), 0, -slot) for slot, id_ in enumerate(self.held)]
        coming = [(-worth[id_], 1, place) for place, id_ in enumerate(self.misses)]
        ranked = sorted(rows + coming)
        best, rest = ranked[: len(rows)], ranked[len(rows) :]
        slots = sorted(-number for _, is_miss, number in rest if not is_miss)
        ids = [self.misses[place] for place in sorted(n for _, is_miss, n in best if is_miss)]
        for slot, id_ in zip(slots, ids, strict=True):
            self.held[slot] = id_
        return np.array(slots, np.int64), np.array(ids, np.int64)
