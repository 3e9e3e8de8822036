"""ScorePolicy: the paper's. Rows that are not asked for decay, and give way to those often missed.

    a row of the buffer      asked for: score + increment        otherwise: score * decay
    a row outside            missed: count + 1
    stale                    score < threshold, and free slots
    candidates               missed since the last replacement, best counts first

A candidate enters with its count as its score; an evicted row keeps its score as its count. Among
equal counts, misses of this minibatch go first: their rows are moved anyway. (Paper, section 2.1;
``increment=0`` is its released code, where a hit only keeps its score.)

C capacity, N ids, R remote ids of a minibatch.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.policies.base import Ids, Policy, no_ids
from rudder.policies.choose import largest, sparse

# A row's score decays to this and no further: above a free slot's 0, and above the denormal
# numbers, on which some processors take a hundred times as long.
FLOOR = np.float32(1e-37)
_BLOCK = 256


@njit(cache=True, nogil=True)
def _note(slots, missed, now, accessed, count, candidates, size):  # type: ignore[no-untyped-def]
    """Note hits by slot and misses by id; returns how many candidates there are, and newly proven.

    accessed: [1 + C], whose first entry takes the misses, which saves a branch. count: by id; minus
    the count of one that is a candidate already.
    """
    for slot in slots:
        accessed[np.uint64(slot + 1)] = now
    # Random reads by themselves, then what depends on them, then random writes: in one loop they
    # would wait for each other.
    counts = np.empty(len(missed), np.float32)
    for k in range(len(missed)):
        counts[k] = count[np.uint64(missed[k])]
    proven = 0
    for k in range(len(missed)):
        was, is_new = abs(counts[k]), 1 if counts[k] >= 0 else 0
        candidates[np.uint64(size)] = missed[k]
        size += is_new
        proven += 1 if was >= 1 and (is_new or was < 2) else 0
        counts[k] = -np.float32(1) - was
    for k in range(len(missed)):
        count[np.uint64(missed[k])] = counts[k]
    return size, proven


@njit(cache=True, nogil=True)
def _age(accessed, now, score, increment, decay, threshold, floor):  # type: ignore[no-untyped-def]
    """Every row's new score; returns how many are stale. A free slot's stays 0."""
    stale = 0
    for slot in range(len(score)):
        old = score[slot]
        new = old + increment if accessed[1 + slot] == now else max(old * decay, min(old, floor))
        score[slot] = new
        stale += 1 if new < threshold else 0
    return stale


@njit(cache=True, nogil=True)
def _lowest(score, edge, num, level):  # type: ignore[no-untyped-def]
    """The ``num`` slots with the lowest scores: all those below ``edge``, and ``level`` at it."""
    slots = np.empty(num + 1, np.int64)
    size = 0
    for first in range(0, len(score), _BLOCK):
        last = min(first + _BLOCK, len(score))
        # Few blocks have any, and whether one has is a matter of vector instructions.
        low = 0
        for slot in range(first, last):
            low += 1 if score[slot] <= edge else 0
        if low == 0:
            continue
        for slot in range(first, last):
            at_edge = score[slot] == edge
            slots[np.uint64(size)] = slot
            size += 1 if score[slot] < edge or (at_edge and level > 0) else 0
            level -= 1 if at_edge else 0
        if size == num:
            break
    return slots[:num]


@njit(cache=True, nogil=True)
def _leave(candidates, count, counts):  # type: ignore[no-untyped-def]
    """Ids that are candidates no more, and their counts."""
    for i in range(len(candidates)):
        counts[i] = -count[np.uint64(candidates[i])]
    for i in range(len(candidates)):
        count[np.uint64(candidates[i])] = counts[i]


@njit(cache=True, nogil=True)
def _prefer(missed, candidates, count, ties):  # type: ignore[no-untyped-def]
    """Which of two with one count goes first: one that was missed just now, then the smaller id."""
    for id_ in missed:
        count[np.uint64(id_)] *= np.float32(-1)
    for i in range(len(candidates)):
        id_ = candidates[i]
        ties[i] = id_ - (len(count) if count[np.uint64(id_)] < 0 else 0)
    for id_ in missed:
        count[np.uint64(id_)] *= np.float32(-1)


@njit(cache=True, nogil=True)
def _swap(slots, ids, held, score, count, threshold):  # type: ignore[no-untyped-def]
    """Rows out with their scores as counts, rows in with their counts as scores.

    Returns how many of those that came in are stale.
    """
    stale = 0
    for k in range(len(slots)):
        slot = np.uint64(slots[k])
        if held[slot] >= 0:
            count[held[slot]] = score[slot]
        held[slot], score[slot] = ids[k], count[ids[k]]
        stale += 1 if score[slot] < threshold else 0
    return stale


class ScorePolicy(Policy):
    """Replaces stale rows by candidates, when the decider says so."""

    name = "score"

    def __init__(
        self,
        capacity: int,
        num_ids: int,
        *,
        increment: float = 1.0,
        decay: float = 0.95,
        threshold: float = 0.95,
    ) -> None:
        super().__init__(capacity, num_ids)
        self._settings = np.float32(increment), np.float32(decay), np.float32(threshold)
        self._threshold = np.float32(threshold)
        self._score = np.zeros(capacity, np.float32)
        self._held = np.full(capacity, -1, np.int64)
        self._accessed = np.zeros(capacity + 1, np.int32)
        # By id; of candidates minus the count, so that one read tells both.
        self._count = np.zeros(num_ids, np.float32)
        self._candidates, self._size, self._missed = np.zeros(1024, np.int64), 0, no_ids()
        # Proven are the candidates with counts from 2.
        self._now, self._stale, self._proven = 0, capacity, 0

    def observe(self, slots: Ids, misses: Ids, missed: Ids) -> None:
        self._now += 1
        if self._size + len(missed) >= len(self._candidates):
            grown = np.zeros(2 * (self._size + len(missed) + 1), np.int64)
            grown[: self._size] = self._candidates[: self._size]
            self._candidates = grown
        self._missed = missed
        self._size, proven = _note(
            *(slots, self._missed, self._now, self._accessed, self._count),
            *(self._candidates, self._size),
        )
        self._proven += proven
        self._stale = _age(self._accessed, self._now, self._score, *self._settings, FLOOR)

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        num = min(self._stale, self._size)
        if not replace or num == 0:
            return no_ids(), no_ids()
        # The lowest are stale, since that many are.
        edge, level = self._threshold, 0
        if num < self._stale:
            edge = np.partition(self._score, num - 1)[num - 1]
            level = num - int(np.count_nonzero(self._score < edge))
        slots = _lowest(self._score, edge, num, level)
        ids = self._candidates[: self._size]
        counts = np.empty(len(ids), np.float32)
        _leave(ids, self._count, counts)
        ties = ids
        if len(ids) > len(self._missed):  # some were not missed just now
            ties = np.empty(len(ids), np.int64)
            _prefer(self._missed, ids, self._count, ties)
        ids = ids[largest(counts, ties, num)]
        entered = _swap(slots, ids, self._held, self._score, self._count, self._threshold)
        self._stale += entered - num
        self._size, self._proven = 0, 0
        return slots, ids

    @property
    def stale(self) -> int:
        return self._stale

    @property
    def candidates(self) -> int:
        return self._size

    @property
    def proven(self) -> int:
        return self._proven

    def state(self) -> dict[str, NDArray[Any]]:
        candidates = self._candidates[: self._size].copy()
        return {
            "score": self._score.copy(),
            "held": self._held.copy(),
            "now": np.array([self._now, self._stale]),
            "candidates": candidates,
            **sparse("count", self._count),
        }

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._score[:], self._held[:] = state["score"], state["held"]
        self._now, self._stale = map(int, state["now"])
        self._size = len(state["candidates"])
        self._candidates = np.append(state["candidates"], 0)
        self._count[state["count_at"]] = state["count"]
        self._proven = int((self._count[state["candidates"]] <= -2).sum())


class PlainScore:
    """The plain twin of ``ScorePolicy``: one row at a time."""

    def __init__(self, capacity: int, *, increment: float, decay: float, threshold: float) -> None:
        self.capacity = capacity
        self.increment, self.decay = np.float32(increment), np.float32(decay)
        self.threshold = np.float32(threshold)
        self.rows: dict[int, list[Any]] = {}  # slot -> [id, score]
        self.count: dict[int, np.float32] = {}
        self.missed: dict[int, None] = {}  # since the last replacement, in order
        self.now: set[int] = set()

    def fill(self, ids: Ids) -> None:
        for slot, id_ in enumerate(ids.tolist()):
            self.rows[slot] = [id_, np.float32(1)]

    def observe(self, ids: Ids, slots: Ids) -> None:
        hits = {slot for slot in slots.tolist() if slot >= 0}
        for slot, row in self.rows.items():
            row[1] = row[1] + self.increment if slot in hits else max(row[1] * self.decay, FLOOR)
        self.now = set(ids[slots < 0].tolist())
        for id_ in self.now:
            self.count[id_] = self.count.get(id_, np.float32(0)) + np.float32(1)
        self.missed |= dict.fromkeys(ids[slots < 0].tolist())

    def stale_slots(self) -> list[int]:
        free = [slot for slot in range(self.capacity) if slot not in self.rows]
        low = [slot for slot, (_, score) in self.rows.items() if score < self.threshold]
        return free + sorted(low, key=lambda slot: (self.rows[slot][1], slot))

    def proven(self) -> int:
        return len([id_ for id_ in self.missed if self.count[id_] >= 2])

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        slots = self.stale_slots()
        ranked = sorted(self.missed, key=lambda id_: (-self.count[id_], id_ not in self.now, id_))
        num = min(len(slots), len(ranked)) if replace else 0
        if num == 0:
            return no_ids(), no_ids()
        best = set(ranked[:num])
        chosen, new = sorted(slots[:num]), [id_ for id_ in self.missed if id_ in best]
        for slot in chosen:
            if slot in self.rows:
                id_, score = self.rows.pop(slot)
                self.count[id_] = score
        for slot, id_ in zip(chosen, new, strict=True):
            self.rows[slot] = [id_, self.count[id_]]
        self.missed = {}
        return np.array(chosen), np.array(new)
