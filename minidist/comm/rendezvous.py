"""Rendezvous: how the ranks of a job find each other, and the store in rank 0's process.

rank 0 listens on a port that the system picks -> every rank shows its card, over MPI or
torchrun's store -> all know all hosts and cores, and connect to rank 0
"""

import itertools
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from minidist.comm.host import Host, interface_towards, interfaces, reachable_address, this_host
from minidist.comm.transport.base import PeerTimeout
from minidist.moment import OUTSIDE

_CARD_BYTES = 8192
_NAP_S = 1e-3
# Those that this process has met so far: every rank opens as many.
_worlds = itertools.count()


@dataclass(frozen=True)
class Card:
    """What a rank tells the others.

    port: where rank 0's store listens.   cores: those that the rank may use.   pid: its process.
    """

    host: Host
    address: str
    port: int
    cores: list[int]
    pid: int

    def pack(self) -> str:
        """The card as text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def unpack(text: bytes) -> "Card":
        """The card that was packed."""
        fields = json.loads(text)
        return Card(**{**fields, "host": Host(**fields["host"])})


@dataclass(frozen=True)
class Ranks:
    """Who is where.

    store: this rank's client, or in rank 0 the server, of the job's store.   board: where the cards
    were shown; a rank that keeps it must not drop it while others read.
    """

    rank: int
    cards: Sequence[Card]
    store: Store
    timeout: float
    board: Store | None = None

    @property
    def hosts(self) -> list[Host]:
        """The host of each rank."""
        return [card.host for card in self.cards]

    @property
    def local(self) -> tuple[int, int]:
        """Our number among the ranks of our host, and how many those are."""
        hosts = self.hosts
        return hosts[: self.rank].count(hosts[self.rank]), hosts.count(hosts[self.rank])

    @property
    def local_pids(self) -> tuple[int, ...]:
        """The processes of the ranks of our host."""
        here = self.cards[self.rank].host
        return tuple(card.pid for card in self.cards if card.host == here)

    @property
    def num_threads(self) -> int:
        """Our share of the cores: launchers may give each rank its own, or all of them to all."""
        mine = self.cards[self.rank]
        sharing = [c for c in self.cards if c.host == mine.host and set(c.cores) & set(mine.cores)]
        return max(1, len(mine.cores) // len(sharing))

    def connect(self) -> Store:
        """One more client of the store. Raises RuntimeError where rank 0 does not listen."""
        return _connect(self.cards, self.rank, self.timeout)


def meet_over_mpi(comm: Any, timeout: float) -> Ranks:
    """Show our card to all ranks of an MPI communicator. Raises PeerTimeout."""
    rank, size = comm.Get_rank(), comm.Get_size()
    served, card = _prepare(rank)
    mine, everyone = np.zeros(_CARD_BYTES, np.uint8), np.empty((size, _CARD_BYTES), np.uint8)
    mine[: len(card)] = np.frombuffer(card.encode(), np.uint8)
    request = comm.Iallgather(mine, everyone)
    began = time.monotonic()
    while not request.Test():
        if time.monotonic() - began > timeout:
            raise PeerTimeout(rank, "(one or more)", "meeting", OUTSIDE, timeout)
        time.sleep(_NAP_S)
    return _join(rank, [row.tobytes().rstrip(b"\0") for row in everyone], served, timeout)


def meet_over_torchrun(timeout: float) -> Ranks:
    """Show our card to all ranks of a torchrun. Raises PeerTimeout."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # torchrun's agent keeps a store, unless told otherwise.
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    board: Store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0 and not by_agent,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout),
    )
    # The agent's store outlives a restart of the ranks, and every world that they open.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    board = PrefixStore(f"minidist/{attempt}/{next(_worlds)}", board)
    served, card = _prepare(rank)
    board.set(f"card/{rank}", card)
    deadline = time.monotonic() + timeout
    for peer in range(size):
        while not board.check([f"card/{peer}"]):
            if time.monotonic() > deadline:
                absent = [str(p) for p in range(size) if not board.check([f"card/{p}"])]
                raise PeerTimeout(rank, ", ".join(absent), "meeting", OUTSIDE, timeout)
            time.sleep(_NAP_S)
    cards = [board.get(f"card/{peer}") for peer in range(size)]
    return replace(_join(rank, cards, served, timeout), board=board)


def _prepare(rank: int) -> tuple[Store | None, str]:
    """The store, in rank 0, and our card."""
    served = None
    if rank == 0:
        # A fixed port would collide with another job's.
        served = TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False)
    port = served.port if served else 0
    cores = sorted(os.sched_getaffinity(0))
    return served, Card(this_host(), reachable_address(), port, cores, os.getpid()).pack()


def _join(rank: int, texts: list[bytes], served: Store | None, timeout: float) -> Ranks:
    cards = [Card.unpack(text) for text in texts]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _interface(cards))
    return Ranks(rank, cards, served or _connect(cards, rank, timeout), timeout)


def _connect(cards: Sequence[Card], rank: int, timeout: float) -> Store:
    same_host = cards[rank].host == cards[0].host
    return TCPStore(
        "127.0.0.1" if same_host else cards[0].address,
        cards[0].port,
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout),
    )


def _interface(cards: Sequence[Card]) -> str:
    """The network interface that gloo should use."""
    if len({card.host for card in cards}) == 1:
        return "lo"
    address = cards[0].address
    found = interface_towards(address)
    if found in (None, "lo"):  # rank 0's host reaches itself by loopback
        found = next((name for name, own in interfaces().items() if own == address), None)
    if found is None:
        raise ValueError(
            f"{socket.gethostname()} has no way to {address}, rank 0's address: name the network "
            "interface that joins the hosts in GLOO_SOCKET_IFNAME"
        )
    return found
