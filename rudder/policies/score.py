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
from rudder.policies.choose import fill, largest, sparse


@njit(cache=True, nogil=True)
def _note(ids, slots, now, round_, accessed, count, listed, missed, candidates, size):  # type: ignore[no-untyped-def]
    """Note hits by slot and misses by id; returns the number of candidates."""
    for i in range(len(ids)):
        slot = slots[i]
        if slot >= 0:
            accessed[np.uint64(slot)] = now
            continue
        id_ = np.uint64(ids[i])
        count[id_] += np.float32(1)
        missed[id_] = now
        if listed[id_] != round_:
            listed[id_] = round_
            candidates[size] = ids[i]
            size += 1
    return size


@njit(cache=True, nogil=True)
def _age(held, accessed, now, score, increment, decay, threshold):  # type: ignore[no-untyped-def]
    """Every row's new score; returns how many are stale."""
    stale = 0
    for slot in range(len(held)):
        grown, shrunk = score[slot] + increment, score[slot] * decay
        new = grown if accessed[slot] == now else shrunk
        score[slot] = new
        stale += 1 if new < threshold or held[slot] < 0 else 0
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
        self._accessed = np.zeros(capacity, np.int32)
        self._count = np.zeros(num_ids, np.float32)
        # By id: the minibatch that last missed it, and the round of candidates it was listed in.
        self._missed, self._listed = np.zeros(num_ids, np.int32), np.zeros(num_ids, np.int32)
        self._candidates, self._size = np.zeros(1024, np.int64), 0
        self._now, self._round, self._stale = 0, 1, capacity

    def observe(self, ids: Ids, slots: Ids) -> None:
        self._now += 1
        if self._size + len(ids) > len(self._candidates):
            grown = np.zeros(2 * (self._size + len(ids)), np.int64)
            grown[: self._size] = self._candidates[: self._size]
            self._candidates = grown
        self._size = _note(
            *(ids, slots, self._now, self._round, self._accessed, self._count),
            *(self._listed, self._missed, self._candidates, self._size),
        )
        self._stale = _age(self._held, self._accessed, self._now, self._score, *self._settings)

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        if not replace or self._stale == 0 or self._size == 0:
            return no_ids(), no_ids()
        free = self._held < 0
        slots = np.flatnonzero(free | (self._score < self._threshold))
        ids = self._candidates[: self._size]
        num = min(len(slots), len(ids))
        worst = np.where(free[slots], np.float32(np.inf), -self._score[slots])
        slots = slots[largest(worst, slots, num)]
        # Those missed just now before the others, then smaller ids.
        ties = np.where(self._missed[ids] == self._now, ids - self.num_ids, ids)
        ids = np.sort(ids[largest(self._count[ids], ties, num)])
        self._swap(slots, ids)
        return slots, ids

    def _swap(self, slots: Ids, ids: Ids) -> None:
        old = self._held[slots]
        entering = self._count[ids]
        evicted = old >= 0
        self._count[old[evicted]] = self._score[slots[evicted]]
        self._held[slots], self._score[slots] = ids, entering
        self._stale -= len(slots) - int((entering < self._threshold).sum())
        self._round, self._size = self._round + 1, 0

    @property
    def stale(self) -> int:
        return self._stale

    @property
    def candidates(self) -> int:
        return self._size

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "score": self._score.copy(),
            "held": self._held.copy(),
            "now": np.array([self._now, self._stale]),
            "candidates": self._candidates[: self._size].copy(),
            **sparse("count", self._count),
        }

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._score[:], self._held[:] = state["score"], state["held"]
        self._now, self._stale = map(int, state["now"])
        self._candidates, self._size = state["candidates"].copy(), len(state["candidates"])
        self._listed[self._candidates] = self._round
        fill(self._count, "count", state)


class PlainScore:
    """The plain twin of ``ScorePolicy``: one row at a time."""

    def __init__(self, capacity: int, *, increment: float, decay: float, threshold: float) -> None:
        self.capacity = capacity
        self.increment, self.decay = np.float32(increment), np.float32(decay)
        self.threshold = np.float32(threshold)
        self.rows: dict[int, list[Any]] = {}  # slot -> [id, score]
        self.count: dict[int, np.float32] = {}
        self.missed: set[int] = set()  # since the last replacement
        self.now: set[int] = set()

    def fill(self, ids: Ids) -> None:
        for slot, id_ in enumerate(ids.tolist()):
            self.rows[slot] = [id_, np.float32(1)]

    def observe(self, ids: Ids, slots: Ids) -> None:
        hits = {slot for slot in slots.tolist() if slot >= 0}
        for slot, row in self.rows.items():
            row[1] = row[1] + self.increment if slot in hits else row[1] * self.decay
        self.now = set(ids[slots < 0].tolist())
        for id_ in self.now:
            self.count[id_] = self.count.get(id_, np.float32(0)) + np.float32(1)
        self.missed |= self.now

    def stale_slots(self) -> list[int]:
        free = [slot for slot in range(self.capacity) if slot not in self.rows]
        low = [slot for slot, (_, score) in self.rows.items() if score < self.threshold]
        return free + sorted(low, key=lambda slot: (self.rows[slot][1], slot))

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        slots = self.stale_slots()
        ranked = sorted(self.missed, key=lambda id_: (-self.count[id_], id_ not in self.now, id_))
        num = min(len(slots), len(ranked)) if replace else 0
        if num == 0:
            return no_ids(), no_ids()
        chosen, new = sorted(slots[:num]), sorted(ranked[:num])
        for slot in chosen:
            if slot in self.rows:
                id_, score = self.rows.pop(slot)
                self.count[id_] = score
        for slot, id_ in zip(chosen, new, strict=True):
            self.rows[slot] = [id_, self.count[id_]]
        self.missed = set()
        return np.array(chosen), np.array(new)
