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

import json
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.command import Row, answer, at_least
from benchmarks.micro import FANOUTS, NUM_SEEDS, medians_ms
from benchmarks.runs import output_of
from rudder.cli.flags import flag, parse, require

if TYPE_CHECKING:
    from minidist.graph import Graph
    from minidist.store.partition_book import Ids

_DGL = """
import sys, time, statistics, types, numpy as np, torch
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
print(1e3 * statistics.median(times))
"""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    minibatches: int = flag(200, "of each graph")
    dgl_python: str | None = flag(None, "an interpreter that has dgl installed")
    presets: tuple[str, ...] = flag(("medium", "products"), "of generated graphs")

    def __post_init__(self) -> None:
        from minidist.data.synthetic import PRESETS

        at_least(self, 1, "minibatches")
        for name in self.presets:
            require(name in PRESETS, "presets", name, f"some of {', '.join(PRESETS)}")


def _floor() -> Any:
    """A compiled pass that reads entries at these positions and writes them once."""
    from numba import njit

    @njit(nogil=True)
    def read(indices, positions):  # type: ignore[no-untyped-def]
        out = indices[:1].repeat(len(positions))
        for i in range(len(positions)):
            out[i] = indices[positions[i]]
        return out

    return read


def _plain(graph: "Graph", seeds: "Ids") -> None:
    """The minibatch of epoch 0, step 0, drawn and placed in Python."""
    from minidist.sampling.kernels import draw_neighbors_plain, hop_key, place_nodes_plain

    node_ids, start = [int(seed) for seed in seeds], 0
    for hop, fanout in enumerate(FANOUTS):
        frontier, start = node_ids[start:], len(node_ids)
        key = hop_key(0, 0, 0, 0, hop)
        drawn: list[int] = []
        for node in frontier:
            row = graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
            drawn += draw_neighbors_plain(row, node, key, fanout)
        place_nodes_plain(drawn, node_ids)


def _dgl_ms(python: str, graph: "Graph", seeds: "Ids") -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.npz"
        indices = graph.indices.astype(np.int64)
        np.savez(file, indptr=graph.indptr, indices=indices, seeds=seeds)
        words = [python, "-c", _DGL, str(file), ",".join(map(str, FANOUTS))]
        return float(output_of(words, {}).split()[-1])


def _measure_one(preset: str, config: SamplerConfig) -> Row:
    from minidist.data.synthetic import PRESETS, generate
    from minidist.moment import Moment
    from minidist.sampling.neighbor_sampler import NeighborSampler
    from minidist.store.shard import whole

    graph = generate(PRESETS[preset], 0, f"synthetic:{preset}")
    shard = whole(graph)
    sampler = NeighborSampler(shard, [shard], fanouts=FANOUTS, seed=0, rank=0)
    rng, steps, floor = np.random.default_rng(0), count(), _floor()
    seeds = [rng.choice(shard.train_ids, NUM_SEEDS, replace=False) for _ in range(20)]
    edges = len(sampler.sample(seeds[0], Moment(0, 0)).sources)

    def sample(positions: "Ids") -> None:
        step = next(steps)
        sampler.sample(seeds[step % 20], Moment(0, step))

    times = medians_ms(
        {"minibatch_ms": sample, "floor_ms": lambda positions: floor(graph.indices, positions)},
        config.minibatches,
        given=lambda: (rng.integers(graph.num_edges, size=edges),),
    )
    times |= medians_ms({"plain_ms": lambda: _plain(graph, seeds[0])}, 1, warm_up=0)
    ms = times["minibatch_ms"]
    found: Row = {"benchmark": "sampler", "nodes": graph.num_nodes, "edges": edges}
    found |= {"minibatches_per_s": 1e3 / ms, **times}
    found |= {"ratio_to_floor": ms / times["floor_ms"], "ratio_plain": times["plain_ms"] / ms}
    if config.dgl_python:
        found["dgl_ms"] = _dgl_ms(config.dgl_python, graph, np.stack(seeds))
        found["ratio_dgl"] = found["dgl_ms"] / ms
    return found


if __name__ == "__main__":
    answer(
        parse(SamplerConfig, __doc__),
        lambda config: {"graphs": [_measure_one(preset, config) for preset in config.presets]},
        lambda found: "\n".join(map(json.dumps, found["graphs"])),
    )
