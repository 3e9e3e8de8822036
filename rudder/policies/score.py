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

# What is known of an id outside the buffer: its count, and the minibatch that last missed it (exact
# in float32 up to 2^24). Side by side, so that one id costs one cache line.
_COUNT, _MISSED = 0, 1


@njit(cache=True, nogil=True)
def _note(ids, slots, misses, now, start, accessed, known, candidates, size):  # type: ignore[no-untyped-def]
    """Note hits by slot and misses by id; returns the number of candidates.

    accessed: [C + 1], whose last entry takes the misses, which saves a branch.   known: see below;
    an id last missed at ``start`` or later is a candidate already.
    """
    nowhere = len(accessed) - 1
    for slot in slots:
        accessed[np.uint64(slot if slot >= 0 else nowhere)] = now
    for place in misses:
        id_ = np.uint64(ids[np.uint64(place)])
        candidates[size] = id_
        size += 1 if known[id_, _MISSED] < start else 0
        known[id_, _MISSED] = now
        known[id_, _COUNT] += np.float32(1)
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


@njit(cache=True, nogil=True)
def _before(known, now, a, b):  # type: ignore[no-untyped-def]
    """Whether candidate a goes before b: by count, then missed just now, then by id."""
    x, y = known[np.uint64(a), _COUNT], known[np.uint64(b), _COUNT]
    if x != y:
        return x > y
    a_now, b_now = known[np.uint64(a), _MISSED] == now, known[np.uint64(b), _MISSED] == now
    return a_now if a_now != b_now else a < b


@njit(cache=True, nogil=True)
def _best(candidates, num, known, now):  # type: ignore[no-untyped-def]
    """The ``num`` best candidates, in no order: a heap whose root is the worst of them."""
    heap = candidates[:num].copy()
    for first in range(num // 2 - 1, -1, -1):
        _sift(heap, first, known, now)
    least = known[np.uint64(heap[0]), _COUNT]
    for i in range(num, len(candidates)):
        if known[np.uint64(candidates[i]), _COUNT] < least:
            continue
        if _before(known, now, candidates[i], heap[0]):
            heap[0] = candidates[i]
            _sift(heap, 0, known, now)
            least = known[np.uint64(heap[0]), _COUNT]
    return heap


@njit(cache=True, nogil=True)
def _sift(heap, place, known, now):  # type: ignore[no-untyped-def]
    while True:
        worst = place
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap) and _before(known, now, heap[worst], heap[child]):
                worst = child
        if worst == place:
            return
        heap[place], heap[worst] = heap[worst], heap[place]
        place = worst


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
        self._known = np.zeros((num_ids, 2), np.float32)
        self._candidates, self._size = np.zeros(1024, np.int64), 0
        self._now, self._start, self._stale = 0, 1, capacity

    def observe(self, ids: Ids, slots: Ids, misses: Ids) -> None:
        self._now += 1
        if self._size + len(ids) >= len(self._candidates):
            grown = np.zeros(2 * (self._size + len(ids) + 1), np.int64)
            grown[: self._size] = self._candidates[: self._size]
            self._candidates = grown
        self._size = _note(
            *(ids, slots, misses, self._now, self._start, self._accessed),
            *(self._known, self._candidates, self._size),
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
        if num < len(ids):
            ids = _best(ids, num, self._known, self._now)
        ids = np.sort(ids)
        self._swap(slots, ids)
        return slots, ids

    def _swap(self, slots: Ids, ids: Ids) -> None:
        old = self._held[slots]
        entering = self._known[ids, _COUNT]
        evicted = old >= 0
        self._known[old[evicted], _COUNT] = self._score[slots[evicted]]
        self._held[slots], self._score[slots] = ids, entering
        self._stale -= len(slots) - int((entering < self._threshold).sum())
        self._start, self._size = self._now + 1, 0

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
            "now": np.array([self._now, self._start, self._stale]),
            "candidates": self._candidates[: self._size].copy(),
            "missed": self._known[self._candidates[: self._size], _MISSED],
            **sparse("count", self._known[:, _COUNT]),
        }

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._score[:], self._held[:] = state["score"], state["held"]
        self._now, self._start, self._stale = map(int, state["now"])
        self._size = len(state["candidates"])
        self._candidates = np.append(state["candidates"], 0)
        self._known[state["candidates"], _MISSED] = state["missed"]
        fill(self._known[:, _COUNT], "count", state)


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
