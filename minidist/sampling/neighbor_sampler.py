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
    locate_rows,
    place_nodes,
    sample_at_hand,
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
        self._fanout_array = np.array(fanouts, np.int64)
        self._transport, self._halo_hops = transport, shard.halo_hops
        at_hand = [part for part in shards if part is not None]
        self._asks_owners = len(at_hand) < len(shards)
        assert transport is not None or not self._asks_owners
        numbers = iter(range(len(shards)))
        self._table_of_part = np.array([-1 if s is None else next(numbers) for s in shards])
        self._far_ids = np.asarray(shard.far_ids)
        far = (shard.far_indptr, shard.far_indices)
        self._tables = _Tables.of([*((part.indptr, part.indices) for part in at_hand), far])
        self._taken, self._stamp = np.zeros(self._tables.longest + 1, np.int64), 0
        self._places = np.full(shard.book.num_nodes, -1, np.int32)
        # On the wire and while drawn, ids take the type that the parts' files use.
        self._wire_type = shard.indices.dtype
        # Kept from minibatch to minibatch: fresh memory costs a page fault every 4 KiB.
        self._node_ids = np.empty(1, np.int64)
        self._neighbors = np.empty(1, self._wire_type)

    def sample(self, seeds: Ids, moment: Moment) -> Sample:
        """The minibatch of these distinct seeds (int64 [B]) at this epoch and step."""
        if self._asks_owners:
            return self._sample_by_request(seeds, moment)
        key, tables = hop_key(self._seed, *moment, self._rank), self._tables
        n_id, indptr, sources, nodes, edges, self._stamp = sample_at_hand(
            seeds, key, self._fanout_array, self._book.offsets, self._table_of_part, self._far_ids,
            tables.indptrs, tables.indices, self._places, self._taken, self._stamp,
        )  # fmt: skip
        return Sample(
            moment=moment,
            n_id=n_id,
            indptr=indptr,
            sources=sources,
            num_sampled_nodes=tuple(nodes.tolist()),
            num_sampled_edges=tuple(edges.tolist()),
        )

    def _sample_by_request(self, seeds: Ids, moment: Moment) -> Sample:
        """Hop by hop, because owners are asked between them."""
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
        num, tables = len(frontier), self._tables
        where, rows, counts = np.empty((3, num), np.int64)
        num_missing = locate_rows(
            frontier, self._book.offsets, self._table_of_part, self._far_ids, where, rows
        )
        count_neighbors(tables.indptrs, where, rows, fanout, counts)
        answers: list[tuple[Ids, Array]] = []
        if self._asks_owners and hop > self._halo_hops:
            answers = self._ask_owners(frontier, where, key, fanout, moment)
            for positions, answer in answers:
                counts[positions] = answer[: len(positions)]
        else:
            assert not num_missing
        starts = np.empty(num + 1, np.int64)
        starts[0] = num_edges
        np.cumsum(counts, out=starts[1:])
        starts[1:] += num_edges
        self._neighbors = _grown(self._neighbors, int(starts[-1]), num_edges)
        self._stamp = draw_neighbors(
            tables.indptrs, tables.indices, frontier, where, rows, key, fanout, starts,
            self._neighbors, self._taken, self._stamp,
        )  # fmt: skip
        for positions, answer in answers:
            drawn = answer[len(positions) :]
            self._neighbors[_spans(starts[positions], counts[positions])] = drawn
        return starts

    def _ask_owners(
        self, frontier: Ids, where: Ids, key: int, fanout: int, moment: Moment
    ) -> list[tuple[Ids, Array]]:
        """Ask the owners of the nodes that are in no table here.

        Returns, for each owner, positions in the frontier and its answer: a count for each, then
        the neighbours. Every rank makes this exchange, with or without calls (see ``Transport``).
        """
        calls: list[Call] = []
        asked: list[Ids] = []
        missing = np.flatnonzero(where < 0)
        order, bounds = self._book.by_owner(frontier[missing])
        for part in range(self._book.num_parts):
            positions = missing[order[bounds[part] : bounds[part + 1]]]
            if len(positions):
                reply = np.empty(len(positions) * (fanout + 1), self._wire_type)
                ids = frontier[positions]
                calls.append(Call(peer=part, header=(key, fanout), ids=ids, reply=reply))
                asked.append(positions)
        assert self._transport is not None
        lengths = self._transport.exchange(Op.NEIGHBORS, calls, moment, "sample")
        return [
            (positions, call.reply[:length])
            for call, positions, length in zip(calls, asked, lengths, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Tables:
    """In-edges in several CSRs, as tuples of arrays of one type, for numba.   longest: degree."""

    indptrs: tuple[NDArray[np.int64], ...]
    indices: tuple[Array, ...]
    longest: int

    @classmethod
    def of(cls, tables: Sequence[tuple[Array, Array]]) -> "_Tables":
        longest = max(int(np.diff(indptr).max(initial=0)) for indptr, _ in tables)
        indptrs, indices = zip(*tables, strict=True)
        return cls(tuple(map(_read_only, indptrs)), tuple(map(_read_only, indices)), longest)


def _read_only(array: Array) -> Array:
    """A view that numba gives the type of a memory-mapped file's array."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


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
        self._tables, self._first = _Tables.of([(shard.indptr, shard.indices)]), shard.first
        self._last = self._first + shard.num_nodes
        self._taken, self._stamp = np.zeros(self._tables.longest + 1, np.int64), 0
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
        tables, rows = self._tables, ids - self._first
        everywhere, counts = np.zeros((2, len(ids)), np.int64)
        count_neighbors(tables.indptrs, everywhere, rows, fanout, counts)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        reply = allocate(len(ids) + int(starts[-1]), tables.indices[0].dtype)
        reply[: len(ids)] = counts
        with self._turn:
            self._stamp = draw_neighbors(
                tables.indptrs, tables.indices, ids, everywhere, rows, key, fanout, starts,
                reply[len(ids) :], self._taken, self._stamp,
            )  # fmt: skip
        return reply


def serve_neighbors(transport: Transport, shard: Shard) -> None:
    """Let peers draw neighbours of the nodes we own."""
    transport.serve(Op.NEIGHBORS, NeighborServer(shard))
