"""pymetis alone against ours: seconds, edge cut, balance and peak memory, each in its own process.

    python -m benchmarks.partition
    python -m benchmarks.partition --dataset npz:data/real/tolokers.npz --parts 8
    python -m benchmarks.partition --nodes 2400000 --edges 124000000 --parts 4 --methods plain,metis

Peak memory counts everything above the graph and the libraries. The last line is JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidist.data.datasets import load_dataset
from minidist.data.synthetic import SyntheticSpec, generate
from minidist.graph import Graph
from minidist.partition import memory_estimate as memory
from minidist.partition.adjacency import Adjacency
from minidist.partition.balance_limits import LOADS
from minidist.partition.partition_stats import Quality
from minidist.partition.partitioner import assign, plain_metis
from rudder.cli.flags import fail, flag, parse, require

METHODS = ("plain", "metis", "stream", "random")
ARRAYS = ("indptr", "indices", "train_mask")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Settings of ``python -m benchmarks.partition``."""

    dataset: str | None = flag(None, "dataset to use in place of a generated graph")
    data_root: str = flag("data", "folder where datasets are kept")
    nodes: int = flag(200_000, "nodes of the generated graph")
    edges: int = flag(4_000_000, "directed edges of the generated graph, before duplicates go")
    parts: int = flag(4, "number of parts")
    seed: int = flag(0, "seed of the generated graph and of the partitioner")
    methods: str = flag(",".join(METHODS), "which methods, with commas between")

    def __post_init__(self) -> None:
        require(self.nodes >= 100, "nodes", self.nodes, "at least 100")
        require(self.edges >= 2 * self.nodes, "edges", self.edges, "at least two a node")
        require(self.parts >= 2, "parts", self.parts, "at least 2")
        known = set(self.methods.split(",")) <= set(METHODS)
        require(known, "methods", self.methods, f"some of {', '.join(METHODS)}")


def _graph(settings: BenchmarkConfig) -> Graph:
    if settings.dataset is not None:
        return load_dataset(settings.dataset, root=settings.data_root, seed=settings.seed)
    spec = SyntheticSpec(
        num_nodes=settings.nodes,
        mean_degree=settings.edges / settings.nodes,
        num_features=1,
        num_classes=16,
        num_train=settings.nodes // 10,
        num_val=settings.nodes // 10,
    )
    return generate(spec, settings.seed)


def _peak_bytes() -> int:
    """Peak of this process alone (ru_maxrss would start at the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _worker(folder: Path, method: str, num_parts: int, seed: int) -> None:
    """Partition the graph in ``folder``; the result goes to stdout as JSON."""
    arrays = {name: np.load(folder / f"{name}.npy") for name in ARRAYS}
    num_nodes = len(arrays["indptr"]) - 1
    none = np.zeros(num_nodes, np.bool_)
    graph = Graph(
        name="benchmark",
        **arrays,
        x=np.zeros((num_nodes, 0), np.float32),
        y=np.zeros(num_nodes, np.int64),
        val_mask=none,
        test_mask=none,
        num_classes=1,
    )
    # Compile the kernels first: they are cached on disk, but loading them takes memory too.
    tiny = load_dataset("synthetic:tiny")
    for warm_up in {"plain": (), "metis": ("metis",)}.get(method, (method,)):
        assign(tiny, 2, warm_up, seed)
    before, start = _peak_bytes(), time.perf_counter()
    if method == "plain":
        part = plain_metis(Adjacency.of(graph), num_parts)
        seconds, quality = time.perf_counter() - start, Quality.of(graph, part, num_parts)
    else:
        quality = assign(graph, num_parts, method, seed).quality
        seconds = time.perf_counter() - start
    estimated = "metis" if method == "plain" else method
    result = {
        "method": method,
        "seconds": round(seconds, 2),
        "cut": quality.num_cut,
        "cut_share": round(quality.cut_share, 4),
        "imbalance": quality.imbalance.round(3).tolist(),
        "halo": int(quality.halo.sum()),
        "peak_mb": round((_peak_bytes() - before) / 1e6, 1),
        "estimate_mb": round(memory.partition_bytes(graph, num_parts, estimated) / 1e6, 1),
    }
    print(json.dumps(result))


def run(settings: BenchmarkConfig) -> dict[str, Any]:
    """Every method in its own process; results by method, with ratios to METIS alone."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        graph = _graph(settings)
        for array in ARRAYS:
            np.save(Path(name) / f"{array}.npy", getattr(graph, array))
        sizes = {"nodes": graph.num_nodes, "edges": graph.num_edges, "parts": settings.parts}
        del graph
        print(", ".join(f"{count:,} {what}" for what, count in sizes.items()), flush=True)
        for method in settings.methods.split(","):
            command = [sys.executable, "-m", "benchmarks.partition", "worker", name, method]
            command += [str(settings.parts), str(settings.seed)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            result = json.loads(output.splitlines()[-1])
            plain = results.get("plain", result)
            result["cut_ratio"] = round(result["cut"] / max(1, plain["cut"]), 3)
            result["memory_ratio"] = round(result["peak_mb"] / max(0.1, plain["peak_mb"]), 2)
            results[method] = result
            imbalance = ", ".join(
                f"{what} {ratio:.2f}"
                for what, ratio in zip(LOADS, result["imbalance"], strict=True)
            )
            print(
                f"{method:>7}: {result['seconds']:8.2f} s, cut {result['cut_share']:6.1%} "
                f"(x{result['cut_ratio']:.3f}), {imbalance}, "
                f"peak {result['peak_mb']:,.0f} MB (x{result['memory_ratio']:.2f})",
                flush=True,
            )
    return {**sizes, "results": list(results.values())}


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        folder, method, parts, seed = sys.argv[2:6]
        _worker(Path(folder), method, int(parts), int(seed))
        return
    try:
        print(json.dumps(run(parse(BenchmarkConfig, __doc__ or ""))))
    except ValueError as error:
        fail(error)


if __name__ == "__main__":
    main()
