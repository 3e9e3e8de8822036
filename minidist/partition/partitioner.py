"""Assign nodes to parts, report what that costs, and write the partition directory."""

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pymetis
from numpy.typing import NDArray
from tqdm import tqdm

from minidist.comm.host import available_bytes
from minidist.comm.launch import shows_progress
from minidist.config import PartitionConfig
from minidist.data.datasets import load_dataset
from minidist.data.graph_source import source_of
from minidist.graph import Array, Graph
from minidist.partition import memory_estimate as memory
from minidist.partition.adjacency import Adjacency, is_symmetric
from minidist.partition.balance_limits import (
    CUT_TOLERANCE,
    EDGE_TOLERANCE,
    LOADS,
    NODE_TOLERANCE,
    TRAIN_TOLERANCE,
    Bounds,
)
from minidist.partition.cut_search import tighten
from minidist.partition.partition_stats import Quality
from minidist.partition.random_partition import deal
from minidist.partition.streaming_partition import stream
from minidist.partition.writer import check_writable, write_parts
from rudder.cli.whole_file import require_writable, write_json

# Graphs of fewer edges are started from many METIS runs, up to this many edges in all.
SEARCH_EDGES = 16_000_000
MAX_STARTS = 64
MOST_SEED = 2**31 - 1  # of METIS
# Weight of a node: shares of the nodes, of the in-edges and of the training nodes.
BLENDS = ((1, 2, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """Which part each node goes to. part: int32 [N], by original id."""

    part: NDArray[np.int32]
    num_parts: int
    method: str
    seed: int
    quality: Quality


def assign(
    graph: Graph, num_parts: int, method: str, seed: int = 0, *, progress: bool = False
) -> Assignment:
    """Assign nodes to parts by ``metis``, ``random`` or ``stream``; the same for the same seed.

    Training nodes stay within 5% of the mean, nodes and edges within 15% where the graph allows.
    Raises ValueError on more parts than nodes or training nodes.
    """
    num_train = int(graph.train_mask.sum())
    if not 1 <= num_parts <= graph.num_nodes:
        raise ValueError(
            f"--parts {num_parts}: expected 1 to {graph.num_nodes}, the nodes of {graph.name!r}"
        )
    if num_parts > num_train:
        raise ValueError(
            f"--parts {num_parts}: graph {graph.name!r} has {num_train} training nodes, so a part "
            f"would be without training nodes; use at most {num_train} parts"
        )
    if num_parts == 1:
        part = np.zeros(graph.num_nodes, np.int32)
    elif method == "metis":
        part = _metis_within_bounds(graph, num_parts, seed, progress)
    elif method == "random":
        part = deal(graph, num_parts, seed)
    elif method == "stream":
        part = stream(graph, num_parts, Bounds.of(graph, num_parts), progress=progress)
    else:
        raise ValueError(f"--method {method}: expected metis, random or stream")
    quality = Quality.of(graph, part, num_parts)
    return Assignment(part=part, num_parts=num_parts, method=method, seed=seed, quality=quality)


def plain_metis(adjacency: Adjacency, num_parts: int) -> NDArray[np.int32]:
    """pymetis with its defaults, int32 [N]: the yardstick of the edge cut."""
    return _metis(_wide(adjacency), num_parts)


def _metis_within_bounds(
    graph: Graph, num_parts: int, seed: int, progress: bool
) -> NDArray[np.int32]:
    adjacency = Adjacency.of(graph)
    starts = list(_starts(graph, adjacency, num_parts, seed, progress))
    return tighten(graph, adjacency, starts, num_parts, progress=progress)


def _starts(
    graph: Graph, adjacency: Adjacency, num_parts: int, seed: int, progress: bool
) -> Iterator[NDArray[np.int32]]:
    """Plain METIS, then METIS with blended weights, more often the smaller the graph."""
    wide = _wide(adjacency)
    num_starts = min(MAX_STARTS, max(1, SEARCH_EDGES // max(1, graph.num_edges)))
    for i in tqdm(range(-1, num_starts), "METIS", disable=not progress):
        if i < 0:
            yield _metis(wide, num_parts)
            continue
        weights = blended_weights(graph, BLENDS[i % len(BLENDS)])
        options = pymetis.Options(
            seed=(seed + i) % MOST_SEED, ufactor=(50, 100)[i // len(BLENDS) % 2]
        )
        # Recursive bisection gave the lower cut after correction on most real graphs.
        yield _metis(wide, num_parts, weights, options, recursive=True)


def blended_weights(graph: Graph, blend: tuple[int, int, int]) -> Array:
    """One weight a node, METIS integers [N]: a blend of its shares of the three loads."""
    weights = blend[0] / graph.num_nodes + blend[1] * np.diff(graph.indptr) / max(
        1, graph.num_edges
    )
    weights += blend[2] * graph.train_mask / graph.train_mask.sum()
    # METIS adds weights up in its integers, which are 32 bits wide in some builds.
    scaled = np.maximum(1, weights * (1 << 29) / weights.sum())
    return np.asarray(scaled.astype(pymetis.zero_copy_dtype()))


def _wide(adjacency: Adjacency) -> pymetis.CSRAdjacency:
    """The adjacency in METIS's own integer type: then pymetis makes no copy of it."""
    dtype = pymetis.zero_copy_dtype()
    return pymetis.CSRAdjacency(
        adjacency.starts.astype(dtype, copy=False), adjacency.adjacent.astype(dtype, copy=False)
    )


def _metis(
    adjacency: pymetis.CSRAdjacency,
    num_parts: int,
    weights: Any = None,
    options: pymetis.Options | None = None,
    recursive: bool | None = None,
) -> NDArray[np.int32]:
    _, part = pymetis.part_graph(
        num_parts, adjacency, vweights=weights, options=options, recursive=recursive
    )
    return np.asarray(part).astype(np.int32)


def _print_report(assignment: Assignment, seconds: float) -> None:
    print(assignment.quality.table())
    tolerances = (NODE_TOLERANCE, EDGE_TOLERANCE, TRAIN_TOLERANCE)
    for name, ratio, most in zip(LOADS, assignment.quality.imbalance, tolerances, strict=True):
        if ratio > most + 1e-6:
            print(
                f"note: the largest part has {ratio - 1:.0%} more {name} than the mean; "
                f"{most - 1:.0%} were not to be had on this graph"
                + (
                    f" at an edge cut within {CUT_TOLERANCE - 1:.0%} of METIS alone"
                    if assignment.method == "metis"
                    else ""
                )
            )
    print(f"assigned in {seconds:.1f} s")


def run(settings: PartitionConfig) -> None:
    """Load, assign, report, write. Raises ValueError on bad input."""
    out = Path(settings.out)
    check_writable(out, settings.overwrite)
    try:
        if settings.json is not None:
            require_writable(settings.json)
    except OSError as error:
        raise ValueError(f"--json {settings.json}: cannot write: {error.strerror}") from None
    seed, watched = settings.seed, shows_progress()
    with warnings.catch_warnings(record=True, category=UserWarning, action="always") as notes:
        graph = load_dataset(settings.dataset, root=settings.data_root, seed=seed, progress=watched)
    for told in notes:
        print(f"note: {told.message}")
    directed, free = not is_symmetric(graph), available_bytes()
    print(memory.describe(graph, settings.parts, settings.method, free, directed=directed))
    start = time.perf_counter()
    assignment = assign(graph, settings.parts, settings.method, seed, progress=watched)
    seconds = time.perf_counter() - start
    _print_report(assignment, seconds)
    write_parts(
        out,
        graph,
        assignment.part,
        halo_hops=settings.halo_hops,
        method=settings.method,
        seed=seed,
        statistics=assignment.quality.statistics(),
        source=source_of(settings.dataset, seed),
        num_parts=settings.parts,
        overwrite=settings.overwrite,
        progress=watched,
    )
    print(f"wrote {out}")
    if settings.json is not None:
        report = {"config": vars(settings), "seconds": round(seconds, 3)}
        write_json(settings.json, {**report, **assignment.quality.statistics()})
