"""Rows: copying them by id, and counting what became of those that lie elsewhere."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit

from minidist.comm.transport.base import Array
from minidist.store.partition_book import Ids


@dataclass(kw_only=True)
class RowCounts:
    """Remote rows by what became of them.

    remote: distinct remote rows that minibatches needed = hits + misses.
    replacements: rows moved for a buffer that no minibatch asked for then; rows moved between
    partitions = misses + replacements.
    """

    remote: int = 0
    hits: int = 0
    misses: int = 0
    replacements: int = 0

    def __iadd__(self, other: "Rows") -> "RowCounts":
        self.remote += other.remote
        self.hits += other.hits
        self.misses += other.misses
        self.replacements += other.replacements
        return self


class Rows(Protocol):
    """The counts of ``RowCounts``, whoever counted."""

    @property
    def remote(self) -> int: ...

    @property
    def hits(self) -> int: ...

    @property
    def misses(self) -> int: ...

    @property
    def replacements(self) -> int: ...


def copy_rows(
    table: Array, ids: Ids, out: Array, positions: Ids, first: int = 0, picked: Ids | None = None
) -> None:
    """``out[positions[i]] = table[ids[i] - first]`` for each i in ``picked`` (all where None).

    One pass without a temporary. table [n, D] and out [R, D] of one dtype, C-contiguous; ids,
    positions and picked int64.
    """
    picked = np.arange(len(ids)) if picked is None else picked
    if table.shape[1] * table.itemsize % 8 == 0:
        # Eight bytes at a time: 0.36 ms for 8192 rows of 100 float32, where floats take 0.43.
        table, out = table.view(np.uint64), out.view(np.uint64)
    _copy_rows(table, ids, out, positions, first, picked)


@njit(cache=True, nogil=True)
def _copy_rows(table, ids, out, positions, first, picked):  # type: ignore[no-untyped-def]
    # Unsigned, because numba asks of each signed index whether it counts from the end; and a view
    # of each row, which LLVM copies 15% faster than two-dimensional indices.
    width = np.uint64(table.shape[1])
    for k in range(len(picked)):
        i = np.uint64(picked[k])
        source, target = table[np.uint64(ids[i] - first)], out[np.uint64(positions[i])]
        for column in range(width):
            target[column] = source[column]
