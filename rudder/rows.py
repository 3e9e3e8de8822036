"""The rows of a buffer, in host memory or on a GPU. Which ids they belong to is not known here.

C capacity in rows, D features, R rows of a minibatch, k rows to swap in.
"""

from typing import Any, Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from rudder.policies.base import Ids

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _gather(rows, slots, out, positions):  # type: ignore[no-untyped-def]
    """``out[positions[i]] = rows[slots[i]]`` wherever ``slots[i]`` is a slot."""
    width = np.uint64(rows.shape[1])
    for i in range(len(slots)):
        if slots[i] >= 0:
            source, target = rows[np.uint64(slots[i])], out[np.uint64(positions[i])]
            for column in range(width):
                target[column] = source[column]


def _words(rows: Array) -> Array:
    """The same rows as 8-byte words where they divide: fewer steps of a copy."""
    return rows.view(np.uint64) if rows.shape[1] * rows.itemsize % 8 == 0 else rows


class Rows(Protocol):
    """C rows. A minibatch's rows pass by on the host first, then on the training device."""

    def on_host(self, slots: Ids, out: Array, positions: Ids) -> None:
        """``out[positions[i]]`` = our row in ``slots[i]`` for each i that is a hit."""
        ...

    def swap_host(self, slots: Ids, source: Array, positions: Ids) -> None:
        """Our row in ``slots[i]`` = ``source[positions[i]]``."""
        ...

    def on_device(self, x: torch.Tensor) -> None:
        """Fill in, and take over, what rows on a device left undone; x [R, D] on that device."""
        ...


class HostRows:
    """Rows in host memory: float32 [C, D]."""

    def __init__(self, capacity: int, width: int) -> None:
        self.rows = np.zeros((capacity, width), np.float32)

    def on_host(self, slots: Ids, out: Array, positions: Ids) -> None:
        _gather(_words(self.rows), slots, _words(out), positions)

    def swap_host(self, slots: Ids, source: Array, positions: Ids) -> None:
        _gather(_words(source), positions, _words(self.rows), slots)

    def on_device(self, x: torch.Tensor) -> None:
        return


class DeviceRows:
    """Rows on a device: float32 [C, D]. Hits are copied there and never cross from the host.

    Both sides of a minibatch wait for ``on_device``: gathers first, since a swap may overwrite what
    a hit reads; rows that come from the host then cross once.
    """

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self.rows = torch.zeros(capacity, width, device=device)
        self._hits: tuple[Ids, Ids] | None = None
        self._swaps: list[tuple[Ids, Array]] = []

    def on_host(self, slots: Ids, out: Array, positions: Ids) -> None:
        hit = slots >= 0
        self._hits = slots[hit], positions[hit]

    def swap_host(self, slots: Ids, source: Array, positions: Ids) -> None:
        self._swaps.append((slots, source[positions]))

    def on_device(self, x: torch.Tensor) -> None:
        if self._hits is not None:
            slots, positions = (self._there(numbers) for numbers in self._hits)
            x.index_copy_(0, positions, self.rows.index_select(0, slots))
        for new_slots, rows in self._swaps:
            self.rows.index_copy_(0, self._there(new_slots), self._there(rows))
        self._hits, self._swaps = None, []

    def _there(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self.rows.device)
