"""Calibration: short trainings on this machine, which costs are fitted to and checked against."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.command import Row
from benchmarks.lab.hosts import Unavailable, bits_per_second, cores_for, hosts, missing
from benchmarks.runs import kept, train
from benchmarks.scale.model import Costs, Work, scale_of, split
from benchmarks.trainers import Trainers
from minidist.run_config import RunConfig

if TYPE_CHECKING:
    from benchmarks.scale.__main__ import ScaleConfig

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
        gradients = 4.0 * (1 + trainers.num_parameters)
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


def simulated(config: "ScaleConfig", count: int) -> Row:
    """The rows of a number of trainers, with what these need; kept in the folder."""
    settings, folder = config.settings(), Path(config.folder)

    def made() -> Row:
        trainers = Trainers(split(settings[0], count, folder), settings[0])
        return scale_of(trainers, settings, config.sample, config.whole)

    return kept(folder, [count, config.sample, config.whole, *map(asdict, settings)], made)


def predicted(config: "ScaleConfig", scales: Sequence[Row]) -> Row:
    """Costs, checks, and the epochs of all numbers of trainers."""
    runs, checks = RealRuns(Path(config.folder), config.repeats), []
    costs = runs.calibrate(config.run(2, "none"), config.calibrate)
    for place, variant in product(config.check.split(","), config.variants.split(",")):
        ranks, _, rate = place.partition("@")
        run = config.run(int(ranks), variant)
        said = runs.epochs(run, rate or None, costs)["none" if variant == "none" else "ahead"]
        took = runs.summary(run, rate or None)["epoch_time_s"]
        row = {"checked_at": place, "variant": variant, "predicted_s": said, "measured_s": took}
        checks.append({**row, "off_pct": 100 * (said / took - 1)})
    off = [abs(row["off_pct"]) for row in checks]
    error = math.hypot(*off) / len(off) ** 0.5
    times = [row for scale in scales for row in extrapolated(config, costs, scale, error)]
    errors = {"median_pct": median(off), "worst_pct": max(off), "root_mean_square_pct": error}
    return {"costs": costs._asdict(), "checks": checks, "errors": errors, "times": times}


def extrapolated(config: "ScaleConfig", costs: Costs, scale: Row, error: float) -> Iterator[Row]:
    """Epochs of a number of trainers, for each rate and setting. error: of checks, percent."""
    slow = product([costs.decision_s, *(ms / 1e3 for ms in config.decision_ms)], (False, True))
    decisions, (once, each) = list(slow), costs.train
    there = costs._replace(train=(once / config.speedup, each / config.speedup))
    for rate, row in product(config.cluster.split(","), scale["rows"]):
        work, kind = Work.of(scale, row, len(config.fanout)), "ahead"
        if row["setting"] == "none":
            kind, none = "none", there.epoch(work, row["trainers"], config.cores, rate)["none"]
        for decision_s, sync in decisions if row["setting"] == "rudder llm" else [(0.0, False)]:
            where = (config.cores, rate, decision_s, sync)
            found, two = (there.epoch(work, count, *where) for count in (row["trainers"], 2))
            epoch, steps = found[kind], work.edges.shape[1] / work.num_epochs
            rows_pct = 100 * (row["moved_error"] or 0.0) / max(row["moved"], 1)
            pct = math.hypot(error, rows_pct, 100 * (1 - two[kind] / epoch))
            told = f" {'sync' if sync else 'async'} {1e3 * decision_s:.3g} ms" if decision_s else ""
            named = {name: row[name] for name in ("trainers", "buffer")} | {"link": rate}
            times = {"epoch_s": epoch, "epoch_s_error": epoch * pct / 100, "of_none": epoch / none}
            share, steps_r = 100 * found["train"] / epoch, -int(-decision_s * steps // epoch)
            named |= {"setting": row["setting"] + told, "r": 1 if sync else max(1, steps_r)}
            yield {**named, **times, "training_pct": share, "parts": found}


def sampling_errors(rows: Sequence[Row]) -> Row:
    """What rows of samples were off by where all trainers were played, percent."""
    pairs = [(row["of_a_sample"], row["moved"]) for row in rows if row.get("of_a_sample")]
    off = [100 * abs(guess["moved"] / true - 1) for guess, true in pairs]
    said = [100 * (guess["moved_error"] or 0.0) / true for guess, true in pairs]
    if not off:
        return {}
    within = 100 * fmean(one <= 2 * error for one, error in zip(off, said, strict=True))
    errors = {"median_pct": median(off), "worst_pct": max(off), "said_pct": median(said)}
    return {"count": len(off), **errors, "within_twice_said_pct": within}


def measure(config: "ScaleConfig") -> Row:
    if config.calibrate != "none" and (lacking := missing()):
        raise Unavailable(f"links need {lacking}, which is missing; --calibrate none: no times")
    scales = [simulated(config, count) for count in config.trainers]
    rows = [row for scale in scales for row in scale["rows"]]
    found: Row = {"benchmark": "scale", "scales": scales, "sampling": sampling_errors(rows)}
    return found | (predicted(config, scales) if config.calibrate != "none" else {})
