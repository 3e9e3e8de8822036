"""Each rank leaves loops early, where every row comes by request, and loops again.

Arguments: a partition directory with as many parts as ranks.
"""

import sys
import time
from contextlib import closing

import numpy as np

from minidist import Loader, Parts, open_world, steer
from minidist.store.host_shards import HostShards
from rudder import SteerConfig


def leave_loops(path: str, replicated: bool) -> None:
    """replicated: whether each rank has all in-edges."""
    with open_world(device="cpu", fetch_timeout=30) as world:
        parts = Parts.open(path)
        everyone = [parts.shard(part) for part in range(world.size)]
        own, graph = everyone[world.rank], parts.graph()
        # As if every peer were on another host.
        alone = [own if part == world.rank else None for part in range(world.size)]
        shards = HostShards(own=own, mapped=alone, topology=everyone if replicated else alone)
        threads = 1 + 15 * world.rank
        loader = Loader.open(world, shards, fanouts=(3, 2), batch_size=4, sample_threads=threads)
        config = SteerConfig(prefetch="lru", buffer_rows=30)
        with closing(steer(config, world, parts, loader, num_epochs=20)):
            for last in (2, 0, len(loader) - 1):
                for batch in loader.run(4):
                    assert np.array_equal(batch.x.numpy(), graph.x[batch.n_id.numpy()])
                    if batch.moment.step == last:
                        time.sleep(0.5)  # by then the stages are as far ahead as they can be
                        break
            assert batch.moment == (2, len(loader) - 1)
        world.group.barrier("looping")
        print(f"rank {world.rank} is content", flush=True)


def main() -> None:
    for replicated in (False, True):
        leave_loops(sys.argv[1], replicated)


if __name__ == "__main__":
    main()
