"""The graph that the sampler and step benchmarks share: 200k nodes, 4.4M directed edges."""

from minidist.graph import Graph
from minidist.synthetic import PRESETS, generate

NUM_SEEDS = 1000
FANOUTS = (10, 25)


def benchmark_graph(seed: int = 0) -> Graph:
    """``synthetic:medium``: power-law degrees, 100 features, 20,000 training nodes."""
    return generate(PRESETS["medium"], seed, "synthetic:medium")
