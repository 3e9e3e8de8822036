"""TorchGroup: the group of a job's ranks on torch.distributed, gloo on CPUs and NCCL on GPUs."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from minidist.group import Group
from minidist.heartbeat import Heartbeats
from minidist.transport.base import OUTSIDE, Moment, PeerTimeout

T = TypeVar("T")

_LOOK_S = 0.05
# How long rank 0 may work alone, as when it partitions the graph. METIS holds the interpreter's
# lock for minutes, so signs of life cannot be asked for; a rank that dies ends the job anyway.
_ALONE_S = 4 * 3600.0


class TorchGroup(Group):
    """One rank's end of the process group. Made and closed by all ranks together.

    store: the job's key-value store.   timeout: seconds after which a collective fails.
    Every method raises PeerTimeout, naming the ranks that seem to be missing.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        store: Store,
        heartbeats: Heartbeats,
        device: torch.device,
        timeout: float,
    ) -> None:
        self.rank, self.size = rank, size
        self._store, self.heartbeats, self._num_firsts = store, heartbeats, 0
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )

    def all_reduce(self, tensor: torch.Tensor, operation: str, moment: Moment) -> None:
        self._guard(lambda: dist.all_reduce(tensor), operation, moment)

    def all_gather(self, value: T, operation: str, moment: Moment = OUTSIDE) -> list[T]:
        found: list[Any] = [None] * self.size
        self._guard(lambda: dist.all_gather_object(found, value), operation, moment)
        return found

    def _guard(self, collective: Callable[[], Any], operation: str, moment: Moment) -> None:
        """Run a collective; what it raises becomes an error that names the silent ranks."""
        self.heartbeats.moment = moment
        began = time.monotonic()
        try:
            collective()
        except RuntimeError as error:
            raise self.heartbeats.timed_out(operation, moment, began) from error

    def first(self, work: Callable[[], T], operation: str) -> T:
        key = f"first/{self._num_firsts}"
        self._num_firsts += 1
        outcome: tuple[Any, Exception | None] = (None, None)
        if self.rank == 0:
            try:
                outcome = (work(), None)
            except Exception as error:
                outcome = (None, error)
            self._store.set(key, "done")
        else:
            began = time.monotonic()
            while not self._store.check([key]):
                if time.monotonic() - began > _ALONE_S:
                    raise PeerTimeout(self.rank, 0, operation, OUTSIDE, _ALONE_S)
                time.sleep(_LOOK_S)
        # The store takes 8 MiB at most, so it only says when.
        box = [outcome]
        self._guard(lambda: dist.broadcast_object_list(box, src=0), operation, OUTSIDE)
        result, failure = box[0]
        if failure is not None:
            raise failure
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        """Leave together: rank 0's process may hold the store that others still read."""
        self.barrier("leaving")
        self.heartbeats.close()
        self.barrier("leaving")
        dist.destroy_process_group()
