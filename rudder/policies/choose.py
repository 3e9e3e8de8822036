"""Choosing the best of many without sorting them. Ties fall the same way every time.

C capacity, m misses of a minibatch, n things to choose from, k of them chosen.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import Ids

Array = NDArray[Any]
# The largest key of ``keep_best``.
WORST = 4095
# Up to so many of the largest are looked for in one pass: a tenth of the time where keys are equal.
FEW = 64
# What is rare is looked for in blocks of so many: whether one has any shows at once.
BLOCK = 64


@njit(cache=True, nogil=True)
def _kth_largest(values, k):  # type: ignore[no-untyped-def]
    """For a small k, in a few instructions: numba's partition has hundreds, and they are cold
    whenever they are needed."""
    top = np.empty(k, values.dtype)
    for i in range(len(values)):
        value = values[i]
        if i < k:
            at = i
            while at > 0 and top[at - 1] > value:
                top[at] = top[at - 1]
                at -= 1
            top[at] = value
            continue
        if value <= top[0]:
            continue
        at = 1
        while at < k and top[at] < value:
            top[at - 1] = top[at]
            at += 1
        top[at - 1] = value
    return top[0]


@njit(cache=True, nogil=True)
def few_largest(keys, k):  # type: ignore[no-untyped-def]
    """``largest`` for k from 1 to n - 1, quick where k is small.

    Only blocks whose largest key may be among the best are searched, and most blocks' is not. The
    largest of a block is a matter of vector instructions.
    """
    full = len(keys) // BLOCK
    highest = np.empty(full, keys.dtype)
    for block in range(full):
        high = keys[block * BLOCK]
        for j in range(BLOCK):
            key = keys[np.uint64(block * BLOCK + j)]
            high = key if key > high else high
        highest[block] = high
    # k blocks have a key of this or more, and so the k best have.
    least = keys.min() if full < k else _kth_largest(highest, k)
    found, num = np.empty(len(keys) + 1, np.int64), 0
    for block in range(full + 1):
        if block < full and highest[block] < least:
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(keys))):
            found[np.uint64(num)] = i
            num += 1 if keys[i] >= least else 0
    values = np.empty(num, keys.dtype)
    for j in range(num):
        values[j] = keys[found[j]]
    edge = _kth_largest(values, k)
    level = k
    for value in values:
        level -= 1 if value > edge else 0
    best, size = np.empty(k, np.int64), 0
    for j in range(num):
        if values[j] < edge or (values[j] == edge and level == 0):
            continue
        level -= 1 if values[j] == edge else 0
        best[size] = found[j]
        size += 1
    return best


def largest(keys: Array, k: int) -> Ids:
    """Indices of the k largest keys [n], ascending; among equal ones, the first."""
    if k >= len(keys):
        return np.arange(len(keys))
    if k <= 0:
        return np.zeros(0, np.int64)
    if k <= FEW:
        few: Ids = few_largest(keys, k)
        return few
    edge = np.partition(keys, len(keys) - k)[len(keys) - k]
    best = keys > edge
    best[np.flatnonzero(keys == edge)[: k - int(np.count_nonzero(best))]] = True
    return np.flatnonzero(best)


@njit(cache=True, nogil=True)
def _keep_best(slot_keys, miss_keys, counts, out_slots, out_misses):  # type: ignore[no-untyped-def]
    """Fill in the slots to give up and the misses to take; returns how many. Free of branches."""
    counts[:] = 0
    # Four counts of each key, in turn: neighbours often have one key, and would wait in line.
    for slot in range(len(slot_keys)):
        counts[np.uint64(4 * slot_keys[slot] + (slot & 3))] += 1
    for i in range(len(miss_keys)):
        counts[np.uint64(4 * miss_keys[i] + (i & 3))] += 1
    # All better than the cut stay; of those at the cut as many as there is room for.
    room, cut = len(slot_keys), 0
    while counts[4 * cut : 4 * cut + 4].sum() <= room:
        room -= counts[4 * cut : 4 * cut + 4].sum()
        cut += 1
    num_slots, left = 0, room
    for slot in range(len(slot_keys)):
        key = slot_keys[slot]
        left -= 1 if key == cut else 0
        out_slots[np.uint64(num_slots)] = slot
        num_slots += 1 if key > cut or (key == cut and left < 0) else 0
    num_misses, left = 0, max(left, 0)
    for i in range(len(miss_keys)):
        key = miss_keys[i]
        left -= 1 if key == cut else 0
        out_misses[np.uint64(num_misses)] = i
        num_misses += 1 if key < cut or (key == cut and left >= 0) else 0
    if num_slots != num_misses:
        raise RuntimeError("a row for each slot that is given up: the counts of keys are wrong")
    return num_misses


def keep_best(slot_keys: Array, miss_keys: Array, counts: Array) -> tuple[Ids, Ids]:
    """(slots to give up, indices of the misses that take them), both ascending.

    The C best stay of the C rows and the m misses: int32 keys from 0 to ``WORST``; smaller ones are
    better. At equal keys, rows stay before misses come, and lower slots and earlier misses go
    first. counts: int32 scratch [4 (WORST + 1)].
    """
    if len(miss_keys) == 0 or len(slot_keys) == 0:
        empty = np.zeros(0, np.int64)
        return empty, empty
    slots, misses = np.empty(len(slot_keys), np.int64), np.empty(len(miss_keys), np.int64)
    num = _keep_best(slot_keys, miss_keys, counts, slots, misses)
    return slots[:num], misses[:num]


def plain_keep_best(slot_keys: Array, miss_keys: Array) -> tuple[Ids, Ids]:
    """The plain twin of ``keep_best``: sort everything."""
    capacity = len(slot_keys)
    ranked = sorted(
        [(int(key), 0, slot) for slot, key in enumerate(slot_keys)]
        + [(int(key), 1, miss) for miss, key in enumerate(miss_keys)]
    )
    slots = sorted(number for _, is_miss, number in ranked[capacity:] if not is_miss)
    misses = sorted(number for _, is_miss, number in ranked[:capacity] if is_miss)
    return np.array(slots, np.int64), np.array(misses, np.int64)


def sparse(name: str, array: Array) -> dict[str, Array]:
    """An array by id as its entries that are not 0, for a checkpoint."""
    places = np.flatnonzero(array)
    return {f"{name}_at": places, name: array[places]}
