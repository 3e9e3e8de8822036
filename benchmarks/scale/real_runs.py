"""Real runs: short trainings on this machine, which costs are fitted to and checked against."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.command import Row
from benchmarks.compare.limit import num_parameters
from benchmarks.lab.hosts import bits_per_second, cores_for, hosts
from benchmarks.runs import kept, train
from benchmarks.scale.costs import Costs, Work
from benchmarks.scale.rows import scale_of, split
from benchmarks.trainers import Trainers
from minidist.run_config import RunConfig

_FLAGS = "batch_size epochs hidden seed prefetch buffer decider_mode fanout eval_every"


class RealRuns(NamedTuple):
    """repeats: of each run, of which the fastest counts: other work of the machine only adds."""

    folder: Path
    repeats: int

    def summary(self, run: RunConfig, rate: str | None = None) -> Row:
        """Of ``run.ranks`` ranks, a thread each, on one host or on hosts with links; kept in the
        folder. Raises ValueError where it fails, Unavailable where there can be no hosts."""
        ranks = run.ranks or 1

        def made() -> Row:
            flags: Row = {name: getattr(run, name) for name in _FLAGS.split()}
            path, one = split(run, ranks, self.folder).path, {"OMP_NUM_THREADS": "1"}
            with nullcontext() if rate is None else hosts(ranks, rate) as up:
                return train(path, flags, () if up is None else up.mpiexec, one)

        asked = ([asdict(run), rate, repeat] for repeat in range(self.repeats))
        found = [kept(self.folder / "runs", each, made) for each in asked]
        return min(found, key=lambda summary: float(summary["epoch_time_s"]))

    def epochs(self, run: RunConfig, rate: str | None, costs: Costs) -> dict[str, float]:
        """Seconds of an epoch by the model, without the run; its parts."""
        ranks, thinks = run.ranks or 1, run.prefetch == "rudder"
        there = (ranks, cores_for(1) / ranks, rate, costs.decision_s if thinks else 0.0)
        return costs.epoch(self.work(run)[1], *there, run.decider_mode == "sync")

    def work(self, run: RunConfig) -> tuple[Trainers, Work]:
        """What all its ranks need, without the run."""
        trainers = Trainers(split(run, run.ranks or 1, self.folder), run)
        scale = scale_of(trainers, [run], sample=trainers.count)
        return trainers, Work.of(scale, scale["rows"][0], len(run.fanout))

    def calibrate(self, run: RunConfig, rate: str) -> Costs:
        """Two batch sizes on two ranks of this host tell what computing costs; two hosts tell of
        messages, links and the sum, with ``overlap`` what hidden time shows, and with ``rudder``
        what a decision takes."""
        none, overlap, rudder = (
            replace(run, ranks=2, prefetch=name) for name in ("none", "overlap", "rudder")
        )

        def steps(run: RunConfig, rate: str | None = None) -> Any:
            """Of a step: seconds of sampling, of fetching, and of training with the sum."""
            found = self.summary(run, rate)
            sample, fetch, epoch = (found[name] for name in ("sample_s", "fetch_s", "epoch_time_s"))
            return np.array([sample, fetch, epoch - sample - fetch]) / found["steps_per_epoch"]

        points = []
        assert run.batch_size is not None
        for each in (replace(none, batch_size=max(1, run.batch_size // 4)), none):
            trainers, work = self.work(each)
            edges, nodes = (float(sizes.mean(axis=1).max()) for sizes in (work.edges, work.nodes))
            sizes = (edges, nodes, float(work.edges.max(axis=0).mean()))
            points.append(zip(sizes, steps(each).tolist(), strict=True))
        sample, gather, train = (line(*pair) for pair in zip(*points, strict=True))
        # What two hosts take longer than two ranks of one.
        asking, fetching, summing = steps(none, rate) - steps(none)
        link = (bits_per_second(rate) or 0.0) / 8
        asked, moved = (each.mean() / link for each in (work.neighbor_bytes, work.row_bytes))
        message = max(0.0, asking - asked) / max(1, work.num_hops - 1)
        share = float(np.clip(moved / max(fetching - message, 1e-9), 0.05, 1.0))
        gradients = 4.0 * (1 + num_parameters(trainers))
        sum_s = max(0.0, summing - gradients / (share * link))
        decision_s = self.summary(rudder, rate)["decisions"]["latency_ms_p50"] / 1e3
        costs = Costs(sample, gather, train, message, share, sum_s, gradients, decision_s)
        found = self.epochs(overlap, rate, costs)
        shown = self.summary(overlap, rate)["epoch_time_s"] - found["ahead"]
        hidden = max(found["none"] - found["ahead"], 1e-9)
        return costs._replace(exposed=float(np.clip(shown / hidden, 0.0, 1.0)))


def line(small: tuple[float, float], large: tuple[float, float]) -> tuple[float, float]:
    """(a, b), neither negative, of seconds = a + b amount through two such pairs."""
    (x, y), (more, longer) = small, large
    slope = max(0.0, longer - y) / max(more - x, 1e-9)
    return (longer - slope * more, slope) if longer >= slope * more else (0.0, longer / more)
