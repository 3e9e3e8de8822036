"""Drawing neighbours as a pure function, and giving nodes their place in a minibatch.

The neighbours of node v at a hop depend on ``hop_key(seed, epoch, step, rank, hop)`` and v alone:
the j-th random number of v is SplitMix64 (Steele, Lea, Flood 2014) of a counter, so there is no
state to carry, no order to keep, and any rank, thread or process draws the same.

Without replacement by Floyd's algorithm (Bentley & Floyd 1987): for j in d-k .. d-1 draw t in
[0, j]; take t, or j where t was taken before. Each kernel has its plain twin beside it.

d in-degree, k fanout, n frontier nodes, e drawn edges, N nodes.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from minidist.counter_rng import GOLDEN, MASK, mix, mix_plain

Array = NDArray[Any]

# numba promotes int64 with uint64 to float64, so every constant of the kernels is a uint64.
_U_GOLDEN, _U32 = np.uint64(GOLDEN), np.uint64(32)


def hop_key(seed: int, epoch: int, step: int, rank: int, hop: int) -> int:
    """The 64-bit key of one hop of one minibatch; as a signed int64, so that it travels in one."""
    key = 0
    for part in (seed, epoch, step, rank, hop):
        key = mix_plain((key + part) & MASK)
    return key - (1 << 64) if key >> 63 else key


@njit(cache=True, nogil=True)
def count_neighbors(indptr, rows, picked, fanout, counts):  # type: ignore[no-untyped-def]
    """counts[i] = min(in-degree of rows[i], fanout) for each i in ``picked``; int64 vectors."""
    for i in picked:
        degree = indptr[rows[i] + 1] - indptr[rows[i]]
        counts[i] = degree if degree < fanout else fanout


@njit(cache=True, nogil=True)
def draw_neighbors(  # type: ignore[no-untyped-def]
    indptr, indices, nodes, rows, picked, key, fanout, starts, out, taken, stamp
):
    """Draw neighbours of ``nodes[i]``, kept in row ``rows[i]``, for each i in ``picked``.

    They are written to ``out[starts[i]:starts[i + 1]]``. ``taken`` is int64 scratch, longer than
    the largest degree and at most ``stamp`` everywhere; returns the stamp for the next call.

    A stamp per slot beats a scan of the slots taken so far (0.74 against 1.5 ms for 154k edges):
    the test almost never holds, so the branch predictor is right about it.
    """
    for i in picked:
        first = indptr[rows[i]]
        degree = indptr[rows[i] + 1] - first
        at = starts[i]
        if degree <= fanout:
            for j in range(degree):
                out[at + j] = indices[first + j]
            continue
        counter = mix(np.uint64(key) + np.uint64(nodes[i]) * _U_GOLDEN)
        stamp += 1
        for j in range(fanout):
            top = degree - fanout + j
            # The high half times the range, shifted: biased by less than range / 2^32.
            slot = np.int64(((mix(counter) >> _U32) * np.uint64(top + 1)) >> _U32)
            counter += _U_GOLDEN
            slot = top if taken[slot] == stamp else slot
            taken[slot] = stamp
            out[at + j] = indices[first + slot]
    return stamp


def draw_neighbors_plain(row: Array, node: int, key: int, fanout: int) -> list[int]:
    """Plain twin of ``draw_neighbors`` for one node whose in-edges are ``row``."""
    degree = len(row)
    if degree <= fanout:
        return [int(source) for source in row]
    counter = mix_plain((key + node * GOLDEN) & MASK)
    slots: list[int] = []
    for top in range(degree - fanout, degree):
        slot = ((mix_plain(counter) >> 32) * (top + 1)) >> 32
        counter = (counter + GOLDEN) & MASK
        slots.append(top if slot in slots else slot)
    return [int(row[slot]) for slot in slots]


@njit(cache=True, nogil=True)
def place_nodes(neighbors, places, node_ids, num_nodes):  # type: ignore[no-untyped-def]
    """Replace each neighbour by its place in ``node_ids``, appending those seen first here.

    places: int32 [N], -1 for a node that is not in the minibatch. node_ids: int64 with room for
    one entry more than can be appended, because the store below happens for known nodes too: half
    of the nodes are new, and a branch on that costs more than the store.
    Returns the number of nodes placed so far.
    """
    for i in range(len(neighbors)):
        node = neighbors[i]
        place = places[node]
        is_new = place < 0
        place = num_nodes if is_new else place
        places[node] = place
        node_ids[num_nodes] = node
        num_nodes += is_new
        neighbors[i] = place
    return num_nodes


def place_nodes_plain(neighbors: list[int], node_ids: list[int]) -> list[int]:
    """Plain twin of ``place_nodes``: appends to ``node_ids`` and returns the places."""
    places = {node: place for place, node in enumerate(node_ids)}
    for node in neighbors:
        if places.setdefault(node, len(node_ids)) == len(node_ids):
            node_ids.append(node)
    return [places[node] for node in neighbors]


@njit(cache=True, nogil=True)
def forget_nodes(places, node_ids):  # type: ignore[no-untyped-def]
    """Make ``places`` all -1 again after a minibatch, touching only its nodes."""
    for node in node_ids:
        places[node] = -1
