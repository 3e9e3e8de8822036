"""Exact evaluation: every node's full neighbourhood, layer by layer, in bounded memory.

Each rank computes its own nodes chunk by chunk. A layer reads one table of rows: our own part of it
lies here, and what a chunk reads of other parts comes from their owners, who publish theirs.

    table 0 = x --layer 0--> table 1 --layer 1--> ... --layer L-1--> logits (never stored)

GraphSAGE's mean is linear, so a layer that narrows is applied before it aggregates: fewer columns
are read for each edge. That changes the order of additions, and so the last bits of a logit.

n nodes of a part, e edges of a chunk, W width of a table, C classes, L layers.
"""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from minidist.comm.transport.base import Array, Op
from minidist.comm.world import World
from minidist.moment import OUTSIDE, Moment
from minidist.sampling.batch import LayerEdges
from minidist.sampling.kernels import place_nodes
from minidist.store.feature_store import PeerStore
from minidist.store.partition_book import Ids
from minidist.store.row_server import RowServer
from minidist.store.shard import Shard
from minidist.store.worker_pool import WorkerPool
from minidist.training.models import GNN, is_mean_sage, segment_mean
from rudder.feature_store import Fetch
from rudder.row_counts import RowCounts

# Numbers that one chunk may hold: 256 MiB of float32, and 1 GiB on a GPU.
_CHUNK_ITEMS = {"cpu": 1 << 26, "cuda": 1 << 28}
# Own rows stay on the GPU where a layer's two tables take at most this share of what is free there.
_DEVICE_SHARE = 0.5
SPLITS = ("train", "val", "test")
Piece = tuple[int, int, int, int]  # first and last node, first and last edge
# Features are mapped read-only, and so they are only read here.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


@njit(cache=True, nogil=True)
def _mean_rows(indptr, sources, own, others, first, end, out):  # type: ignore[no-untyped-def]
    """out[i] = mean of the rows that row i's sources name: own below len(own), then others'."""
    num_own, width = len(own), out.shape[1]
    for i in range(first, end):
        target = out[i]
        target[:] = np.float32(0)
        for k in range(indptr[i], indptr[i + 1]):
            source = sources[k]
            row = own[source] if source < num_own else others[source - num_own]
            for column in range(width):
                target[column] += row[column]
        scale = np.float32(1) / np.float32(max(indptr[i + 1] - indptr[i], 1))
        for column in range(width):
            target[column] *= scale


@njit(cache=True, nogil=True)
def split_edges(  # type: ignore[no-untyped-def]
    indptr, indices, first, last, own_cost, other_cost, node_cost, most, split_nodes
):
    """Pieces of a part's nodes and in-edges that cost ``most`` at most.

    own_cost, other_cost: of an edge from nodes ``first`` to ``last - 1``, and from others.
    split_nodes: a node that costs more by itself becomes several pieces; else it is one too large.
    Returns (first node, last node, first edge, last edge) of each, the lasts excluded, in order.
    """
    pieces = [(0, 0, 0, 0) for _ in range(0)]
    start, total = 0, 0
    for v in range(len(indptr) - 1):
        cost = node_cost
        for k in range(indptr[v], indptr[v + 1]):
            cost += own_cost if first <= indices[k] < last else other_cost
        if total + cost > most and v > start:
            pieces.append((start, v, indptr[start], indptr[v]))
            start, total = v, 0
        total += cost
        if not split_nodes or cost <= most:
            continue
        begin, held = indptr[v], node_cost
        for k in range(indptr[v], indptr[v + 1]):
            cost = own_cost if first <= indices[k] < last else other_cost
            if held + cost > most and k > begin:
                pieces.append((v, v + 1, begin, k))
                begin, held = k, node_cost
            held += cost
        pieces.append((v, v + 1, begin, indptr[v + 1]))
        start, total = v + 1, 0
    if start < len(indptr) - 1:
        pieces.append((start, len(indptr) - 1, indptr[start], indptr[-1]))
    return pieces


@njit(cache=True, nogil=True)
def _localized(indices, first, last, places, sources, other_ids):  # type: ignore[no-untyped-def]
    """Own sources by local id, others' from n on, by first appearance; how many those are.

    places: int32 [N], -1 everywhere, and so again afterwards.
    """
    num_own, num_others = last - first, 0
    for k in range(len(indices)):
        source = np.int64(indices[k])
        if first <= source < last:
            sources[k] = source - first
            continue
        if places[source] < 0:
            places[source] = num_others
            other_ids[num_others] = source
            num_others += 1
        sources[k] = num_own + places[source]
    for k in range(num_others):
        places[other_ids[k]] = -1
    return num_others


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Own nodes ``span``, edges into them, and others' rows that these read, under way.

    share: 1, or the share of its one node's edges that are here. last: no more of them follow.
    sources: int32 or int64 [e], own rows by local id, others' from n on.   others: float32 [r, W].
    """

    span: slice
    share: float
    last: bool
    indptr: NDArray[np.int64]
    sources: NDArray[Any]
    others: NDArray[np.float32]
    fetch: Fetch


class LayerwiseInference:
    """Full-neighbourhood inference over all nodes of a partitioned graph.

    server: of our part's rows.   shards: for each part the Shard that this host has mapped, or
    None. Memory: the part's own rows of two layers, and two chunks; a node with more neighbours
    than a chunk holds has several, unless its conv is no mean and needs them all at once.
    """

    def __init__(
        self,
        world: World,
        server: RowServer,
        shards: Sequence[Shard | None],
        chunk_items: int | None = None,
    ) -> None:
        shard = shards[world.rank]
        assert shard is not None
        self._world, self._server, self._shard = world, server, shard
        self._features = [None if peer is None else peer.x for peer in shards]
        self._chunk_items = chunk_items or _CHUNK_ITEMS[world.device.type]
        self._first, self._last = shard.book.range_of(shard.part)
        self._indptr, self._indices = np.asarray(shard.indptr), np.asarray(shard.indices)
        self._places = np.full(shard.book.num_nodes, -1, np.int32)

    @torch.no_grad()
    def run(self, model: GNN, moment: Moment = OUTSIDE) -> Iterator[tuple[slice, Tensor]]:
        """Yield (local slice, logits [chunk, C]) over the rank's own nodes, in order.

        Every rank must run it, to its end. Leaves the model's training mode as it found it.
        """
        was_training = model.training
        model.eval()
        rows = torch.from_numpy(np.asarray(self._shard.x))
        with closing(WorkerPool(self._world.num_cores)) as pool:
            for number in range(len(model.convs)):
                rows = self._placed(rows, model.widths[number + 1])
                outputs = self._layer(model, number, rows, pool, moment)
                if number + 1 == len(model.convs):
                    yield from outputs
                    break
                written = rows.new_empty(self._shard.num_nodes, model.widths[number + 1])
                for span, out in outputs:
                    written[span] = out
                rows = written
        model.train(was_training)

    def _placed(self, rows: Tensor, next_width: int) -> Tensor:
        """The rows on the GPU, where it has room for them and for those that the layer writes."""
        if self._world.device.type != "cuda" or rows.is_cuda:
            return rows
        needed = rows.nbytes + 4 * len(rows) * next_width
        free = torch.cuda.mem_get_info(self._world.device)[0]
        return rows.to(self._world.device) if needed <= _DEVICE_SHARE * free else rows

    def _layer(
        self, model: GNN, number: int, rows: Tensor, pool: WorkerPool, moment: Moment
    ) -> Iterator[tuple[slice, Tensor]]:
        """One layer over all own nodes, chunk by chunk; rows: our part of the table it reads."""
        conv: Any = model.convs[number]
        device = self._world.device
        narrows = is_mean_sage(conv) and model.widths[number + 1] < model.widths[number]
        table = rows @ conv.lin_l.weight.T.to(rows.device) if narrows else rows
        width = max(table.shape[1], model.widths[number + 1])
        store = self._open_table(number + 1 if number or narrows else 0, table, moment)
        partial: Any = 0.0  # of the mean of a node that has several chunks
        for chunk in self._chunks(store, table.shape[1], width, is_mean_sage(conv), moment):
            chunk.fetch.wait()
            if is_mean_sage(conv):
                mean = self._mean(table, chunk, pool).to(device)
                if chunk.share < 1:
                    partial = partial + chunk.share * mean
                    if not chunk.last:
                        continue
                    mean, partial = partial, 0.0
                mean = mean if narrows else conv.lin_l(mean)
                if narrows and conv.lin_l.bias is not None:
                    mean += conv.lin_l.bias
                out = model.finish(number, mean + conv.lin_r(rows[chunk.span].to(device)))
            else:
                out = model.layer(number, *self._gathered(table, chunk))
            yield chunk.span, out
        # Nobody may ask for the next layer before all have written it, nor write over this one.
        self._world.group.barrier(f"finishing layer {number}", moment)
        if number or narrows:
            self._server.withdraw(number + 1)

    def _open_table(self, number: int, table: Tensor, moment: Moment) -> PeerStore:
        """Publish our part of a table; returns the others'. Number 0: the features, mapped."""
        world = self._world
        mapped: list[Any] = list(self._features) if number == 0 else [None] * world.size
        mapped[world.rank] = np.zeros((0, table.shape[1]), np.float32)  # of which nobody asks us
        if number:
            self._server.publish(number, table.cpu().numpy())
            world.group.barrier(f"writing table {number}", moment)
        book = self._shard.book
        return PeerStore(world.transport, book, mapped, table=number, op=Op.LAYER_ROWS)

    def _chunks(
        self, store: PeerStore, width: int, widest: int, mean: bool, moment: Moment
    ) -> Iterator[_Chunk]:
        """The chunks of a layer, the rows of each asked for while the one before is computed.

        A mean's neighbours may be split over chunks; other convs need all of a node's at once.
        """
        pieces = self._pieces(width, widest, mean)
        counts = self._world.group.all_gather(len(pieces), "agreeing on the chunks", moment)
        under_way: deque[_Chunk] = deque()
        for number in range(max(counts)):
            # Those who are done before others still make the same number of exchanges.
            piece = pieces[number] if number < len(pieces) else (0, 0, 0, 0)
            under_way.append(self._request(piece, store, width, moment))
            if len(under_way) > 1:
                yield under_way.popleft()
        yield from under_way

    def _pieces(self, width: int, widest: int, mean: bool) -> list[Piece]:
        """What ``split_edges`` makes, at the cost in numbers that a chunk holds.

        An edge's row is gathered, but for a mean on the CPU, which reads own rows where they lie.
        Beside rows there are two int64 an edge, unless all edges are taken as they are.
        """
        ids = 4 if self._world.size > 1 else 0
        own = ids if mean and self._world.device.type == "cpu" else ids + width
        bounds = self._indptr, self._indices, self._first, self._last
        pieces: list[Piece] = split_edges(
            *bounds, own, ids + width, widest, self._chunk_items, mean
        )
        return pieces

    def _request(self, piece: Piece, store: PeerStore, width: int, moment: Moment) -> _Chunk:
        start, stop, begin, end = piece
        indices = self._indices[begin:end]
        indptr = np.clip(self._indptr[start : stop + 1], begin, end) - begin
        num_edges = int(self._indptr[stop] - self._indptr[start])
        share = (end - begin) / num_edges if num_edges else 1.0
        span, last = slice(start, stop), bool(end == self._indptr[stop])
        if self._world.size == 1:  # every source is ours, by its local id
            none = np.empty((0, width), np.float32)
            return _Chunk(span, share, last, indptr, indices, none, Fetch(RowCounts()))
        sources, other_ids = np.empty((2, len(indices)), np.int64)
        num_others = _localized(indices, self._first, self._last, self._places, sources, other_ids)
        others = np.empty((num_others, width), np.float32)
        ids = other_ids[:num_others].copy()
        fetch = store.request(ids, lambda _: (others, np.arange(num_others)), moment)
        return _Chunk(span, share, last, indptr, sources, others, fetch)

    def _mean(self, table: Tensor, chunk: _Chunk, pool: WorkerPool) -> Tensor:
        """Means over the in-edges of a chunk's nodes: [nodes, W], where the table is."""
        num_nodes = len(chunk.indptr) - 1
        if table.is_cuda:
            edges = self._edges(chunk.indptr, chunk.sources, table.device)
            num_own = len(table)
            if not len(chunk.others):
                return segment_mean(table, edges)
            at = torch.nonzero(edges.sources >= num_own).flatten()
            rows = table.index_select(0, edges.sources.clamp(max=num_own - 1))
            others = torch.from_numpy(chunk.others).to(table.device)
            rows.index_copy_(0, at, others.index_select(0, edges.sources[at] - num_own))
            return torch.segment_reduce(rows, "mean", offsets=edges.indptr, axis=0, initial=0)
        out, own = np.empty((num_nodes, table.shape[1]), np.float32), table.numpy()
        pool.spread(
            lambda first, end: _mean_rows(
                chunk.indptr, chunk.sources, own, chunk.others, first, end, out
            ),
            num_nodes,
        )
        return torch.from_numpy(out)

    def _gathered(self, table: Tensor, chunk: _Chunk) -> tuple[Tensor, LayerEdges]:
        """The rows that a chunk reads, its own nodes' first, and its edges: for any conv."""
        num_own, num_dst = len(table), len(chunk.indptr) - 1
        places = np.full(num_own + len(chunk.others), -1, np.int32)
        nodes = np.empty(num_dst + len(chunk.sources) + 1, np.int64)
        nodes[:num_dst] = np.arange(chunk.span.start, chunk.span.stop)
        places[nodes[:num_dst]] = np.arange(num_dst, dtype=np.int32)
        sources = chunk.sources.copy()
        nodes = nodes[: place_nodes(sources, places, nodes, num_dst)]
        h = table.new_empty(len(nodes), table.shape[1])
        own, others = np.flatnonzero(nodes < num_own), np.flatnonzero(nodes >= num_own)
        at = torch.from_numpy
        h[at(own)] = table[at(nodes[own]).to(table.device)]
        h[at(others)] = at(chunk.others[nodes[others] - num_own]).to(table.device)
        edges = self._edges(chunk.indptr, sources, self._world.device, len(nodes))
        return h.to(self._world.device), edges

    def _edges(
        self, indptr: Ids, sources: Array, device: torch.device, num_src: int = 0
    ) -> LayerEdges:
        return LayerEdges(
            indptr=torch.from_numpy(indptr).to(device),
            sources=torch.from_numpy(sources).to(device),
            num_dst=len(indptr) - 1,
            num_src=num_src,
        )


@dataclass(frozen=True)
class Scores:
    """Accuracy of each split, or micro-F1 where nodes have several labels; None if it is empty."""

    metric: str
    train: float | None
    val: float | None
    test: float | None


def evaluate(inference: LayerwiseInference, model: GNN, world: World, shard: Shard) -> Scores:
    """Exact scores over the whole graph, the same on every rank."""
    y = torch.from_numpy(np.array(shard.y))
    members = torch.zeros(len(SPLITS), shard.num_nodes, dtype=torch.bool)
    for row, split in enumerate(SPLITS):
        members[row, torch.from_numpy(np.array(getattr(shard, f"{split}_ids"))) - shard.first] = (
            True
        )
    # Per split: (hits, predictions + truths) / 2 for F1; accuracy is the same with one label each.
    tally = torch.zeros(len(SPLITS), 2, dtype=torch.float64)
    for span, logits in inference.run(model):
        truth = y[span]
        if shard.multilabel:
            predicted = (logits > 0).cpu()
            right = (predicted & (truth > 0)).sum(dim=1).double()
            asked = (predicted.sum(dim=1) + truth.sum(dim=1)).double() / 2
        else:
            right = (logits.argmax(dim=1).cpu() == truth).double()
            asked = torch.ones_like(right)
        tally += members[:, span].double() @ torch.stack([right, asked], dim=1)
    totals = torch.stack(world.group.all_gather(tally, "adding up scores")).sum(dim=0)
    train, val, test = (right / asked if asked else None for right, asked in totals.tolist())
    metric = "micro_f1" if shard.multilabel else "accuracy"
    return Scores(metric=metric, train=train, val=val, test=test)
