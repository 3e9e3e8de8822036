"""CollectiveTransport: requests and replies as all-to-alls of torch.distributed, for torchrun.

    sizes and headers -> ids -> handlers -> sizes of replies -> replies       four all-to-alls

Every rank takes part in every exchange of a lane, whether it asks for anything or not. Lanes have
process groups of their own, so that sampling, fetching and evaluation do not wait for each other.
P ranks.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from minidist.comm.heartbeat import Heartbeats
from minidist.comm.host import Host
from minidist.comm.transport.base import Array, Call, Op, Transport
from minidist.comm.transport.failure import PeerFailed, reason_of
from minidist.moment import Moment

_LANES = ("sample", "fetch", "evaluate")


class CollectiveTransport(Transport):
    """A rank's end. Made and closed by all ranks together, after the default process group.

    device: where tensors must be for the backend (NCCL moves GPU memory only).
    """

    lockstep = True

    def __init__(
        self,
        hosts: Sequence[Host],
        heartbeats: Heartbeats,
        device: torch.device,
        timeout: float,
    ) -> None:
        super().__init__(heartbeats.rank, heartbeats.size)
        self._hosts, self._heartbeats, self._device = hosts, heartbeats, device
        limit = timedelta(seconds=timeout)
        self._lanes = {lane: dist.new_group(timeout=limit) for lane in _LANES}

    def shares_host(self, peer: int) -> bool:
        return self._hosts[peer] == self._hosts[self.rank]

    def exchange(self, op: Op, calls: Sequence[Call], moment: Moment, lane: str) -> list[int]:
        self._heartbeats.enter(lane)
        began = time.monotonic()
        try:
            return self._exchange(op, calls, moment, self._lanes[lane])
        except PeerFailed:
            raise
        except RuntimeError as error:
            raise self._heartbeats.timed_out(lane, op.name, moment, began) from error

    def _exchange(self, op: Op, calls: Sequence[Call], moment: Moment, lane: Any) -> list[int]:
        by_peer = {call.peer: call for call in calls}
        assert len(by_peer) == len(calls), "one call a peer"
        heads = np.zeros((self.size, 3), np.int64)
        for peer, call in by_peer.items():
            heads[peer] = len(call.ids), *call.header
        asked = self._swap(heads.reshape(-1), [3] * self.size, [3] * self.size, lane).reshape(-1, 3)
        nothing = np.zeros(0, np.int64)
        ids = [by_peer[peer].ids if peer in by_peer else nothing for peer in range(self.size)]
        wanted = self._swap(np.concatenate(ids), heads[:, 0], asked[:, 0], lane)
        replies, lengths = self._answer(op, asked, wanted)
        # A negative length is that of the text that says why there is no answer.
        coming = self._swap(lengths, [1] * self.size, [1] * self.size, lane)
        data = self._swap(np.concatenate(replies), np.abs(lengths), np.abs(coming), lane)
        ends = np.cumsum(np.abs(coming))
        counts = []
        for call in calls:
            part = data[ends[call.peer] - abs(coming[call.peer]) : ends[call.peer]]
            if coming[call.peer] < 0:
                raise PeerFailed(self.rank, call.peer, op, moment, part.tobytes().decode())
            num_items = len(part) // call.reply.itemsize
            call.reply[:num_items] = part.view(call.reply.dtype)
            self.traffic.received[op, call.peer] += len(part)
            counts.append(num_items)
        return counts

    def _answer(
        self, op: Op, asked: Array, wanted: Array
    ) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
        """Our replies to each rank, as bytes, and their lengths."""
        replies, lengths = [], np.zeros(self.size, np.int64)
        ends = np.cumsum(asked[:, 0])
        for peer, (num_ids, *header) in enumerate(asked.tolist()):
            reply = np.zeros(0, np.uint8)
            if num_ids:
                ids = wanted[ends[peer] - num_ids : ends[peer]]
                try:
                    answer = self._handlers[op]((header[0], header[1]), ids, np.empty)
                    reply = answer.view(np.uint8)
                    lengths[peer] = len(reply)
                    self.traffic.served[op, peer] += len(reply)
                except Exception as error:  # whatever it is, the caller must hear of it
                    reply = np.frombuffer(reason_of(error).encode(), np.uint8)
                    lengths[peer] = -len(reply)
            replies.append(reply)
        return replies, lengths

    def _swap(self, data: Array, sent: Any, received: Any, lane: Any) -> Array:
        """All-to-all of a flat array cut into ``sent`` items for each rank."""
        output = torch.empty(
            int(np.sum(received)), dtype=torch.from_numpy(data[:0]).dtype, device=self._device
        )
        # A copy: what a handler or a memory map hands out may be read-only.
        source = torch.from_numpy(np.array(data)).to(self._device)
        dist.all_to_all_single(
            output, source, [int(n) for n in received], [int(n) for n in sent], group=lane
        )
        return output.cpu().numpy()

    def close(self) -> None:
        """All ranks made the same exchanges, so none is waiting for us."""
