"""Host links: messages, and memory that is shared, between the first rank of a host and its others.

    first rank   listens ............... accepts, checks who it is --+-- Link
    the others              connect ---------------------------------+

Ranks of a host hand each other ids and slots each step, far faster than through a transport that
also serves other hosts. It is a Unix socket with an abstract name, so the same under every launcher
and transport; memory is a memfd that travels over it. Neither has a file, so a rank that is killed
leaves nothing behind, and the size of /dev/shm does not matter.
"""

import mmap
import os
import secrets
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from minidist.comm.transport.base import Ids, PeerTimeout
from minidist.comm.world import World
from minidist.moment import OUTSIDE, Moment

# A rank whose end has closed is dead or failed. The launcher, or the rank itself, then says why and
# ends the job, if it is left so much time to.
_LAST_WORDS_S = 2.0
_HEAD = struct.Struct("qq")
_PEER_CREDENTIALS = struct.Struct("3i")


class Link:
    """One end of a stream of int64 arrays between two ranks of a host, in order for each kind.

    For one thread at a time. Every wait raises PeerTimeout after ``timeout`` seconds, and soon
    where the peer has gone.
    """

    def __init__(self, end: socket.socket, rank: int, peer: int, timeout: float) -> None:
        self.rank, self.peer, self._end, self._timeout = rank, peer, end, timeout
        end.settimeout(timeout)
        self._early: defaultdict[int, deque[Ids]] = defaultdict(deque)

    def send(self, kind: int, data: Ids, operation: str, moment: Moment = OUTSIDE) -> None:
        """Send an array under a kind of message."""
        began = time.monotonic()
        try:
            self._end.sendall(_HEAD.pack(kind, len(data)))
            self._end.sendall(np.ascontiguousarray(data, np.int64).data)
        except OSError as error:
            raise self._lost(error, operation, moment, began) from error

    def notify(self, kind: int) -> None:
        """Send an empty array. A peer that has gone needs none; whoever waits for it finds out."""
        with suppress(OSError):
            self._end.sendall(_HEAD.pack(kind, 0))

    def receive(self, kind: int, operation: str, moment: Moment = OUTSIDE) -> Ids:
        """The next array of this kind; those of others that come before it are kept."""
        began = time.monotonic()
        try:
            while not self._early[kind]:
                found, length = _HEAD.unpack(self._read(_HEAD.size))
                self._early[found].append(np.frombuffer(self._read(8 * length), np.int64))
        except OSError as error:
            raise self._lost(error, operation, moment, began) from error
        return self._early[kind].popleft()

    def _read(self, num_bytes: int) -> bytearray:
        data = bytearray(num_bytes)
        view = memoryview(data)
        while view:
            count = self._end.recv_into(view)
            if count == 0:
                raise ConnectionResetError("the other end has closed")
            view = view[count:]
        return data

    def send_memory(self, descriptor: int) -> None:
        """Let the peer map this memory too (see ``shared_rows``)."""
        socket.send_fds(self._end, [b"m"], [descriptor])

    def receive_memory(self) -> int:
        """The descriptor of ``send_memory``, to be closed by the caller."""
        began = time.monotonic()
        try:
            _, (descriptor, *_), _, _ = socket.recv_fds(self._end, 1, 1)
        except (OSError, ValueError) as error:
            raise self._lost(error, "the host's shared memory", OUTSIDE, began) from error
        return descriptor

    def _lost(self, error: Exception, operation: str, moment: Moment, began: float) -> PeerTimeout:
        if not isinstance(error, TimeoutError):
            time.sleep(min(_LAST_WORDS_S, self._timeout))
        waited = time.monotonic() - began
        return PeerTimeout(self.rank, self.peer, operation, moment, waited)

    def close(self) -> None:
        """Let go, and wake whoever waits here or at the other end."""
        with suppress(OSError):  # the other end was first
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def hosts_of(world: World) -> list[int]:
    """The first rank on each rank's host; every rank must ask."""
    shared = [peer for peer in range(world.size) if world.transport.shares_host(peer)]
    return world.group.all_gather(min(shared), "finding who shares a host")


def link_hosts(world: World, hosts: Sequence[int]) -> list[Link]:
    """On the first rank of a host a link to each of the others, in order; on those one to it.

    hosts: of ``hosts_of``. Every rank of the world must call it. Raises PeerTimeout.
    """
    first = hosts[world.rank]
    others = [rank for rank, host in enumerate(hosts) if host == first != rank]
    leads = first == world.rank and bool(others)
    with socket.socket(socket.AF_UNIX) as end:
        name = f"\0minidist-{secrets.token_hex(16)}" if leads else ""
        if leads:
            end.bind(name)
            end.listen(len(others))
        names = world.group.all_gather(name, "linking the ranks of each host")
        if leads:
            return _accept(end, world, others)
    if first == world.rank:
        return []
    mine = socket.socket(socket.AF_UNIX)
    mine.connect(names[first])
    link = Link(mine, world.rank, first, world.timeout)
    link.send(0, np.array([world.rank]), "linking the ranks of a host")
    return [link]


def _accept(end: socket.socket, world: World, others: Sequence[int]) -> list[Link]:
    """The links to all the others, whoever comes first. Other users' processes are turned away."""
    found: dict[int, Link] = {}
    end.settimeout(world.timeout)
    began = time.monotonic()
    while len(found) < len(others):
        try:
            caller, _ = end.accept()
        except TimeoutError:
            missing = next(rank for rank in others if rank not in found)
            waited = time.monotonic() - began
            raise PeerTimeout(
                world.rank, missing, "linking the ranks of a host", OUTSIDE, waited
            ) from None
        size = _PEER_CREDENTIALS.size
        credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        if _PEER_CREDENTIALS.unpack(credentials)[1] != os.getuid():
            caller.close()
            continue
        link = Link(caller, world.rank, -1, world.timeout)
        link.peer = int(link.receive(0, "linking the ranks of a host")[0])
        found[link.peer] = link
    return [found[rank] for rank in others]


def new_memory(num_bytes: int) -> int:
    """The descriptor of new memory that other ranks may map; a page is taken when it is written.

    Raises OSError where the system refuses.
    """
    descriptor = os.memfd_create("minidist", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, num_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def shared_rows(descriptor: int, num_rows: int, width: int) -> NDArray[np.float32]:
    """float32 [num_rows, width] in shared memory, which goes with the last rank that has it."""
    size = num_rows * width * 4
    if size == 0:
        return np.zeros((num_rows, width), np.float32)
    return np.frombuffer(mmap.mmap(descriptor, size), np.float32).reshape(num_rows, width)
