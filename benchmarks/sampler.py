r"""Minibatches a second of the neighbour sampler, relabelling included.

    python -m benchmarks.sampler                                  in the caches' reach, and beyond
    python -m benchmarks.sampler --presets medium
    python -m benchmarks.sampler --dgl-python DIR/bin/python      beside DGL's C++ NeighborSampler

    python3 -m venv DIR                                           where DIR holds DGL
    DIR/bin/pip install torch==2.13.0 "numpy<2" "setuptools<70" packaging scipy networkx requests \
        tqdm psutil pandas pydantic pyyaml
    DIR/bin/pip install --no-deps dgl==2.1.0 torchdata==0.9.0

One thread, 1000 seeds, fanout 10,25, on 200k nodes and 4.4M edges with power-law degrees, then on
2.4M nodes and 124M edges, which take a minute to generate; a JSON line for each. The floor is one
pass that reads as many neighbour entries at random and writes them once, measured between
the minibatches of the same run; the plain twin draws and places in Python.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from benchmarks.powerlaw import FANOUTS, NUM_SEEDS
from minidist.data.synthetic import PRESETS, generate
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.sampling.kernels import draw_neighbors_plain, hop_key, place_nodes_plain
from minidist.sampling.neighbor_sampler import NeighborSampler
from minidist.store.partition_book import Ids
from minidist.store.shard import whole

_DGL = """
import sys, time, json, statistics, types, numpy as np, torch
# dgl 2.1 loads a library of its own for GraphBolt, which exists for old PyTorch only.
sys.modules["dgl.graphbolt"] = types.ModuleType("dgl.graphbolt")
import dgl
torch.set_num_threads(1)
data = np.load(sys.argv[1])
edges = torch.from_numpy(data["indptr"]), torch.from_numpy(data["indices"]), []
graph = dgl.graph(("csc", edges))
sampler = dgl.dataloading.NeighborSampler([int(n) for n in sys.argv[2].split(",")][::-1])
times = []
for seeds in torch.from_numpy(data["seeds"]):
    began = time.perf_counter()
    sampler.sample(graph, seeds)
    times.append(time.perf_counter() - began)
print(json.dumps(1e3 * statistics.median(times)))
"""


@njit(nogil=True)
def _floor(indices, positions, out):  # type: ignore[no-untyped-def]
    for i in range(len(positions)):
        out[i] = indices[positions[i]]


def _plain(graph: Graph, seeds: Ids, moment: Moment) -> None:
    node_ids, start = [int(seed) for seed in seeds], 0
    for hop, fanout in enumerate(FANOUTS):
        frontier, start = node_ids[start:], len(node_ids)
        key = hop_key(0, moment.epoch, moment.step, 0, hop)
        drawn: list[int] = []
        for node in frontier:
            row = graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
            drawn += draw_neighbors_plain(row, node, key, fanout)
        place_nodes_plain(drawn, node_ids)


def _dgl_ms(python: str, graph: Graph, seeds: Ids) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.npz"
        indices = graph.indices.astype(np.int64)
        np.savez(file, indptr=graph.indptr, indices=indices, seeds=seeds)
        words = [python, "-c", _DGL, str(file), ",".join(map(str, FANOUTS))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure, and print one JSON line for each graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minibatches", type=int, default=200)
    parser.add_argument("--dgl-python", help="an interpreter that has dgl installed")
    parser.add_argument("--presets", nargs="+", default=["medium", "products"])
    options = parser.parse_args()
    for preset in options.presets:
        print(json.dumps(_measure(preset, options)), flush=True)


def _measure(preset: str, options: argparse.Namespace) -> dict[str, Any]:
    graph = generate(PRESETS[preset], 0, f"synthetic:{preset}")
    shard = whole(graph)
    sampler = NeighborSampler(shard, [shard], fanouts=FANOUTS, seed=0, rank=0)
    rng = np.random.default_rng(0)
    seeds = [rng.choice(shard.train_ids, NUM_SEEDS, replace=False) for _ in range(20)]
    ours, floors, edges = [], [], []
    for step in range(options.minibatches + 5):
        began = time.perf_counter()
        sample = sampler.sample(seeds[step % 20], Moment(0, step))
        ours.append(time.perf_counter() - began)
        edges.append(len(sample.sources))
        positions = rng.integers(graph.num_edges, size=edges[-1])
        began = time.perf_counter()
        _floor(graph.indices, positions, np.empty(edges[-1], graph.indices.dtype))
        floors.append(time.perf_counter() - began)
    began = time.perf_counter()
    _plain(graph, seeds[0], Moment(0, 0))
    plain = time.perf_counter() - began
    # The first ones compile.
    median, floor = statistics.median(ours[5:]), statistics.median(floors[5:])
    found: dict[str, Any] = {
        "benchmark": "sampler",
        "nodes": graph.num_nodes,
        "minibatch_ms": 1e3 * median,
        "minibatches_per_s": 1 / median,
        "edges": statistics.median(edges),
        "floor_ms": 1e3 * floor,
        "ratio_to_floor": median / floor,
        "plain_ms": 1e3 * plain,
        "ratio_plain": plain / median,
    }
    if options.dgl_python:
        found["dgl_ms"] = _dgl_ms(options.dgl_python, graph, np.stack(seeds))
        found["ratio_dgl"] = found["dgl_ms"] / found["minibatch_ms"]
    return found


if __name__ == "__main__":
    main()
