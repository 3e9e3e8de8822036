"""Quality: what a partition costs and how even it is.

N nodes, P parts, K = 3 loads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from minidist.graph import Array, Graph
from minidist.partition.adjacency import count_cut
from minidist.partition.balance_limits import LOADS, part_loads


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """Edge cut, loads and halo of an assignment of nodes to parts.

    num_cut: directed edges whose ends lie in different parts, of num_edges.
    loads: int64 [P, K].   halo: int64 [P], distinct remote sources of the part's in-edges.
    """

    num_edges: int
    num_cut: int
    loads: NDArray[np.int64]
    halo: NDArray[np.int64]

    @classmethod
    def of(cls, graph: Graph, part: Array, num_parts: int) -> "Quality":
        order = np.argsort(part, kind="stable")
        return cls(
            num_edges=graph.num_edges,
            num_cut=int(count_cut(graph.indptr, graph.indices, part)),
            loads=part_loads(graph, part, num_parts),
            halo=_count_halo(graph.indptr, graph.indices, part, order, num_parts),
        )

    @property
    def cut_share(self) -> float:
        return self.num_cut / max(1, self.num_edges)

    @property
    def imbalance(self) -> NDArray[np.float64]:
        """float64 [K]: the largest part of each load over the mean."""
        return np.asarray(self.loads.max(axis=0) / np.maximum(1e-9, self.loads.mean(axis=0)))

    def statistics(self) -> dict[str, Any]:
        """The same for machines."""
        names = [name.replace(" ", "_") for name in LOADS]
        return {
            "edge_cut": self.num_cut,
            "edge_cut_share": round(self.cut_share, 6),
            "imbalance": dict(zip(names, self.imbalance.round(4).tolist(), strict=True)),
            "parts": [
                {**dict(zip(names, loads, strict=True)), "halo": halo}
                for loads, halo in zip(self.loads.tolist(), self.halo.tolist(), strict=True)
            ],
        }

    def table(self) -> str:
        """The same for people."""
        head = ["part", *LOADS, "halo", "halo / nodes"]
        rows = [
            [f"{part}", *(f"{load:,}" for load in loads), f"{halo:,}", f"{halo / loads[0]:.1%}"]
            for part, (loads, halo) in enumerate(
                zip(self.loads.tolist(), self.halo.tolist(), strict=True)
            )
        ]
        rows.append(["largest / mean", *(f"{ratio:.3f}" for ratio in self.imbalance), "", ""])
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *rows]
        ]
        cut = f"edge cut: {self.num_cut:,} of {self.num_edges:,} edges ({self.cut_share:.1%})"
        return "\n".join([*lines, cut])


@njit(cache=True, nogil=True)
def _count_halo(indptr, indices, part, order, num_parts):  # type: ignore[no-untyped-def]
    """Distinct remote sources per part; ``order`` lists the nodes part by part."""
    counts = np.zeros(num_parts, np.int64)
    last_part = np.full(len(part), -1, np.int32)  # the last part that has counted this node
    for v in order:
        p = part[v]
        for i in range(indptr[v], indptr[v + 1]):
            u = indices[i]
            if part[u] != p and last_part[u] != p:
                last_part[u] = p
                counts[p] += 1
    return counts
