"""LookaheadPolicy: keeps the rows whose next use is nearest. Samples are pure functions, so the
next W minibatches are known.

After each minibatch the best C of the rows held and the rows missed stay (Belady's MIN with bypass,
inside the window): by distance of the next use, and beyond the window by how often they were asked
for. Only misses come in, whose rows are moved anyway. No decider is asked.

    uses of an id:   next_use[id] -> link of that minibatch's entry -> ...     a chain in the window

C capacity, N ids, R remote ids of a minibatch, W window. Minibatches count from 1; 0 is none.
"""

from collections import deque
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.policies.base import Ids, Policy, no_ids
from rudder.policies.choose import WORST, fill, keep_best, plain_keep_best, sparse


@njit(cache=True, nogil=True)
def _foresee(ids, number, next_use, tail, tail_place, slot_of, slot_use, links, ring):  # type: ignore[no-untyped-def]
    """Append minibatch ``number`` to the chains of its ids. links: int32 [ring, R or more]."""
    own = number % ring
    for place in range(len(ids)):
        id_ = np.uint64(ids[place])
        links[own, place] = 0
        if next_use[id_] == 0:
            next_use[id_] = number
            slot = slot_of[id_]
            if slot > 0:
                slot_use[slot - 1] = number
        else:
            links[tail[id_] % ring, tail_place[id_]] = number
        tail[id_], tail_place[id_] = number, place


@njit(cache=True, nogil=True)
def _note(ids, slots, number, next_use, often, slot_use, slot_often, links, ring):  # type: ignore[no-untyped-def]
    """Minibatch ``number`` is here: its ids' next use is the one after.

    slot_use, slot_often: [C + 1], whose last entry takes the misses, which saves a branch.
    """
    own, nowhere = number % ring, len(slot_use) - 1
    for place in range(len(ids)):
        id_ = np.uint64(ids[place])
        following = links[own, place] if next_use[id_] == number else next_use[id_]
        next_use[id_] = following
        often[id_] += 1
        slot = np.uint64(slots[place] if slots[place] >= 0 else nowhere)
        slot_use[slot], slot_often[slot] = following, often[id_]


@njit(cache=True, nogil=True)
def _keys(use, often, now, window, worst, keys):  # type: ignore[no-untyped-def]
    """Distance of the next use in the window; beyond it, the rarer the worse."""
    for i in range(len(keys)):
        far = window + 1 + max(worst - window - 1 - often[i], 0)
        keys[i] = use[i] - now if use[i] > 0 else far


class LookaheadPolicy(Policy):
    """Looks ``window`` minibatches ahead. Raises ValueError on one it has no keys for."""

    name = "lookahead"

    def __init__(self, capacity: int, num_ids: int, *, window: int = 16) -> None:
        super().__init__(capacity, num_ids)
        if not 1 <= window <= WORST // 4:
            raise ValueError(f"--prefetch lookahead:{window}: expected a window up to {WORST // 4}")
        self.window, self._ring = window, window + 2
        by_id = (np.zeros(num_ids, np.int32) for _ in range(5))
        self._next_use, self._tail, self._tail_place, self._slot_of, self._often = by_id
        self._links = np.zeros((self._ring, 1024), np.int32)
        self._held = np.full(capacity, -1, np.int64)
        self._use, self._slot_often = (np.zeros(capacity + 1, np.int32) for _ in range(2))
        self._keys = np.zeros(capacity, np.int32)
        self._scratch = np.zeros(WORST + 3, np.int64)
        self._foreseen, self._now, self._misses = 0, 0, no_ids()

    def foresee(self, ids: Ids) -> None:
        self._foreseen += 1
        if len(ids) > self._links.shape[1]:
            grown = np.zeros((self._ring, 2 * len(ids)), np.int32)
            grown[:, : self._links.shape[1]] = self._links
            self._links = grown
        _foresee(
            *(ids, self._foreseen, self._next_use, self._tail, self._tail_place),
            *(self._slot_of, self._use, self._links, self._ring),
        )

    def observe(self, ids: Ids, slots: Ids, misses: Ids) -> None:
        self._now += 1
        _note(
            *(ids, slots, self._now, self._next_use, self._often, self._use, self._slot_often),
            *(self._links, self._ring),
        )
        self._misses = ids[misses]

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        misses = self._misses
        if len(misses) == 0:
            return no_ids(), no_ids()
        _keys(self._use, self._slot_often, self._now, self.window, WORST, self._keys)
        self._keys[self._held < 0] = WORST + 1
        use, often = self._next_use[misses], self._often[misses]
        miss_keys = np.empty(len(misses), np.int32)
        _keys(use, often, self._now, self.window, WORST, miss_keys)
        slots, chosen = keep_best(self._keys, miss_keys, self._scratch)
        ids, old = misses[chosen], self._held[slots]
        self._slot_of[old[old >= 0]] = 0
        self._slot_of[ids] = slots + 1
        self._held[slots], self._use[slots], self._slot_often[slots] = (
            ids,
            use[chosen],
            often[chosen],
        )
        return slots, ids

    def state(self) -> dict[str, NDArray[Any]]:
        return {"held": self._held.copy(), **sparse("often", self._often)}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """The future is not kept: it is foreseen anew."""
        fill(self._often, "often", state)
        self._held[:] = state["held"]
        slots = np.flatnonzero(self._held >= 0)
        self._slot_of[self._held[slots]] = slots + 1
        self._slot_often[slots] = self._often[self._held[slots]]


class PlainLookahead:
    """The plain twin of ``LookaheadPolicy``: it looks through the window for every row."""

    def __init__(self, capacity: int, window: int) -> None:
        self.held: list[int] = [-1] * capacity
        self.window = window
        self.upcoming: deque[set[int]] = deque()
        self.often: dict[int, int] = {}
        self.misses: list[int] = []

    def foresee(self, ids: Ids) -> None:
        self.upcoming.append(set(ids.tolist()))

    def observe(self, ids: Ids, slots: Ids) -> None:
        self.upcoming.popleft()
        for id_ in ids.tolist():
            self.often[id_] = self.often.get(id_, 0) + 1
        self.misses = ids[slots < 0].tolist()

    def _key(self, id_: int) -> int:
        if id_ < 0:
            return WORST + 1
        for distance, needed in enumerate(self.upcoming, start=1):
            if id_ in needed:
                return distance
        return self.window + 1 + max(WORST - self.window - 1 - self.often[id_], 0)

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        slot_keys = np.array([self._key(id_) for id_ in self.held], np.int32)
        miss_keys = np.array([self._key(id_) for id_ in self.misses], np.int32)
        slots, chosen = plain_keep_best(slot_keys, miss_keys)
        ids = [self.misses[place] for place in chosen]
        for slot, id_ in zip(slots, ids, strict=True):
            self.held[slot] = id_
        return slots, np.array(ids, np.int64)
