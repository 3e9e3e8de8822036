"""World: who we are among the ranks, and our ends of the group and the transport."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from minidist.comm.group import Group, LocalGroup, LocalHall
from minidist.comm.heartbeat import Heartbeats
from minidist.comm.job_end import end_job
from minidist.comm.launch import expected_size, launcher
from minidist.comm.rendezvous import meet_over_mpi, meet_over_torchrun
from minidist.comm.resources import require_open_files
from minidist.comm.signals import die_with_parent
from minidist.comm.torch_group import TorchGroup
from minidist.comm.transport.base import Transport
from minidist.comm.transport.collective import CollectiveTransport
from minidist.comm.transport.local import LocalHub, LocalTransport
from minidist.comm.transport.mpi import MpiTransport, load_mpi, unlink_segments
from rudder.cli.flags import rank_of_launcher


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A rank's place in the job; passed in wherever it is needed, never global.

    num_cores: those of its host that are this rank's share.   local_pids: processes of the ranks
    on its host.   timeout: seconds after which a wait for a peer fails.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device
    group: Group
    transport: Transport
    num_cores: int = 1
    local_pids: tuple[int, ...] = ()
    timeout: float = 60.0

    def close(self) -> None:
        """Leave in order: peers may need our answers until all of them got here."""
        self.group.barrier("leaving")  # names whoever does not come, which a transport may not know
        self.transport.close()
        self.group.close()


def local_worlds(
    size: int, timeout: float = 60.0, hosts: Sequence[int] | None = None
) -> list[World]:
    """The worlds of ``size`` ranks that run as threads of this process, on the CPU.

    hosts: the host that each rank pretends to sit on; None: all on one.
    """
    hall, hub = LocalHall(size, timeout), LocalHub(size, timeout)
    hosts = [0] * size if hosts is None else hosts
    return [
        World(
            rank=rank,
            size=size,
            local_rank=hosts[:rank].count(hosts[rank]),
            local_size=hosts.count(hosts[rank]),
            device=torch.device("cpu"),
            group=LocalGroup(hall, rank),
            transport=LocalTransport(hub, rank, hosts),
            num_cores=max(1, len(os.sched_getaffinity(0)) // size),
            timeout=timeout,
        )
        for rank in range(size)
    ]


@contextmanager
def open_world(
    *,
    transport: str = "auto",
    device: str = "auto",
    fetch_timeout: float = 60.0,
    share_gpus: bool = False,
) -> Iterator[World]:
    """The world of this process: of mpiexec, srun or torchrun, or alone.

    transport: ``auto`` takes mpi under mpiexec and srun, collective under torchrun.
    device: ``auto`` takes a GPU where each rank of the host has one.   fetch_timeout: seconds.
    share_gpus: ranks may share a GPU; their gradients are then summed by gloo, on the host.

    An exception inside, on any rank, is printed and ends the whole job: with exit code 2 for a
    ValueError of ours about what was given, 130 for Ctrl-C and 1 for others, with their traceback.
    Raises ValueError where the launcher and its ranks do not fit.
    """
    kind = launcher()
    if kind is None:
        alone = local_worlds(1, fetch_timeout)[0]
        yield replace(alone, device=_device(device, 0, 1), num_cores=len(os.sched_getaffinity(0)))
        return
    rank, mpi, world = rank_of_launcher(), None, None
    try:
        by_torchrun = kind == "torchrun"
        require_open_files(int(os.environ["WORLD_SIZE"]) if by_torchrun else expected_size())
        if by_torchrun:
            die_with_parent()  # ranks would train on when torchrun's agent is killed
        else:
            mpi = load_mpi()
            rank = mpi.COMM_WORLD.Get_rank()
        world = _join(kind, mpi, transport, device, fetch_timeout, share_gpus)
        yield world
        world.close()
    except BaseException as error:
        end_job(error, rank, mpi, world.local_pids if world else ())


def _device(asked: str, local_rank: int, local_size: int, share: bool = False) -> torch.device:
    """Our own GPU, one that we share, or the CPU.

    Raises ValueError for a GPU that was asked for and is missing or too few of them.
    """
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU here; use --device cpu")
    num_gpus = torch.cuda.device_count()
    # srun --gpus-per-task shows each rank a single GPU, its own.
    if num_gpus == 1 and local_size > 1 and os.environ.get("SLURM_GPUS_PER_TASK") == "1":
        local_rank, local_size = 0, 1
    if local_size > num_gpus and not share:
        too_many = f"{local_size} ranks run on a host with {num_gpus} GPU(s)"
        if asked == "auto":
            if local_rank == 0:
                print(f"{too_many}: training on the CPU (see --share-gpus)", file=sys.stderr)
            return torch.device("cpu")
        raise ValueError(
            f"{too_many}, and no two share one unless told to: start at most {num_gpus} ranks a "
            "host, let them share with --share-gpus, or train with --device cpu"
        )
    torch.cuda.set_device(local_rank % num_gpus)
    return torch.device("cuda", local_rank % num_gpus)


def _join(kind: str, mpi: Any, transport: str, device: str, timeout: float, share: bool) -> World:
    """Meet the other ranks, and open the group and the transport with them."""
    if kind == "torchrun":
        if transport == "mpi":
            raise ValueError("--transport mpi: torchrun starts no MPI; use mpiexec or srun")
        ranks = meet_over_torchrun(timeout)
    else:
        _check_size(mpi.COMM_WORLD.Get_size())
        if mpi.COMM_WORLD.Get_size() == 1:
            alone = local_worlds(1, timeout)[0]
            return replace(alone, device=_device(device, 0, 1))
        ranks = meet_over_mpi(mpi.COMM_WORLD, timeout)
    local_rank, local_size = ranks.local
    torch.set_num_threads(_threads_asked(kind) or ranks.num_threads)
    heartbeats = Heartbeats(ranks.rank, len(ranks.cards), ranks.connect())
    where = _device(device, local_rank, local_size, share)
    # NCCL refuses two ranks on one GPU.
    meeting = torch.device("cpu") if share else where
    group = TorchGroup(ranks.store, heartbeats, meeting, timeout)
    carrier: Transport
    if transport == "collective" or kind == "torchrun":
        carrier = CollectiveTransport(ranks.hosts, heartbeats, meeting, timeout)
    else:
        carrier = MpiTransport(mpi, ranks.hosts, timeout)
    # Rank 0 may hold the board that others still read, until all are here.
    group.barrier("meeting")
    if mpi is not None:
        unlink_segments()
    return World(
        rank=ranks.rank,
        size=len(ranks.cards),
        local_rank=local_rank,
        local_size=local_size,
        device=where,
        group=group,
        transport=carrier,
        num_cores=ranks.num_threads,
        local_pids=ranks.local_pids,
        timeout=timeout,
    )


def _threads_asked(kind: str) -> int:
    """OMP_NUM_THREADS where it is the user's word; torchrun sets it itself, to 1. 0: not asked."""
    asked = "" if kind == "torchrun" else os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else 0


def _check_size(size: int) -> None:
    expected = expected_size()
    if size != expected:
        raise ValueError(
            f"the launcher started {expected} ranks, but MPI sees {size}: its process manager and "
            "this MPI do not fit. With srun use --mpi=pmi2 for MPICH (the mpich wheel) or "
            "--mpi=pmix for Open MPI; with mpiexec use the one of the MPI that mpi4py was built on"
        )
