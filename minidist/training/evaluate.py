"""Exact evaluation: every node's full neighbourhood, layer by layer, in bounded memory.

For each layer, each rank computes its own nodes chunk by chunk; what a chunk reads of other parts
comes from their owners, who publish the layer before as a table of rows.

    table 0 = x --layer 0--> table 1 --layer 1--> ... --layer L-1--> logits (never stored)

n nodes of a part, W widest row of a layer, C classes, L layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidist.comm.transport.base import Op
from minidist.comm.world import World
from minidist.moment import OUTSIDE, Moment
from minidist.sampling.batch import LayerEdges
from minidist.sampling.kernels import forget_nodes, place_nodes
from minidist.store.feature_store import DistFeatures, OwnersRows
from minidist.store.partition_book import Ids
from minidist.store.row_server import RowServer
from minidist.store.shard import Shard
from minidist.training.models import GNN

# Numbers that the inputs of one chunk may hold: 64 MiB of float32.
_CHUNK_ITEMS = 1 << 24
SPLITS = ("train", "val", "test")


class LayerwiseInference:
    """Full-neighbourhood inference over all nodes of a partitioned graph.

    rows: the server of our part's rows.   shards: for each part the Shard that this host has
    mapped, or None. Memory: the part's own rows of two layers, and one chunk.
    """

    def __init__(
        self,
        world: World,
        rows: RowServer,
        shards: Sequence[Shard | None],
        chunk_items: int = _CHUNK_ITEMS,
    ) -> None:
        shard = shards[world.rank]
        assert shard is not None
        self._world, self._server, self._shard = world, rows, shard
        self._features = [None if peer is None else peer.x for peer in shards]
        self._chunk_items = chunk_items
        self._places = np.full(shard.book.num_nodes, -1, np.int32)

    @torch.no_grad()
    def run(self, model: GNN, moment: Moment = OUTSIDE) -> Iterator[tuple[slice, Tensor]]:
        """Yield (local slice, logits [chunk, C]) over the rank's own nodes, in order.

        Every rank must run it, to its end. Leaves the model's training mode as it found it.
        """
        was_training = model.training
        model.eval()
        table: NDArray[np.float32] = np.asarray(self._shard.x)
        for number in range(len(model.convs)):
            source = self._source(number, table)
            if number + 1 == len(model.convs):
                yield from self._layer(model, number, source, moment)
            else:
                written = np.empty((self._shard.num_nodes, model.widths[number + 1]), np.float32)
                for span, rows in self._layer(model, number, source, moment):
                    written[span] = rows.cpu().numpy()
                self._server.publish(number + 1, written)
            # Nobody may ask for the next layer before all have written it, nor write over this one.
            self._world.group.barrier(f"finishing layer {number}", moment)
            if number > 0:
                self._server.withdraw(number)
            if number + 1 < len(model.convs):
                table = written
        model.train(was_training)

    def _source(self, number: int, table: NDArray[np.float32]) -> DistFeatures:
        """The rows that a layer reads: x by memory map where mapped, hidden rows by request."""
        world, book = self._world, self._shard.book
        mapped: list[Any] = self._features if number == 0 else [None] * world.size
        mapped = [table if part == world.rank else rows for part, rows in enumerate(mapped)]
        owners = OwnersRows(
            world.transport, book, mapped, table=number, op=Op.LAYER_ROWS, lane="evaluate"
        )
        return DistFeatures(book, world.rank, table, owners)

    def _layer(
        self, model: GNN, number: int, source: DistFeatures, moment: Moment
    ) -> Iterator[tuple[slice, Tensor]]:
        spans = self._chunks(max(model.widths[number : number + 2]))
        counts = self._world.group.all_gather(len(spans), "agreeing on the chunks", moment)
        for chunk in range(max(counts)):
            if chunk >= len(spans):
                # The others are not done: every rank makes the same number of exchanges.
                source.fetch(np.zeros(0, np.int64), moment)
                continue
            node_ids, edges = self._inputs(spans[chunk])
            x, _ = source.fetch(node_ids, moment)
            rows = model.layer(number, torch.from_numpy(x).to(self._world.device), edges)
            yield spans[chunk], rows

    def _chunks(self, width: int) -> list[slice]:
        """Spans of local nodes, each of one node at least, whose inputs fit a chunk."""
        budget = max(1, self._chunk_items // width)
        # A node costs its own row and at most a row per in-edge.
        ends = np.asarray(self._shard.indptr[1:]) + np.arange(1, self._shard.num_nodes + 1)
        spans, first, done = [], 0, 0
        while first < self._shard.num_nodes:
            last = int(np.searchsorted(ends, done + budget, side="right"))
            last = max(last, first + 1)
            spans.append(slice(first, last))
            first, done = last, int(ends[last - 1])
        return spans

    def _inputs(self, span: slice) -> tuple[Ids, LayerEdges]:
        """Ids of the nodes that a chunk reads, the chunk's own first, and its edges."""
        indptr = np.asarray(self._shard.indptr)
        start, end = int(indptr[span.start]), int(indptr[span.stop])
        sources = np.array(self._shard.indices[start:end])
        num_dst = span.stop - span.start
        first = self._shard.book.range_of(self._shard.part)[0]
        node_ids = np.empty(num_dst + len(sources) + 1, np.int64)
        node_ids[:num_dst] = np.arange(first + span.start, first + span.stop)
        self._places[node_ids[:num_dst]] = np.arange(num_dst, dtype=np.int32)
        num_nodes = place_nodes(sources, self._places, node_ids, num_dst)
        node_ids = node_ids[:num_nodes]
        forget_nodes(self._places, node_ids)
        device = self._world.device
        edges = LayerEdges(
            indptr=torch.from_numpy(indptr[span.start : span.stop + 1] - start).to(device),
            sources=torch.from_numpy(sources.astype(np.int64)).to(device),
            num_dst=num_dst,
            num_src=num_nodes,
        )
        return node_ids, edges


@dataclass(frozen=True)
class Scores:
    """Accuracy of each split, or micro-F1 where nodes have several labels; NaN if it is empty."""

    metric: str
    train: float
    val: float
    test: float


def evaluate(inference: LayerwiseInference, model: GNN, world: World, shard: Shard) -> Scores:
    """Exact scores over the whole graph, the same on every rank."""
    y = torch.from_numpy(np.array(shard.y))
    first = shard.book.range_of(shard.part)[0]
    members = torch.zeros(len(SPLITS), shard.num_nodes, dtype=torch.bool)
    for row, split in enumerate(SPLITS):
        members[row, torch.from_numpy(np.array(getattr(shard, f"{split}_ids"))) - first] = True
    # Per split: (hits, predictions + truths) / 2 for F1; accuracy is the same with one label each.
    tally = torch.zeros(len(SPLITS), 2, dtype=torch.float64)
    for span, logits in inference.run(model):
        logits, truth = logits.cpu(), y[span]
        if shard.multilabel:
            predicted = logits > 0
            right = (predicted & (truth > 0)).sum(dim=1).double()
            asked = (predicted.sum(dim=1) + truth.sum(dim=1)).double() / 2
        else:
            right = (logits.argmax(dim=1) == truth).double()
            asked = torch.ones_like(right)
        tally += members[:, span].double() @ torch.stack([right, asked], dim=1)
    totals = torch.stack(world.group.all_gather(tally, "adding up scores")).sum(dim=0)
    train, val, test = (totals[:, 0] / totals[:, 1]).tolist()
    metric = "micro_f1" if shard.multilabel else "accuracy"
    return Scores(metric=metric, train=train, val=val, test=test)
