"""Costs: what a minibatch's work takes, and the stages and epochs that follow from it.

P ranks, T minibatches of a rank.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.model.pipeline import Seconds, Stages, epoch_seconds, step_ends

Amounts = NDArray[np.float64]
# Minibatches that a stage of ``minidist.train`` may be in front of the next.
_AHEAD = 2


def slowest_of(count: int) -> float:
    """Standard deviations over the mean at which the largest of so many normals lies (Blom)."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def at_once(amounts: Amounts) -> Amounts:
    """What decides how long a link is busy that carries both ways at once: a rank gets amounts
    [P, T], and sends as much as ranks get on average."""
    return np.asarray(np.maximum(amounts, amounts.mean(axis=0)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What minibatches need: float64 [P, T] each.

    nodes: whose rows are gathered.   edges: drawn and trained on.
    neighbor_bytes, row_bytes: that a rank receives for a minibatch, requests counted as well.
    """

    nodes: Amounts
    edges: Amounts
    neighbor_bytes: Amounts
    row_bytes: Amounts
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """ranks: P.   cores: of all ranks together.

    link: bytes a second of each rank's link, one way; None where ranks share a host and map rows.
    """

    ranks: int
    cores: float
    link: float | None

    @property
    def crowd(self) -> float:
        """Ranks to a core, where there are more."""
        return max(1.0, self.ranks / self.cores)

    def shared(self, seconds: Amounts) -> Amounts:
        """What all ranks begin at once [P, T]: on few cores none is done before its share."""
        crowd = self.crowd
        return seconds if crowd == 1 else np.maximum(seconds, crowd * seconds.mean(axis=0))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A ``--prefetch`` as far as time knows it.

    ahead: whether minibatches are prepared ahead.   window: minibatches sampled beyond the fetch.
    decides: whether a slow decider thinks beside; sync: and each minibatch waits for it.
    """

    ahead: bool = True
    window: int = 0
    decides: bool = False
    sync: bool = False


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one rank with a core of its own.

    sample_s + edges * sample_edge_s, and likewise fetch_s and fetch_row_s (gathering), train_s and
    train_edge_s.   exchange_s: of an exchange between hosts, beyond its bytes.
    link_share: of a link's rate that bytes get where all ranks fetch and then train; ahead_share:
    that rows get where they are on the links all the time.   queue: what samples and sums wait for
    then, as a share of the time that the rows are on the link at its rate.   sum_s: of a round of
    the sum between hosts.
    gradient_bytes: that a rank puts into it.   decision_s: of one decision.
    jitter: standard deviation of computing times of equal work, as a share of them.
    crowding: that threads take from each other for each rank beyond one that a core has, as a share
    of their work.
    """

    sample_s: float
    sample_edge_s: float
    fetch_s: float
    fetch_row_s: float
    train_s: float
    train_edge_s: float
    exchange_s: float
    link_share: float
    ahead_share: float
    queue: float
    sum_s: float
    gradient_bytes: float
    decision_s: float = 0.0
    jitter: float = 0.0
    crowding: float = 0.0

    def stages(self, work: Work, cluster: Cluster, variant: Variant) -> Stages:
        """How long each minibatch is in each stage."""
        sample = self.sample_s + self.sample_edge_s * work.edges
        fetch = self.fetch_s + self.fetch_row_s * work.nodes
        train = self.train_s + self.train_edge_s * work.edges
        # Queues make up for what is prepared late now and then, if there are any.
        exposed = train if variant.ahead else sample + fetch + train
        late = slowest_of(cluster.ranks) * self.jitter * exposed.mean(axis=0)
        if variant.sync:
            fetch = fetch + self.decision_s
        queued = self._queued(work, cluster) if variant.ahead else 0.0
        share = self.ahead_share if variant.ahead else self.link_share
        asking = self._wire(at_once(work.neighbor_bytes), cluster, self.link_share)
        return Stages(
            sample=cluster.shared(sample) + asking + queued,
            fetch=cluster.shared(fetch),
            carry=self._wire(at_once(work.row_bytes), cluster, share),
            train=cluster.shared(train),
            together=self.sum_seconds(cluster) + late + queued,
        )

    def sum_seconds(self, cluster: Cluster) -> float:
        """The sum of gradients over all ranks; within a host it is in ``train_s``."""
        if cluster.link is None:
            return 0.0
        rounds = math.ceil(math.log2(cluster.ranks))
        carried = self._sum_bytes(cluster.ranks) / (self.link_share * cluster.link)
        return self.sum_s * rounds + carried

    def busy_seconds(self, work: Work, cluster: Cluster, variant: Variant) -> Seconds:
        """What the cores cannot do faster, whatever overlaps: float64 [T]."""
        each: Amounts = (
            (self.sample_s + self.fetch_s + self.train_s)
            + (self.sample_edge_s + self.train_edge_s) * work.edges
            + self.fetch_row_s * work.nodes
        )
        if variant.decides:
            # A thread that always thinks, on a core of its own where there is one.
            each = each + min(self.decision_s, float(each.mean()))
        crowded = 1.0 + self.crowding * (cluster.crowd - 1.0)
        return np.asarray(each.mean(axis=0) * crowded * cluster.ranks / cluster.cores)

    def link_seconds(self, work: Work, cluster: Cluster) -> Seconds:
        """What the links cannot carry faster: float64 [T], of the rank with the most bytes."""
        if cluster.link is None:
            return np.zeros(work.nodes.shape[1])
        total = work.neighbor_bytes + work.row_bytes + self._sum_bytes(cluster.ranks)
        busiest = total[int(total.sum(axis=1).argmax())]
        return np.asarray(busiest / cluster.link)

    def epoch_s(self, work: Work, cluster: Cluster, variant: Variant) -> float:
        """The median epoch after the first."""
        ends = step_ends(
            self.stages(work, cluster, variant), _AHEAD if variant.ahead else 0, variant.window
        )
        every = work.steps_per_epoch
        found = epoch_seconds(ends, every)
        if not variant.ahead:
            return found
        least = [self.busy_seconds(work, cluster, variant), self.link_seconds(work, cluster)]
        return max(found, *(epoch_seconds(np.cumsum(bound), every) for bound in least))

    def _sum_bytes(self, ranks: int) -> float:
        return 2 * (ranks - 1) / ranks * self.gradient_bytes

    def _queued(self, work: Work, cluster: Cluster) -> Seconds | float:
        """What small messages wait for behind rows: float64 [T]."""
        if cluster.link is None:
            return 0.0
        return np.asarray(self.queue * work.row_bytes.mean(axis=0) / cluster.link)

    def _wire(self, amounts: Amounts, cluster: Cluster, share: float) -> Amounts:
        """Seconds of exchanges that bring so many bytes over a link."""
        if cluster.link is None:
            return np.zeros_like(amounts)
        return np.asarray(self.exchange_s + amounts / (share * cluster.link))
