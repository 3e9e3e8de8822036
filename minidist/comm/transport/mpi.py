"""MpiTransport: requests and replies over MPI; one server thread a rank answers its peers.

    caller  Irecv reply, Isend ids ............... nap, test, nap, test: rows are in place
    server         nap, Improbe: ids -> handler gathers into a pooled buffer -> Isend

Measured (8192 rows x 100 float32 between two processes of one machine): 1.3-2.0 ms with these naps,
8 ms with a server that polls without pause, 8-16 ms with one that blocks in MPI, whose wait burns
the core the trainer needs. Requests and replies have a communicator each: on a shared one the
server's wildcard probe stole replies in 4 of 15 runs on three ranks.
"""

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minidist.comm.host import Host
from minidist.comm.resources import one_host, require_shared_memory
from minidist.comm.transport.base import Call, Handler, Ids, Op, PeerTimeout, Transport
from minidist.comm.transport.failure import PeerFailed
from minidist.comm.transport.piece import Piece, cut
from minidist.comm.transport.server import HEAD, NAP_S, Server, nap_after
from minidist.moment import OUTSIDE, Moment

# Pieces of one exchange under way at once, a peer: enough that the server always has the next.
_WINDOW = 8
# MPICH gives communicators connections of their own to a peer, so many at most. On a single one a
# request waits until all replies that we owe the peer have left, and links are half idle: an epoch
# of lookahead between two hosts at 200 Mbit/s took 1.80 s, and 1.44 s with several.
_NUM_CONNECTIONS = "4"
# A server whose main thread computes in pure Python answers in 24 ms at the default of 5 ms, and
# in 6 ms at this.
_SWITCH_INTERVAL_S = 5e-4


def load_mpi() -> Any:
    """mpi4py's MPI, initialized. Raises ValueError where it cannot serve us."""
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")  # we say why ourselves
    if not one_host():  # where rows are mapped, connections would only take room in /dev/shm
        os.environ.setdefault("MPIR_CVAR_CH4_NUM_VCIS", _NUM_CONNECTIONS)
    require_shared_memory()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"mpi4py finds no MPI library ({error}): load your cluster's MPI module, or "
            "pip install minidist[mpi]"
        ) from None
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise ValueError(
            f"{MPI.Get_library_version().splitlines()[0]} has no MPI_THREAD_MULTIPLE, which the "
            "fetch threads need: use an MPI built with it, or pip install minidist[mpi]"
        )
    return MPI


def unlink_segments() -> None:
    """Unlink the shared-memory files MPICH has mapped, once all ranks of the host have them.

    The maps stay; without this, a job that is aborted or killed leaves the files behind.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.startswith("/dev/shm/mpich_"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@dataclass(eq=False)
class _Flight:
    """A piece under way. Its arrays are MPI's until both requests are done."""

    piece: Piece
    tag: int
    words: Ids
    receive: Any
    send: Any
    posted: float
    num_bytes: int = -1


@dataclass(eq=False)
class _Voyage:
    """An exchange under way: pieces to launch, and those launched, at most ``window`` at once."""

    op: Op
    moment: Moment
    waiting: deque[Piece]
    window: int
    flying: list[_Flight] = field(default_factory=list)


class MpiTransport(Transport):
    """A rank's client and server. Made and closed by all ranks together.

    mpi: ``load_mpi()``.   hosts: the host of each rank.   timeout: seconds without a sign of a peer
    that we wait for.
    An empty reply is followed by a message that says why: the text of the handler's error, or
    nothing where the answer is just empty.
    """

    def __init__(self, mpi: Any, hosts: Sequence[Host], timeout: float) -> None:
        comm = mpi.COMM_WORLD
        super().__init__(comm.Get_rank(), comm.Get_size())
        self.mpi = mpi
        self._hosts, self._timeout = hosts, timeout
        self.requests, self.replies = comm.Dup(), comm.Dup()
        self._num_tags = comm.Get_attr(self.mpi.TAG_UB)
        self._next_tag = 0
        self._turn = threading.Lock()
        # Kept until they have landed, also where nobody waits for them any more.
        self._voyages: list[_Voyage] = []
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_interval, _SWITCH_INTERVAL_S))
        self._server = Server(self)

    def shares_host(self, peer: int) -> bool:
        return self._hosts[peer] == self._hosts[self.rank]

    def handler(self, op: Op) -> Handler:
        """What answers requests for ``op`` here."""
        if op not in self._handlers:
            raise ValueError(f"rank {self.rank} does not serve {op.name}")
        return self._handlers[op]

    def exchange(self, op: Op, calls: Sequence[Call], moment: Moment, lane: str) -> list[int]:
        return self.begin(op, calls, moment, lane)()

    def begin(
        self, op: Op, calls: Sequence[Call], moment: Moment, lane: str
    ) -> Callable[[], list[int]]:
        voyage = _Voyage(
            op, moment, deque(cut(calls)), _WINDOW * len({call.peer for call in calls})
        )
        with self._turn:
            self._voyages.append(voyage)
        self._launch_all(voyage)

        def finish() -> list[int]:
            counts = self._land(voyage, len(calls))
            with self._turn:
                self._voyages.remove(voyage)
            return counts

        return finish

    def _land(self, voyage: _Voyage, num_calls: int) -> list[int]:
        """Wait for the replies of all calls; returns the items of each."""
        counts, began, failure = [0] * num_calls, time.monotonic(), None
        heard = {flight.piece.peer: began for flight in voyage.flying}
        while voyage.waiting or voyage.flying:
            self._launch_all(voyage)
            landed = [flight for flight in voyage.flying if self._has_landed(flight)]
            for flight in landed:
                voyage.flying.remove(flight)
                heard[flight.piece.peer] = time.monotonic()
                try:
                    counts[flight.piece.call] += self._unpack(voyage, flight)
                except PeerFailed as error:  # raised when nothing is under way any more
                    failure = failure or error
                    voyage.waiting.clear()
            if not landed:
                self._check_deadlines(voyage, voyage.flying, heard)
                time.sleep(nap_after(time.monotonic() - max(began, *heard.values())))
        if failure is not None:
            raise failure
        return counts

    def _launch_all(self, voyage: _Voyage) -> None:
        while voyage.waiting and len(voyage.flying) < voyage.window:
            voyage.flying.append(self._launch(voyage.op, voyage.waiting.popleft()))

    def _launch(self, op: Op, piece: Piece) -> _Flight:
        with self._turn:
            tag, self._next_tag = self._next_tag, (self._next_tag + 1) % self._num_tags
        words = np.empty(HEAD + len(piece.ids), np.int64)
        words[:HEAD] = op, *piece.header, tag, piece.reply.nbytes
        words[HEAD:] = piece.ids
        receive = self.replies.Irecv([piece.reply, self.mpi.BYTE], piece.peer, tag)
        send = self.requests.Isend([words, self.mpi.INT64_T], piece.peer, 0)
        return _Flight(piece, tag, words, receive, send, time.monotonic())

    def _has_landed(self, flight: _Flight) -> bool:
        if flight.num_bytes < 0:
            status = self.mpi.Status()
            if not flight.receive.Test(status):
                return False
            flight.num_bytes = status.Get_count(self.mpi.BYTE)
        return bool(flight.send.Test())

    def _unpack(self, voyage: _Voyage, flight: _Flight) -> int:
        """Count what landed; raises PeerFailed where the server said why it has no answer."""
        piece, op, moment = flight.piece, voyage.op, voyage.moment
        if flight.num_bytes == 0:
            reason = self._reason(voyage, flight)
            if reason:
                raise PeerFailed(self.rank, piece.peer, op, moment, reason)
        if piece.exact and flight.num_bytes != piece.reply.nbytes:
            reason = f"{flight.num_bytes} bytes came, expected {piece.reply.nbytes}"
            raise PeerFailed(self.rank, piece.peer, op, moment, reason)
        with self._turn:
            self.traffic.received[op, piece.peer] += flight.num_bytes
        return flight.num_bytes // piece.reply.itemsize

    def _reason(self, voyage: _Voyage, flight: _Flight) -> str:
        """The text that follows an empty reply."""
        began = time.monotonic()
        status = self.mpi.Status()
        while True:
            message = self.replies.Improbe(flight.piece.peer, flight.tag, status)
            if message is not None:
                text = np.empty(status.Get_count(self.mpi.BYTE), np.uint8)
                message.Recv([text, self.mpi.BYTE])
                return text.tobytes().decode()
            self._check_deadlines(voyage, [flight], {flight.piece.peer: began})
            time.sleep(NAP_S)

    def _check_deadlines(
        self, voyage: _Voyage, flying: list[_Flight], heard: dict[int, float]
    ) -> None:
        """Raise PeerTimeout for the first peer of which nothing was heard for too long."""
        now = time.monotonic()
        for flight in flying:
            peer = flight.piece.peer
            silent = now - max(flight.posted, heard.get(peer, 0.0))
            if silent > self._timeout:
                raise PeerTimeout(self.rank, peer, voyage.op.name, voyage.moment, silent)

    def _drain(self) -> None:
        """Let what nobody waits for any more land, for its arrays are MPI's until then."""
        began = time.monotonic()
        flying = [flight for voyage in self._voyages for flight in voyage.flying]
        while flying and time.monotonic() - began < self._timeout:
            time.sleep(NAP_S)
            flying = [flight for flight in flying if not self._has_landed(flight)]

    def close(self) -> None:
        """Serve until every rank closes, then stop. Raises PeerTimeout when one does not come."""
        self._drain()
        everyone = self.requests.Ibarrier()
        began = time.monotonic()
        while not everyone.Test():
            waited = time.monotonic() - began
            if waited > self._timeout:
                raise PeerTimeout(
                    self.rank, "of some peer", "closing the transport", OUTSIDE, waited
                )
            time.sleep(NAP_S)
        if not self._server.close(self._timeout):
            raise PeerTimeout(
                self.rank, "of some peer", "sending the last replies", OUTSIDE, self._timeout
            )
        self.requests.Free()
        self.replies.Free()
        sys.setswitchinterval(self._switch_interval)
