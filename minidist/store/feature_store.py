"""Feature stores: the exact feature rows of any nodes, wherever they are.

    ids --by owner--> our part                     gathered here, or on the GPU
                      a peer on this host          gathered from its memory-mapped file
                      a peer elsewhere             one request; its server gathers

Every path copies ``x[id]`` bit for bit into its place of one output. Only a float16 wire, which a
user must ask for, rounds the rows that cross hosts.

R rows asked for, r of them remote, D features, P parts.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from minidist.comm.transport.base import Array, Call, Op, Transport
from minidist.moment import Moment
from minidist.store.partition_book import Ids, PartitionBook, split_places
from minidist.store.row_copy import copy_rows
from minidist.store.row_placement import PlacedRows, RowPlacement
from minidist.store.row_server import WIRE_TYPES
from rudder.feature_store import FeatureStore, Fetch, Place
from rudder.row_counts import RowCounts


class PeerStore(FeatureStore):
    """Rows of other parts of one table, by memory map or from their owners; no buffer in between.

    mapped: for each part the array [n, D] of its rows where this host has it mapped, else None.
    """

    def __init__(
        self,
        transport: Transport,
        book: PartitionBook,
        mapped: Sequence[Array | None],
        *,
        table: int = 0,
        wire_type: str = "float32",
        op: Op = Op.ROWS,
    ) -> None:
        self._transport, self._book = transport, book
        self._mapped = [None if rows is None else np.asarray(rows) for rows in mapped]
        self._asks_owners = any(rows is None for rows in mapped)
        self._wire_type = np.dtype(wire_type)
        self._header = (table, WIRE_TYPES.index(self._wire_type))
        self._op, self._lane = op, "fetch" if op == Op.ROWS else "evaluate"

    def split(self, ids: Ids) -> tuple[Ids, Ids]:
        """Where in ``ids`` those of mapped parts are, and where the others; both ascending."""
        order, bounds = self._book.by_owner(ids)
        is_near = np.zeros(len(ids), bool)
        for part, mapped in enumerate(self._mapped):
            if mapped is not None:
                is_near[order[bounds[part] : bounds[part + 1]]] = True
        return np.flatnonzero(is_near), np.flatnonzero(~is_near)

    def copy_mapped(self, ids: Ids, out: Array, positions: Ids) -> RowCounts:
        """``out[positions[i]]`` = the row of ``ids[i]``, all of mapped parts."""
        order, bounds = self._book.by_owner(ids)
        counts = RowCounts()
        for part, mapped in enumerate(self._mapped):
            chosen = order[bounds[part] : bounds[part + 1]]
            if mapped is not None and len(chosen):
                counts.mapped_bytes += self._copy(part, mapped, ids, out, positions, chosen)
        return counts

    def _copy(
        self, part: int, mapped: Array, ids: Ids, out: Array, positions: Ids, chosen: Ids
    ) -> int:
        """Bring in the chosen ones of one mapped part; returns their bytes."""
        copy_rows(mapped, ids, out, positions, self._book.range_of(part)[0], chosen)
        num_bytes: int = len(chosen) * out.shape[1] * 4
        self._transport.traffic.mapped[self._op, part] += num_bytes
        return num_bytes

    def request(self, ids: Ids, place: Place, moment: Moment) -> Fetch:  # type: ignore[override]
        """Rows of mapped parts are in place at once, the others when the fetch was waited for."""
        out, positions = place(0)
        width = out.shape[1]
        order, bounds = self._book.by_owner(ids)
        counts = RowCounts(remote=len(ids), misses=len(ids))
        calls: list[Call] = []
        places: list[Ids] = []
        for part, mapped in enumerate(self._mapped):
            chosen = order[bounds[part] : bounds[part + 1]]
            if len(chosen) == 0:
                continue
            if mapped is not None:
                counts.mapped_bytes += self._copy(part, mapped, ids, out, positions, chosen)
                continue
            counts.received += len(chosen)
            reply = np.empty(len(chosen) * width, self._wire_type)
            counts.received_bytes += reply.nbytes
            calls.append(
                Call(
                    peer=part,
                    header=self._header,
                    ids=ids[chosen],
                    reply=reply,
                    items_per_id=width,
                )
            )
            places.append(positions[chosen])
        if not self._asks_owners:
            return Fetch(counts)
        # With or without calls: see Transport.exchange.
        wait = self._transport.begin(self._op, calls, moment, self._lane)
        return _PeerFetch(counts, wait, calls, places, out)


class _PeerFetch(Fetch):
    """Replies under way, and where their rows belong."""

    def __init__(
        self,
        counts: RowCounts,
        wait: Callable[[], object],
        calls: list[Call],
        places: list[Ids],
        out: Array,
    ) -> None:
        super().__init__(counts)
        self._wait, self._calls, self._places, self._out = wait, calls, places, out

    def wait(self) -> RowCounts:
        self._wait()
        for call, place in zip(self._calls, self._places, strict=True):
            self._out[place] = call.reply.reshape(len(place), self._out.shape[1])
        return self.counts


class DistributedStore:
    """The rows of any nodes: ours from our part, the others through ``remote``.

    placement: where rows are put together, and our own.   remote: a ``PeerStore``, or a buffer in
    front of one.
    """

    def __init__(
        self, book: PartitionBook, part: int, placement: RowPlacement, remote: FeatureStore
    ) -> None:
        self._first, self._last = book.range_of(part)
        self._book, self.placement, self.remote = book, placement, remote

    def split(self, ids: Ids) -> tuple[Ids, Ids]:
        """Where in ``ids`` our own nodes are, and where those of other parts."""
        own, remote = split_places(ids, self._first, self._last)
        return own, remote

    def fetch(self, ids: Ids, moment: Moment) -> tuple[torch.Tensor, RowCounts]:
        """``request`` the rows of global ids, and wait. Raises ValueError on one that is none."""
        self._book.check(ids)
        return self.request(ids, *self.split(ids), moment).wait()

    def request(self, ids: Ids, own: Ids, remote: Ids, moment: Moment) -> "RowsUnderWay":
        """Ask for the rows of distinct ids int64 [R], own and remote ones at these positions."""
        placed = self.placement.begin(ids, own, remote)
        fetch = self.remote.request(ids[remote], placed.place, moment)
        placed.gather_own()  # while the others are on their way
        return RowsUnderWay(fetch, placed)


class RowsUnderWay:
    """The rows of one minibatch: those of others under way, ours in place."""

    def __init__(self, fetch: Fetch, placed: PlacedRows) -> None:
        self._fetch, self._placed, self.slot = fetch, placed, placed.slot

    def wait(self) -> tuple[torch.Tensor, RowCounts]:
        """(float32 [R, D] on the device in the order of ids, counts). Raises PeerTimeout."""
        counts = self._fetch.wait()
        return self._placed.finish(self._fetch.on_device), counts
