"""NeighborSampler: multi-hop neighbour sampling over a partitioned graph.

    seeds --hop 0--> new nodes --hop 1--> new nodes ...      (hop 0 is nearest the seeds)

Each hop draws in-neighbours of the nodes that the hop before found first (the frontier), as PyG's
NeighborLoader does. Rows of in-edges come from wherever they are at hand: our own part, the
memory-mapped part of a peer on this host, far rows stored with our part; and else from their owner
by one request per owner and hop. Because a draw is a pure function (see ``draw``), where it happens
changes nothing.

B seeds, L hops, n nodes of the minibatch, m of them with sampled in-edges, e sampled edges,
N nodes of the graph, P parts. Ids are global; a *place* is a position in the minibatch's nodes.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.comm.transport.base import Allocate, Array, Call, Op, Transport
from minidist.moment import Moment
from minidist.sampling.kernels import (
    count_neighbors,
    draw_neighbors,
    forget_nodes,
    hop_key,
    place_nodes,
)
from minidist.store.partition_book import Ids, no_ids
from minidist.store.shard import Shard


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One minibatch's nodes and edges, as a CSR over places.

    n_id: int64 [n], seeds first, then by hop in order of first appearance.
    indptr: int64 [m + 1], sources: int64 [e] places; row i holds the in-edges drawn for place i.
    num_sampled_nodes: B, then the nodes each hop added (L + 1 numbers, sum n).
    num_sampled_edges: edges each hop drew (L numbers, sum e).
    own, remote: places of the rank's own nodes and of others'.   seconds: that it took.
    """

    moment: Moment
    n_id: Ids
    indptr: NDArray[np.int64]
    sources: NDArray[np.int64]
    num_sampled_nodes: tuple[int, ...]
    num_sampled_edges: tuple[int, ...]
    own: Ids = field(default_factory=no_ids)
    remote: Ids = field(default_factory=no_ids)
    seconds: float = 0.0

    @property
    def num_seeds(self) -> int:
        return self.num_sampled_nodes[0]


class NeighborSampler:
    """Draws minibatches; one thread at a time.

    shard: our part.   shards: for each part the Shard whose in-edges we may read directly (ours
    among them), or None where only its owner can.   transport: needed where any is None.
    Pass the same ``fanouts`` (per hop), ``seed`` and ``rank`` for the same minibatches.
    """

    def __init__(
        self,
        shard: Shard,
        shards: Sequence[Shard | None],
        *,
        fanouts: Sequence[int],
        seed: int,
        rank: int,
        transport: Transport | None = None,
    ) -> None:
        if not fanouts or min(fanouts) < 1:
            raise ValueError(
                f"--fanout {fanouts}: expected one number of at least 1 for each layer"
            )
        self._book, self._fanouts, self._seed, self._rank = shard.book, fanouts, seed, rank
        self._transport = transport
        self._rows = [_Rows.of(part) if part is not None else None for part in shards]
        self._asks_owners = any(rows is None for rows in self._rows)
        assert transport is not None or not self._asks_owners
        self._halo_hops, self._far_ids = shard.halo_hops, shard.far_ids
        self._far = _Rows(np.asarray(shard.far_indptr), np.asarray(shard.far_indices), 0)
        longest = max(rows.max_degree() for rows in [*self._rows, self._far] if rows is not None)
        self._taken, self._stamp = np.zeros(longest + 1, np.int64), 0
        self._places = np.full(shard.book.num_nodes, -1, np.int32)
        # On the wire and while drawn, ids take the type that the parts' files use.
        self._wire_type = shard.indices.dtype
        # Kept from minibatch to minibatch: fresh memory costs a page fault every 4 KiB.
        self._node_ids = np.empty(1, np.int64)
        self._neighbors = np.empty(1, self._wire_type)

    def sample(self, seeds: Ids, moment: Moment) -> Sample:
        """The minibatch of these distinct seeds (int64 [B]) at this epoch and step."""
        start, num_nodes, num_edges = 0, len(seeds), 0
        self._node_ids = _grown(self._node_ids, num_nodes + 1, 0)
        self._node_ids[:num_nodes] = seeds
        self._places[seeds] = np.arange(num_nodes, dtype=np.int32)
        nodes_per_hop, edges_per_hop, starts = [num_nodes], [], [np.zeros(1, np.int64)]
        for hop, fanout in enumerate(self._fanouts):
            frontier = self._node_ids[start:num_nodes]
            key = hop_key(self._seed, moment.epoch, moment.step, self._rank, hop)
            hop_starts = self._draw_hop(frontier, hop, key, fanout, moment, num_edges)
            num_drawn = int(hop_starts[-1]) - num_edges
            neighbors = self._neighbors[num_edges : num_edges + num_drawn]
            self._node_ids = _grown(self._node_ids, num_nodes + num_drawn + 1, num_nodes)
            start = num_nodes
            num_nodes = place_nodes(neighbors, self._places, self._node_ids, num_nodes)
            num_edges += num_drawn
            nodes_per_hop.append(num_nodes - start)
            edges_per_hop.append(num_drawn)
            starts.append(hop_starts[1:])
        node_ids = self._node_ids[:num_nodes].copy()
        forget_nodes(self._places, node_ids)
        return Sample(
            moment=moment,
            n_id=node_ids,
            indptr=np.concatenate(starts),
            sources=self._neighbors[:num_edges].astype(np.int64),
            num_sampled_nodes=tuple(nodes_per_hop),
            num_sampled_edges=tuple(edges_per_hop),
        )

    def _draw_hop(
        self, frontier: Ids, hop: int, key: int, fanout: int, moment: Moment, num_edges: int
    ) -> Ids:
        """Draw for the f frontier nodes, behind the ``num_edges`` neighbours drawn so far.

        Returns starts, int64 [f + 1]: where in ``self._neighbors`` each node's neighbours begin.
        """
        at_hand, calls, asked = self._locate(frontier, key, fanout)
        counts = np.empty(len(frontier), np.int64)
        answers: list[tuple[Ids, Array]] = []
        if self._asks_owners and hop > self._halo_hops:
            # Every rank makes this exchange, with or without calls: see Transport.exchange.
            assert self._transport is not None
            lengths = self._transport.exchange(Op.NEIGHBORS, calls, moment, "sample")
            for call, positions, length in zip(calls, asked, lengths, strict=True):
                answer = call.reply[:length]
                counts[positions] = answer[: len(positions)]
                answers.append((positions, answer[len(positions) :]))
        else:
            assert not calls
        for rows, positions, places in at_hand:
            count_neighbors(rows.indptr, places, positions, fanout, counts)
        starts = np.empty(len(frontier) + 1, np.int64)
        starts[0] = num_edges
        np.cumsum(counts, out=starts[1:])
        starts[1:] += num_edges
        self._neighbors = _grown(self._neighbors, int(starts[-1]), num_edges)
        for rows, positions, places in at_hand:
            self._stamp = draw_neighbors(
                rows.indptr, rows.indices, frontier, places, positions, key, fanout, starts,
                self._neighbors, self._taken, self._stamp,
            )  # fmt: skip
        for positions, drawn in answers:
            self._neighbors[_spans(starts[positions], counts[positions])] = drawn
        return starts

    def _locate(
        self, frontier: Ids, key: int, fanout: int
    ) -> tuple[list[tuple["_Rows", Ids, Ids]], list[Call], list[Ids]]:
        """Where the frontier's rows are.

        Returns (rows, positions, row numbers by position) of those at hand, the calls for the
        others, and each call's positions.
        """
        at_hand: list[tuple[_Rows, Ids, Ids]] = []
        calls: list[Call] = []
        asked: list[Ids] = []
        order, bounds = self._book.by_owner(frontier)
        for part, rows in enumerate(self._rows):
            positions = order[bounds[part] : bounds[part + 1]]
            if len(positions) == 0:
                continue
            if rows is not None:
                at_hand.append((rows, positions, frontier - rows.first if rows.first else frontier))
                continue
            if len(self._far_ids):
                far = np.searchsorted(self._far_ids, frontier)
                far[far == len(self._far_ids)] = 0
                known = self._far_ids[far[positions]] == frontier[positions]
                at_hand.append((self._far, positions[known], far))
                positions = positions[~known]
            if len(positions):
                reply = np.empty(len(positions) * (fanout + 1), self._wire_type)
                ids = frontier[positions]
                calls.append(Call(peer=part, header=(key, fanout), ids=ids, reply=reply))
                asked.append(positions)
        return at_hand, calls, asked


@dataclass(frozen=True, eq=False)
class _Rows:
    """In-edges of nodes ``first``, ``first + 1``, ... as plain arrays, fastest for numba."""

    indptr: NDArray[np.int64]
    indices: Array
    first: int

    @classmethod
    def of(cls, shard: Shard) -> "_Rows":
        first = shard.book.range_of(shard.part)[0]
        return cls(np.asarray(shard.indptr), np.asarray(shard.indices), first)

    def max_degree(self) -> int:
        return int(np.diff(self.indptr).max(initial=0))


def _grown(array: Array, capacity: int, used: int) -> Array:
    """The array itself, or one with more room that starts with its first ``used`` entries."""
    if len(array) >= capacity:
        return array
    grown = np.empty(2 * capacity, array.dtype)
    grown[:used] = array[:used]
    return grown


def _spans(starts: Ids, counts: Ids) -> Ids:
    """Indices ``starts[0] .. starts[0] + counts[0]``, then those of the next span, and so on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


class NeighborServer:
    """Answers peers' requests for neighbours of the nodes we own, one at a time."""

    def __init__(self, shard: Shard) -> None:
        self._rows, self._first = _Rows.of(shard), shard.book.range_of(shard.part)[0]
        self._last = self._first + shard.num_nodes
        self._taken, self._stamp = np.zeros(self._rows.max_degree() + 1, np.int64), 0
        self._turn = threading.Lock()

    def __call__(self, header: tuple[int, int], ids: Ids, allocate: Allocate) -> NDArray[Any]:
        """Reply to (key, fanout): a count per id, then the neighbours, in the type of the files.

        Raises ValueError on ids that are not ours.
        """
        if len(ids) and (ids.min() < self._first or ids.max() >= self._last):
            raise ValueError(
                f"neighbours were asked of nodes {ids.min()} to {ids.max()}, "
                f"but this part owns {self._first} to {self._last - 1}"
            )
        key, fanout = header
        rows, everyone = ids - self._first, np.arange(len(ids))
        counts = np.empty(len(ids), np.int64)
        count_neighbors(self._rows.indptr, rows, everyone, fanout, counts)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        reply = allocate(len(ids) + int(starts[-1]), self._rows.indices.dtype)
        reply[: len(ids)] = counts
        with self._turn:
            self._stamp = draw_neighbors(
                self._rows.indptr, self._rows.indices, ids, rows, everyone, key, fanout, starts,
                reply[len(ids) :], self._taken, self._stamp,
            )  # fmt: skip
        return reply


def serve_neighbors(transport: Transport, shard: Shard) -> None:
    """Let peers draw neighbours of the nodes we own."""
    transport.serve(Op.NEIGHBORS, NeighborServer(shard))
