"""World: who we are among the ranks, and our ends of the group and the transport."""

import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from minidist.group import Group, LocalGroup, LocalHall
from minidist.heartbeat import Heartbeats
from minidist.host import Host, interface_towards, interfaces, reachable_address, this_host
from minidist.launch import expected_size, launcher
from minidist.torch_group import TorchGroup
from minidist.transport.base import OUTSIDE, PeerTimeout, Transport
from minidist.transport.collective import CollectiveTransport
from minidist.transport.local import LocalHub, LocalTransport
from minidist.transport.mpi import MpiTransport, load_mpi, unlink_segments

# Ranks that all meet the same bad input let rank 0 say so before they end the job.
_HEAD_START_S = 0.3
# What a rank says of itself at the start, padded.
_CARD_BYTES = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A rank's place in the job; passed in wherever it is needed, never global."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device
    group: Group
    transport: Transport

    def close(self) -> None:
        """Leave in order: peers may need our answers until all of them got here."""
        self.transport.close()
        self.group.close()


def local_worlds(size: int, timeout: float = 60.0, share_hosts: bool = True) -> list[World]:
    """The worlds of ``size`` ranks that run as threads of this process, on the CPU."""
    hall, hub = LocalHall(size, timeout), LocalHub(size, timeout)
    return [
        World(
            rank=rank,
            size=size,
            local_rank=rank,
            local_size=size,
            device=torch.device("cpu"),
            group=LocalGroup(hall, rank),
            transport=LocalTransport(hub, rank, share_hosts),
        )
        for rank in range(size)
    ]


@contextmanager
def open_world(
    *, transport: str = "auto", device: str = "auto", fetch_timeout: float = 60.0
) -> Iterator[World]:
    """The world of this process: of mpiexec, srun or torchrun, or alone.

    transport: ``auto`` takes mpi under mpiexec and srun, collective under torchrun.
    device: ``auto`` takes a GPU where there is one.   fetch_timeout: seconds.

    An exception inside, on any rank, is printed and ends the whole job: with exit code 2 for a
    ValueError and 1 for others. Raises ValueError where the launcher and its ranks do not fit.
    """
    kind = launcher()
    if kind is None:
        world = local_worlds(1, fetch_timeout)[0]
        yield replace(world, device=_device(device, 0, 1))
        return
    rank = int(os.environ.get("RANK", "0"))
    mpi: Any = None
    try:
        if kind == "mpi":
            mpi = load_mpi()
            rank = mpi.COMM_WORLD.Get_rank()
            world = _mpi_world(mpi, transport, device, fetch_timeout)
        else:
            world = _torchrun_world(transport, device, fetch_timeout)
        yield world
        world.close()
    except BaseException as error:
        _end_job(error, rank, mpi)


def _end_job(error: BaseException, rank: int, mpi: Any) -> None:
    """Say what happened, and take all ranks down; does not return."""
    code = 2 if isinstance(error, ValueError) else 1
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        code = error.code
    if code == 2 and rank > 0:
        time.sleep(_HEAD_START_S)
    if isinstance(error, ValueError | PeerTimeout):
        who = "" if rank == 0 else f" (rank {rank})"
        print(f"error{who}: {error}", file=sys.stderr, flush=True)
    elif not isinstance(error, SystemExit):
        print(f"rank {rank} failed:", file=sys.stderr)
        traceback.print_exception(error)
        sys.stderr.flush()
    sys.stdout.flush()
    if mpi is not None:
        unlink_segments()
        mpi.COMM_WORLD.Abort(code)
    # Stages and servers may sit in a collective that no peer will ever join.
    os._exit(code)


def _device(asked: str, local_rank: int, local_size: int) -> torch.device:
    """Our own GPU, or the CPU. Raises ValueError for a missing GPU or more ranks than GPUs."""
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU here; use --device cpu")
    num_gpus = torch.cuda.device_count()
    # srun --gpus-per-task shows each rank a single GPU, its own.
    if num_gpus == 1 and local_size > 1 and os.environ.get("SLURM_GPUS_PER_TASK") == "1":
        local_rank, local_size = 0, 1
    if local_size > num_gpus:
        raise ValueError(
            f"{local_size} ranks run on a host with {num_gpus} GPU(s), and no two may share one: "
            f"start at most {num_gpus} ranks a host, or train with --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _mpi_world(mpi: Any, transport: str, device: str, timeout: float) -> World:
    comm = mpi.COMM_WORLD
    rank, size, expected = comm.Get_rank(), comm.Get_size(), expected_size()
    if size != expected:
        raise ValueError(
            f"the launcher started {expected} ranks, but MPI sees {size}: its process manager and "
            "this MPI do not fit. With srun use --mpi=pmi2 for MPICH (the mpich wheel) or "
            "--mpi=pmix for Open MPI; with mpiexec use the one of the MPI that mpi4py was built on"
        )
    if size == 1:
        return replace(local_worlds(1, timeout)[0], device=_device(device, 0, 1))
    store, port = _listen() if rank == 0 else (None, 0)
    card = (this_host(), reachable_address(), port)
    cards = _exchange_cards(comm, card, timeout)
    hosts = [host for host, _, _ in cards]
    address = "127.0.0.1" if len(set(hosts)) == 1 else cards[0][1]
    port = cards[0][2]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _interface(hosts, address))
    store = store or _join_store(address, port, timeout)
    heartbeats = Heartbeats(rank, size, address, port, keeper=0)
    where = _device(device, *_local(hosts, rank))
    group = TorchGroup(rank, size, store, heartbeats, where, timeout)
    carrier: Transport
    if transport == "collective":
        carrier = CollectiveTransport(hosts, heartbeats, where, timeout)
    else:
        carrier = MpiTransport(comm, hosts, timeout)
    group.barrier("meeting")
    unlink_segments()
    return _world(rank, hosts, where, group, carrier)


def _torchrun_world(transport: str, device: str, timeout: float) -> World:
    if transport == "mpi":
        raise ValueError("--transport mpi: torchrun starts no MPI; use mpiexec or srun")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torchrun's agent keeps the store, unless told otherwise.
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(
        address,
        port,
        size,
        is_master=rank == 0 and not by_agent,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout),
    )
    heartbeats = Heartbeats(rank, size, address, port, keeper=None if by_agent else 0)
    local = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    where = _device(device, *local)
    group = TorchGroup(rank, size, store, heartbeats, where, timeout)
    hosts = group.all_gather(this_host(), "meeting")
    carrier = CollectiveTransport(hosts, heartbeats, where, timeout)
    return _world(rank, hosts, where, group, carrier)


def _world(
    rank: int, hosts: Sequence[Host], device: torch.device, group: Group, transport: Transport
) -> World:
    local_rank, local_size = _local(hosts, rank)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(max(1, cores // local_size))
    return World(
        rank=rank,
        size=len(hosts),
        local_rank=local_rank,
        local_size=local_size,
        device=device,
        group=group,
        transport=transport,
    )


def _local(hosts: Sequence[Host], rank: int) -> tuple[int, int]:
    """Our number among the ranks of our host, and how many those are."""
    return hosts[:rank].count(hosts[rank]), hosts.count(hosts[rank])


def _listen() -> tuple[Store, int]:
    """A store on a port that the system picks: fixed ones collide."""
    store = TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False)
    return store, store.port


def _join_store(address: str, port: int, timeout: float) -> Store:
    limit = timedelta(seconds=timeout)
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=limit)


def _interface(hosts: Sequence[Host], address: str) -> str:
    """The network interface that gloo should use."""
    if len(set(hosts)) == 1:
        return "lo"
    found = interface_towards(address)
    if found in (None, "lo"):  # rank 0's host reaches itself by loopback
        found = next((name for name, own in interfaces().items() if own == address), None)
    if found is None:
        raise ValueError(
            f"{socket.gethostname()} has no way to {address}, rank 0's address: name the network "
            "interface that joins the hosts in GLOO_SOCKET_IFNAME"
        )
    return found


def _exchange_cards(comm: Any, card: tuple[Host, str, int], timeout: float) -> list[Any]:
    """Every rank's (host, address, port), in rank order."""
    host, address, port = card
    text = "\n".join([host.name, host.boot_id, str(host.namespace), address, str(port)]).encode()
    mine = np.zeros(_CARD_BYTES, np.uint8)
    mine[: len(text)] = np.frombuffer(text, np.uint8)
    everyone = np.empty((comm.Get_size(), _CARD_BYTES), np.uint8)
    request = comm.Iallgather(mine, everyone)
    began = time.monotonic()
    while not request.Test():
        waited = time.monotonic() - began
        if waited > timeout:
            raise PeerTimeout(comm.Get_rank(), "of some peer", "meeting", OUTSIDE, waited)
        time.sleep(1e-3)
    cards = []
    for row in everyone:
        name, boot_id, namespace, where, number = row.tobytes().rstrip(b"\0").decode().split("\n")
        cards.append((Host(name, boot_id, int(namespace)), where, int(number)))
    return cards
