"""PartitionBook: which part owns which node.

Nodes are relabelled so that part p owns the contiguous ids ``offsets[p]:offsets[p + 1]``;
ownership is then a binary search over P + 1 numbers and needs no table of N entries.

N nodes, P parts; ids are global (relabelled) unless they say ``local_``.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def no_ids() -> Ids:
    """int64 [0]."""
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class PartitionBook:
    """Contiguous id ranges of P parts.

    offsets: int64 [P + 1], ascending from 0; part p owns ids ``offsets[p]:offsets[p + 1]``.
    """

    offsets: Ids

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError(
                f"a partition book needs ascending offsets that start at 0, got {offsets!r}"
            )

    @property
    def num_parts(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_nodes(self) -> int:
        return int(self.offsets[-1])

    def range_of(self, part: int) -> tuple[int, int]:
        """First id of the part and one past its last."""
        return int(self.offsets[part]), int(self.offsets[part + 1])

    def owner(self, ids: Ids) -> Ids:
        """Part that owns each id, int64 of the same shape. ids must lie in ``[0, N)``."""
        return np.searchsorted(self.offsets, ids, side="right").astype(np.int64) - 1

    def check(self, ids: Ids) -> None:
        """Raise ValueError naming the first id outside ``[0, N)``."""
        if len(ids) and (ids.min() < 0 or ids.max() >= self.num_nodes):
            bad = ids[(ids < 0) | (ids >= self.num_nodes)][0]
            raise ValueError(
                f"node id {bad} is out of range: the graph has ids 0 to {self.num_nodes - 1}"
            )

    def by_owner(self, ids: Ids) -> tuple[Ids, Ids]:
        """Positions of ids grouped by owner: (order int64 [n], bounds int64 [P + 1]).

        ``order[bounds[p]:bounds[p + 1]]`` are the positions of the ids that part p owns, ascending.
        """
        return _by_owner(ids, self.offsets)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def split_places(ids, first, last):  # type: ignore[no-untyped-def]
    """Where in ``ids`` those from ``first`` to ``last`` are, and where the others; int64 both."""
    inside, outside = np.empty((2, len(ids)), np.int64)
    num_inside = num_outside = 0
    for i in range(len(ids)):
        inside[num_inside] = outside[num_outside] = i
        is_inside = first <= ids[i] < last
        num_inside += is_inside
        num_outside += not is_inside
    return inside[:num_inside], outside[:num_outside]


@njit(cache=True, nogil=True)
def _by_owner(ids, offsets):  # type: ignore[no-untyped-def]
    num_parts = len(offsets) - 1
    owners = np.empty(len(ids), np.int32)
    bounds = np.zeros(num_parts + 1, np.int64)
    for i in range(len(ids)):
        low, high = 0, num_parts
        while high - low > 1:
            middle = (low + high) >> 1
            if ids[i] >= offsets[middle]:
                low = middle
            else:
                high = middle
        owners[i] = low
        bounds[low + 1] += 1
    for part in range(num_parts):
        bounds[part + 1] += bounds[part]
    cursor = bounds[:-1].copy()
    order = np.empty(len(ids), np.int64)
    for i in range(len(ids)):
        order[cursor[owners[i]]] = i
        cursor[owners[i]] += 1
    return order, bounds
