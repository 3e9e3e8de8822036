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

from rudder.buffer.index import HALO, MOST, SHIFT, Buffer, Found, Ids, Int32s, no_ids
from rudder.policies.base import NOTHING, Policy, Proposal


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
def _note_often(ids, slots, misses, often, entries, tallies):  # type: ignore[no-untyped-def]
    """Count hits by slot, and misses in their tallies, which ``tallies`` [m] then holds.

    often: [C + 8], whose last entries take the misses, which saves a branch; in turn, because
    additions to one number wait for each other.
    """
    spare = len(often) - 8
    for i in range(len(slots)):
        often[np.uint64(slots[i] if slots[i] >= 0 else spare + (i & 7))] += 1
    for k in range(len(misses)):
        tallies[k] = ~slots[np.uint64(misses[k])]
    for k in range(len(misses)):
        tallies[k] = min((tallies[k] >> SHIFT) + np.int32(1), MOST)
    for k in range(len(misses)):
        place = np.uint64(misses[k])
        entries[np.uint64(ids[place])] = (tallies[k] << SHIFT) | (~slots[place] & HALO)


@njit(cache=True, nogil=True)
def _replace_rarest(ids, misses, tallies, often, capacity):  # type: ignore[no-untyped-def]
    """Misses asked for more often than the rarest rows take their slots: a ``Proposal``."""
    rarest = often[0]
    for slot in range(capacity):
        rarest = min(rarest, often[slot])
    coming, num = np.empty(len(misses), np.int32), 0
    for k in range(len(misses)):
        coming[np.uint64(num)] = k
        num += 1 if tallies[k] > rarest else 0
    slots, size = np.empty(num + 1, np.int64), 0
    for slot in range(capacity):
        if size == num:
            break
        slots[np.uint64(size)] = slot
        size += 1 if often[slot] == rarest else 0
    new, places = np.empty(size, np.int64), np.empty(size, np.int32)
    for j in range(size):
        places[j] = misses[coming[j]]
        new[j] = ids[places[j]]
        often[slots[j]] = tallies[coming[j]]
    return slots[:size], new, places, np.full(size, rarest, np.int32), 0


class LruPolicy(Policy):
    """Keeps the most recently asked for."""

    name = "lru"

    def __init__(self, buffer: Buffer) -> None:
        super().__init__(buffer)
        # By slot, the minibatch that last asked for it, 0 while it is free.
        self._last, self._now, self._oldest = np.zeros(self.capacity + 1, np.int32), 0, 0
        self._num_last = np.zeros(1024, np.int32)
        self._num_last[0] = self.capacity
        self._ids, self._misses = no_ids(), NOTHING.places

    def observe(self, ids: Ids, found: Found) -> None:
        self._now += 1
        if self._now >= len(self._num_last):
            self._num_last = np.append(self._num_last, np.zeros_like(self._num_last))
        _note_recent(found.slots, self._now, self._last, self._num_last)
        self._ids, self._misses = ids, found.misses

    def propose(self, replace: bool) -> Proposal:
        num = min(len(self._misses), self.capacity - int(self._num_last[self._now]))
        if num == 0:
            return NOTHING
        slots, self._oldest = _give_up_oldest(
            num, self._oldest, self._now, self._last, self._num_last
        )
        places = self._misses[:num]
        return Proposal(slots, self._ids[places], places, np.zeros(num, np.int32), 0)

    def state(self) -> dict[str, NDArray[Any]]:
        return {"last": self._last[: self.capacity].copy(), "now": np.array(self._now)}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._last[: self.capacity], self._now = state["last"], int(state["now"])
        self._num_last = np.zeros(self._now + 1024, np.int32)
        times, counts = np.unique(state["last"], return_counts=True)
        self._num_last[times] = counts


class LfuPolicy(Policy):
    """Keeps the most often asked for, counted since the run began, in the buffer or out of it.

    The tally of an id outside is how often it was asked for: never more often than the rarest row
    inside, since it stayed out, or gave way, when it was not, and counts inside only grow. So its
    next miss beats the rarest rows at most, which are all there is to look for.
    """

    name = "lfu"

    def __init__(self, buffer: Buffer) -> None:
        super().__init__(buffer)
        self._often = np.zeros(self.capacity + 8, np.int32)  # 0 in a free slot
        self._ids, self._misses = no_ids(), NOTHING.places
        self._tallies: Int32s = NOTHING.tallies

    def observe(self, ids: Ids, found: Found) -> None:
        self._ids, self._misses = ids, found.misses
        self._tallies = np.empty(len(found.misses), np.int32)
        _note_often(ids, found.slots, found.misses, self._often, self.buffer.entries, self._tallies)

    def propose(self, replace: bool) -> Proposal:
        if self.capacity == 0 or len(self._misses) == 0:
            return NOTHING
        return Proposal(
            *_replace_rarest(self._ids, self._misses, self._tallies, self._often, self.capacity)
        )

    def state(self) -> dict[str, NDArray[Any]]:
        return {"often": self._often[: self.capacity].copy()}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._often[: self.capacity] = state["often"]


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
