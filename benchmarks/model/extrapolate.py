"""Extrapolate: the epoch of many trainers, from simulated ones and the costs of a few real ranks.

P trainers, k of them played, T minibatches.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.model.costs import Amounts, Cluster, Costs, Variant, Work, slowest_of
from benchmarks.simulate.trainers import ID_BYTES


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """One number of trainers under one setting, on links of one rate.

    setting: ``none``, ``overlap``, or of the simulation, with ``sync`` and the milliseconds of a
    decision where it has one that is slow.
    epoch_s: the slowest of all trainers counted in every step.   even_s: were all of them even, and
    a sum over all of them as quick as one over two.
    training_pct: of an epoch, what training alone takes.   interval: r, minibatches to a decision.
    rows_error_pct: of the bytes, from the sample of trainers; None where one was played.
    """

    trainers: int
    rate: str
    setting: str
    epoch_s: float
    even_s: float
    training_pct: float
    interval: int
    rows_error_pct: float | None

    def error_pct(self, measured_pct: float) -> float:
        """What the model errs here (measured), all that grows with P, and the simulation's error.

        How the slowest and the sum grow is supposed, from two ranks, and was not measured.
        """
        grown = 100.0 * (self.epoch_s - self.even_s) / self.epoch_s
        return math.hypot(measured_pct, grown, self.rows_error_pct or 0.0)

    def row(self, measured_pct: float) -> dict[str, Any]:
        """The same for machines, with its error."""
        return {**asdict(self), "error_pct": self.error_pct(measured_pct)}


def spread(amounts: Amounts) -> float:
    """Of trainers [k, T] in a step, as a share of the mean; 0 where one alone was played."""
    if len(amounts) < 2:
        return 0.0
    return float(np.mean(amounts.std(axis=0, ddof=1) / np.maximum(amounts.mean(axis=0), 1e-9)))


def scaled(
    scale: dict[str, Any],
    rate: str,
    cluster: Cluster,
    costs: Costs,
    decisions_s: Sequence[float],
    buffer: float,
) -> Iterator[Scaled]:
    """All settings of a simulated number of trainers with a buffer of that share.

    decisions_s: times of the llm's decision, each a setting.
    Raises ValueError where no such buffer was simulated.
    """
    lines = [line for line in scale["rows"] if line["buffer"] == buffer]
    if not lines:
        raise ValueError(f"--buffer {buffer}: the simulation has none of that share")
    remote = [one["remote"] for one in scale["sampled"]]
    settings: list[tuple[str, Variant, float, list[list[int]], float | None]] = [
        ("none", Variant(ahead=False), 0.0, remote, 0.0),
        ("overlap", Variant(), 0.0, remote, 0.0),
    ]
    for line in lines:
        name, moved, error = line["setting"], line["moved_rows_by_step"], line["moved_pct_error"]
        share = None if error is None else 100.0 * error / line["moved_pct"]
        if name != "rudder llm":
            window = 16 if name == "lookahead" else 2
            settings.append((name, Variant(window=window), 0.0, moved, share))
            continue
        for decision_s in decisions_s:
            for sync in (False, True):
                told = f"{name} {'sync' if sync else 'async'} {1e3 * decision_s:.3g} ms"
                variant = Variant(window=2, decides=True, sync=sync)
                settings.append((told, variant, decision_s, moved, share))
    for name, variant, decision_s, moved, error in settings:
        work = work_of(scale, moved)
        slower = replace(costs, decision_s=decision_s)
        rounds = math.ceil(math.log2(cluster.ranks))
        steady = replace(slower, jitter=0.0, sum_s=costs.sum_s / rounds)
        epoch = slower.epoch_s(_slowest(work, cluster.ranks), cluster, variant)
        training = slower.stages(_mean(work), cluster, variant).train[:, : work.steps_per_epoch]
        step = epoch / work.steps_per_epoch
        interval = 1 if variant.sync else max(1, math.ceil(decision_s / step))
        yield Scaled(
            trainers=cluster.ranks,
            rate=rate,
            setting=name,
            epoch_s=epoch,
            even_s=steady.epoch_s(_mean(work), cluster, variant),
            training_pct=100.0 * float(training.sum()) / epoch,
            interval=interval,
            rows_error_pct=error,
        )


def _slowest(work: Work, count: int) -> Work:
    """The slowest of so many trainers in every step, from the ones that were played [1, T].

    A step ends with its slowest trainer. As P grows that is ever farther from the mean: what they
    need in a step is taken for normal, with the spread of the played ones, and the slowest is where
    the largest of P of them is expected.
    """
    mean, far = _mean(work), slowest_of(count)
    heavier = 1 + far * spread(work.edges)
    fuller = 1 + far * spread(work.row_bytes + work.neighbor_bytes)
    return replace(
        mean,
        nodes=mean.nodes * heavier,
        edges=mean.edges * heavier,
        neighbor_bytes=mean.neighbor_bytes * fuller,
        row_bytes=mean.row_bytes * fuller,
    )


def work_of(scale: dict[str, Any], moved: Sequence[Sequence[int]]) -> Work:
    """Of the trainers that ``benchmarks.simulate`` played. moved: rows of each and minibatch."""

    def amounts(name: str) -> Amounts:
        return np.array([one[name] for one in scale["sampled"]], float)

    row_bytes = 4 * scale["num_features"] + ID_BYTES
    return Work(
        nodes=amounts("nodes"),
        edges=amounts("edges"),
        neighbor_bytes=amounts("neighbor_bytes"),
        row_bytes=np.array(moved, float) * row_bytes,
        steps_per_epoch=scale["sampled"][0]["minibatches_per_epoch"],
    )


def _mean(work: Work) -> Work:
    names = ("nodes", "edges", "neighbor_bytes", "row_bytes")
    means = {name: getattr(work, name).mean(axis=0, keepdims=True) for name in names}
    return replace(work, **means)
