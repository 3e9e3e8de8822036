"""RowServer: our part's rows for whoever asks, on this host or another."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.comm.transport.base import Allocate, Array, Op, Transport
from minidist.store.partition_book import Ids, PartitionBook
from minidist.store.row_copy import copy_rows

# As a request's header numbers them.
WIRE_TYPES = (np.dtype(np.float32), np.dtype(np.float16))


class RowServer:
    """Answers peers' requests for rows of our part: table 0 holds the features.

    ``publish`` adds tables for as long as peers need them (layer-wise inference does).
    """

    def __init__(self, transport: Transport, book: PartitionBook, features: Array) -> None:
        self._book, self._part = book, transport.rank
        self._tables: dict[int, Array] = {0: np.asarray(features)}
        transport.serve(Op.ROWS, self._answer)
        transport.serve(Op.LAYER_ROWS, self._answer)

    def publish(self, table: int, rows: Array) -> None:
        """Serve ``rows`` [n, D] of our n nodes as this table, in place of what it held."""
        self._tables[table] = rows

    def withdraw(self, table: int) -> None:
        """Stop serving a table; its memory is free to go."""
        del self._tables[table]

    def _answer(self, header: tuple[int, int], ids: Ids, allocate: Allocate) -> NDArray[Any]:
        """Reply to (table, wire type): the rows of ids, flat, in the wire type.

        Raises ValueError on ids that are not ours: a gather would read past the table's end.
        """
        first, last = self._book.range_of(self._part)
        if len(ids) and (ids.min() < first or ids.max() >= last):
            raise ValueError(
                f"rows were asked of nodes {ids.min()} to {ids.max()}, "
                f"but part {self._part} owns {first} to {last - 1}"
            )
        table = self._tables[header[0]]
        reply = allocate(len(ids) * table.shape[1], WIRE_TYPES[header[1]])
        rows = reply.reshape(len(ids), table.shape[1])
        if reply.dtype == table.dtype:
            copy_rows(table, ids, rows, np.arange(len(ids)), first)
        else:
            rows[:] = table[ids - first]  # numba has no float16 on CPUs
        return reply
