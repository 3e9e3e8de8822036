"""Train a GNN on several ranks, evaluate it exactly, and say where the time went.

python -m minidist.train                                        2 ranks on this machine
mpiexec -n 4 python -m minidist.train --dataset ogbn-products   4 MPI ranks
srun -n 4 -K1 --mpi=pmi2 python -m minidist.train --parts DIR   on a Slurm cluster
torchrun --nproc-per-node 4 -m minidist.train --parts DIR       without MPI
python -m minidist.train --transport local --ranks 3            3 threads, for debugging
python -m minidist.train --prefetch lookahead --buffer 0.25     another way to keep remote rows
python -m minidist.train --trace-only --trace DIR               record remote ids, train nothing

--dataset -> load_dataset -> partition -> --parts DIR           once, by rank 0
                                             |
     +---------------------------------------+----- each rank maps its part
     v
SeedSchedule -> NeighborSampler -> DistributedStore -> GNN -> GradientSum -> Adam
     (seeds)      hop by hop             rows            |       over all ranks
                     |                     |             +-> every --eval-every epochs:
                     |                CachedStore            LayerwiseInference over all nodes
                     |        policy: what   decider: when
                     +----- Transport -----+
                          to owners
"""

import os
import sys

from minidist.comm.launch import default_ranks, launch_ranks, under_launcher
from minidist.comm.signals import INTERRUPTED
from minidist.comm.supervisor import supervise
from minidist.data.graph_source import check_name
from minidist.run_config import RunConfig
from rudder.cli.flags import fail, parse
from rudder.cli.whole_file import NotWritten


def main() -> None:
    """The command line."""
    config = parse(RunConfig, __doc__)
    try:
        raise SystemExit(start(config))
    except ValueError as error:
        fail(error)
    except NotWritten as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)  # ranks that are threads may be deep in work


def start(config: RunConfig) -> int:
    """Find or start the ranks, and train. Returns the exit code: 1 where the loss diverged."""
    if config.dataset is not None:
        check_name(config.dataset)  # before anything starts
    ranks = config.ranks or default_ranks(config.device)
    if config.transport != "local" and not under_launcher() and ranks > 1:
        return launch_ranks("minidist.train", sys.argv[1:], ranks)
    supervise()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    # PyTorch and PyG take seconds to import: who asks for help or starts ranks does not wait.
    from minidist.comm.world import open_world
    from minidist.run import train, train_in_threads

    if config.transport == "local":
        return int(bool(train_in_threads(config).get("diverged")))
    with open_world(
        transport=config.transport,
        device=config.device,
        fetch_timeout=config.fetch_timeout,
        share_gpus=config.share_gpus,
    ) as world:
        if config.ranks not in (None, world.size):
            raise ValueError(f"--ranks {config.ranks}: the launcher started {world.size}")
        summary = train(config, world)
    return int(bool(summary.get("diverged")))


if __name__ == "__main__":
    main()
