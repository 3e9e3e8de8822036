"""Hosts: a recorded run as ranks of several hosts, which may share one buffer each.

Rows that cross between hosts are counted here, and the fewest that could: Belady's bound of one
buffer a rank, and of one a host over the merged stream of its ranks.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.config import SteerConfig
from rudder.host_planner import far_prior, is_far, make_host_planner, share_counts
from rudder.planner import Planner
from rudder.replay.belady import belady_rows
from rudder.replay.play import plans
from rudder.replay.trace import Trace
from rudder.row_counts import RowCounts


class Hosts:
    """The ranks of a run by host.

    traces: of all ranks, in order.   hosts: of each rank, equal for those on one host.
    Raises ValueError where a trace does not fit the others.
    """

    def __init__(self, traces: Sequence[Trace], hosts: Sequence[int]) -> None:
        self.traces, self.hosts = traces, hosts
        self.groups = [
            [rank for rank, each in enumerate(hosts) if each == host]
            for host in sorted(set(hosts), key=list(hosts).index)
        ]
        nodes = [trace.facts.part_nodes for trace in traces]
        self._offsets = np.cumsum([0, *nodes])
        steps = {trace.num_minibatches for trace in traces}
        if self._offsets[-1] != traces[0].facts.num_nodes or len(steps) > 1:
            raise ValueError(
                f"{traces[0].name}: {len(traces)} ranks with {int(self._offsets[-1])} of "
                f"{traces[0].facts.num_nodes} nodes and {sorted(steps)} minibatches: they are not "
                "the ranks of one run; record it anew"
            )

    def near(self, rank: int) -> NDArray[np.bool_]:
        """bool [P], the parts of a rank's host."""
        return np.array([host == self.hosts[rank] for host in self.hosts])

    def far(self, rank: int, ids: Ids) -> Ids:
        """Where among ids those are that the rank's host does not own."""
        return np.flatnonzero(is_far(ids, self._offsets, self.near(rank)))

    @cached_property
    def _far_streams(self) -> list[list[Ids]]:
        """Each rank's minibatches, without what its host owns."""
        return [
            [ids[self.far(rank, ids)] for ids in map(trace.minibatch, range(trace.num_minibatches))]
            for rank, trace in enumerate(self.traces)
        ]

    @property
    def num_far(self) -> int:
        """Rows that would cross between hosts without a buffer and without sharing."""
        return sum(len(ids) for stream in self._far_streams for ids in stream)

    def bound(self, capacities: Sequence[int], scope: str) -> int:
        """The fewest rows that cross with buffers of these capacities a rank, filled by misses."""
        if scope == "rank":
            return sum(map(belady_rows, self._far_streams, capacities))
        return sum(
            belady_rows(self._merged(group), sum(capacities[rank] for rank in group))
            for group in self.groups
        )

    def _merged(self, group: Sequence[int]) -> list[Ids]:
        steps = zip(*(self._far_streams[rank] for rank in group), strict=True)
        return [np.unique(np.concatenate(step)) for step in steps]

    def crossed(self, planner: Planner, trace: Trace) -> int:
        """Play a rank's own buffer; how many of the rows that it moves other hosts own."""
        rank = self.traces.index(trace)
        num = len(self.far(rank, planner.policy.start()))
        for ids, plan in plans(planner, trace):
            asked = ids[plan.found.misses], plan.swap.ids[plan.swap.places < 0]
            num += sum(len(self.far(rank, each)) for each in asked)
        return num

    def share(
        self, group: Sequence[int], config: SteerConfig, capacities: Sequence[int]
    ) -> tuple[list[RowCounts], int]:
        """Play the one buffer of a host: what each rank counts, and how many rows cross.

        group: the host's ranks.   capacities: theirs.
        """
        traces = [self.traces[rank] for rank in group]
        first, capacity, near = traces[0], sum(capacities), self.near(group[0])
        facts = replace(first.facts, capacity=capacity)
        priors = [far_prior(trace.prior, self._offsets, near) for trace in traces]
        planner = make_host_planner(config, facts, priors, first.num_ids)
        in_halo = [np.isin(np.arange(first.num_ids), trace.prior.halo) for trace in traces]
        counts = [RowCounts() for _ in traces]
        crossed = counts[0].replacements = len(planner.planner.start()[1])
        foreseen = 0
        for number in range(first.num_minibatches):
            while foreseen < min(number + planner.window + 1, first.num_minibatches):
                planner.foresee([self._far_streams[rank][foreseen] for rank in group])
                foreseen += 1
            moment = divmod(number, facts.minibatches_per_epoch)
            plan = planner.plan(*moment, base=capacity)
            crossed += len(plan.wanted)
            counts[0].replaced += plan.plan.counts.replaced
            for at, rows in enumerate(plan.rows_of):
                ids = traces[at].minibatch(number)
                far = self.far(group[at], ids)
                counts[at] += share_counts(ids, far, rows, capacity, in_halo[at])
        return counts, crossed
