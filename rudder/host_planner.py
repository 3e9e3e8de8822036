"""HostPlanner: what a buffer that all ranks of a host share does in each step, by ids alone.

    foresee([ids of each rank])    merged in rank order, each id once  ->  Planner.foresee
    plan(epoch, step)              Planner.plan of the merged ids  ->  where each rank's rows lie

A row that several ranks need in a step crosses once, for the first of them: it is a miss of that
rank and a hit of the others. Rows that come wait in a ring behind the buffer's C rows until every
rank has read them; what the policy takes in moves to its slot then. Training and replay run this
very class.

C capacity; L ranks; in a step R ids of a rank, M distinct ids of all, m of them misses.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.config import SteerConfig
from rudder.observations import Facts
from rudder.planner import Plan, Planner
from rudder.policies.base import Prior
from rudder.presets import make_policy, read_preset
from rudder.row_counts import RowCounts


@njit(cache=True, nogil=True)
def _merge(ids, ends, seen, merged, places, firsts):  # type: ignore[no-untyped-def]
    """Fill merged, places and firsts; returns M. seen int32 [N]: 0, and 0 again afterwards."""
    size = begin = 0
    for rank in range(len(ends)):
        firsts[rank] = size
        for i in range(begin, ends[rank]):
            if seen[ids[i]] == 0:
                merged[size] = ids[i]
                size += 1
                seen[ids[i]] = size
            places[i] = seen[ids[i]] - 1
        begin = ends[rank]
    for i in range(size):
        seen[merged[i]] = 0
    return size


@njit(cache=True, nogil=True)
def _locate(slots, misses, base):  # type: ignore[no-untyped-def]
    """Of each merged id its slot, or of the k-th miss ``base + k``."""
    found = slots.astype(np.int64)
    for k in range(len(misses)):
        found[misses[k]] = base + k
    return found


@njit(cache=True, nogil=True)
def _share(located, slots, places, first):  # type: ignore[no-untyped-def]
    """``located`` of one rank's ids; flipped where it is the first rank to need a missed row."""
    found = np.empty(len(places), np.int64)
    for i in range(len(places)):
        place = places[i]
        found[i] = ~located[place] if slots[place] < 0 and place >= first else located[place]
    return found


class Merged(NamedTuple):
    """A step's ids: int64 [M] distinct, and where each rank's are among them.

    places: int32 [R] a rank.   firsts: how many were there before a rank's own came.
    """

    ids: Ids
    places: list[NDArray[np.int32]]
    firsts: list[int]


class HostPlan(NamedTuple):
    """A step's plan. wanted: int64 [m], the ids to fetch, in the order of their rows in the ring.

    rows_of: int64 [R] a rank, the row of each of its ids in the shared memory, all bits flipped
    where the rank is the one that the row is fetched for.
    """

    plan: Plan
    wanted: Ids
    rows_of: list[Ids]


class HostPlanner:
    """The planner of a host's ranks. planner: over merged ids, of a policy filled by misses alone.

    num_ids: N, ids are below it.
    """

    def __init__(self, planner: Planner, num_ids: int) -> None:
        self.planner, self.window = planner, planner.window
        self._seen = np.zeros(num_ids, np.int32)
        self._coming: deque[Merged] = deque()

    def foresee(self, ids_of: Sequence[Ids]) -> None:
        """The next step's distinct ids of each rank."""
        ids = np.concatenate(ids_of)
        ends = np.cumsum([len(each) for each in ids_of])
        merged, places = np.empty(len(ids), np.int64), np.empty(len(ids), np.int32)
        firsts = np.empty(len(ids_of), np.int64)
        size = _merge(ids, ends, self._seen, merged, places, firsts)
        self._coming.append(
            Merged(merged[:size].copy(), np.split(places, ends[:-1]), firsts.tolist())
        )
        self.planner.foresee(self._coming[-1].ids)

    def plan(self, epoch: int, step: int, base: int) -> HostPlan:
        """Plan the next step; base: the row of the shared memory where fetched ones begin."""
        ids, places, firsts = self._coming.popleft()
        plan = self.planner.plan(ids, epoch, step)
        found = plan.found
        located = _locate(found.slots, found.misses, base)
        rows_of = [
            _share(located, found.slots, *share) for share in zip(places, firsts, strict=True)
        ]
        return HostPlan(plan, ids[found.misses], rows_of)


def share_counts(
    ids: Ids, far: Ids, rows: Ids, capacity: int, in_halo: NDArray[np.bool_]
) -> RowCounts:
    """One rank's counts of a step, of its distinct remote ids [R].

    far: where among them those of other hosts are; the others are read from this host's maps, so
    they are misses.   rows: ``HostPlan.rows_of`` of the far ones.   in_halo: bool [N].
    """
    fetched = rows < 0
    num_misses = len(ids) - len(far) + int(np.count_nonzero(fetched))
    return RowCounts(
        remote=len(ids),
        hits=len(ids) - num_misses,
        misses=num_misses,
        shared=int(np.count_nonzero(rows >= capacity)),
        halo_remote=int(np.count_nonzero(in_halo[ids])),
        halo_hits=int(np.count_nonzero(in_halo[ids[far[~fetched]]])),
    )


def merged_prior(priors: Sequence[Prior]) -> Prior:
    """What is known of the nodes around all parts of a host, from what is known around each.

    How often nodes were drawn adds up over the ranks.
    """
    halo, at = np.unique(np.concatenate([prior.halo for prior in priors]), return_index=True)
    degrees = np.concatenate([prior.halo_degrees for prior in priors])
    frequent, which = np.unique(
        np.concatenate([prior.frequent for prior in priors]), return_inverse=True
    )
    counts = np.concatenate([prior.frequencies for prior in priors])
    frequencies = np.bincount(which, counts, len(frequent)).astype(np.int64)
    return Prior(halo=halo, halo_degrees=degrees[at], frequent=frequent, frequencies=frequencies)


def is_far(ids: Ids, offsets: Ids, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [R], whether parts of other hosts own these ids.

    offsets: int64 [P + 1], of the parts' contiguous ids.   near: bool [P], the parts of this host.
    """
    return ~near[np.searchsorted(offsets, ids, side="right") - 1]  # type: ignore[no-any-return]


def far_prior(prior: Prior, offsets: Ids, near: NDArray[np.bool_]) -> Prior:
    """What the prior knows of nodes that other hosts own (see ``is_far``)."""
    halo = is_far(prior.halo, offsets, near)
    frequent = is_far(prior.frequent, offsets, near)
    return Prior(
        halo=prior.halo[halo],
        halo_degrees=prior.halo_degrees[halo],
        frequent=prior.frequent[frequent],
        frequencies=prior.frequencies[frequent],
    )


def make_host_planner(
    config: SteerConfig, facts: Facts, priors: Sequence[Prior], num_ids: int
) -> HostPlanner:
    """The planner of a new buffer for some ranks.

    facts: with the capacity of all of them together.   priors: of each (see ``far_prior``).
    """
    prior = merged_prior(priors)
    policy = make_policy(config, read_preset(config), facts.capacity, num_ids, prior)
    return HostPlanner(Planner(policy, facts), num_ids)
