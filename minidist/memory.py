"""Memory: how much a partitioner will need, and how much there is.

N nodes, E directed edges, P parts.
"""

from pathlib import Path

from minidist.graph import Graph

# Measured on power-law graphs of 0.2 to 2.4 million nodes: METIS holds its own copies of the
# adjacency with edge weights, at every level of coarsening.
METIS_BYTES_PER_EDGE = 40
METIS_BYTES_PER_NODE = 160


def graph_bytes(graph: Graph) -> int:
    """What the graph itself occupies; features may be memory-mapped and then count for nothing."""
    arrays = (graph.indptr, graph.indices, graph.x, graph.y)
    in_memory = [array for array in arrays if not hasattr(array, "filename")]
    return sum(array.nbytes for array in in_memory) + 3 * graph.num_nodes


def partition_bytes(graph: Graph, num_parts: int, method: str) -> int:
    """Estimated peak beside the graph, to assign nodes and to write the parts."""
    num_nodes, num_edges = graph.num_nodes, graph.num_edges
    write = 40 * num_nodes + (1 << 26)
    if method != "metis":
        return write + 32 * num_nodes
    metis = METIS_BYTES_PER_EDGE * num_edges + METIS_BYTES_PER_NODE * num_nodes
    correct = (4 * num_parts + 64) * num_nodes
    return max(metis, correct, write)


def available_bytes() -> int | None:
    """What this process may still take: of the machine and of its control group; None: unknown."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    most, used = group / "memory.max", group / "memory.current"
    if most.is_file() and used.is_file() and (text := most.read_text().strip()) != "max":
        limits.append(int(text) - int(used.read_text()))
    return min(limits, default=None)
