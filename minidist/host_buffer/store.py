"""HostStore: remote rows through one buffer that all ranks of a host share.

    leader      foresee: ids of step t + W from every rank -> merged, each once -> the planner
    (the first  request: plan step t; ONE request to each owner on another host, into the ring
    rank)       wait:    rows have come; when all ranks have read t - 1, what the policy takes in of
                         it moves from the ring to its slots; tell every rank where its rows lie
    followers   foresee: send ids                request: nothing to ask for
                wait:    hear where the rows lie; read them; say so
    all         rows of parts of this host are read from their maps, and never enter the buffer

    shared memory    C slots | ring: step t's misses | t + 1's | t + 2's

Each rank of a host takes the same steps in the same order, as in training. Losing one is noticed by
its link, and no wait lasts longer than the world's timeout.

C capacity, D features; R remote ids of a rank in a step, f of them far: owned by another host.
"""

import os
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.host_buffer.links import Link, new_memory, shared_rows
from minidist.moment import OUTSIDE, Moment
from minidist.store.feature_store import PeerStore
from minidist.store.partition_book import Ids, no_ids
from rudder.buffer.rows import Array, HostRows
from rudder.cli.whole_file import size_text
from rudder.feature_store import BufferedStore, Fetch, Place, When
from rudder.host_planner import HostPlanner, share_counts
from rudder.planner import Plan
from rudder.replay.recorder import Recorder
from rudder.row_counts import RowCounts

# Kinds of messages.
GEOMETRY, IDS, ROWS, READ, PRIOR = range(1, 6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sharing:
    """What a rank knows of the buffer that it shares.

    links: to the followers, or to the leader (see ``links``).   in_halo: bool [N], nodes
    of our halo.   width: D.   capacity: C.   num_steps: with rows in the ring: those that may be
    under way at once, and the one that arrived before.
    """

    links: Sequence[Link]
    in_halo: NDArray[np.bool_]
    width: int
    capacity: int
    num_steps: int


class HostStore(BufferedStore):
    """One rank's end of the shared buffer; ``peers`` brings rows of maps and from other hosts."""

    def __init__(self, peers: PeerStore, sharing: Sharing, recorder: Recorder | None) -> None:
        self.peers, self.sharing, self.counts = peers, sharing, RowCounts()
        self._recorder, self._started = recorder, False
        self._foreseen: deque[tuple[Ids, Ids]] = deque()
        self._moment: When = OUTSIDE
        self.rows: HostRows

    def _map(self, descriptor: int, ring_rows: int) -> None:
        """Map the buffer and the ring, which has so many rows for each step under way."""
        sharing, self._ring_rows = self.sharing, ring_rows
        num_rows = sharing.capacity + sharing.num_steps * ring_rows
        self.rows = HostRows.of(shared_rows(descriptor, num_rows, sharing.width))

    def foresee(self, ids: Ids) -> None:
        near, far = self.peers.split(ids)
        self._foreseen.append((near, far))
        self._announce(ids[far])

    def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
        self._moment = moment
        if not self._foreseen:
            raise RuntimeError("foresee() comes before request(), once for each minibatch")
        near, far = self._foreseen.popleft()
        start = RowCounts() if self._started else self._start(moment)
        self._started = True
        if self._recorder is not None:
            self._recorder.record(ids, False)
        asked = self._ask(moment)
        out, positions = place(0)
        counts = self.peers.copy_mapped(ids[near], out, positions[near])
        for part in (start, asked.counts):
            counts += part
        return _HostFetch(self, asked, (ids, far), (out, positions[far]), counts)

    @abstractmethod
    def _announce(self, far_ids: Ids) -> None:
        """The next step that was sampled needs these ids."""

    @abstractmethod
    def _start(self, moment: When) -> RowCounts:
        """Bring in the rows that the buffer starts with; returns what that moved for us."""

    @abstractmethod
    def _ask(self, moment: When) -> "Asked":
        """Ask the owners for the next step's rows."""

    @abstractmethod
    def arrived(self, asked: "Asked") -> Ids:
        """Wait until a step's rows are in place; where ours lie, as ``HostPlan.rows_of``."""

    @abstractmethod
    def have_read(self) -> None:
        """We have read the rows of the step that arrived last."""

    def close(self) -> None:
        for link in self.sharing.links:
            link.close()


@dataclass(eq=False)
class Asked:
    """A step under way. fetch: of its rows.   counts: what to add to those of our rows.

    plan, rows_of, base: on the leader, see ``HostPlan``; where its rows begin in the ring.
    """

    fetch: Fetch
    counts: RowCounts
    moment: When
    plan: Plan | None = None
    rows_of: Sequence[Ids] = ()
    base: int = 0


class _HostFetch(Fetch):
    """A rank's rows of one step. asked_for: (ids, far); target: (out, positions of the far)."""

    def __init__(
        self,
        store: HostStore,
        asked: Asked,
        asked_for: tuple[Ids, Ids],
        target: tuple[Array, Ids],
        counts: RowCounts,
    ) -> None:
        super().__init__(counts)
        self._store, self._asked, self._asked_for, self._target = store, asked, asked_for, target

    def wait(self) -> RowCounts:
        store, (ids, far) = self._store, self._asked_for
        rows = store.arrived(self._asked)
        sharing = store.sharing
        self.counts += share_counts(ids, far, rows, sharing.capacity, sharing.in_halo)
        store.rows.read_hits(np.where(rows < 0, ~rows, rows), *self._target)
        store.have_read()
        # A store tells what a replay knows too; the bytes are the minibatch's to tell.
        store.counts += replace(self.counts, received=0, received_bytes=0, mapped_bytes=0)
        return self.counts


class Leader(HostStore):
    """The first rank of a host: it plans for all, asks the owners and fills the memory.

    Raises ValueError where the memory cannot be had.
    """

    def __init__(
        self,
        peers: PeerStore,
        sharing: Sharing,
        recorder: Recorder | None,
        planner: HostPlanner,
        ring_rows: int,
    ) -> None:
        super().__init__(peers, sharing, recorder)
        self._planner, self.window = planner, planner.window
        num_bytes = (sharing.capacity + sharing.num_steps * ring_rows) * sharing.width * 4
        try:
            descriptor = new_memory(num_bytes)
            self._map(descriptor, ring_rows)
        except OSError as error:
            raise ValueError(
                f"--buffer-scope host: the system refuses a map of {size_text(num_bytes)} to be "
                f"shared by this host's ranks ({error.strerror}): raise the limits that ulimit -v "
                "and ulimit -f show, or use --buffer-scope rank"
            ) from None
        geometry = np.array([ring_rows, self.window])
        for link in sharing.links:
            link.send(GEOMETRY, geometry, "sharing the host's buffer")
            link.send_memory(descriptor)
        os.close(descriptor)
        self._num_asked = self._num_arrived = 0
        self._turn = threading.Lock()  # what the planner holds belongs together outside of it
        self._refill: tuple[Ids, Ids] | None = None
        # The step that arrived last, until its rows have moved to their slots.
        self._before: Asked | None = None

    def _announce(self, far_ids: Ids) -> None:
        of_others = [
            link.receive(IDS, "ids of the host's buffer", self._at) for link in self.sharing.links
        ]
        with self._turn:
            self._planner.foresee([far_ids, *of_others])

    @property
    def _at(self) -> Moment:
        return Moment(self._moment.epoch, self._moment.step)

    def _start(self, moment: When) -> RowCounts:
        with self._turn:
            slots, ids = self._refill or self._planner.planner.start()
        counts = self.peers.request(ids, lambda _: (self.rows.rows, slots), self._at).wait()
        counts.remote, counts.misses, counts.replacements = 0, 0, len(ids)
        return counts

    def _ask(self, moment: When) -> Asked:
        sharing = self.sharing
        base = sharing.capacity + self._num_asked % sharing.num_steps * self._ring_rows
        if self._num_asked - self._num_arrived >= sharing.num_steps - 1:
            raise RuntimeError(f"{sharing.num_steps - 1} steps are under way, and there is no room")
        self._num_asked += 1
        with self._turn:
            plan, wanted, rows_of = self._planner.plan(moment.epoch, moment.step, base)
        row_bytes = sharing.width * 4
        self.ring_bytes = max(self.ring_bytes, sharing.num_steps * len(wanted) * row_bytes)
        where = np.arange(base, base + len(wanted))
        fetch = self.peers.request(wanted, lambda _: (self.rows.rows, where), self._at)
        counts = RowCounts(
            replaced=plan.counts.replaced,
            received=fetch.counts.received,
            received_bytes=fetch.counts.received_bytes,
        )
        return Asked(fetch, counts, moment, plan, rows_of, base)

    def arrived(self, asked: Asked) -> Ids:
        asked.fetch.wait()
        self._take_in()
        self._before = asked
        self._num_arrived += 1
        for link, rows in zip(self.sharing.links, asked.rows_of[1:], strict=True):
            link.send(ROWS, rows, "rows of the host's buffer", self._at)
        return asked.rows_of[0]

    def _take_in(self) -> None:
        """Once all ranks have read the step before, its admitted rows move to their slots."""
        if self._before is None:
            return
        for link in self.sharing.links:
            link.receive(READ, "reading rows of the host's buffer", self._at)
        plan, base = self._before.plan, self._before.base
        assert plan is not None
        order = np.searchsorted(plan.found.misses, plan.swap.places)
        self.rows.swap_in(plan.swap.slots, self.rows.rows, base + order)

    def have_read(self) -> None:
        """The others say so."""

    def state_dict(self) -> dict[str, NDArray[Any]]:
        with self._turn:
            return self._planner.planner.state_dict()

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        self._refill = self._planner.planner.load_state_dict(state)


class Follower(HostStore):
    """Any other rank of a host."""

    def __init__(self, peers: PeerStore, sharing: Sharing, recorder: Recorder | None) -> None:
        super().__init__(peers, sharing, recorder)
        (self._link,) = sharing.links
        ring_rows, self.window = map(int, self._link.receive(GEOMETRY, "sharing the host's buffer"))
        descriptor = self._link.receive_memory()
        self._map(descriptor, ring_rows)
        os.close(descriptor)

    def _announce(self, far_ids: Ids) -> None:
        self._link.send(IDS, far_ids, "ids of the host's buffer")

    def _start(self, moment: When) -> RowCounts:
        # Stores that exchange in lockstep count on every rank.
        return self._ask(moment).fetch.wait()

    def _ask(self, moment: When) -> Asked:
        at = Moment(moment.epoch, moment.step)
        nowhere = np.empty((0, self.sharing.width), np.float32), no_ids()
        return Asked(self.peers.request(no_ids(), lambda _: nowhere, at), RowCounts(), at)

    def arrived(self, asked: Asked) -> Ids:
        asked.fetch.wait()
        at = Moment(asked.moment.epoch, asked.moment.step)
        return self._link.receive(ROWS, "rows of the host's buffer", at)

    def have_read(self) -> None:
        self._link.notify(READ)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The leader keeps it all."""
        return {}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """The leader has it all."""
