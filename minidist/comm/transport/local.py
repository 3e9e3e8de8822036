"""The in-process twin: all ranks are threads of one process and call each other's handlers."""

import threading
from collections.abc import Sequence

import numpy as np

from minidist.comm.transport.base import Call, Handler, Op, PeerTimeout, Transport
from minidist.moment import Moment


class LocalHub:
    """What the ranks of one process share: their handlers."""

    def __init__(self, size: int, timeout: float = 60.0) -> None:
        self.size, self.timeout = size, timeout
        self.changed = threading.Condition()
        self.transports: dict[int, LocalTransport] = {}


class LocalTransport(Transport):
    """A rank's end of a ``LocalHub``; calls run the peer's handler in the caller's thread.

    hosts: the host that each rank pretends to sit on. Between hosts, rows and neighbours go through
    handlers as they would between machines.
    """

    def __init__(self, hub: LocalHub, rank: int, hosts: Sequence[int]) -> None:
        super().__init__(rank, hub.size)
        self._hub, self._hosts = hub, hosts
        with hub.changed:
            hub.transports[rank] = self

    def serve(self, op: Op, handler: Handler) -> None:
        with self._hub.changed:
            super().serve(op, handler)
            self._hub.changed.notify_all()

    def shares_host(self, peer: int) -> bool:
        return self._hosts[peer] == self._hosts[self.rank]

    def exchange(self, op: Op, calls: Sequence[Call], moment: Moment, lane: str) -> list[int]:
        counts = []
        for call in calls:
            handler = self._handler(op, call.peer, moment)
            answer = handler(call.header, call.ids, lambda items, dtype: np.empty(items, dtype))
            call.reply[: len(answer)] = answer
            with self._hub.changed:
                self.traffic.received[op, call.peer] += answer.nbytes
                self._hub.transports[call.peer].traffic.served[op, self.rank] += answer.nbytes
            counts.append(len(answer))
        return counts

    def _handler(self, op: Op, peer: int, moment: Moment) -> Handler:
        hub = self._hub
        with hub.changed:
            if not hub.changed.wait_for(lambda: self._peer_handler(op, peer), hub.timeout):
                raise PeerTimeout(self.rank, peer, f"its {op.name} server", moment, hub.timeout)
            return hub.transports[peer]._handlers[op]

    def _peer_handler(self, op: Op, peer: int) -> bool:
        return peer in self._hub.transports and op in self._hub.transports[peer]._handlers

    def close(self) -> None:
        """Nothing to stop: handlers run in their callers' threads."""
