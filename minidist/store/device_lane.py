"""DeviceLane: how a minibatch's arrays reach the training device, beside the kernels that train.

    fetch thread    fill slot k+1 (pinned) | copy on our own stream | event k+1
    training        kernels of step k ............................... waits for it | step k+1

A slot holds the pinned memory of one minibatch, filled in place; it is used again once its copies
are done. There are as many slots as minibatches can be under way, so steps allocate no pinned
memory. ``HostLane`` is the twin for CPUs: its slots hand out plain memory, and copies are views.
"""

import contextlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from minidist.comm.transport.base import Array

# Buffers of dead minibatches that are kept; fresh memory costs a page fault every 4 KiB.
_SPARE_BUFFERS = 4
# Room above what was asked for, so that slightly larger minibatches need no new memory.
_GROWTH = 1.25


class Slot(ABC):
    """The arrays of one minibatch on their way to the device. For one thread at a time."""

    @abstractmethod
    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Memory to fill, which ``send(name)`` then copies."""

    @abstractmethod
    def send(self, name: str, array: Array | None = None) -> torch.Tensor:
        """The array of this name on the device; sent once, whoever asks."""

    def send_all(self, arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """``send`` of several int64 vectors."""
        return {name: self.send(name, array) for name, array in arrays.items()}

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        """Within it kernels follow the copies of this slot, beside those that train."""
        return contextlib.nullcontext()

    def close(self) -> "torch.cuda.Event | None":
        """All was sent. Returns what the training stream must wait for, if anything."""
        return None


class DeviceLane(ABC):
    """Hands out slots. device: where tensors go."""

    device: torch.device

    @abstractmethod
    def slot(self) -> Slot:
        """The slot of the next minibatch."""


class _Lease:
    """Owns a buffer for as long as any array or tensor made of it lives."""

    def __init__(self, buffer: Array) -> None:
        self.buffer, self.__array_interface__ = buffer, buffer.__array_interface__


class HostLane(DeviceLane):
    """For training on CPUs: the arrays themselves, in memory that dead minibatches left."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self._spare: list[Array] = []

    def slot(self) -> Slot:
        return _HostSlot(self)

    def memory(self, num_bytes: int) -> Array:
        """uint8 [num_bytes or more], to be used again when nothing refers to it any more."""
        fitting = [b for b in self._spare if len(b) >= num_bytes]
        buffer = fitting[0] if fitting else np.empty(int(_GROWTH * num_bytes) + 1, np.uint8)
        self._spare[:] = [b for b in self._spare if b is not buffer][-_SPARE_BUFFERS:]
        lease = _Lease(buffer)
        weakref.finalize(lease, self._spare.append, buffer)
        return np.asarray(lease)


class _HostSlot(Slot):
    def __init__(self, lane: HostLane) -> None:
        self._lane, self._sent = lane, dict[str, torch.Tensor]()
        self._arrays: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._arrays[name] = self._lane.memory(num_bytes)[:num_bytes].view(dtype).reshape(shape)
        return self._arrays[name]

    def send(self, name: str, array: Array | None = None) -> torch.Tensor:
        if name not in self._sent:
            self._sent[name] = torch.from_numpy(self._arrays[name] if array is None else array)
        return self._sent[name]


class CudaLane(DeviceLane):
    """For training on a GPU: a ring of ``depth`` pinned slots and a stream of its own."""

    def __init__(self, device: torch.device, depth: int) -> None:
        self.device, self.queue = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._slots = [_CudaSlot(self) for _ in range(depth)]
        self._next = 0

    def slot(self) -> Slot:
        slot = self._slots[self._next % len(self._slots)]
        self._next += 1
        slot.reopen()
        return slot


class _CudaSlot(Slot):
    def __init__(self, lane: CudaLane) -> None:
        self._lane, self._done = lane, torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pinned: dict[str, torch.Tensor] = {}
        self._arrays: dict[str, torch.Tensor] = {}
        self._sent: dict[str, torch.Tensor] = {}

    def reopen(self) -> None:
        """Wait until the copies out of this memory are done; long ago, as a rule."""
        self._done.synchronize()
        self._arrays, self._sent = {}, {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self._pinned.get(name)
        if memory is None or len(memory) < num_bytes:
            memory = torch.empty(int(_GROWTH * num_bytes) + 1, dtype=torch.uint8, pin_memory=True)
            self._pinned[name] = memory
        array: Array = memory.numpy()[:num_bytes].view(dtype).reshape(shape)
        self._arrays[name] = torch.from_numpy(array)
        return array

    def send(self, name: str, array: Array | None = None) -> torch.Tensor:
        if name not in self._sent:
            if array is not None:
                np.copyto(self.array(name, array.shape, array.dtype), array)
            with self.stream():
                self._sent[name] = self._arrays[name].to(self._lane.device, non_blocking=True)
        return self._sent[name]

    def send_all(self, arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """Side by side in one copy: each takes as long to ask for as a kernel."""
        ends = np.cumsum([len(array) for array in arrays.values()]).tolist()
        packed = self.array("packed", (ends[-1],), np.int64)
        for end, array in zip(ends, arrays.values(), strict=True):
            packed[end - len(array) : end] = array
        there = self.send("packed")
        for end, (name, array) in zip(ends, arrays.items(), strict=True):
            self._sent[name] = there[end - len(array) : end]
        return {name: self._sent[name] for name in arrays}

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.stream(self._lane.queue)

    def close(self) -> "torch.cuda.Event | None":
        self._done.record(self._lane.queue)
        return self._done


def make_lane(device: torch.device, depth: int) -> DeviceLane:
    """The lane to a device, for at most ``depth`` minibatches under way."""
    return CudaLane(device, depth) if device.type == "cuda" else HostLane()
