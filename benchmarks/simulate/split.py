"""Split: one graph, without its features, in as many parts as are asked for."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from minidist.data.datasets import load_dataset
from minidist.graph import Graph
from minidist.partition.partitioner import assign
from minidist.partition.writer import write_parts
from minidist.store.partition_dir import Parts


@dataclass(frozen=True, kw_only=True)
class Split:
    """dataset: as ``minidist.train`` names it.   method: the partitioner.

    The directories hold one column in place of the features; how many there are is among their
    statistics, ``num_features``.
    """

    dataset: str
    method: str
    seed: int = 0

    def parts(self, count: int, folder: Path) -> Parts:
        """The graph in ``count`` parts; made in the folder where missing. Raises ValueError."""
        name = Path(self.dataset.removeprefix("npz:")).stem.replace(":", "-")
        path = folder / f"{name}-{self.method}-s{self.seed}-p{count}"
        if not path.exists():
            graph, num_features = self._graph
            assignment = assign(graph, count, self.method, self.seed)
            write_parts(
                path,
                graph,
                assignment.part,
                halo_hops=0,
                method=self.method,
                seed=self.seed,
                statistics={**assignment.quality.statistics(), "num_features": num_features},
                num_parts=count,
            )
        return Parts.open(path)

    @cached_property
    def _graph(self) -> tuple[Graph, int]:
        graph = load_dataset(self.dataset, seed=self.seed, progress=True)
        column = np.zeros((graph.num_nodes, 1), np.float32)
        return replace(graph, x=column), graph.num_features
