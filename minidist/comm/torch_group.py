"""TorchGroup: the group of a job's ranks on torch.distributed, gloo on CPUs and NCCL on GPUs."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from minidist.comm.group import Group
from minidist.comm.heartbeat import Heartbeats
from minidist.comm.transport.base import PeerTimeout
from minidist.moment import OUTSIDE, Moment

T = TypeVar("T")

_CHANNEL = "group"
# Between looks at what may take long: first() and, within a step, NCCL.
_LONG_NAP_S, _NAP_S = 5e-3, 5e-5
# Marks, in its __dict__, an error of rank 0 that ``TorchGroup.first`` raises on every rank.
EVERYBODYS = "is_everybodys"
# Sums of so many bytes over all ranks take one turn: bytes take less time than a turn.
_SMALL_BYTES = 1 << 20
# first() has no deadline of its own: its waiting ranks watch that rank 0's process is alive.
_FOR_EVER = timedelta(days=30)
# NCCL's own deadline ends the process without a word about who was missing, so ours comes before.
_AFTER_OURS_S = 60.0


def finish(work: Any, device: torch.device, timeout: float) -> None:
    """Wait for an asynchronous collective. Raises RuntimeError when it fails or takes too long.

    gloo keeps the deadline itself. Waiting for NCCL only makes the stream wait, so it is tested.
    """
    deadline = time.monotonic() + timeout
    while device.type == "cuda" and not work.is_completed():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not done after {timeout} s")
        time.sleep(_NAP_S)
    work.wait()


class TorchGroup(Group):
    """One rank's end of the process group. Made and closed by all ranks together.

    store: of the job, kept by rank 0.   timeout: seconds after which a collective fails.
    Every method raises PeerTimeout, naming the ranks that seem to be missing.
    """

    def __init__(
        self, store: Store, heartbeats: Heartbeats, device: torch.device, timeout: float
    ) -> None:
        self.rank, self.size = heartbeats.rank, heartbeats.size
        self.heartbeats, self._timeout = heartbeats, timeout
        nccl = self._nccl = device.type == "cuda"
        self._guard(
            lambda: dist.init_process_group(
                "nccl" if nccl else "gloo",
                store=store,
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=timeout + (_AFTER_OURS_S if nccl else 0)),
            ),
            "joining the group",
        )
        limit = timedelta(seconds=timeout)
        self._objects = dist.new_group(backend="gloo", timeout=limit) if nccl else None
        self._patient = dist.new_group(backend="gloo", timeout=_FOR_EVER)

    def all_reduce(self, tensor: torch.Tensor, operation: str, moment: Moment) -> None:
        if tensor.is_cuda and not self._nccl:
            on_host = tensor.cpu()
            self.all_reduce(on_host, operation, moment)
            tensor.copy_(on_host)
            return

        def reduce() -> None:
            if tensor.device.type == "cpu" and self.size == 2:
                self._sum_of_two(tensor)
            elif tensor.device.type == "cpu" and self.size > 2:
                self._sum_in_rank_order(tensor)
            else:
                finish(dist.all_reduce(tensor, async_op=True), tensor.device, self._timeout)

        self._guard(reduce, operation, moment)

    def _sum_of_two(self, tensor: torch.Tensor) -> None:
        """Each shows the other all it has: one message each way, where gloo's own sum takes two
        turns of half the bytes, each of which waits behind rows on a busy link."""
        both = [torch.empty_like(tensor) for _ in range(2)]
        finish(dist.all_gather(both, tensor, async_op=True), tensor.device, self._timeout)
        torch.add(both[0], both[1], out=tensor)

    def _sum_in_rank_order(self, tensor: torch.Tensor) -> None:
        """Sum over P > 2 ranks as LocalGroup does, so that threads and processes learn the same.

        What is small every rank shows to all whole, in one turn; else each adds up one slice of the
        tensor and shows the sum to all. A turn goes to each peer at once: in gloo's rings, P - 1
        turns, each would wait behind rows on a busy link.
        """
        if self.size * tensor.nbytes <= _SMALL_BYTES:
            total = self._added(tensor.reshape(1, -1).repeat(self.size, 1))
            tensor.copy_(total.view_as(tensor))
            return
        width = -(-tensor.numel() // self.size)
        mine = torch.zeros(self.size, width, dtype=tensor.dtype)
        mine.view(-1)[: tensor.numel()] = tensor.reshape(-1)
        shown = self._exchanged(self._added(mine).repeat(self.size, 1))
        tensor.copy_(shown.view(-1)[: tensor.numel()].view_as(tensor))

    def _added(self, rows: torch.Tensor) -> torch.Tensor:
        """The sum, in rank order, of the rows that every rank has for us."""
        received = self._exchanged(rows)
        total = received[0].clone()
        for row in received[1:]:
            total += row
        return total

    def _exchanged(self, rows: torch.Tensor) -> torch.Tensor:
        """Row p goes to rank p; returns those that came, by rank."""
        received = torch.empty_like(rows)
        finish(dist.all_to_all_single(received, rows, async_op=True), rows.device, self._timeout)
        return received

    def all_gather(self, value: T, operation: str, moment: Moment = OUTSIDE) -> list[T]:
        found: list[Any] = [None] * self.size
        self._guard(lambda: dist.all_gather_object(found, value, self._objects), operation, moment)
        return found

    def _guard(
        self, collective: Callable[[], Any], operation: str, moment: Moment = OUTSIDE
    ) -> None:
        """Run a collective; what it raises becomes an error that names the silent ranks."""
        self.heartbeats.enter(_CHANNEL)
        began = time.monotonic()
        try:
            collective()
        except RuntimeError as error:
            raise self.heartbeats.timed_out(_CHANNEL, operation, moment, began) from error

    def first(self, work: Callable[[], T], operation: str) -> T:
        outcome: tuple[Any, Exception | None] = (None, None)
        if self.rank == 0:
            try:
                outcome = (work(), None)
            except Exception as error:
                error.__dict__[EVERYBODYS] = True
                outcome = (None, error)
        self._guard(lambda: self._await_first(operation), operation)
        box = [outcome]
        self._guard(lambda: dist.broadcast_object_list(box, 0, self._objects), operation)
        result, failure = box[0]
        if failure is not None:
            raise failure
        return result  # type: ignore[no-any-return]

    def _await_first(self, operation: str) -> None:
        """Wait for rank 0's word that it is done, as long as its process lives."""
        began = time.monotonic()
        done = dist.broadcast(torch.zeros(1), 0, group=self._patient, async_op=True)
        while not done.is_completed():
            if self.rank and self.heartbeats.keeper_is_silent(self._timeout):
                raise PeerTimeout(self.rank, 0, operation, OUTSIDE, time.monotonic() - began)
            time.sleep(_LONG_NAP_S)
        done.wait()

    def close(self) -> None:
        """Leave together: rank 0's process holds the store that others still read."""
        self.barrier("leaving")
        self.heartbeats.close()
        self.barrier("leaving")
        dist.destroy_process_group()
