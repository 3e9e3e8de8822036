"""Calibrate: the costs of a minibatch's work, from the times of a few runs.

P ranks, T minibatches of a rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.model.costs import Amounts, Cluster, Costs, Variant, Work, at_once
from benchmarks.model.measured import Measured
from benchmarks.model.pipeline import epoch_seconds

# The share of a link's rate is looked for from here to 1, in so many halvings.
_LEAST_SHARE = 0.05
_HALVINGS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """A run and the work of its minibatches."""

    run: Measured
    work: Work

    def times(self, stage: str) -> Amounts:
        """Seconds of the epochs after the first, which compiles: float64 [P, T - one epoch]."""
        return self.run.times[stage][:, self.work.steps_per_epoch :]

    def amounts(self, name: str) -> Amounts:
        """The work of the same minibatches."""
        amounts: Amounts = getattr(self.work, name)
        return amounts[:, self.work.steps_per_epoch :]


def line(amounts: Amounts, seconds: Amounts) -> tuple[float, float]:
    """(a, b), neither negative, of seconds = a + b amounts; least squares.

    Times when the machine did something else are among them: an epoch has those too.
    """
    x, y = amounts.ravel(), seconds.ravel()
    spread = x - x.mean()
    slope = float(spread @ (y - y.mean())) / max(float(spread @ spread), 1e-30)
    fixed = float(y.mean() - slope * x.mean())
    if slope < 0:
        return float(y.mean()), 0.0
    if fixed < 0:
        return 0.0, float(x @ y) / max(float(x @ x), 1e-30)
    return fixed, slope


def calibrate(
    computing: Sequence[Known],
    carrying: Known,
    ahead: Known,
    crowded: Known | None,
    gradient_bytes: float,
    decision_s: float,
    cores: float,
) -> Costs:
    """Costs from ``--prefetch none`` runs, in which nothing overlaps, and one where rows are ahead.

    computing: two ranks of one host, each with a core; of several batch sizes, so that what a
    minibatch costs anyway is told from what its size adds.   carrying: two hosts.
    ahead: the same hosts with ``--prefetch overlap``.   crowded: more ranks of one host than its
    ``cores``, with that as well; None where it has too many for that.
    """

    def fit(name: str, stage: str) -> tuple[float, float]:
        amounts = np.concatenate([known.amounts(name).ravel() for known in computing])
        return line(amounts, np.concatenate([known.times(stage).ravel() for known in computing]))

    sample, fetch = fit("edges", "sample_s"), fit("nodes", "fetch_s")
    # Who comes last to the sum waits for nobody.
    train = line(
        np.concatenate([known.amounts("edges").max(axis=0) for known in computing]),
        np.concatenate([known.times("train_s").min(axis=0) for known in computing]),
    )
    link = carrying.run.place.link
    assert link is not None
    # Neighbours are few bytes, so they tell what an exchange takes anyway; rows tell of the rest.
    asked = _beyond(carrying, "sample_s", "edges", sample)
    asked = asked - at_once(carrying.amounts("neighbor_bytes")).ravel() / link
    exchange_s = max(0.0, float(np.median(asked)))
    on_link = float(at_once(carrying.amounts("row_bytes")).sum()) / link
    share = _share(carrying, fetch, exchange_s, on_link)
    costs = Costs(
        sample_s=sample[0],
        sample_edge_s=sample[1],
        fetch_s=fetch[0],
        fetch_row_s=fetch[1],
        train_s=train[0],
        train_edge_s=train[1],
        exchange_s=exchange_s,
        link_share=share,
        ahead_share=1.0,
        queue=0.0,
        sum_s=0.0,
        gradient_bytes=gradient_bytes,
        decision_s=decision_s,
    )
    costs = replace(costs, sum_s=max(0.0, float(np.median(_summing(costs, carrying)))))
    costs = replace(costs, jitter=_jitter([*computing, carrying], costs))
    if crowded is not None:
        costs = replace(costs, crowding=_crowding(costs, crowded, cores))
    return _with_queues(costs, ahead, link)


def _crowding(costs: Costs, known: Known, cores: float) -> float:
    """From an epoch that the cores bound."""
    cluster = Cluster(ranks=known.run.place.ranks, cores=cores, link=None)
    busy = np.cumsum(costs.busy_seconds(known.work, cluster, Variant()))
    alone = epoch_seconds(busy, known.work.steps_per_epoch)
    return max(0.0, (known.run.epoch_s / alone - 1.0) / (cluster.crowd - 1.0))


def _summing(costs: Costs, known: Known) -> Amounts:
    """What steps of two hosts took beyond training and the bytes of gradients: [T - one epoch]."""
    cluster = Cluster(ranks=2, cores=2, link=known.run.place.link)
    trained = costs.train_s + costs.train_edge_s * known.amounts("edges").max(axis=0)
    # Who comes last to the sum waits for nobody.
    return np.asarray(known.times("train_s").min(axis=0) - trained - costs.sum_seconds(cluster))


def _with_queues(costs: Costs, ahead: Known, link: float) -> Costs:
    """What changes where rows are on the links all the time.

    The share of the rate is the one with which the epochs of that run take the time they took: what
    rows wait for overlaps with all else, and no time of a stage tells it.
    """
    queued = float(_summing(costs, ahead).mean()) * link / float(ahead.amounts("row_bytes").mean())
    costs = replace(costs, queue=max(queued, 0.0))
    cluster = Cluster(ranks=2, cores=2, link=link)
    slow, fast = _LEAST_SHARE, 1.0
    for _ in range(_HALVINGS):
        share = (slow + fast) / 2
        found = replace(costs, ahead_share=share).epoch_s(ahead.work, cluster, Variant())
        slow, fast = (slow, share) if found < ahead.run.epoch_s else (share, fast)
    return replace(costs, ahead_share=fast)


def _jitter(runs: Sequence[Known], costs: Costs) -> float:
    """Of training steps, in which who comes last waits for nobody; each run beside its own mean."""
    shares = []
    for known in runs:
        edges = known.amounts("edges").max(axis=0)
        share = known.times("train_s").min(axis=0) / (costs.train_s + costs.train_edge_s * edges)
        shares.append(share / share.mean())
    return float(np.concatenate(shares).std())


def _beyond(known: Known, stage: str, name: str, computing: tuple[float, float]) -> Amounts:
    """What a stage took beyond its computing."""
    fixed, slope = computing
    return (known.times(stage) - fixed - slope * known.amounts(name)).ravel()


def _share(
    known: Known, computing: tuple[float, float], exchange_s: float, on_link: float
) -> float:
    """Of a link's rate, what rows got that are that many seconds on the link in all; at most 1."""
    carried = _beyond(known, "fetch_s", "nodes", computing) - exchange_s
    return min(1.0, on_link / max(float(carried.sum()), 1e-9))
