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
from rudder.cpu_prefetch import prefetch

Array = NDArray[Any]

# numba promotes int64 with uint64 to float64, so every constant of the kernels is a uint64.
_U_GOLDEN, _U32 = np.uint64(GOLDEN), np.uint64(32)
# Nodes whose draws are under way at once, and neighbours whose places are.
_BLOCK, _AHEAD = 16, 32


def hop_key(*parts: int) -> int:
    """The 64-bit key of (seed, epoch, step, rank, hop); signed, so that it travels as an int64.

    Without the hop it is the minibatch's: ``hop_key(*parts, hop) = mix(hop_key(*parts) + hop)``.
    """
    key = 0
    for part in parts:
        key = mix_plain((key + part) & MASK)
    return key - (1 << 64) if key >> 63 else key


@njit(cache=True, nogil=True)
def locate_rows(nodes, offsets, table_of_part, far_ids, tables, rows):  # type: ignore[no-untyped-def]
    """Which table holds the in-edges of each node, in which row; returns how many have none here.

    table_of_part: int64 [P], the table of a part's nodes, -1 where there is none. far_ids: int64,
    ascending, the nodes of the last table. tables: int64 [n] and rows: int64 [n] are filled; -1 for
    a node whose in-edges only its owner has.
    """
    num_parts, num_missing = len(table_of_part), 0
    far_table = table_of_part.max() + 1
    for i in range(len(nodes)):
        low, high = 0, num_parts
        while high - low > 1:
            middle = (low + high) >> 1
            if nodes[i] >= offsets[middle]:
                low = middle
            else:
                high = middle
        table, row = table_of_part[low], nodes[i] - offsets[low]
        if table < 0 and len(far_ids):
            row = np.searchsorted(far_ids, nodes[i])
            table = far_table if row < len(far_ids) and far_ids[row] == nodes[i] else -1
        tables[i], rows[i] = table, row
        num_missing += table < 0
    return num_missing


@njit(cache=True, nogil=True)
def count_neighbors(indptrs, tables, rows, fanout, counts):  # type: ignore[no-untyped-def]
    """counts[i] = min(in-degree, fanout) of each node that is in a table; int64 vectors."""
    for i in range(len(rows)):
        if i + _BLOCK < len(rows) and tables[i + _BLOCK] >= 0:
            prefetch(indptrs[tables[i + _BLOCK]], rows[i + _BLOCK])
        if tables[i] >= 0:
            indptr = indptrs[tables[i]]
            counts[i] = min(indptr[rows[i] + 1] - indptr[rows[i]], fanout)


@njit(cache=True, nogil=True)
def _draw_slots(  # type: ignore[no-untyped-def]
    indptrs, indices, nodes, tables, rows, key, fanout, begin, end, slots, taken, stamp
):
    """Draw for nodes begin to end, and ask for the memory of what is drawn; returns the stamp."""
    num_slots = 0
    for i in range(begin, end):
        if tables[i] < 0:
            continue
        indptr, sources = indptrs[tables[i]], indices[tables[i]]
        first = indptr[rows[i]]
        degree = indptr[rows[i] + 1] - first
        if degree <= fanout:
            for j in range(degree):
                slots[num_slots + j] = first + j
            if degree:
                prefetch(sources, first)
                prefetch(sources, first + degree - 1)
            num_slots += degree
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
            slots[num_slots + j] = first + slot
            prefetch(sources, first + slot)
        num_slots += fanout
    return stamp


@njit(cache=True, nogil=True)
def draw_neighbors(  # type: ignore[no-untyped-def]
    indptrs, indices, nodes, tables, rows, key, fanout, starts, out, taken, stamp
):
    """Draw neighbours of ``nodes[i]``, kept in row ``rows[i]`` of table ``tables[i]``.

    They are written to ``out[starts[i]:starts[i + 1]]``; nodes in no table are left out. ``taken``
    is int64 scratch, longer than the largest degree and at most ``stamp`` everywhere; returns the
    stamp for the next call. A stamp per slot beats a scan of the slots taken so far, twice over:
    the test almost never holds, so the branch predictor is right about it.

    Block by block: slots are drawn, their memory is asked for, and only then is it read.
    """
    slots = np.empty(_BLOCK * fanout, np.int64)
    for begin in range(0, len(nodes), _BLOCK):
        end, at = min(begin + _BLOCK, len(nodes)), 0
        stamp = _draw_slots(
            indptrs, indices, nodes, tables, rows, key, fanout, begin, end, slots, taken, stamp
        )
        for i in range(begin, end):
            if tables[i] < 0:
                continue
            sources = indices[tables[i]]
            for k in range(starts[i], starts[i + 1]):
                out[k] = sources[np.uint64(slots[at])]
                at += 1
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
        if i + _AHEAD < len(neighbors):
            prefetch(places, neighbors[i + _AHEAD])
        node = np.uint64(neighbors[i])
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


@njit(cache=True, nogil=True)
def _grown(values, size):  # type: ignore[no-untyped-def]
    """The values at the front of a longer vector."""
    longer = np.empty(size, np.int64)
    longer[: len(values)] = values
    return longer


@njit(cache=True, nogil=True)
def sample_at_hand(  # type: ignore[no-untyped-def]
    seeds, key, fanouts, offsets, table_of_part, far_ids, indptrs, indices, places, taken, stamp
):
    """A whole minibatch whose in-edges are all in tables here, in one call without the GIL.

    key: of the minibatch; hop h's is ``mix(key + h)``. Returns (node ids, indptr, sources, nodes of
    each hop, edges of each hop, stamp), as ``Sample`` has them.
    """
    num_hops, start, num_nodes, num_edges = len(fanouts), 0, len(seeds), 0
    nodes, edges = np.empty(num_hops + 1, np.int64), np.empty(num_hops, np.int64)
    node_ids, sources = seeds.copy(), np.empty(0, np.int64)
    indptr, nodes[0] = np.zeros(1, np.int64), num_nodes
    for i in range(num_nodes):
        places[seeds[i]] = i
    for hop in range(num_hops):
        frontier = node_ids[start:num_nodes]
        tables, rows = np.empty(len(frontier), np.int64), np.empty(len(frontier), np.int64)
        locate_rows(frontier, offsets, table_of_part, far_ids, tables, rows)
        starts = np.empty(len(indptr) + len(frontier), np.int64)
        starts[: len(indptr)] = indptr
        counts = starts[len(indptr) :]
        count_neighbors(indptrs, tables, rows, fanouts[hop], counts)
        for i in range(len(indptr), len(starts)):
            starts[i] += starts[i - 1]
        drawn = starts[-1]
        grown_sources = _grown(sources[:num_edges], drawn)
        grown_ids = _grown(node_ids[:num_nodes], num_nodes + drawn - num_edges + 1)
        hop_key = np.int64(mix(np.uint64(key) + np.uint64(hop)))
        hop_starts = starts[len(indptr) - 1 :]
        stamp = draw_neighbors(
            indptrs, indices, frontier, tables, rows, hop_key, fanouts[hop], hop_starts,
            grown_sources, taken, stamp,
        )  # fmt: skip
        start = num_nodes
        num_nodes = place_nodes(grown_sources[num_edges:], places, grown_ids, num_nodes)
        nodes[hop + 1], edges[hop] = num_nodes - start, drawn - num_edges
        node_ids, sources, indptr, num_edges = grown_ids, grown_sources, starts, drawn
    node_ids = node_ids[:num_nodes].copy()
    forget_nodes(places, node_ids)
    return node_ids, indptr, sources, nodes, edges, stamp
