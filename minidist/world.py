"""World: who we are among the ranks, and our ends of the group and the transport."""

from dataclasses import dataclass

import torch

from minidist.group import Group, LocalGroup, LocalHall
from minidist.transport.base import Transport
from minidist.transport.local import LocalHub, LocalTransport


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
