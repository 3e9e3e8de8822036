"""DistFeatures: the exact feature rows of any nodes, wherever they are.

    ids --by owner--> our part: gather
                      a peer on this host: gather from its memory-mapped file
                      a peer elsewhere: one request, its server gathers, we place the reply

Every path copies ``x[id]`` bit for bit into its place of one output. Only a float16 wire, which a
user must ask for, rounds the rows that cross hosts.

R rows asked for, D features, P parts.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from minidist.comm.transport.base import Array, Call, Op, Transport
from minidist.moment import Moment
from minidist.store.partition_book import Ids, PartitionBook
from minidist.store.row_copy import RowCounts, Rows, copy_rows
from minidist.store.row_server import WIRE_TYPES


class RemoteRows(Protocol):
    """What brings the rows of remote nodes: ``OwnersRows``, or a buffer in front of it.

    For one minibatch: ``foresee`` up to ``window`` minibatches earlier, ``plan``, ``request``, what
    that returned, and ``finish`` once its rows are on the device. The next one may be planned and
    requested before what this one's ``request`` returned is called; all come in order.
    """

    @property
    def window(self) -> int:
        """How many minibatches ``foresee`` wants to be in front of ``plan``."""
        ...

    def foresee(self, ids: Ids) -> None:
        """A minibatch was sampled that will need these distinct remote ids."""
        ...

    def plan(self, ids: Ids, moment: Moment) -> int:
        """Look at the distinct remote ids; returns the spare rows that ``request`` needs."""
        ...

    def request(self, ids: Ids, out: Array, positions: Ids, moment: Moment) -> Callable[[], Rows]:
        """Ask for the rows; what is returned waits for them.

        Then the row of ``ids[i]`` is in ``out[positions[i]]``; spare rows end ``out``.
        """
        ...

    def finish(self, x: torch.Tensor) -> None:
        """Fill in the rows of x [R, D] that were on the device already."""


class OwnersRows:
    """Fetches rows of one table from their owners, without any buffer in between.

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
        lane: str = "fetch",
    ) -> None:
        self._transport, self._book = transport, book
        self._mapped = [None if rows is None else np.asarray(rows) for rows in mapped]
        self._asks_owners = any(rows is None for rows in mapped)
        self._wire_type = np.dtype(wire_type)
        self._header = (table, WIRE_TYPES.index(self._wire_type))
        self._op, self._lane = op, lane

    window = 0

    def foresee(self, ids: Ids) -> None:
        """The future changes nothing here."""

    def plan(self, ids: Ids, moment: Moment) -> int:
        """Nothing to prepare, no spare rows needed."""
        return 0

    def finish(self, x: torch.Tensor) -> None:
        """Every row came by the host."""

    def fetch_into(self, ids: Ids, out: Array, positions: Ids, moment: Moment) -> RowCounts:
        """``request``, and wait for it."""
        return self.request(ids, out, positions, moment)()

    def request(
        self, ids: Ids, out: Array, positions: Ids, moment: Moment
    ) -> Callable[[], RowCounts]:
        """Write the row of ``ids[i]`` to ``out[positions[i]]``; ids distinct, none of them ours.

        Those of mapped parts are there at once, the others when what is returned was called.
        """
        width = out.shape[1]
        order, bounds = self._book.by_owner(ids)
        calls: list[Call] = []
        places: list[Ids] = []
        for part, mapped in enumerate(self._mapped):
            chosen = order[bounds[part] : bounds[part + 1]]
            if len(chosen) == 0:
                continue
            if mapped is not None:
                first = self._book.range_of(part)[0]
                copy_rows(mapped, ids, out, positions, first, chosen)
                self._transport.traffic.mapped[self._op, part] += len(chosen) * width * 4
                continue
            reply = np.empty(len(chosen) * width, self._wire_type)
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
        # With or without calls: see Transport.exchange.
        wait = (
            self._transport.begin(self._op, calls, moment, self._lane)
            if self._asks_owners
            else list
        )

        def receive() -> RowCounts:
            wait()
            for call, place in zip(calls, places, strict=True):
                out[place] = call.reply.reshape(len(place), width)
            return RowCounts(remote=len(ids), misses=len(ids))

        return receive


class DistFeatures:
    """The rows of any nodes: ours by a gather, the others through ``remote``."""

    def __init__(self, book: PartitionBook, part: int, own: Array, remote: RemoteRows) -> None:
        self._first, self._last = book.range_of(part)
        self._book, self._own, self.remote = book, np.asarray(own), remote

    def remote_places(self, ids: Ids) -> Ids:
        """Where in ``ids`` nodes of other parts are."""
        return np.flatnonzero((ids < self._first) | (ids >= self._last))

    def fetch(self, ids: Ids, moment: Moment) -> tuple[NDArray[np.float32], RowCounts]:
        """``request``, and wait for it."""
        return self.request(ids, moment)()

    def request(
        self, ids: Ids, moment: Moment
    ) -> Callable[[], tuple[NDArray[np.float32], RowCounts]]:
        """Ask for the rows of distinct global ids int64 [R].

        What is returned waits for them: (rows float32 [R, D] in the order of ids, counts).
        Raises ValueError on an id outside the graph, PeerTimeout when an owner does not answer.
        """
        self._book.check(ids)
        is_own = (ids >= self._first) & (ids < self._last)
        own, remote = np.flatnonzero(is_own), np.flatnonzero(~is_own)
        remote_ids = ids[remote]
        num_spare = self.remote.plan(remote_ids, moment)
        out = np.empty((len(ids) + num_spare, self._own.shape[1]), np.float32)
        receive = self.remote.request(remote_ids, out, remote, moment)
        # While the others are on their way.
        copy_rows(self._own, ids, out, np.arange(len(ids)), self._first, own)

        def received() -> tuple[NDArray[np.float32], RowCounts]:
            counts = RowCounts()
            counts += receive()
            return out[: len(ids)], counts

        return received
