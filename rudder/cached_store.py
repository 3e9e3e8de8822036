"""BufferedRows: remote rows through a buffer, with ONE merged request per minibatch.

    plan         look up, decide, propose          no row moves
    request      misses and proposed rows          one request; each row comes once
    receive      hits                              from the buffer
                 swap                              proposed rows into the buffer
    finish       the same for a buffer on a GPU    when the minibatch has crossed to it

While rows are under way the next minibatch may be planned and requested: plans go by ids, and rows
move in the order of the plans.

It wraps any inner source that can fill rows in by id.

R remote rows of a minibatch, k of them or others to swap in, D features.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.buffer.rows import Rows
from rudder.planner import Plan, Steering
from rudder.replay.recorder import Recorder

Array = NDArray[Any]


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


class When(Protocol):
    """Which minibatch: ``epoch`` and ``step``."""

    @property
    def epoch(self) -> int: ...

    @property
    def step(self) -> int: ...


class Inner(Protocol):
    """Where rows come from that are not in the buffer."""

    def request(self, ids: Ids, out: Array, positions: Ids, moment: Any) -> Callable[[], Any]:
        """Ask for the rows of distinct ids.

        Once what is returned was called, the row of ``ids[i]`` is in ``out[positions[i]]``.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Rows of one minibatch by what became of them; replacements: moved for the buffer alone."""

    remote: int
    hits: int
    misses: int
    replacements: int


class BufferedRows:
    """A buffer in front of ``inner``, for one thread at a time (but ``state`` may be asked by any).

    width: D.   recorder: is shown every minibatch, or None.
    """

    def __init__(
        self,
        inner: Inner,
        steering: Steering,
        rows: Rows,
        width: int,
        recorder: Recorder | None = None,
    ) -> None:
        self._inner, self.steering, self._rows, self._width = inner, steering, rows, width
        self._recorder = recorder
        self._plan: Plan | None = None
        self._refill: tuple[Ids, Ids] | None = None
        self._started, self._num_started = False, 0
        self._changed, self._busy = threading.Condition(), False

    @property
    def window(self) -> int:
        """Minibatches that ``foresee`` must be in front of ``plan``."""
        return self.steering.window

    def foresee(self, ids: Ids) -> None:
        """The next minibatch that was sampled needs these distinct remote ids."""
        with self._changed:  # not while ``state`` reads what this writes
            self.steering.foresee(ids)

    def plan(self, ids: Ids, moment: When) -> int:
        """Look at the distinct remote ids; returns the spare rows that ``request`` needs."""
        with self._changed:
            self._busy = True
        try:
            self._num_started = 0 if self._started else self._start(moment)
            self._plan = self.steering.plan(ids, moment.epoch, moment.step)
        except BaseException:
            self._rest()
            raise
        if self._recorder is not None:
            self._recorder.record(ids, self._plan.replace)
        return self._plan.swap.num_extra

    def _start(self, moment: When) -> int:
        """Bring in the rows that the policy starts with; returns how many."""
        self._started = True
        slots, ids = self._refill or self.steering.start()
        # Also where there are none: sources that exchange in lockstep count on every rank.
        incoming = np.empty((len(ids), self._width), np.float32)
        self._inner.request(ids, incoming, np.arange(len(ids)), moment)()
        self._rows.fill(slots, incoming)
        return len(ids)

    def request(self, ids: Ids, out: Array, positions: Ids, moment: When) -> Callable[[], Moved]:
        """Ask for the rows of the minibatch that was planned, and of its swap.

        What is returned waits for them: then the row of ``ids[i]`` is in ``out[positions[i]]``;
        spare rows end ``out`` [.., D].
        """
        plan = self._plan
        assert plan is not None, "request() follows plan()"
        self._plan = None
        swap, spare = plan.swap, len(out) - plan.swap.num_extra
        moved = Moved(
            remote=len(ids),
            hits=plan.found.hits,
            misses=plan.num_misses,
            replacements=swap.num_extra + self._num_started,
        )
        try:
            wanted, where = _ask_for(
                ids, positions, plan.found.misses, swap.ids, swap.places, spare
            )
            wait = self._inner.request(wanted, out, where, moment)
            self.steering.commit()
        finally:
            self._rest()

        def receive() -> Moved:
            wait()
            # Hits first: a swap may take the slot of a row that this minibatch reads.
            self._rows.read_hits(plan.found.slots, out, positions)
            if len(swap.ids):
                sources = _swapped_from(positions, swap.places, spare)
                self._rows.swap_in(swap.slots, out, sources)
            return moved

        return receive

    def _rest(self) -> None:
        """Between minibatches: what we hold belongs together again."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def finish(self, x: torch.Tensor) -> None:
        """The minibatch is on its device: x [R + own rows, D]."""
        self._rows.on_device(x)

    def state(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint: what ``Steering.state`` has, between two minibatches."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            return self.steering.state()

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from ``state()``; the rows themselves come with the first minibatch."""
        self._refill = self.steering.load(state)
