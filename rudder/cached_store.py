"""CachedStore: remote rows through a persistent buffer, with ONE merged request per minibatch.

    request      look up, decide, propose          no row moves
                 misses and proposed rows          one request to the store behind; each row once
    wait         hits                              from the buffer
                 swap                              proposed rows into the buffer
    on_device    the same for a buffer on a GPU    when the minibatch has crossed to it

While rows are under way the next minibatch may be requested: plans go by ids, and rows move in the
order of the plans.

R remote rows of a minibatch, k of them or others to swap in, D features.
"""

import threading
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import Ids, Resize, no_ids
from rudder.buffer.rows import Rows, Send
from rudder.feature_store import Array, FeatureStore, Fetch, Place, When
from rudder.planner import Plan, Planner
from rudder.replay.recorder import Recorder
from rudder.row_counts import RowCounts


@njit(cache=True, nogil=True)
def _ask_for(ids, positions, misses, new_ids, places, spare):  # type: ignore[no-untyped-def]
    """(ids, positions) of the rows to ask for: of misses, and of those moved for the buffer alone.

    The latter go to ``spare`` and on.
    """
    num = len(misses) + np.sum(places < 0)
    wanted, where = np.empty(num, np.int64), np.empty(num, np.int64)
    for k in range(len(misses)):
        wanted[k], where[k] = ids[misses[k]], positions[misses[k]]
    size = len(misses)
    for j in range(len(places)):
        if places[j] < 0:
            wanted[size], where[size] = new_ids[j], spare
            size, spare = size + 1, spare + 1
    return wanted, where


@njit(cache=True, nogil=True)
def _swapped_from(positions, places, spare):  # type: ignore[no-untyped-def]
    """Where the rows to swap in lie once they have come."""
    sources = np.empty(len(places), np.int64)
    for j in range(len(places)):
        if places[j] < 0:
            sources[j] = spare
            spare += 1
        else:
            sources[j] = positions[places[j]]
    return sources


class CachedFetch(Fetch):
    """A minibatch's rows: some from the buffer, the others under way."""

    def __init__(self, plan: Plan, inner: Fetch, rows: Rows, out: Array, positions: Ids) -> None:
        super().__init__(plan.counts)
        self._plan, self._inner, self._rows = plan, inner, rows
        self._out, self._positions = out, positions

    def wait(self) -> RowCounts:
        self._inner.wait()
        swap, out = self._plan.swap, self._out
        if self._plan.resize is not None:
            self._rows.resize(self._plan.resize)
        # Hits first: a swap may take the slot of a row that this minibatch reads.
        self._rows.read_hits(self._plan.found.slots, out, self._positions)
        if len(swap.ids):
            spare = len(out) - swap.num_extra
            self._rows.swap_in(swap.slots, out, _swapped_from(self._positions, swap.places, spare))
        return self.counts

    def on_device(self, staged: torch.Tensor, send: Send) -> None:
        self._rows.on_device(staged, send)


class CachedStore(FeatureStore):
    """A buffer in front of ``inner``, for one thread at a time (any may ask for ``state_dict``).

    rows: the buffer's rows.   recorder: is shown every minibatch, or None.
    """

    def __init__(
        self, inner: FeatureStore, planner: Planner, rows: Rows, recorder: Recorder | None = None
    ) -> None:
        self._inner, self.planner, self._rows = inner, planner, rows
        self._recorder = recorder
        self.window = planner.window
        self._refill: tuple[Ids, Ids] | None = None
        self._started = False
        self._turn = threading.Lock()  # what the planner holds belongs together outside of it

    def foresee(self, ids: Ids) -> None:
        with self._turn:
            self.planner.foresee(ids)

    def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
        with self._turn:
            start = RowCounts() if self._started else self._start(moment)
            plan = self.planner.plan(ids, moment.epoch, moment.step)
            if self._recorder is not None:
                self._recorder.record(ids, plan.replace)
            swap = plan.swap
            out, positions = place(swap.num_extra)
            wanted, where = _ask_for(
                ids, positions, plan.found.misses, swap.ids, swap.places, len(out) - swap.num_extra
            )
            inner = self._inner.request(wanted, lambda _: (out, where), moment)
        counts = plan.counts
        counts.replacements += start.misses
        counts.received_bytes = inner.counts.received_bytes + start.received_bytes
        counts.mapped_bytes = inner.counts.mapped_bytes + start.mapped_bytes
        return CachedFetch(plan, inner, self._rows, out, positions)

    def _start(self, moment: When) -> RowCounts:
        """Bring in the rows that the policy starts with; returns what that moved."""
        self._started = True
        slots, ids = self._refill or self.planner.start()
        # Also where there are none: stores that exchange in lockstep count on every rank.
        incoming = np.empty((len(ids), self._rows.width), np.float32)
        fetch = self._inner.request(ids, lambda _: (incoming, np.arange(len(ids))), moment)
        counts = fetch.wait()
        self._rows.fill(slots, incoming)
        return counts

    def resize(self, capacity: int) -> None:
        """Change the buffer's capacity from the next minibatch on that is requested."""
        with self._turn:
            self.planner.resize(capacity)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint: what ``Planner.state_dict`` has, between two minibatches."""
        with self._turn:
            return self.planner.state_dict()

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from ``state_dict()``; the rows themselves come with the first minibatch."""
        self._refill = self.planner.load_state_dict(state)
        self._rows.resize(Resize(self.planner.buffer.capacity, no_ids(), no_ids()))
