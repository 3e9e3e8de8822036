"""HostShards: what one rank can read of the graph without asking anybody."""

from collections.abc import Sequence
from dataclasses import dataclass

from minidist.comm.world import World
from minidist.store.partition_dir import Parts
from minidist.store.shard import Shard


@dataclass(frozen=True, kw_only=True, eq=False)
class HostShards:
    """The rank's own part, and those of its peers that this host has mapped.

    mapped: for each part the Shard whose rows may be read here, or None.   topology: the same for
    in-edges alone, which may be replicated on every host.
    """

    own: Shard
    mapped: Sequence[Shard | None]
    topology: Sequence[Shard | None]

    @classmethod
    def open(cls, parts: Parts, world: World, topology: str = "partitioned") -> "HostShards":
        """Map our part, checked byte for byte, and what else is at hand.

        Every peer checks its own part, so every byte is read once. topology: ``replicated`` maps
        all parts' in-edges.
        """
        mapped = [
            parts.shard(part, verify=part == world.rank)
            if world.transport.shares_host(part)
            else None
            for part in range(parts.num_parts)
        ]
        everyone: Sequence[Shard | None] = mapped
        if topology == "replicated":
            everyone = [
                shard or parts.shard(part, verify=False) for part, shard in enumerate(mapped)
            ]
        own = mapped[world.rank]
        assert own is not None
        return cls(own=own, mapped=mapped, topology=everyone)
