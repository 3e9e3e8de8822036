"""Balance: move nodes between parts until the bounds hold, then until the cut stops falling.

METIS balances one weight a node. Here three loads are bounded at once: nodes, in-edges and training
nodes of each part. Correction moves nodes out of overloaded parts, cheapest first; refinement is
Fiduccia-Mattheyses with rollback [FM 1982] that never makes a bound worse.

N nodes, P parts, K = 3 loads. A node's weights are (1, in-degree, is it a training node).
The adjacency is undirected: both directions of each edge are stored.
"""

from heapq import heapify, heappop, heappush

import numpy as np
from numba import njit
from numpy.typing import NDArray

from minidist.graph import Array
from minidist.partition.adjacency import Adjacency
from minidist.partition.balance_limits import Bounds

MAX_PASSES = 8
NOWHERE = -(1 << 60)  # the gain of a node that no part can take


def balance(
    adjacency: Adjacency, weights: NDArray[np.int64], assignment: Array, bounds: Bounds
) -> NDArray[np.int32]:
    """A copy of ``assignment`` that keeps to the bounds where it can, with a low edge cut.

    weights: int64 [N, K], what each node adds to the loads of its part.
    Takes 4 P bytes a node. The same input always gives the same output.
    """
    part = assignment.astype(np.int32)
    num_parts = bounds.num_parts
    loads = np.zeros((num_parts, weights.shape[1]), np.int64)
    np.add.at(loads, part, weights)
    links = np.zeros((len(part), num_parts), np.int32)
    _count_links(adjacency.starts, adjacency.adjacent, part, links)
    state = (
        *(adjacency.starts, adjacency.adjacent, weights),
        *(part, links, loads, bounds.least, bounds.most),
    )
    patience = max(64, len(part) // 50)
    for _ in range(MAX_PASSES):
        num_moved = _correct(*state)
        if _refine(*state, patience) == 0 and num_moved == 0:
            break
    return part


@njit(cache=True, nogil=True)
def _count_links(starts, adjacent, part, links):  # type: ignore[no-untyped-def]
    """links [N, P]: neighbours of each node in each part."""
    for v in range(len(starts) - 1):
        for i in range(starts[v], starts[v + 1]):
            links[v, part[adjacent[i]]] += 1


@njit(cache=True, nogil=True)
def _outside(load, least, most):  # type: ignore[no-untyped-def]
    return (max(load - most, 0) + max(least - load, 0)) / most


@njit(cache=True, nogil=True)
def _relief(v, p, q, weights, loads, least, most):  # type: ignore[no-untyped-def]
    """By how much moving v from p to q lowers ``Bounds.excess``."""
    relief = 0.0
    for k in range(weights.shape[1]):
        weight = weights[v, k]
        relief += _outside(loads[p, k], least[k], most[k])
        relief += _outside(loads[q, k], least[k], most[k])
        relief -= _outside(loads[p, k] - weight, least[k], most[k])
        relief -= _outside(loads[q, k] + weight, least[k], most[k])
    return relief


@njit(cache=True, nogil=True)
def _move(v, q, starts, adjacent, weights, part, links, loads):  # type: ignore[no-untyped-def]
    p = part[v]
    for i in range(starts[v], starts[v + 1]):
        links[adjacent[i], p] -= 1
        links[adjacent[i], q] += 1
    for k in range(weights.shape[1]):
        loads[p, k] -= weights[v, k]
        loads[q, k] += weights[v, k]
    part[v] = q


@njit(cache=True, nogil=True)
def _cheapest(v, weights, part, links, loads, least, most):  # type: ignore[no-untyped-def]
    """Cost per relief of moving v to its best part, and that part; (inf, -1) if none relieves."""
    p, best, target = part[v], np.inf, -1
    for q in range(loads.shape[0]):
        if q != p:
            relief = _relief(v, p, q, weights, loads, least, most)
            if relief > 1e-12:
                # Moves that also lower the cut come first, the largest fall first.
                cost = float(links[v, p] - links[v, q])
                cost = cost / relief if cost > 0 else cost
                if cost < best:
                    best, target = cost, q
    return best, target


@njit(cache=True, nogil=True)
def _correct(starts, adjacent, weights, part, links, loads, least, most):  # type: ignore[no-untyped-def]
    """Move nodes out of overloaded parts, the least cut per relief first; returns how many."""
    heap = [(np.float64(0), np.int64(0)) for _ in range(0)]
    noted = np.full(len(part), np.inf)  # the last cost in the heap of each node
    for v in np.arange(len(part)):
        cost, target = _cheapest(v, weights, part, links, loads, least, most)
        if target >= 0:
            heap.append((cost, v))
            noted[v] = cost
    heapify(heap)
    num_moved = 0
    # Each move lowers the excess, but costs change as loads do: stale entries are put back.
    while heap:
        old_cost, v = heappop(heap)
        cost, target = _cheapest(v, weights, part, links, loads, least, most)
        noted[v] = cost
        if target < 0:
            continue
        if cost > old_cost + 1e-9:
            heappush(heap, (cost, v))
            continue
        _move(v, target, starts, adjacent, weights, part, links, loads)
        num_moved += 1
        noted[v] = np.inf
        for i in range(starts[v], starts[v + 1]):
            u = np.int64(adjacent[i])
            cost, target = _cheapest(u, weights, part, links, loads, least, most)
            if cost < noted[u]:
                noted[u] = cost
                heappush(heap, (cost, u))
    return num_moved


@njit(cache=True, nogil=True)
def _best_gain(v, weights, part, links, loads, least, most):  # type: ignore[no-untyped-def]
    """Largest fall of the cut from moving v without more excess, and where to; -1 if nowhere."""
    p, best, target = part[v], NOWHERE, -1
    for q in range(loads.shape[0]):
        if q != p and links[v, q] > 0:
            gain = links[v, q] - links[v, p]
            if gain > best and _relief(v, p, q, weights, loads, least, most) > -1e-12:
                best, target = gain, q
    return best, target


@njit(cache=True, nogil=True)
def _border(starts, weights, part, links, loads, least, most):  # type: ignore[no-untyped-def]
    """(heap of (-gain, node) of those with neighbours in other parts, the gain in it of each)."""
    heap = [(np.int64(0), np.int64(0)) for _ in range(0)]
    noted = np.full(len(part), NOWHERE)
    for v in np.arange(len(part)):
        if links[v, part[v]] < starts[v + 1] - starts[v]:
            gain, target = _best_gain(v, weights, part, links, loads, least, most)
            if target >= 0:
                heap.append((-np.int64(gain), v))
                noted[v] = gain
    heapify(heap)
    return heap, noted


@njit(cache=True, nogil=True)
def _refine(starts, adjacent, weights, part, links, loads, least, most, patience):  # type: ignore[no-untyped-def]
    """One Fiduccia-Mattheyses pass; returns by how many edges the cut fell."""
    heap, noted = _border(starts, weights, part, links, loads, least, most)
    locked = np.zeros(len(part), np.bool_)
    moved = [(np.int64(0), np.int64(0)) for _ in range(0)]
    total, best, num_kept = 0, 0, 0
    while heap and len(moved) - num_kept < patience:
        negative, v = heappop(heap)
        if locked[v]:
            continue
        gain, target = _best_gain(v, weights, part, links, loads, least, most)
        noted[v] = gain
        if target < 0:
            continue
        if gain < -negative:
            heappush(heap, (-np.int64(gain), v))
            continue
        moved.append((v, np.int64(part[v])))
        _move(v, target, starts, adjacent, weights, part, links, loads)
        locked[v] = True
        total += gain
        if total > best:
            best, num_kept = total, len(moved)
        for i in range(starts[v], starts[v + 1]):
            u = np.int64(adjacent[i])
            if not locked[u]:
                gain, target = _best_gain(u, weights, part, links, loads, least, most)
                if gain > noted[u]:
                    noted[u] = gain
                    heappush(heap, (-np.int64(gain), u))
    for i in range(len(moved) - 1, num_kept - 1, -1):
        v, p = moved[i]
        _move(v, p, starts, adjacent, weights, part, links, loads)
    return best
