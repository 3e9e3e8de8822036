"""Pool: buffers for replies that are used again once their reply has left."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.comm.transport.base import Array

Bytes = NDArray[np.uint8]

_SMALLEST = 1 << 16


class Pool:
    """Free buffers, the latest freed first: it is the one still in the cache.

    Buffers come in powers of two, so that replies of similar lengths share them. There are never
    more than replies on their way, which the clients bound.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Bytes]] = {}
        self._taken: list[Bytes] = []

    def allocate(self, items: int, dtype: Any) -> Array:
        """An array [items] in a buffer that stays ours until it is given back."""
        num_bytes = items * np.dtype(dtype).itemsize
        size = max(_SMALLEST, 1 << max(0, num_bytes - 1).bit_length())
        free = self._free.get(size)
        buffer = free.pop() if free else np.empty(size, np.uint8)
        self._taken.append(buffer)
        return buffer[:num_bytes].view(dtype)

    def taken(self) -> list[Bytes]:
        """The buffers allocated since the last call; the caller gives them back."""
        taken, self._taken = self._taken, []
        return taken

    def give_back(self, buffers: list[Bytes]) -> None:
        """Let these buffers be allocated again."""
        for buffer in buffers:
            self._free.setdefault(len(buffer), []).append(buffer)
