"""PyG's NeighborLoader with DistributedDataParallel, and minidist, on this host, in turn.

    python -m benchmarks.peers.pyg
    python -m benchmarks.peers.pyg --graph synthetic:medium --ranks 2 --env DIR --json pyg.json

PyG's sampler is compiled code outside torch-geometric: pyg-lib, which is not on PyPI, or the older
torch-sparse, which PyPI has as source. At the first start torch-sparse and torch-scatter are built
in an environment that borrows this one's PyTorch and torch-geometric, which takes a C++ compiler
and some minutes; where that fails the command says so and ends.

The same for both: graph, GraphSAGE (mean), fan-out, batch, widths, dropout, Adam, epochs, threads.
PyG's processes hold the whole graph each and take equal shares of the training nodes; ours hold a
part each and map each other's. PyG is given the best number of loader workers that a short trial of
0, 1 and 2 finds. See ``comparison`` for what is measured.
"""

import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import Row, answer, at_least
from benchmarks.lab.hosts import cores_for
from benchmarks.peers import comparison
from benchmarks.peers.comparison import PROGRAMS, Run
from benchmarks.peers.jobs import HOME, prepare, run_together, watching_memory
from benchmarks.runs import parts_of
from benchmarks.traces import dataset_of
from minidist.config import TrainConfig
from rudder.cli.flags import flag, parse

PEER = "PyG"
_INSTALLS = (
    ("setuptools<81", "wheel", "ninja"),
    # Each on its own: pip would begin to build one before the other is there.
    ("--no-deps", "--no-build-isolation", "torch-scatter==2.1.2"),
    ("--no-deps", "--no-build-isolation", "torch-sparse==0.6.18"),
)
_PROBE = """
import torch, torch_sparse
torch.ops.torch_sparse.neighbor_sample
from torch_geometric.loader import NeighborLoader
"""


@dataclass(frozen=True, kw_only=True)
class PygConfig(comparison.PeerConfig):
    ranks: int = flag(2, "processes of either side")
    workers: int | None = flag(None, "loader workers of a PyG process (default: try)")
    env: str = flag(str(HOME / "pyg"), "PyG's environment; made there where missing")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "ranks")
        at_least(self, 0, "workers")


def measure(config: PygConfig) -> Row:
    folder, borrowed = Path(config.env).absolute(), sysconfig.get_path("purelib")
    python = prepare(PEER, folder, _INSTALLS, _PROBE, borrowed)
    from minidist.store.partition_dir import Parts

    parts = Parts.open(parts_of(dataset_of(config.graph), config.ranks, Path(config.folder)))
    graph = parts.graph()

    def train_pyg(workers: int, run: TrainConfig) -> Run:
        with (
            tempfile.TemporaryDirectory(prefix="pyg-") as name,
            watching_memory() as (mark, memory),
        ):
            out, threads = Path(name), cores_for(config.ranks)
            arrays = {each: getattr(graph, each) for each in ("indptr", "indices", "x", "y")}
            np.savez(out / "graph.npz", train_ids=np.flatnonzero(graph.train_mask), **arrays)
            sizes = {"ranks": config.ranks, "workers": workers, "threads": threads}
            settings = comparison.write_task(run, parts, out, **sizes)
            words = [python, str(PROGRAMS / "pyg_train.py"), str(settings)]
            commands = [[*words, str(rank)] for rank in range(config.ranks)]
            environment = {**mark, "OMP_NUM_THREADS": str(threads)}
            run_together(commands, environment, out / "log", comparison.LIMIT_S)
            return comparison.read_peer(PEER, out, graph, memory)

    def ours(prefetch: str) -> Run:
        return comparison.train_ours(parts.path, config.training(), {"prefetch": prefetch})

    return comparison.in_turn(config, PEER, "workers", train_pyg, ours)


if __name__ == "__main__":
    config = parse(PygConfig, __doc__)
    head = (
        f"{config.graph}, {config.ranks} ranks on one host, batch {config.batch_size}, hidden "
        f"{config.hidden}; epochs {config.epochs}, repeats {config.repeats}"
    )
    answer(config, measure, lambda found: comparison.describe(head, PEER, "workers", found))
