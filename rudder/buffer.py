"""Buffer: which row lies in which of a fixed number of slots. It knows nothing of why.

C capacity in rows; N ids in all; R distinct ids of a minibatch. slots int64 in [0, C), -1 for none.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from rudder.policies.base import Ids

# An id's entry is 2 (slot + 1) + (1 if the id is in the halo): one random read tells both, and an
# id without a slot, outside the halo, is the 0 that untouched memory holds.
_HALO = 1
# While ids are looked for among misses, which have no slot, their entry holds this and a place.
_MARK = 1 << 30


@njit(cache=True, nogil=True)
def _look_up(entries, ids, slots, misses, missed):  # type: ignore[no-untyped-def]
    """Fill the arrays of a ``Found``; returns (misses, ids in the halo, misses in the halo).

    Free of branches, which would be mispredicted for a third of the ids; and the random reads come
    first, by themselves: beside the writes of ``misses`` they would wait for each other.
    """
    for i in range(len(ids)):
        slots[i] = entries[np.uint64(ids[i])]
    num_misses, halo, halo_misses = 0, 0, 0
    for i in range(len(ids)):
        entry = slots[i]
        in_halo, is_missed = entry & 1, 1 if entry < 2 else 0
        misses[np.uint64(num_misses)] = i
        missed[np.uint64(num_misses)] = ids[i]
        num_misses += is_missed
        halo += in_halo
        halo_misses += in_halo & is_missed
        slots[i] = (entry >> 1) - 1
    return num_misses, halo, halo_misses


@njit(cache=True, nogil=True)
def _count_hits(entries, ids):  # type: ignore[no-untyped-def]
    hits = 0
    for i in range(len(ids)):
        hits += 1 if entries[np.uint64(ids[i])] > 1 else 0
    return hits


@njit(cache=True, nogil=True)
def _assign(entries, ids, slots, new_ids):  # type: ignore[no-untyped-def]
    """Give each slot its new id; returns how many of the slots were free."""
    free = 0
    for i in range(len(slots)):
        slot = slots[i]
        if ids[slot] >= 0:
            entries[ids[slot]] &= 1
        else:
            free += 1
        ids[slot] = new_ids[i]
        entries[new_ids[i]] = (slot + 1) * 2 + (entries[new_ids[i]] & 1)
    return free


@njit(cache=True, nogil=True)
def _find_missed(entries, misses, missed, wanted, places):  # type: ignore[no-untyped-def]
    """Where each wanted id is among the misses, or -1; returns how many are.

    Marks what it looks for, and unmarks it.
    """
    for k in range(len(wanted)):
        entries[np.uint64(wanted[k])] |= _MARK
    left = len(wanted)
    for i in range(len(missed)):
        if entries[np.uint64(missed[i])] & _MARK:
            # The mark gives way to the place, so that each wanted id then finds its own.
            entries[missed[i]] = _MARK | (i << 1) | (entries[missed[i]] & 1)
            left -= 1
            if left == 0:
                break
    for k in range(len(wanted)):
        entry = entries[np.uint64(wanted[k])]
        i = (entry & (_MARK - 1)) >> 1
        found = i < len(missed) and missed[i] == wanted[k]
        places[k] = misses[i] if found else -1
        entries[np.uint64(wanted[k])] = entry & 1
    return len(wanted) - left


def plain_look_up(ids: Ids, held: Ids, halo: Ids) -> tuple[Ids, int, int, int]:
    """The plain twin of ``Buffer.look_up``: held int64 [C], -1 in free slots."""
    slots = np.full(len(ids), -1, np.int64)
    for place, wanted in enumerate(ids):
        found = np.flatnonzero(held == wanted)
        slots[place] = found[0] if len(found) else -1
    hit, in_halo = slots >= 0, np.isin(ids, halo)
    return slots, int(hit.sum()), int(in_halo.sum()), int((hit & in_halo).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A look-up. hits and in_halo count ids, halo_hits those that are both.

    slots: int64 [R].   misses: int64 [m], ascending, the places of ids without a slot; missed:
    int64 [m], those ids.
    """

    slots: Ids
    misses: Ids
    missed: Ids
    hits: int
    in_halo: int
    halo_hits: int


class Buffer:
    """C slots and the ids they hold.

    ids: int64 [C], the id whose row a slot holds, -1 in a free one.   filled: slots in use.
    halo: int64 [h], ids that look-ups count apart.
    """

    def __init__(self, capacity: int, num_ids: int, halo: Ids) -> None:
        if not 0 <= capacity < 2**28:
            raise ValueError(f"a buffer of {capacity} rows: expected 0 to {2**28 - 1}")
        self.capacity, self.filled = capacity, 0
        self.ids = np.full(capacity, -1, np.int64)
        self._entries = np.zeros(num_ids, np.int32)
        self._entries[halo] = _HALO

    def look_up(self, ids: Ids) -> Found:
        """Where each id's row lies."""
        slots, misses, missed = np.empty((3, len(ids)), np.int64)
        num_misses, in_halo, halo_misses = _look_up(self._entries, ids, slots, misses, missed)
        return Found(
            slots=slots,
            misses=misses[:num_misses],
            missed=missed[:num_misses],
            hits=len(ids) - num_misses,
            in_halo=in_halo,
            halo_hits=in_halo - halo_misses,
        )

    def find_missed(self, found: Found, wanted: Ids) -> tuple[Ids, int]:
        """Places of wanted ids among those that were looked up, -1 where it is none of them, and
        how many of them are. None of those wanted has a slot.
        """
        places = np.empty(len(wanted), np.int64)
        num = _find_missed(self._entries, found.misses, found.missed, wanted, places)
        return places, num

    def count_hits(self, ids: Ids) -> int:
        """How many of the ids have a row here."""
        return int(_count_hits(self._entries, ids))

    def assign(self, slots: Ids, ids: Ids) -> None:
        """The slots now hold these ids, distinct and none of them held yet."""
        self.filled += _assign(self._entries, self.ids, slots, ids)
