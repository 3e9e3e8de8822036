"""Demand-filled policies: only misses come in, whose rows are moved anyway. No decider is asked.

After each minibatch the best C of the rows held and the rows missed stay: the most recently asked
for (``lru``) or the most often (``lfu``). A minibatch counts once; at a tie rows held stay, so a
minibatch larger than the buffer does not sweep through it. Keys end at ``WORST``: what was asked
for longer ago than that, or more often, ties.

C capacity, N ids, R remote ids of a minibatch.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.policies.base import Ids, Policy, no_ids
from rudder.policies.choose import WORST, fill, keep_best, plain_keep_best, sparse


@njit(cache=True, nogil=True)
def _note_recent(slots, now, last):  # type: ignore[no-untyped-def]
    """Note hits by slot. last: [C + 1], whose last entry takes the misses."""
    nowhere = len(last) - 1
    for slot in slots:
        last[np.uint64(slot if slot >= 0 else nowhere)] = now


@njit(cache=True, nogil=True)
def _note_often(ids, slots, misses, often, count, miss_counts):  # type: ignore[no-untyped-def]
    """Count hits by slot, in ``often`` [C + 1], and misses by id."""
    nowhere = len(often) - 1
    for slot in slots:
        often[np.uint64(slot if slot >= 0 else nowhere)] += 1
    for k in range(len(misses)):
        id_ = np.uint64(ids[np.uint64(misses[k])])
        count[id_] += 1
        miss_counts[k] = count[id_]


@njit(cache=True, nogil=True)
def _keys(values, top, worst, held, keys):  # type: ignore[no-untyped-def]
    """``keys[slot]`` = how far its value is under the top, at most ``worst``; free: one more."""
    for slot in range(len(keys)):
        key = min(top - values[slot], worst)
        keys[slot] = worst + 1 if held[slot] < 0 else max(key, 0)


class _DemandPolicy(Policy):
    """What lru and lfu share: slots, their ids, and scratch for choosing."""

    def __init__(self, capacity: int, num_ids: int) -> None:
        super().__init__(capacity, num_ids)
        self._held = np.full(capacity, -1, np.int64)
        self._keys = np.zeros(capacity, np.int32)
        self._scratch = np.zeros(WORST + 3, np.int64)
        self._misses = no_ids()


class LruPolicy(_DemandPolicy):
    """Keeps the most recently asked for."""

    name = "lru"

    def __init__(self, capacity: int, num_ids: int) -> None:
        super().__init__(capacity, num_ids)
        self._last, self._now = np.zeros(capacity + 1, np.int32), 0

    def observe(self, ids: Ids, slots: Ids, misses: Ids) -> None:
        self._now += 1
        _note_recent(slots, self._now, self._last)
        self._misses = ids[misses]

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        if len(self._misses) == 0:
            return no_ids(), no_ids()
        _keys(self._last, self._now, WORST, self._held, self._keys)
        miss_keys = np.zeros(len(self._misses), np.int32)
        slots, chosen = keep_best(self._keys, miss_keys, self._scratch)
        ids = self._misses[chosen]
        self._held[slots], self._last[slots] = ids, self._now
        return slots, ids

    def state(self) -> dict[str, NDArray[Any]]:
        now = np.array(self._now)
        return {"held": self._held.copy(), "last": self._last.copy(), "now": now}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._held[:], self._last[:], self._now = state["held"], state["last"], int(state["now"])


class LfuPolicy(_DemandPolicy):
    """Keeps the most often asked for, counted since the run began, in the buffer or out of it."""

    name = "lfu"

    def __init__(self, capacity: int, num_ids: int) -> None:
        super().__init__(capacity, num_ids)
        self._often = np.zeros(capacity + 1, np.int32)
        self._count = np.zeros(num_ids, np.int32)  # of ids outside
        self._miss_counts = np.zeros(0, np.int32)

    def observe(self, ids: Ids, slots: Ids, misses: Ids) -> None:
        self._miss_counts = np.empty(len(misses), np.int32)
        _note_often(ids, slots, misses, self._often, self._count, self._miss_counts)
        self._misses = ids[misses]

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        if len(self._misses) == 0:
            return no_ids(), no_ids()
        _keys(self._often, WORST, WORST, self._held, self._keys)
        miss_keys = np.maximum(WORST - self._miss_counts, 0)
        slots, chosen = keep_best(self._keys, miss_keys, self._scratch)
        ids, old = self._misses[chosen], self._held[slots]
        evicted = old >= 0
        self._count[old[evicted]] = self._often[slots[evicted]]
        self._held[slots], self._often[slots] = ids, self._miss_counts[chosen]
        return slots, ids

    def state(self) -> dict[str, NDArray[Any]]:
        counts = sparse("count", self._count)
        return {"held": self._held.copy(), "often": self._often.copy(), **counts}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._held[:], self._often[:] = state["held"], state["often"]
        fill(self._count, "count", state)


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

    def _key(self, id_: int) -> int:
        if id_ < 0:
            return WORST + 1
        if self.recent:
            return min(self.now - self.last[id_], WORST)
        return max(WORST - self.often[id_], 0)

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        slot_keys = np.array([self._key(id_) for id_ in self.held], np.int32)
        miss_keys = np.array([self._key(id_) for id_ in self.misses], np.int32)
        slots, chosen = plain_keep_best(slot_keys, miss_keys)
        ids = [self.misses[place] for place in chosen]
        for slot, id_ in zip(slots, ids, strict=True):
            self.held[slot] = id_
        return slots, np.array(ids, np.int64)
