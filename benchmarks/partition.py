"""pymetis alone against ours: seconds, edge cut, balance and peak memory, each in its own process.

    python -m benchmarks.partition
    python -m benchmarks.partition --dataset npz:data/real/tolokers.npz --parts 8
    python -m benchmarks.partition --nodes 2400000 --edges 124000000 --parts 4 --methods plain,metis

Peak memory counts everything above the graph and the libraries. The last line is JSON.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.command import Row, answer, at_least, one_line, table
from benchmarks.runs import output_of
from rudder.cli.flags import flag, parse, require

if TYPE_CHECKING:
    from minidist.graph import Graph

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
        at_least(self, 100, "nodes")
        at_least(self, 2, "parts")
        require(self.edges >= 2 * self.nodes, "edges", self.edges, "at least two a node")
        known = set(self.methods.split(",")) <= set(METHODS)
        require(known, "methods", self.methods, f"some of {', '.join(METHODS)}")


def _graph(config: BenchmarkConfig) -> "Graph":
    from minidist.data.datasets import load_dataset
    from minidist.data.synthetic import SyntheticSpec, generate

    if config.dataset is not None:
        return load_dataset(config.dataset, root=config.data_root, seed=config.seed)
    tenth = config.nodes // 10
    sizes: dict[str, Any] = {"num_features": 1, "num_classes": 16}
    sizes |= {"num_nodes": config.nodes, "mean_degree": config.edges / config.nodes}
    return generate(SyntheticSpec(**sizes, num_train=tenth, num_val=tenth), config.seed)


def _peak_bytes() -> int:
    """Peak of this process alone (ru_maxrss would start at the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _one(folder: Path, method: str, num_parts: int, seed: int) -> Row:
    """Partition the graph in a folder, by one method, in this process."""
    import numpy as np

    from minidist.data.datasets import load_dataset
    from minidist.graph import Graph
    from minidist.partition import memory_estimate as memory
    from minidist.partition.adjacency import Adjacency
    from minidist.partition.partition_stats import Quality
    from minidist.partition.partitioner import assign, plain_metis

    arrays = {name: np.load(folder / f"{name}.npy") for name in ARRAYS}
    num = len(arrays["indptr"]) - 1
    none: dict[str, Any] = dict.fromkeys(("val_mask", "test_mask"), np.zeros(num, np.bool_))
    none |= {"x": np.zeros((num, 0), np.float32), "y": np.zeros(num, np.int64)}
    graph = Graph(name="benchmark", num_classes=1, **arrays, **none)
    # Compile the kernels first: they are cached on disk, but loading them takes memory too.
    if method != "plain":
        assign(load_dataset("synthetic:tiny"), 2, method, seed)
    before, start = _peak_bytes(), time.perf_counter()
    if method == "plain":
        part = plain_metis(Adjacency.of(graph), num_parts)
        seconds, quality = time.perf_counter() - start, Quality.of(graph, part, num_parts)
    else:
        quality = assign(graph, num_parts, method, seed).quality
        seconds = time.perf_counter() - start
    estimated = "metis" if method == "plain" else method
    return {
        "method": method,
        "seconds": round(seconds, 2),
        "cut": quality.num_cut,
        "cut_share": round(quality.cut_share, 4),
        "imbalance": quality.imbalance.round(3).tolist(),
        "halo": int(quality.halo.sum()),
        "peak_mb": round((_peak_bytes() - before) / 1e6, 1),
        "estimate_mb": round(memory.partition_bytes(graph, num_parts, estimated) / 1e6, 1),
    }


def measure(config: BenchmarkConfig) -> Row:
    """Every method in its own process, with ratios to METIS alone, or to the first one."""
    import numpy as np

    results: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        graph = _graph(config)
        for array in ARRAYS:
            np.save(Path(name) / f"{array}.npy", getattr(graph, array))
        sizes = {"nodes": graph.num_nodes, "edges": graph.num_edges, "parts": config.parts}
        del graph
        for method in config.methods.split(","):
            words = [sys.executable, "-m", "benchmarks.partition", "worker", name, method]
            words += [str(config.parts), str(config.seed)]
            results.append(json.loads(output_of(words, {}).splitlines()[-1]))
    for result in results:
        first = next((each for each in results if each["method"] == "plain"), results[0])
        result["cut_ratio"] = round(result["cut"] / max(1, first["cut"]), 3)
        result["memory_ratio"] = round(result["peak_mb"] / max(0.1, first["peak_mb"]), 2)
    return {**sizes, "results": results}


def text(found: Row) -> str:
    """For people, then JSON."""
    from minidist.partition.balance_limits import LOADS

    head = ", ".join(f"{found[name]:,} {name}" for name in ("nodes", "edges", "parts"))
    loads = [f"largest_{load.replace(' ', '_')}_/_mean" for load in LOADS]
    rows = [each | dict(zip(loads, each["imbalance"], strict=True)) for each in found["results"]]
    keys = "method seconds cut_share cut_ratio peak_mb memory_ratio " + " ".join(loads)
    return f"{head}\n{table(rows, keys)}\n{json.dumps(found)}"


def main() -> None:
    """The command line, or the process of one method."""
    if sys.argv[1:2] == ["worker"]:
        folder, method, parts, seed = sys.argv[2:6]
        with one_line():
            print(json.dumps(_one(Path(folder), method, int(parts), int(seed))))
        return
    answer(parse(BenchmarkConfig, __doc__), measure, text)


if __name__ == "__main__":
    main()
