"""LookaheadPolicy: keeps the rows whose next use is nearest. Samples are pure functions, so the
next W minibatches are known.

After each minibatch the best C of the rows held and the rows missed stay (Belady's MIN with bypass,
inside the window): by distance of the next use, and beyond the window by how often they were asked
for. Only misses come in, whose rows are moved anyway. No decider is asked.

Each id of a foreseen minibatch is an *entry*; entries are numbered from 1 on and lie in a ring.
One number says all that is known of an entry, or of the row in a slot, its ``due``:

    over 0      the minibatch that asks for it next
    under 0     none in the window does: minus how often it was asked for      0     a free slot

    foresee     the id's entry before, or its slot if that entry is past, becomes due at this one
    observe     a hit's slot takes over its entry's due

So an id is looked up once, in ``foresee``: 11 ns an id, and 1 in ``observe``, where five arrays by
id take 31 and 9 (30,000 ids a minibatch, C 50,000, N 2.4M).

C capacity, N ids, R remote ids of a minibatch, W window. Minibatches count from 1.
"""

from collections import deque
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import Buffer, Found, Ids, Int32s, Resize, no_ids
from rudder.policies.base import Policy, Proposal
from rudder.policies.choose import WORST, keep_best, largest, plain_keep_best, sparse

# By id, side by side so that they are read together. tail: its last entry; slot: + 1, 0 for none.
_BY_ID = np.dtype([("tail", np.int64), ("slot", np.int32), ("often", np.int32)])
# The largest window, and the key of what was asked for most often among what is not due in it.
_MAX_WINDOW = WORST // 4
_FAR = _MAX_WINDOW + 2


@njit(cache=True, nogil=True)
def _foresee(ids, number, first, live, by_id, due, mask):  # type: ignore[no-untyped-def]
    """Minibatch ``number``, whose entries begin at ``first``; those from ``live`` on are to come.

    due: int32 [mask + 1 + 1 + C]: the ring, then one for ids without a slot, then the slots.
    """
    for i in range(len(ids)):
        record = by_id[np.uint64(ids[i])]
        before = record.tail
        at = before & mask if before >= live else mask + 1 + record.slot
        often = record.often + 1
        record.tail, record.often = first + i, often
        due[np.uint64(at)] = number
        due[np.uint64((first + i) & mask)] = -often


@njit(cache=True, nogil=True)
def _note(slots, misses, first, due, mask, miss_due):  # type: ignore[no-untyped-def]
    """Each slot takes over the due of its entry; ``miss_due`` is that of the misses."""
    for i in range(len(slots)):
        at = mask + 2 + slots[i] if slots[i] >= 0 else mask + 1
        due[np.uint64(at)] = due[np.uint64((first + i) & mask)]
    for k in range(len(misses)):
        miss_due[k] = due[np.uint64((first + misses[k]) & mask)]


@njit(cache=True, nogil=True)
def _keys(due, now, far, worst, keys):  # type: ignore[no-untyped-def]
    """Distance of the next use in the window; beyond it, the rarer the worse."""
    for i in range(len(due)):
        keys[i] = due[i] - now if due[i] > 0 else max(worst + due[i], far)


@njit(cache=True, nogil=True)
def _swap(slots, chosen, ids, misses, miss_due, held, due, by_id):  # type: ignore[no-untyped-def]
    """The row of ``misses[chosen[k]]`` goes to ``slots[k]``; returns (new ids, their places).

    due: of the slots.
    """
    new, places = np.empty(len(slots), np.int64), np.empty(len(slots), np.int32)
    for k in range(len(slots)):
        slot, miss = slots[k], chosen[k]
        if held[slot] >= 0:
            by_id[held[slot]].slot = 0
        places[k] = misses[miss]
        new[k] = ids[misses[miss]]
        by_id[new[k]].slot = slot + 1
        due[slot] = miss_due[miss]
    return new, places


class LookaheadPolicy(Policy):
    """Looks ``window`` minibatches ahead. Raises ValueError on one it has no keys for."""

    name = "lookahead"

    def __init__(self, buffer: Buffer, *, window: int = 16) -> None:
        super().__init__(buffer)
        if not 1 <= window <= _MAX_WINDOW:
            raise ValueError(
                f"--prefetch lookahead:{window}: expected a window up to {_MAX_WINDOW}"
            )
        self.window = window
        self._by_id = np.zeros(buffer.num_ids, _BY_ID)
        self._mask = 1023
        self._due = np.zeros(self._mask + 2 + self.capacity, np.int32)
        self._keys = np.zeros(self.capacity, np.int32)
        self._scratch = np.zeros(4 * (WORST + 1), np.int32)
        # Minibatches to come, and the entries they have: from _live up to, not including, _end.
        self._upcoming: deque[Ids] = deque()
        self._live, self._end = 1, 1
        self._now, self._ids = 0, no_ids()
        self._misses: Int32s = np.zeros(0, np.int32)
        self._miss_due: Int32s = np.zeros(0, np.int32)

    @property
    def _slot_due(self) -> NDArray[np.int32]:
        return self._due[self._mask + 2 :]

    def foresee(self, ids: Ids) -> None:
        first, self._end = self._end, self._end + len(ids)
        if self._end - self._live > self._mask + 1:
            self._grow(first)
        self._upcoming.append(ids)
        number = self._now + len(self._upcoming)
        _foresee(ids, number, first, self._live, self._by_id, self._due, self._mask)

    def _grow(self, end: int) -> None:
        """Make room in the ring for the entries up to _end; those up to ``end`` are in it."""
        mask = (1 << (self._end - self._live - 1).bit_length()) - 1
        due = np.zeros(mask + 2 + self.capacity, np.int32)
        entries = np.arange(self._live, end)
        due[entries & mask] = self._due[entries & self._mask]
        due[mask + 2 :] = self._slot_due
        self._due, self._mask = due, mask

    def observe(self, ids: Ids, found: Found) -> None:
        # What follows reads the entries of the foreseen ids without a check of bounds.
        foreseen = self._upcoming.popleft() if self._upcoming else no_ids()
        if len(foreseen) != len(ids):
            raise RuntimeError(
                f"a minibatch of {len(ids)} remote ids, but {len(foreseen)} were foreseen: "
                "foresee() comes before observe(), once for each minibatch and in its order"
            )
        self._now += 1
        self._ids, self._misses = ids, found.misses
        self._miss_due = np.empty(len(found.misses), np.int32)
        _note(found.slots, found.misses, self._live, self._due, self._mask, self._miss_due)
        self._live += len(ids)

    def propose(self, replace: bool) -> Proposal:
        due, miss_keys = self._slot_due, np.empty(len(self._misses), np.int32)
        _keys(due, self._now, _FAR, WORST, self._keys)
        _keys(self._miss_due, self._now, _FAR, WORST, miss_keys)
        slots, chosen = keep_best(self._keys, miss_keys, self._scratch)
        ids, places = _swap(
            *(slots, chosen, self._ids, self._misses, self._miss_due),
            *(self.buffer.ids, due, self._by_id),
        )
        return Proposal(slots, ids, places, np.zeros(len(ids), np.int32), 0)

    def resize(self, capacity: int) -> Resize:
        """The rows needed last go first, as in ``propose``; at equal keys, lower slots."""
        _keys(self._slot_due, self._now, _FAR, WORST, self._keys)
        kept = np.ones(self.capacity, bool)
        kept[largest(self._keys, self.capacity - capacity)] = False
        sources = capacity + np.flatnonzero(kept[capacity:])
        resize = Resize(capacity, sources, np.flatnonzero(~kept[:capacity]))
        self._by_id["slot"][self.buffer.ids[self.buffer.filled_slots]] = 0
        ring, slot_due = self._due[: self._mask + 2], resize.moved(self._slot_due, 0)
        self._due, self._keys = np.concatenate([ring, slot_due]), np.zeros(capacity, np.int32)
        self.buffer.resize(resize)
        self._note_slots()
        return resize

    def _note_slots(self) -> Ids:
        """What is known by id follows the buffer; returns the slots in use."""
        slots = self.buffer.filled_slots
        self._by_id["slot"][self.buffer.ids[slots]] = slots + 1
        return slots

    def state(self) -> dict[str, NDArray[Any]]:
        often = self._by_id["often"].copy()
        for ids in self._upcoming:
            often[ids] -= 1
        return sparse("often", often)

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """The future is not kept: it is foreseen anew."""
        self._by_id["often"][state["often_at"]] = state["often"]
        slots = self._note_slots()
        self._slot_due[slots] = -self._by_id["often"][self.buffer.ids[slots]]


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
        for distance, needed in enumerate(self.upcoming, start=1):
            if id_ in needed:
                return distance
        return max(WORST - self.often[id_], _FAR) if id_ >= 0 else WORST

    def propose(self, replace: bool) -> tuple[Ids, Ids]:
        slot_keys = np.array([self._key(id_) for id_ in self.held], np.int32)
        miss_keys = np.array([self._key(id_) for id_ in self.misses], np.int32)
        slots, chosen = plain_keep_best(slot_keys, miss_keys)
        ids = [self.misses[place] for place in chosen]
        for slot, id_ in zip(slots, ids, strict=True):
            self.held[slot] = id_
        return slots, np.array(ids, np.int64)

    def resize(self, capacity: int) -> None:
        ranked = sorted(range(len(self.held)), key=lambda slot: (-self._key(self.held[slot]), slot))
        gone = set(ranked[: max(len(self.held) - capacity, 0)])
        held = self.held[:capacity] + [-1] * (capacity - len(self.held))
        later = [id_ for slot, id_ in enumerate(self.held) if slot >= capacity and slot not in gone]
        for slot, id_ in zip(sorted(gone), later, strict=False):
            held[slot] = id_
        self.held = held
