"""Buffer: which row lies in which of a fixed number of slots. It knows nothing of why.

Of each id one 4-byte *entry* says all there is to know, so that one random read per id is enough:

    bit 0   the id is in the halo       bit 1   it has a slot       bit 2   a policy's mark
    the rest: its slot; of an id without one, a policy's *tally* of it

and untouched memory says: outside the halo, no slot, a tally of 0.

C capacity in rows; N ids in all; R distinct ids of a minibatch, m of them misses.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Int32s = NDArray[np.int32]

# 32 bits wide, as the entries: one wider number among them would widen whole loops.
HALO, HELD, MARK = np.int32(1), np.int32(2), np.int32(4)
HELD_BIT, SHIFT = np.int32(1), np.int32(3)
# The largest tally; slots are below it.
MOST = np.int32(2**28 - 1)


def no_ids() -> Ids:
    return np.zeros(0, np.int64)


@njit(cache=True, nogil=True)
def _look_up(entries, ids, slots, misses):  # type: ignore[no-untyped-def]
    """Fill the arrays of a ``Found``; returns (misses, ids in the halo, hits in the halo).

    Three loops take half the time of one. The random reads go by themselves, so that many are under
    way at once; then what vector instructions can do, all in 32 bits; then what they cannot. None
    branches, which would be mispredicted for a third of the ids.
    """
    for i in range(len(ids)):
        slots[i] = entries[np.uint64(ids[i])]
    halo, halo_hits = np.int32(0), np.int32(0)
    for i in range(len(slots)):
        entry = slots[i]
        halo += np.int32(entry & HALO)
        halo_hits += np.int32(entry & (entry >> HELD_BIT) & HALO)
        slots[i] = entry >> SHIFT if entry & HELD else ~entry
    num_misses = 0
    for i in range(len(slots)):
        misses[np.uint64(num_misses)] = i
        num_misses += 1 if slots[i] < 0 else 0
    return num_misses, halo, halo_hits


@njit(cache=True, nogil=True)
def _count_hits(entries, ids):  # type: ignore[no-untyped-def]
    hits = 0
    for i in range(len(ids)):
        hits += (entries[np.uint64(ids[i])] >> HELD_BIT) & 1
    return hits


@njit(cache=True, nogil=True)
def _assign(entries, held, slots, ids, tallies):  # type: ignore[no-untyped-def]
    """Give each slot its new id; returns how many of the slots were free."""
    free = 0
    for i in range(len(slots)):
        slot = slots[i]
        if held[slot] >= 0:
            entries[held[slot]] = (tallies[i] << SHIFT) | (entries[held[slot]] & HALO)
        else:
            free += 1
        held[slot] = ids[i]
        entries[ids[i]] = (slot << SHIFT) | HELD | (entries[ids[i]] & HALO)
    return free


def plain_look_up(ids: Ids, held: Ids, halo: Ids) -> tuple[Ids, int, int, int]:
    """The plain twin of ``Buffer.look_up``: held int64 [C], -1 in free slots; and so the slots."""
    slots = np.full(len(ids), -1, np.int64)
    for place, wanted in enumerate(ids):
        found = np.flatnonzero(held == wanted)
        slots[place] = found[0] if len(found) else -1
    hit, in_halo = slots >= 0, np.isin(ids, halo)
    return slots, int(hit.sum()), int(in_halo.sum()), int((hit & in_halo).sum())


class Found(NamedTuple):
    """A look-up. hits and in_halo count ids, halo_hits those that are both.

    slots: int32 [R]; of an id without one a negative number, the entry with all bits flipped.
    misses: int32 [m], ascending, the places of those.
    """

    slots: Int32s
    misses: Int32s
    hits: int
    in_halo: int
    halo_hits: int


class Resize(NamedTuple):
    """A new capacity C: what slots ``sources`` hold moves to ``targets``, distinct, int64 [k].

    targets are below C. What then is in slots from C on is let go.
    """

    capacity: int
    sources: Ids
    targets: Ids

    def moved(self, array: NDArray[Any], free: int) -> NDArray[Any]:
        """An array by slot for the new capacity; ``free`` is what it says of a free slot."""
        found = np.full(self.capacity, free, array.dtype)
        kept = min(len(array), self.capacity)
        found[:kept] = array[:kept]
        found[self.targets] = array[self.sources]
        return found


def _check(capacity: int) -> None:
    if not 0 <= capacity <= MOST:
        raise ValueError(f"a buffer of {capacity} rows: expected 0 to {int(MOST)}")


class Buffer:
    """C slots and the ids they hold.

    ids: int64 [C], the id whose row a slot holds, -1 in a free one.   filled: slots in use.
    entries: int32 [N]. Policies write tallies and marks of ids without a slot.
    halo: int64 [h], ids that look-ups count apart.
    """

    def __init__(self, capacity: int, num_ids: int, halo: Ids) -> None:
        _check(capacity)
        self.capacity, self.num_ids, self.filled = capacity, num_ids, 0
        self.ids = np.full(capacity, -1, np.int64)
        self.entries = np.zeros(num_ids, np.int32)
        self.entries[halo] = HALO

    @property
    def filled_slots(self) -> Ids:
        """int64 [filled], ascending."""
        return np.flatnonzero(self.ids >= 0)

    def look_up(self, ids: Ids) -> Found:
        """Where each id's row lies."""
        slots, misses = np.empty((2, len(ids)), np.int32)
        num_misses, in_halo, halo_hits = _look_up(self.entries, ids, slots, misses)
        return Found(slots, misses[:num_misses], len(ids) - num_misses, in_halo, halo_hits)

    def count_hits(self, ids: Ids) -> int:
        """How many of the ids have a row here."""
        return int(_count_hits(self.entries, ids))

    def assign(self, slots: Ids, ids: Ids, tallies: Int32s) -> None:
        """The slots now hold these ids, distinct and none of them held yet.

        tallies: what is kept of the ids that give way, for each slot; of no meaning for a free one.
        """
        self.filled += _assign(self.entries, self.ids, slots, ids, tallies)

    def fill(self, slots: Ids, ids: Ids) -> None:
        """``assign`` to free slots."""
        self.assign(slots, ids, np.zeros(len(ids), np.int32))

    def resize(self, resize: Resize) -> None:
        """Change the capacity; ids that are let go keep no tally."""
        _check(resize.capacity)
        self.entries[self.ids[self.ids >= 0]] &= HALO
        ids = resize.moved(self.ids, -1)
        self.capacity, self.filled, self.ids = resize.capacity, 0, np.full_like(ids, -1)
        slots = np.flatnonzero(ids >= 0)
        self.fill(slots, ids[slots])

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of the ids held, and of the tallies that are not 0."""
        tallies = np.where(self.entries & HELD, 0, self.entries >> SHIFT)
        known = np.flatnonzero(tallies)
        return {"ids": self.ids.copy(), "tallied": known, "tallies": tallies[known]}

    def load(self, state: dict[str, NDArray[Any]]) -> tuple[Ids, Ids]:
        """Go on from ``state()``, in a new buffer. Returns (slots, ids) of the rows held."""
        self.entries[state["tallied"]] |= state["tallies"] << SHIFT
        slots = np.flatnonzero(state["ids"] >= 0)
        ids: Ids = state["ids"][slots]
        self.fill(slots, ids)
        return slots, ids
