"""Memory: how much a partitioner will need, and how much there is.

N nodes, E directed edges, P parts.
"""

import numpy as np

from minidist.graph import Graph

# METIS with 64-bit integers holds adjacency and edge weights at every level of coarsening. Measured
# beside the graph, on power-law graphs of 0.1 to 2.4 million nodes and 4 to 122 million edges: 73
# to 113 bytes an edge (13.6 GB for the largest), the least where the mean degree is highest.
METIS_BYTES_PER_EDGE = 115
METIS_BYTES_PER_NODE = 200
MIB = 1 << 20


def partition_bytes(graph: Graph, num_parts: int, method: str, *, directed: bool = False) -> int:
    """Estimated peak beside the graph, to assign nodes and to write the parts.

    directed: some edges lack their reverse, so METIS is given a copy that has both.
    """
    num_nodes, num_edges = graph.num_nodes, graph.num_edges
    write = 40 * num_nodes + (1 << 26)  # features and edges are copied in chunks
    if method != "metis":
        return write + 32 * num_nodes
    undirected = 0
    if directed:
        num_edges *= 2
        undirected = graph.indices.itemsize * num_edges
    metis = METIS_BYTES_PER_EDGE * num_edges + METIS_BYTES_PER_NODE * num_nodes
    correct = (4 * num_parts + 100) * num_nodes
    return max(undirected + max(metis, correct), write)


def describe(
    graph: Graph, num_parts: int, method: str, free: int | None, *, directed: bool = False
) -> str:
    """The estimate for people, with a warning where it is more than the ``free`` bytes."""
    # Memory-mapped features are read from the disk as they are copied.
    arrays = (graph.indptr, graph.indices, graph.x, graph.y, graph.train_mask)
    held = sum(array.nbytes for array in arrays if not isinstance(array, np.memmap))
    needed = partition_bytes(graph, num_parts, method, directed=directed)
    shown = "" if free is None else f", {free / MIB:,.0f} MiB available"
    lines = [
        f"{graph.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges, "
        f"{held / MIB:,.0f} MiB in memory",
        f"memory estimate for {method} into {num_parts} parts: {needed / MIB:,.0f} MiB{shown}",
    ]
    if free is not None and needed > free:
        advice = "; --method stream needs far less" if method == "metis" else ""
        lines.append(f"warning: this is more than there is, and may be killed for it{advice}")
    return "\n".join(lines)
