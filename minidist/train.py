"""Train a GNN on several ranks, evaluate it exactly, and say where the time went.

python -m minidist.train                                        2 ranks on this machine
mpiexec -n 4 python -m minidist.train --dataset ogbn-products   4 MPI ranks
srun -n 4 -K1 --mpi=pmi2 python -m minidist.train --parts DIR   on a Slurm cluster
torchrun --nproc-per-node 4 -m minidist.train --parts DIR       without MPI
python -m minidist.train --transport local --ranks 3            3 threads, for debugging

--dataset -> load_dataset -> partition -> --parts DIR           once, by rank 0
                                             |
     +---------------------------------------+----- each rank maps its part
     v
SeedSchedule -> NeighborSampler -> DistFeatures -> GNN -> GradientSum -> Adam
     (seeds)      hop by hop         rows          |       over all ranks
                     |                 |           +-> every --eval-every epochs:
                     +--- Transport ---+               LayerwiseInference over all nodes
                          to owners
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from minidist import partition
from minidist.config import PartitionConfig, TrainConfig
from minidist.events import EventLog
from minidist.launch import launch_ranks, under_launcher
from minidist.parts import Parts
from minidist.shard import Shard
from minidist.threads import run_in_threads
from minidist.trainer import Trainer
from minidist.world import World, open_world
from runnable.flags import fail, parse
from runnable.table import render


def main() -> None:
    """The command line."""
    config = parse(TrainConfig, __doc__)
    try:
        raise SystemExit(start(config))
    except ValueError as error:
        fail(error)


def start(config: TrainConfig) -> int:
    """Find or start the ranks, and train. Returns the exit code."""
    if config.transport == "local":
        train_in_threads(config)
        return 0
    ranks = 2 if config.ranks is None else config.ranks
    if not under_launcher() and ranks > 1:
        return launch_ranks("minidist.train", sys.argv[1:], ranks)
    with open_world(
        transport=config.transport, device=config.device, fetch_timeout=config.fetch_timeout
    ) as world:
        if config.ranks not in (None, world.size):
            raise ValueError(f"--ranks {config.ranks}: the launcher started {world.size}")
        train(config, world)
    return 0


def train_in_threads(config: TrainConfig) -> dict[str, Any]:
    """Train with all ranks as threads of this process; returns the summary."""
    ranks = config.ranks or 2
    return run_in_threads(lambda world: train(config, world), ranks, config.fetch_timeout)[0]


def train(config: TrainConfig, world: World) -> dict[str, Any]:
    """Train on this rank; every rank of the world must call it. Returns the summary.

    Raises ValueError on bad input, PeerTimeout when a rank stops answering.
    """
    folder = config.out or config.resume
    out = Path(folder) if folder else None
    # Rank 0 finds out before the long work; its error is everybody's.
    world.group.first(lambda: _check_outputs(config, out), "checking the outputs")
    with tempfile.TemporaryDirectory(prefix="minidist-") as scratch:
        home = out if out is not None else Path(scratch)
        path = world.group.first(lambda: _find_parts(config, world, home), "partitioning")
        parts, shards, topology = _map_shards(config, world, path)
        # Our maps outlive the files: what was made for this run alone can go now.
        world.group.barrier("mapping the parts")
    with EventLog(out, world.rank) as events:
        summary = Trainer(config, world, parts, shards, topology, out, events).run()
    if world.rank == 0:
        print(f"\n{summary_table(summary)}", flush=True)
    return summary


def _check_outputs(config: TrainConfig, out: Path | None) -> None:
    """Make the output folder; raise ValueError where it or the JSON file cannot be written."""
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ValueError(f"--out {out}: cannot be written: {error.strerror}") from None
    try:
        if config.json is not None:
            Path(config.json).open("a").close()
    except OSError as error:
        raise ValueError(f"--json {config.json}: cannot be written: {error.strerror}") from None


def _find_parts(config: TrainConfig, world: World, home: Path) -> Path:
    """The partition directory to train on, made now if there is none."""
    path = Path(config.parts) if config.parts else home / "parts"
    if not path.exists():
        shared = all(world.transport.shares_host(peer) for peer in range(world.size))
        if config.parts is None and config.out is None and not shared:
            raise ValueError(
                "--parts: the ranks run on several hosts; name a partition directory on a file "
                "system that all of them see (it is made if it does not exist)"
            )
        partition.run(
            PartitionConfig(
                dataset=config.dataset or "synthetic:small",
                data_root=config.data_root,
                parts=world.size,
                method=config.method,
                halo_hops=config.halo_hops or 0,
                seed=config.seed,
                out=str(path),
            )
        )
    parts = Parts.open(path)
    if parts.num_parts != world.size:
        raise ValueError(
            f"{path} has {parts.num_parts} parts, but {world.size} ranks are running: start "
            f"{parts.num_parts} ranks, or partition into {world.size}"
        )
    # An archive's graph is called by the name of its file.
    asked = config.dataset and (config.dataset, Path(config.dataset.removeprefix("npz:")).stem)
    if asked and parts.name not in asked:
        raise ValueError(f"--dataset {config.dataset}: {path} holds {parts.name}")
    if config.halo_hops not in (None, parts.halo_hops):
        raise ValueError(f"--halo-hops {config.halo_hops}: {path} keeps {parts.halo_hops}")
    return path


def _map_shards(
    config: TrainConfig, world: World, path: Path
) -> tuple[Parts, list[Shard | None], list[Shard | None]]:
    """Our part, checked byte for byte, and what else this host has of the others.

    Returns the directory, the shards whose rows we may read directly, and those whose in-edges.
    """
    parts = Parts.open(path)
    at_hand = parts.at_hand(world.rank, world.transport.shares_host)
    if config.topology == "partitioned":
        return parts, at_hand, at_hand
    everyone = [shard or parts.shard(part, verify=False) for part, shard in enumerate(at_hand)]
    return parts, at_hand, list(everyone)


def summary_table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    rows, metric = summary["rows"], summary["metric"].replace("_", "-")
    moved = summary["bytes_moved"] / 2**20
    needed = f"{rows['remote']:,} needed, {rows['hits']:,} hits, {rows['misses']:,} misses"
    lines = [
        (
            "dataset",
            f"{summary['dataset']}: {summary['num_nodes']:,} nodes, {summary['num_edges']:,} edges",
        ),
        ("ranks", f"{summary['world_size']} ({summary['transport']}, {summary['device']})"),
        ("epoch", f"{summary['epoch_time_s']:.3f} s, {summary['steps_per_epoch']} steps"),
        ("  the loop", f"train {summary['train_s']:.3f} s, wait {summary['wait_s']:.3f} s"),
        ("  its stages", f"sample {summary['sample_s']:.3f} s, fetch {summary['fetch_s']:.3f} s"),
        ("remote rows", f"{needed}, {rows['replacements']:,} replacements; {moved:,.1f} MiB moved"),
        ("peak memory", f"{summary['peak_memory_mb']:,.0f} MiB a rank"),
        ("loss", f"{summary['losses'][-1]:.4f} (sha256 {summary['losses_sha256'][:12]})"),
        (
            metric,
            f"test {summary['test_accuracy']:.4f}, val {summary['val_accuracy']:.4f} "
            f"(after epoch {summary['best_epoch'] + 1} of {summary['config']['epochs']})",
        ),
    ]
    return render(lines)


if __name__ == "__main__":
    main()
