"""Belady's bound: the fewest rows that a demand-filled buffer could have moved, all future known.

A minibatch is served whole; after it, any C of the rows held and the rows missed may stay. Keeping
those whose next use is nearest is optimal (Belady 1966, with bypass): all rows cost the same, and
what a minibatch misses is moved whether it stays or not.

C capacity, T minibatches, N ids.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from rudder.buffer.index import Ids


@njit(cache=True, nogil=True)
def _next_uses(ids, offsets, num_ids):  # type: ignore[no-untyped-def]
    """For each entry the minibatch that asks for its id next, T where none does."""
    num = len(offsets) - 1
    coming = np.full(num_ids, num, np.int32)
    uses = np.empty(len(ids), np.int32)
    for t in range(num - 1, -1, -1):
        for i in range(offsets[t], offsets[t + 1]):
            uses[i] = coming[ids[i]]
            coming[ids[i]] = t
    return uses


@njit(cache=True, nogil=True)
def _count_moved(ids, offsets, uses, num_ids, capacity):  # type: ignore[no-untyped-def]
    num = len(offsets) - 1
    # By id: its next use where it is held, else -1. Rows never used again are not kept, so at each
    # minibatch what is held and used by it leaves, and what may stay is just this minibatch's ids
    # and the ids held for later ones.
    held_for = np.full(num_ids, -1, np.int32)
    total = 0
    moved = 0
    # Per next use, a stack of entries that were kept for it; stale ones are skipped when popped.
    head = np.full(num + 1, -1, np.int64)
    link = np.full(len(ids), -1, np.int64)
    farthest = 0
    for t in range(num):
        for i in range(offsets[t], offsets[t + 1]):
            id_ = ids[i]
            if held_for[id_] == t:
                total -= 1
            else:
                moved += 1
            held_for[id_] = -1
        for i in range(offsets[t], offsets[t + 1]):
            use = uses[i]
            if use == num:
                continue
            held_for[ids[i]] = use
            link[i] = head[use]
            head[use] = i
            total += 1
            farthest = max(farthest, use)
        while total > capacity:
            while head[farthest] < 0:
                farthest -= 1
            i = head[farthest]
            head[farthest] = link[i]
            if held_for[ids[i]] == farthest:
                held_for[ids[i]] = -1
                total -= 1
    return moved


def belady_rows(minibatches: Sequence[Ids], capacity: int) -> int:
    """Rows moved by the best buffer of ``capacity`` rows, filled by misses alone.

    minibatches: distinct ids each. Linear in the ids.
    """
    if not len(minibatches):
        return 0
    ids = np.concatenate([np.zeros(0, np.int64), *minibatches])
    offsets = np.cumsum([0, *map(len, minibatches)], dtype=np.int64)
    num_ids = int(ids.max()) + 1 if len(ids) else 0
    uses = _next_uses(ids, offsets, num_ids)
    return int(_count_moved(ids, offsets, uses, num_ids, capacity))


def plain_belady_rows(minibatches: Sequence[Ids], capacity: int) -> int:
    """The plain twin of ``belady_rows``."""
    sets = [set(minibatch.tolist()) for minibatch in minibatches]
    held: set[int] = set()
    moved = 0
    for number, needed in enumerate(sets):
        moved += len(needed - held)

        def next_use(id_: int, number: int = number) -> int:
            later = range(number + 1, len(sets))
            return next((t for t in later if id_ in sets[t]), len(sets))

        held = set(sorted(held | needed, key=lambda id_: (next_use(id_), id_))[:capacity])
    return moved
