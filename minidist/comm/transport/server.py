"""Server: the thread of an MpiTransport that answers the requests of peers.

nap ... Improbe: words -> handler gathers into a pooled buffer -> Isend ... nap
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from minidist.comm.transport.base import Array, Op, Traffic
from minidist.comm.transport.failure import reason_of
from minidist.comm.transport.pool import Bytes, Pool

# Between tests of what is on its way. Spinning instead quadruples the time: it starves the server.
NAP_S = 1e-4
# A server that waits for requests naps 200 us, and 1/500 of the time since the last one, at most
# 2 ms: the delay stays under 0.2% of the pause between requests, and idle ranks cost no CPU.
_IDLE_NAP_S, _LONGEST_NAP_S = 2e-4, 2e-3
# On a slow link a piece takes tens of milliseconds; tests in between take cores that others need.
_SHARE, _LONGEST_TEST_NAP_S = 0.05, 1e-3
# Words in front of the ids of a request: op, two of header, tag of the reply, room for it in bytes.
HEAD = 5


def nap_after(waited_s: float) -> float:
    """Seconds to nap before the next test of what has been on its way for so long."""
    return min(max(_SHARE * waited_s, NAP_S), _LONGEST_TEST_NAP_S)


class Served(Protocol):
    """What a server needs of its transport: MPI, its communicators, and who answers what."""

    rank: int
    mpi: Any
    requests: Any
    replies: Any
    traffic: Traffic

    def handler(self, op: Op) -> Callable[..., Array]:
        """What answers requests for ``op``; raises ValueError where nothing does."""
        ...


@dataclass(eq=False)
class Server:
    """The thread that answers requests until it is told to stop."""

    owner: Served
    stop: threading.Event = field(default_factory=threading.Event)
    pool: Pool = field(default_factory=Pool)
    # Replies on their way: the request, and what must stay untouched until it is done.
    leaving: list[tuple[Any, Any, list[Bytes]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = f"minidist-serve-{self.owner.rank}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        last = time.monotonic()
        while not self.stop.is_set() or self.leaving:
            if self._answer_next():
                last = time.monotonic()
                continue
            if self._reclaim():
                last = time.monotonic()
            idle_s = time.monotonic() - last
            nap_s = min(max(idle_s / 500, _IDLE_NAP_S), _LONGEST_NAP_S)
            time.sleep(nap_after(idle_s) if self.leaving else nap_s)

    def _answer_next(self) -> bool:
        """Answer one request, if there is one."""
        mpi, owner = self.owner.mpi, self.owner
        status = mpi.Status()
        message = owner.requests.Improbe(mpi.ANY_SOURCE, mpi.ANY_TAG, status)
        if message is None:
            return False
        words = np.empty(status.Get_count(mpi.INT64_T), np.int64)
        arriving = message.Irecv(words)
        while not arriving.Test():
            if self.stop.is_set():
                return False
            time.sleep(NAP_S)
        peer, op, tag, room = status.Get_source(), Op(words[0]), int(words[3]), int(words[4])
        header = (int(words[1]), int(words[2]))
        try:
            reply = owner.handler(op)(header, words[HEAD:], self.pool.allocate)
            if reply.nbytes > room:
                raise ValueError(f"the answer has {reply.nbytes} bytes, the caller room for {room}")
        except Exception as error:  # whatever it is, the caller must hear of it
            self._send(peer, tag, np.empty(0, np.uint8), self.pool.taken())
            self._send(peer, tag, np.frombuffer(reason_of(error).encode(), np.uint8), [])
            return True
        # Counted before it leaves: whoever has the reply may compare the books.
        owner.traffic.served[op, peer] += reply.nbytes
        self._send(peer, tag, reply, self.pool.taken())
        if reply.nbytes == 0:
            self._send(peer, tag, np.empty(0, np.uint8), [])
        return True

    def _send(self, peer: int, tag: int, reply: Any, buffers: list[Bytes]) -> None:
        request = self.owner.replies.Isend([reply, self.owner.mpi.BYTE], peer, tag)
        self.leaving.append((request, reply, buffers))

    def _reclaim(self) -> bool:
        """Give back the buffers of replies that have left; returns whether any have.

        Testing also moves the others on.
        """
        on_their_way = []
        for leaving in self.leaving:
            if leaving[0].Test():
                self.pool.give_back(leaving[2])
            else:
                on_their_way.append(leaving)
        any_left = len(on_their_way) < len(self.leaving)
        self.leaving = on_their_way
        return any_left

    def close(self, timeout: float) -> bool:
        """Stop once the last replies have left; whether they did within the timeout."""
        self.stop.set()
        self.thread.join(timeout)
        return not self.thread.is_alive()
