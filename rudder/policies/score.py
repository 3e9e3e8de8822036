"""ScorePolicy: the paper's. Rows that are not asked for decay, and give way to those often missed.

    a row of the buffer      asked for: score + increment        otherwise: score * decay
    a row outside            missed: count + 1
    stale                    score < threshold, and free slots
    candidates               missed since the last replacement, best counts first

A candidate enters with its count as its score; an evicted row keeps its score as its count, rounded
down to a 512th: the tally in its entry is its count in 512ths. Among equal counts, misses of this
minibatch go first, whose rows are moved anyway, in its order; then the rest, in the order in which
they became candidates. (Paper, section 2.1; ``increment=0`` is its released code, where a hit only
keeps its score.)

C capacity, N ids, R remote ids of a minibatch, m of them misses, n candidates.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import HALO, MARK, MOST, SHIFT, Buffer, Found, Ids, no_ids
from rudder.policies.base import NOTHING, Policy, Proposal
from rudder.policies.choose import BLOCK, FEW, few_largest, largest

# A row's score decays to this and no further: above a free slot's 0, and above the denormal
# numbers, on which some processors take a hundred times as long.
FLOOR = np.float32(1e-37)
# A count of one, as a tally.
UNIT = np.int32(512)


@njit(cache=True, nogil=True)
def _note_hits(slots, now, accessed):  # type: ignore[no-untyped-def]
    """accessed: [1 + C], whose first entry takes the misses, which saves a branch."""
    for slot in slots:
        accessed[np.uint64(slot + 1 if slot >= 0 else 0)] = now


@njit(cache=True, nogil=True)
def _note_misses(ids, slots, misses, entries, tallies):  # type: ignore[no-untyped-def]
    """Add one to the misses' tallies, which ``tallies`` [m] then holds.

    Returns how many of them are new candidates, and how many candidates are newly proven.
    """
    num = len(misses)
    for k in range(num):
        tallies[k] = ~slots[np.uint64(misses[k])]
    # What vector instructions can do, by itself.
    proven, num_new = np.int32(0), np.int32(0)
    for k in range(num):
        entry = tallies[k]
        was, is_new = entry >> SHIFT, (entry & MARK) == 0
        proven += np.int32((was >= UNIT) & (is_new | (was < UNIT + UNIT)))
        num_new += np.int32(is_new)
        tallies[k] = min(was + UNIT, MOST)
    for k in range(num):
        i = np.uint64(misses[k])
        entries[np.uint64(ids[i])] = (tallies[k] << SHIFT) | (~slots[i] & (HALO | MARK))
    return num_new, proven


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
    full = len(score) // BLOCK
    for block in range(full + 1):
        if block < full:
            low = np.int32(0)
            for j in range(BLOCK):
                low += np.int32(score[np.uint64(block * BLOCK + j)] <= edge)
            if low == 0:
                continue
        for slot in range(block * BLOCK, min((block + 1) * BLOCK, len(score))):
            at_edge = score[slot] == edge
            slots[np.uint64(size)] = slot
            size += 1 if score[slot] < edge or (at_edge and level > 0) else 0
            level -= 1 if at_edge else 0
        if size == num:
            break
    return slots[:num]


@njit(cache=True, nogil=True)
def _keep(ids, misses, entries, candidates, size):  # type: ignore[no-untyped-def]
    """Note the misses among the candidates for later, and mark them; returns how many those are."""
    for k in range(len(misses)):
        id_ = ids[np.uint64(misses[k])]
        candidates[np.uint64(size)] = id_
        size += 0 if entries[np.uint64(id_)] & MARK else 1
        entries[np.uint64(id_)] |= MARK
    return size


@njit(cache=True, nogil=True)
def _unmark(ids, misses, candidates, entries, tallies):  # type: ignore[no-untyped-def]
    """All are candidates no more. Moves those that are no misses to the front.

    tallies: [m + n], of the misses; of the others they are added. Returns how many there are then.
    """
    for miss in misses:
        entries[np.uint64(ids[np.uint64(miss)])] &= ~MARK
    num, size = len(misses), 0
    for id_ in candidates:
        entry = entries[np.uint64(id_)]
        candidates[size], tallies[num + size] = id_, entry >> SHIFT
        size += 1 if entry & MARK else 0
        entries[np.uint64(id_)] = entry & ~MARK
    return num + size


@njit(cache=True, nogil=True)
def _swap(score, edge, num, level, chosen, ids, misses, others, tallies, threshold):  # type: ignore[no-untyped-def]
    """The ``num`` lowest rows give way to the chosen, which get their counts as scores.

    chosen: among the misses, and the others after them.   edge, level: of ``_lowest``.
    Returns what a ``Proposal`` has, and how many that came are stale.
    """
    slots = _lowest(score, edge, num, level)
    stale, num_extra = 0, 0
    new, places, leave = np.empty(num, np.int64), np.empty(num, np.int32), np.empty(num, np.int32)
    for k in range(num):
        slot, j = np.uint64(slots[k]), chosen[k]
        is_miss = j < len(misses)
        places[k] = misses[j] if is_miss else -1
        new[k] = ids[misses[j]] if is_miss else others[j - len(misses)]
        num_extra += 0 if is_miss else 1
        leave[k] = np.int32(min(score[slot] * UNIT, np.float64(MOST)))
        score[slot] = np.float32(tallies[j]) / np.float32(UNIT)
        stale += 1 if score[slot] < threshold else 0
    return (slots, new, places, leave, num_extra), stale


@njit(cache=True, nogil=True)
def _swap_few(score, edge, num, level, ids, misses, others, tallies, threshold):  # type: ignore[no-untyped-def]
    """``_swap`` for the best candidates, in one call from Python."""
    chosen = few_largest(tallies, num)
    return _swap(score, edge, num, level, chosen, ids, misses, others, tallies, threshold)


@njit(cache=True, nogil=True)
def _observe(ids, slots, misses, entries, tallies, now, accessed, score, *settings):  # type: ignore[no-untyped-def]
    """All of these in one call from Python, each of which takes a microsecond."""
    _note_hits(slots, now, accessed)
    num_new, proven = _note_misses(ids, slots, misses, entries, tallies)
    return num_new, proven, _age(accessed, now, score, *settings)


class ScorePolicy(Policy):
    """Replaces stale rows by candidates, when the decider says so."""

    name = "score"

    def __init__(
        self,
        buffer: Buffer,
        *,
        increment: float = 1.0,
        decay: float = 0.95,
        threshold: float = 0.95,
    ) -> None:
        super().__init__(buffer)
        self._settings = np.float32(increment), np.float32(decay), np.float32(threshold)
        self._threshold = np.float32(threshold)
        self._score = np.zeros(self.capacity, np.float32)
        self._accessed = np.zeros(self.capacity + 1, np.int32)
        # Of earlier minibatches, marked; and how many are of the latest minibatch alone.
        self._candidates, self._num_kept, self._num_new = np.zeros(1024, np.int64), 0, 0
        # The latest minibatch.
        self._ids, self._misses, self._tallies = no_ids(), NOTHING.places, NOTHING.tallies
        # Proven are the candidates with counts from 2.
        self._now, self._stale, self._proven = 0, self.capacity, 0

    def observe(self, ids: Ids, found: Found) -> None:
        self._now += 1
        self._ids, self._misses = ids, found.misses
        self._tallies = np.empty(len(found.misses), np.int32)
        self._num_new, proven, self._stale = _observe(
            *(ids, found.slots, found.misses, self.buffer.entries, self._tallies),
            *(self._now, self._accessed, self._score, *self._settings, FLOOR),
        )
        self._proven += proven

    def propose(self, replace: bool) -> Proposal:
        num = min(self._stale, self.candidates)
        if not replace or num == 0:
            self._keep()
            return NOTHING
        # The lowest are stale, since that many are.
        edge, level = self._threshold, 0
        if num < self._stale:
            edge = np.partition(self._score, num - 1)[num - 1]
            level = num - int(np.count_nonzero(self._score < edge))
        others, tallies = self._candidates[: self._num_kept], self._tallies
        if self._num_kept:
            tallies = np.append(tallies, np.empty_like(others, np.int32))
            size = _unmark(self._ids, self._misses, others, self.buffer.entries, tallies)
            tallies = tallies[:size]
        if num <= min(FEW, len(tallies) - 1):
            swap, entered = _swap_few(
                *(self._score, edge, num, level),
                *(self._ids, self._misses, others, tallies, self._threshold),
            )
        else:
            swap, entered = _swap(
                *(self._score, edge, num, level, largest(tallies, num)),
                *(self._ids, self._misses, others, tallies, self._threshold),
            )
        self._stale += entered - num
        self._num_kept, self._num_new, self._proven = 0, 0, 0
        return Proposal(*swap)

    def _keep(self) -> None:
        """What was missed just now stays a candidate."""
        if self._num_kept + len(self._misses) >= len(self._candidates):
            grown = np.zeros(2 * (self._num_kept + len(self._misses) + 1), np.int64)
            grown[: self._num_kept] = self._candidates[: self._num_kept]
            self._candidates = grown
        self._num_kept = _keep(
            self._ids, self._misses, self.buffer.entries, self._candidates, self._num_kept
        )
        self._num_new = 0

    @property
    def stale(self) -> int:
        return self._stale

    @property
    def candidates(self) -> int:
        return self._num_kept + self._num_new

    @property
    def proven(self) -> int:
        return self._proven

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "score": self._score.copy(),
            "now": np.array([self._now, self._stale, self._proven]),
            "candidates": self._candidates[: self._num_kept].copy(),
        }

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._score[:] = state["score"]
        self._now, self._stale, self._proven = map(int, state["now"])
        self._num_kept = len(state["candidates"])
        self._candidates = np.append(state["candidates"], 0)
        self.buffer.entries[state["candidates"]] |= MARK


class PlainScore:
    """The plain twin of ``ScorePolicy``: one row at a time."""

    def __init__(self, capacity: int, *, increment: float, decay: float, threshold: float) -> None:
        self.capacity = capacity
        self.increment, self.decay = np.float32(increment), np.float32(decay)
        self.threshold = np.float32(threshold)
        self.rows: dict[int, list[Any]] = {}  # slot -> [id, score]
        self.count: dict[int, int] = {}  # in 512ths
        self.missed: dict[int, None] = {}  # since the last replacement, in order
        self.now: list[int] = []

    def fill(self, ids: Ids) -> None:
        for slot, id_ in enumerate(ids.tolist()):
            self.rows[slot] = [id_, np.float32(1)]

    def observe(self, ids: Ids, slots: Ids) -> None:
        hits = {slot for slot in slots.tolist() if slot >= 0}
        for slot, row in self.rows.items():
            row[1] = row[1] + self.increment if slot in hits else max(row[1] * self.decay, FLOOR)
        self.now = ids[slots < 0].tolist()
        for id_ in self.now:
            self.count[id_] = self.count.get(id_, 0) + 512
        self.missed |= dict.fromkeys(self.now)

    def stale_slots(self) -> list[int]:
        free = [slot for slot in range(self.capacity) if slot not in self.rows]
        low = [slot for slot, (_, score) in self.rows.items() if score < self.threshold]
        return free + sorted(low, key=lambda slot: (self.rows[slot][1], slot))

    def proven(self) -> int:
        return len([id_ for id_ in self.missed if self.count[id_] >= 1024])

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        slots = self.stale_slots()
        others = [id_ for id_ in self.missed if id_ not in self.now]
        candidates = [*self.now, *others]
        ranked = sorted(candidates, key=lambda id_: -self.count[id_])
        num = min(len(slots), len(ranked)) if replace else 0
        if num == 0:
            return no_ids(), no_ids()
        best = set(ranked[:num])
        chosen, new = sorted(slots[:num]), [id_ for id_ in candidates if id_ in best]
        for slot in chosen:
            if slot in self.rows:
                id_, score = self.rows.pop(slot)
                self.count[id_] = int(score * 512)
        for slot, id_ in zip(chosen, new, strict=True):
            self.rows[slot] = [id_, np.float32(self.count[id_]) / np.float32(512)]
        self.missed = {}
        return np.array(chosen), np.array(new)
