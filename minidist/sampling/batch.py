"""MiniBatch: a sampled neighbourhood with its features and labels, as tensors.

One CSR serves every layer, because a node's in-edges are drawn at one hop only: the layer that
produces the nodes of hops 0..h reads the rows of just those nodes, a prefix.

    places     | seeds | hop-1 nodes | hop-2 nodes |      2 layers
    layer 0 reads  all of x, writes  seeds + hop-1 nodes
    layer 1 reads  seeds + hop-1,  writes  seeds

B seeds, L layers, n nodes, m of them with in-edges, e edges, D features.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minidist.moment import Moment
from rudder.row_counts import RowCounts

if TYPE_CHECKING:
    from torch_geometric.data import Data

# PyTorch says "beta" on the first CSR tensor; what we use of it is held to PyG's own path by tests.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerEdges:
    """The edges that one layer reads: rows are the nodes it writes, columns those it reads.

    indptr: [num_dst + 1], sources: [edges], places; rows are the first ``num_dst`` nodes.
    """

    indptr: Tensor
    sources: Tensor
    num_dst: int
    num_src: int

    def csr(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[num_dst, num_src] sparse CSR of ones: PyG convs aggregate it 3x faster on CPUs."""
        return torch.sparse_csr_tensor(
            self.indptr,
            self.sources,
            torch.ones(len(self.sources), dtype=dtype, device=self.sources.device),
            size=(self.num_dst, self.num_src),
            check_invariants=False,
        )

    def edge_index(self) -> Tensor:
        """int64 [2, edges]: sources, then destinations."""
        degrees = self.indptr.diff()
        places = torch.arange(self.num_dst, device=degrees.device)
        return torch.stack([self.sources.long(), places.repeat_interleave(degrees.long())])


@dataclass(kw_only=True)
class StageSeconds:
    """What a minibatch took: sample and fetch in their threads, wait in the training loop."""

    sample: float = 0.0
    fetch: float = 0.0
    wait: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MiniBatch:
    """What one rank trains on in one step.

    n_id int64 [n] global ids, seeds first; x float32 [n, D]; y int64 [B] or float32 [B, C] of the
    seeds; indptr int64 [m + 1], sources int64 [e]; num_sampled_nodes (L + 1 numbers) and
    num_sampled_edges (L) per hop; num_global_seeds: seeds of all ranks in this step, what the sum
    of losses is divided by so that gradients summed over ranks are the mean over the global batch.
    rows: what became of its remote rows.   seconds: what it took.   copied: what the training
    stream of a GPU waits for.
    """

    moment: Moment
    n_id: Tensor
    x: Tensor
    y: Tensor
    indptr: Tensor
    sources: Tensor
    num_sampled_nodes: tuple[int, ...]
    num_sampled_edges: tuple[int, ...]
    num_global_seeds: int
    rows: RowCounts
    seconds: StageSeconds
    copied: "torch.cuda.Event | None" = None

    @property
    def batch_size(self) -> int:
        """Seeds of this rank; 0 where the other ranks have more training nodes than ours."""
        return self.num_sampled_nodes[0]

    @property
    def num_layers(self) -> int:
        return len(self.num_sampled_edges)

    def layer_edges(self, layer: int) -> LayerEdges:
        """Edges of a layer, 0 being the one that reads x."""
        num_dst = sum(self.num_sampled_nodes[: self.num_layers - layer])
        num_src = sum(self.num_sampled_nodes[: self.num_layers - layer + 1])
        num_edges = sum(self.num_sampled_edges[: self.num_layers - layer])
        return LayerEdges(
            indptr=self.indptr[: num_dst + 1],
            sources=self.sources[:num_edges],
            num_dst=num_dst,
            num_src=num_src,
        )

    def to_data(self) -> "Data":
        """A PyG ``Data`` with NeighborLoader's fields, for any PyG model; y holds the seeds'."""
        # Importing PyG takes as long as importing PyTorch: those who only partition do not wait.
        from torch_geometric.data import Data

        return Data(
            x=self.x,
            y=self.y,
            edge_index=self.layer_edges(0).edge_index(),
            n_id=self.n_id,
            batch_size=self.batch_size,
            num_sampled_nodes=list(self.num_sampled_nodes),
            num_sampled_edges=list(self.num_sampled_edges),
        )

    def await_copies(self) -> None:
        """Let the current stream of the GPU wait until the minibatch is there."""
        if self.copied is None:
            return
        stream = torch.cuda.current_stream(self.x.device)
        stream.wait_event(self.copied)
        # Allocated for the copies' stream, freed after this one. What was copied together is one.
        tensors = (self.n_id, self.x, self.y, self.indptr, self.sources)
        for tensor in {t.untyped_storage().data_ptr(): t for t in tensors}.values():
            tensor.record_stream(stream)
