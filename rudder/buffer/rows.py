"""The rows of a buffer, in host memory or on a GPU. Which ids they belong to is not known here.

C capacity in rows, D features, R rows of a minibatch, k rows to swap in.
"""

import mmap
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import Ids, Int32s, Resize
from rudder.cpu_prefetch import prefetch

Array = NDArray[Any]
Send = Callable[[str, Array], torch.Tensor]


# Rows that are asked for while one is copied.
_AHEAD = 8


@njit(cache=True, nogil=True)
def _gather(rows, slots, out, positions):  # type: ignore[no-untyped-def]
    """``out[positions[i]] = rows[slots[i]]`` wherever ``slots[i]`` is a slot."""
    width, flat, line = np.uint64(rows.shape[1]), rows.reshape(-1), 64 // rows.itemsize
    for i in range(len(slots)):
        if i + _AHEAD < len(slots) and slots[i + _AHEAD] >= 0:
            first = np.int64(slots[i + _AHEAD]) * rows.shape[1]
            for column in range(0, rows.shape[1], line):
                prefetch(flat, first + column)
        if slots[i] >= 0:
            source, target = rows[np.uint64(slots[i])], out[np.uint64(positions[i])]
            for column in range(width):
                target[column] = source[column]


def _words(rows: Array) -> Array:
    """The same rows as 8-byte words where they divide: fewer steps of a copy."""
    return rows.view(np.uint64) if rows.shape[1] * rows.itemsize % 8 == 0 else rows


class Rows(Protocol):
    """C rows. A minibatch's rows pass by on the host first, then on the training device.

    slots int32 or int64, positions int64 or int32, one each for a row; rows and x float32.
    width: D.
    """

    width: int

    def fill(self, slots: Ids, rows: Array) -> None:
        """Our row in ``slots[i]`` = ``rows[i]``, before the first minibatch."""
        ...

    def read_hits(self, slots: Int32s, out: Array, positions: Ids) -> None:
        """``out[positions[i]]`` = our row in ``slots[i]`` wherever that is a slot, not under 0."""
        ...

    def swap_in(self, slots: Ids, source: Array, positions: Ids | Int32s) -> None:
        """Our row in ``slots[i]`` = ``source[positions[i]]``."""
        ...

    def resize(self, resize: Resize) -> None:
        """Change the capacity, between two minibatches; memory that is not needed is given back."""
        ...

    def on_device(self, x: torch.Tensor, send: Send) -> None:
        """Do on the device what reading and swapping left for it.

        x [R or more, D] is there.   send: brings an array there, under a name of its own.
        """
        ...


class HostRows:
    """Rows in host memory: float32 [C, D], in a map that grows and shrinks without a copy."""

    def __init__(self, capacity: int, width: int) -> None:
        self.width = width
        self._memory = mmap.mmap(-1, self._size(capacity), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map(capacity)

    def _size(self, capacity: int) -> int:
        return max(4 * capacity * self.width, 1)  # no map is empty

    def _map(self, capacity: int) -> None:
        # As NumPy does for its own arrays: random reads of huge pages miss the TLB less often.
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        flat = np.frombuffer(self._memory, np.float32, capacity * self.width)
        self.rows = flat.reshape(capacity, self.width)

    def resize(self, resize: Resize) -> None:
        self.rows[resize.targets] = self.rows[resize.sources]
        del self.rows  # no map is resized while an array lies in it
        self._memory.resize(self._size(resize.capacity))
        self._map(resize.capacity)

    def fill(self, slots: Ids, rows: Array) -> None:
        self.rows[slots] = rows

    def read_hits(self, slots: Int32s, out: Array, positions: Ids) -> None:
        _gather(_words(self.rows), slots, _words(out), positions)

    def swap_in(self, slots: Ids, source: Array, positions: Ids | Int32s) -> None:
        _gather(_words(source), positions, _words(self.rows), slots)

    def on_device(self, x: torch.Tensor, send: Send) -> None:
        return


class DeviceRows:
    """Rows on a device: float32 [C, D]. Hits are copied there and never cross from the host.

    Reads wait for ``on_device``, and so do swaps, which may overwrite what a hit reads.
    """

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self.width, self.rows = width, torch.zeros(capacity, width, device=device)
        self._hits: tuple[Ids, Ids] | None = None
        self._swap: tuple[Ids, Array] | None = None

    def fill(self, slots: Ids, rows: Array) -> None:
        there = torch.from_numpy(slots).to(self.rows.device)
        self.rows[there] = torch.from_numpy(rows).to(self.rows.device)
        self._synchronize()

    def _synchronize(self) -> None:
        """Hits are read on another stream than rows are filled and moved on."""
        if self.rows.is_cuda:
            torch.cuda.synchronize(self.rows.device)

    def resize(self, resize: Resize) -> None:
        """Both sizes are held for a moment, and the device waits: sizes change seldom."""
        self._synchronize()
        device, kept = self.rows.device, min(len(self.rows), resize.capacity)
        rows = torch.zeros(resize.capacity, self.width, device=device)
        rows[:kept] = self.rows[:kept]
        sources, targets = torch.from_numpy(resize.sources), torch.from_numpy(resize.targets)
        rows[targets.to(device)] = self.rows[sources.to(device)]
        self.rows = rows
        self._synchronize()

    def read_hits(self, slots: Int32s, out: Array, positions: Ids) -> None:
        hit = slots >= 0
        self._hits = slots[hit].astype(np.int64), positions[hit]

    def swap_in(self, slots: Ids, source: Array, positions: Ids | Int32s) -> None:
        self._swap = slots, source[positions]

    def on_device(self, x: torch.Tensor, send: Send) -> None:
        if self._hits is not None:
            slots, places = send("hit_slots", self._hits[0]), send("hit_places", self._hits[1])
            x.index_copy_(0, places, self.rows.index_select(0, slots))
        if self._swap is not None:
            slots, rows = send("swap_slots", self._swap[0]), send("swap_rows", self._swap[1])
            self.rows.index_copy_(0, slots, rows)
        self._hits, self._swap = None, None
