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

import json
import sysconfig
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.lab.hosts import cores_for
from benchmarks.peers.comparison import (
    Run,
    Task,
    best_setting,
    read_peer,
    report,
    summarize,
    table,
    told,
    train_ours,
)
from benchmarks.peers.environment import HOME, Environment
from benchmarks.peers.job import MemoryWatch, run_together
from benchmarks.runs import parts_of
from benchmarks.traces import check_graph
from minidist.graph import Graph
from minidist.store.partition_dir import Parts
from rudder.cli.flags import flag, parse, require

PEER = "PyG"
PROGRAMS = Path(__file__).parent / "programs"
_LIMIT_S = 900.0
_TRIAL_EPOCHS = 3
_WORKERS = (0, 1, 2)
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
class PygConfig:
    """Settings of ``python -m benchmarks.peers.pyg``."""

    graph: str = flag("synthetic:medium", "a graph of benchmarks.traces")
    ranks: int = flag(2, "processes of either side")
    variants: str = flag("none,overlap", "of ours, with commas between")
    hidden: int = flag(64, "hidden units")
    batch_size: int = flag(1000, "seed nodes of a rank in a step")
    epochs: int = flag(5, "epochs of a run; the first is not counted")
    repeats: int = flag(3, "runs of each, in turn")
    workers: int | None = flag(None, "loader workers of a PyG process (default: try)")
    folder: str = flag("runs/peers", "where partitions are kept; made there where missing")
    env: str = flag(str(HOME / "pyg"), "PyG's environment; made there where missing")
    json: str | None = flag(None, "also write everything to this file")

    def __post_init__(self) -> None:
        check_graph(self.graph)
        for name in ("ranks", "hidden", "batch_size", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.epochs >= 2, "epochs", self.epochs, "at least 2: the first is not counted")
        require(self.workers is None or self.workers >= 0, "workers", self.workers, "0 or more")


@dataclass(frozen=True)
class Bench:
    """What every run of either side is given."""

    config: PygConfig
    task: Task
    python: Path
    parts: Parts
    graph: Graph


def environment(folder: Path) -> Environment:
    """Where PyG's sampler is or will be."""
    borrowed = Path(sysconfig.get_path("purelib"))
    return Environment(PEER, folder, _INSTALLS, _PROBE, borrowed)


def train_pyg(bench: Bench, workers: int, task: Task) -> Run:
    """One run of PyG. Raises ValueError with its last words if it fails."""
    ranks, graph = bench.config.ranks, bench.graph
    with tempfile.TemporaryDirectory(prefix="pyg-") as name:
        out = Path(name)
        arrays = {each: getattr(graph, each) for each in ("indptr", "indices", "x", "y")}
        np.savez(out / "graph.npz", train_ids=np.flatnonzero(graph.train_mask), **arrays)
        np.savez(out / "first_weights.npz", **task.first_weights(bench.parts))  # type: ignore[arg-type]
        settings = {
            **task.for_peer(bench.parts),
            "ranks": ranks,
            "workers": workers,
            "threads": cores_for(ranks),
            "out": name,
        }
        (out / "settings.json").write_text(json.dumps(settings))
        words = [str(bench.python), str(PROGRAMS / "pyg_train.py"), str(out / "settings.json")]
        commands = [[*words, str(rank)] for rank in range(ranks)]
        threads = {"OMP_NUM_THREADS": str(cores_for(ranks))}
        with MemoryWatch() as watch:
            run_together(commands, {**watch.mark, **threads}, out / "log", _LIMIT_S)
        return read_peer(PEER, out, graph, watch.peak)


def measure(config: PygConfig) -> dict[str, Any]:
    """What ``--json`` writes. Raises PeerMissing, and ValueError where a run fails."""
    python = environment(Path(config.env).absolute()).prepare()
    parts = Parts.open(parts_of(config.graph, config.ranks, Path(config.folder)))
    task = Task(hidden=config.hidden, batch_size=config.batch_size, epochs=config.epochs)
    bench = Bench(config, task, python, parts, parts.graph())
    workers, trials = best_setting(
        config.workers,
        _WORKERS,
        "workers",
        lambda workers: train_pyg(bench, workers, replace(task, epochs=_TRIAL_EPOCHS)).epoch_s,
    )
    runs = []
    for side in tqdm(
        [PEER, *config.variants.split(",")] * config.repeats, unit="run", disable=None
    ):
        if side == PEER:
            runs.append(train_pyg(bench, workers, task))
        else:
            runs.append(train_ours(parts.path, task, {"prefetch": side}))
    return {
        "benchmark": "peers.pyg",
        "config": asdict(config),
        "workers": workers,
        "trials": trials,
        "sides": summarize(PEER, runs),
        "runs": [asdict(run) for run in runs],
    }


def describe(found: dict[str, Any]) -> str:
    """The report for people."""
    config = found["config"]
    lines = [
        f"{config['graph']}, {config['ranks']} ranks on one host, batch {config['batch_size']}, "
        f"hidden {config['hidden']}; epochs {config['epochs']}, repeats {config['repeats']}",
        f"{PEER} with {found['workers']} loader workers a process"
        + told(found["trials"], "workers"),
        table(found["sides"]),
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    config = parse(PygConfig, __doc__)
    report(lambda: measure(config), describe, config.json)


if __name__ == "__main__":
    main()
