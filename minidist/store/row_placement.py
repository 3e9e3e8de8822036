"""RowPlacement: where the rows of a minibatch are put together, on the host or on the GPU.

    host      own rows gathered, others' received, in one array on the host; then copied
    cuda      own rows lie in GPU memory and are gathered there; only others' cross from the host
    pinned    as cuda, but own rows lie in pinned host memory, which the gather kernel reads itself

``pinned`` needs no kernel of ours: a tensor may stand for pinned memory as the GPU sees it, and
PyTorch's own gather then reads the rows across the bus, each once, without a copy in between.

R rows of a minibatch, r of them remote, n own nodes, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from minidist.comm.host import available_bytes
from minidist.comm.transport.base import Array
from minidist.store.device_lane import DeviceLane, HostLane, Slot
from minidist.store.partition_book import Ids
from minidist.store.row_copy import Spreads, copy_rows

KINDS = ("auto", "host", "pinned", "cuda")
# Own rows go to the GPU, or into pinned memory, where they take at most this share of what is free.
_SHARE = 0.5
# Bytes of the table that are copied at a time.
_CHUNK_BYTES = 1 << 28

OnDevice = Callable[[torch.Tensor, Callable[[str, Array], torch.Tensor]], None]


class PlacedRows(ABC):
    """The rows of one minibatch, being put together.

    slot: carries its arrays to the device.   ids: all of them; own, remote: where in ids each kind
    is.
    """

    def __init__(self, slot: Slot, ids: Ids, own: Ids, remote: Ids) -> None:
        self.slot, self.ids, self.own, self.remote = slot, ids, own, remote

    @abstractmethod
    def place(self, num_spare: int) -> tuple[Array, Ids]:
        """Where remote rows go (see ``rudder.feature_store.Place``)."""

    @abstractmethod
    def gather_own(self) -> None:
        """Bring in our own rows, as far as that is the host's work."""

    @abstractmethod
    def finish(self, on_device: OnDevice) -> torch.Tensor:
        """All rows have come: float32 [R, D] on the device. on_device: fills in rows there."""


class RowPlacement(ABC):
    """Puts minibatches together. table: our own rows [n, D], the first of id ``first``."""

    kind: str

    def __init__(self, table: NDArray[np.float32], first: int, lane: DeviceLane) -> None:
        self.table, self.first, self.lane = table, first, lane

    @abstractmethod
    def begin(self, ids: Ids, own: Ids, remote: Ids) -> PlacedRows:
        """The next minibatch."""


class HostPlacement(RowPlacement):
    """One array on the host, and one copy of it where the device is another."""

    kind = "host"

    def __init__(
        self,
        table: NDArray[np.float32],
        first: int,
        lane: DeviceLane | None = None,
        pool: Spreads | None = None,
    ) -> None:
        super().__init__(table, first, lane or HostLane())
        self.pool = pool

    def begin(self, ids: Ids, own: Ids, remote: Ids) -> PlacedRows:
        return _OnHost(self, ids, own, remote)


class _OnHost(PlacedRows):
    def __init__(self, placement: HostPlacement, ids: Ids, own: Ids, remote: Ids) -> None:
        super().__init__(placement.lane.slot(), ids, own, remote)
        self._to = placement

    def place(self, num_spare: int) -> tuple[Array, Ids]:
        shape = (len(self.ids) + num_spare, self._to.table.shape[1])
        self._out = self.slot.array("rows", shape, np.float32)
        return self._out, self.remote

    def gather_own(self) -> None:
        to = self._to
        everyone = np.arange(len(self.ids))
        copy_rows(to.table, self.ids, self._out, everyone, to.first, self.own, to.pool)

    def finish(self, on_device: OnDevice) -> torch.Tensor:
        x = self.slot.send("rows")
        with self.slot.stream():
            on_device(x, self.slot.send)
        return x[: len(self.ids)]


class DevicePlacement(RowPlacement):
    """Own rows are gathered by the device out of ``rows``, a tensor [n, D] that it can read.

    dense: whether reading a row that is not needed is cheaper than leaving it out, as it is in the
    device's own memory.
    """

    def __init__(
        self, kind: str, rows: torch.Tensor, dense: bool, first: int, lane: DeviceLane
    ) -> None:
        super().__init__(np.zeros((0, rows.shape[1]), np.float32), first, lane)
        self.kind, self.rows, self.dense = kind, rows, dense

    def begin(self, ids: Ids, own: Ids, remote: Ids) -> PlacedRows:
        return _OnDevice(self, ids, own, remote)


class _OnDevice(PlacedRows):
    def __init__(self, placement: DevicePlacement, ids: Ids, own: Ids, remote: Ids) -> None:
        super().__init__(placement.lane.slot(), ids, own, remote)
        self._from = placement

    def place(self, num_spare: int) -> tuple[Array, Ids]:
        shape = (len(self.remote) + num_spare, self._from.rows.shape[1])
        return self.slot.array("rows", shape, np.float32), np.arange(len(self.remote))

    def gather_own(self) -> None:
        """The device's work: see ``finish``."""

    def finish(self, on_device: OnDevice) -> torch.Tensor:
        slot, rows = self.slot, self._from.rows
        with slot.stream():
            local = slot.send("n_id", self.ids) - self._from.first
            staged = slot.send("rows")
            on_device(staged, slot.send)
            if not len(self.remote):
                return rows.index_select(0, local)
            if self._from.dense:
                x = rows.index_select(0, local.clamp_(0, len(rows) - 1))
            else:
                own = slot.send("own", self.own)
                x = torch.empty(len(self.ids), rows.shape[1], device=rows.device)
                x.index_copy_(0, own, rows.index_select(0, local.index_select(0, own)))
            remote = slot.send("remote", self.remote)
            return x.index_copy_(0, remote, staged[: len(self.remote)])


def make_placement(
    kind: str, table: NDArray[np.float32], first: int, lane: DeviceLane, pool: Spreads | None
) -> RowPlacement:
    """``host``, ``pinned`` or ``cuda``; ``auto`` takes the fastest that fits.

    Raises ValueError for a kind that this device does not have.
    """
    device = lane.device
    if device.type != "cuda":
        if kind not in ("auto", "host"):
            raise ValueError(f"--features {kind}: training runs on {device.type}; use host")
        return HostPlacement(table, first, lane, pool)
    if kind == "auto":
        kind = _fastest(table.nbytes, device)
    if kind == "host":
        return HostPlacement(table, first, lane, pool)
    if kind == "cuda":
        rows = _filled(torch.empty(table.shape, device=device), table)
        return DevicePlacement(kind, rows, True, first, lane)
    pinned = _filled(torch.empty(table.shape, pin_memory=True), table)
    return DevicePlacement(kind, _as_seen_by_gpu(pinned, device), False, first, lane)


def _fastest(num_bytes: int, device: torch.device) -> str:
    if num_bytes <= _SHARE * torch.cuda.mem_get_info(device)[0]:
        return "cuda"
    free = available_bytes()
    return "pinned" if free is not None and num_bytes <= _SHARE * free else "host"


def _filled(rows: torch.Tensor, table: NDArray[np.float32]) -> torch.Tensor:
    """``rows`` with the values of a memory-mapped table, without a second copy on the host."""
    step = max(1, _CHUNK_BYTES // max(1, table.nbytes // max(1, len(table))))
    for start in range(0, len(table), step):
        rows[start : start + step].copy_(torch.from_numpy(np.array(table[start : start + step])))
    return rows


class _PinnedMemory:
    """Pinned memory under the protocol by which PyTorch takes over GPU arrays."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape),
            "typestr": "<f4",
            "data": (tensor.data_ptr(), False),
            "version": 2,
        }


def _as_seen_by_gpu(pinned: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the GPU that stands for the same memory; keeps it alive."""
    return torch.as_tensor(_PinnedMemory(pinned), device=device)
