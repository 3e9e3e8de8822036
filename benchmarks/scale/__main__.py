"""What 4 to 512 trainers move and how long their epochs take, found on this one machine.

    python -m benchmarks.scale --json scale.json --figure scale.svg                          root
    python -m benchmarks.scale --calibrate none --dataset synthetic:products --trainers 64,256,512

Rows: the graph is split for each number of trainers. A few of them, evenly spread, are played with
the seeds and the sampler of a real run, and every policy and decider replays their traces: that
counts what those ranks of a real run count. Figures are the mean trainer's rows of an epoch, +- its
standard error. Epochs and batch are the same for all numbers of trainers (strong scaling);
deciders are asked about every minibatch, as with ``--decider-mode sync``.

Times: ``benchmarks/scale/costs.py`` has the model. Its costs are fitted to short runs of two ranks,
on this host and on two of ``benchmarks.lab``, and checked against other runs. +- is the root of the
squares of three errors: of the checks (root mean square), of the rows, and what an epoch grows by
from 2 trainers to P, which is extrapolated. r is minibatches to a decision.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import hypot
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from benchmarks.command import Row, answer, at_least, table
from benchmarks.lab.hosts import Unavailable, bits_per_second, missing
from minidist.config import METHODS
from rudder.cli.flags import flag, parse, require

if TYPE_CHECKING:
    from benchmarks.scale.costs import Costs
    from minidist.run_config import RunConfig

_PRESETS = "none,overlap,fixed,massivegnn,degree,vip,lru,lfu,lookahead,rudder"
_ROWS = "trainers setting buffer remote misses replacements moved moved_pct belady_pct hits_pct "
_ROWS += "halo_hits_pct C/b"
_TIMES = "trainers link setting buffer epoch_s of_none training_pct r"
_CHECKS = "checked_at variant predicted_s measured_s off_pct"


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    dataset: str = flag("synthetic:medium", "the graph, as minidist.train names it")
    trainers: tuple[int, ...] = flag((4, 8, 16, 64, 256), "numbers of trainers")
    sample: int = flag(6, "trainers to play of each number, or all where there are fewer")
    whole: int = flag(16, "numbers up to this are played whole, to measure what a sample errs")
    method: str = flag("stream", "partitioner", METHODS)
    prefetch: str = flag(_PRESETS, "presets, with commas between")
    decider: str = flag("once,every:8,llm,mlp", "deciders of the rudder preset")
    buffer: tuple[float, ...] = flag((0.05, 0.25), "capacities as shares of the halo rows")
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    batch_size: int = flag(1000, "most seed nodes of a trainer in a step")
    epochs: int = flag(10, "epochs, the same for all numbers of trainers and for real runs")
    hidden: int = flag(128, "hidden units of each layer")
    seed: int = flag(0, "seed of everything random")
    cluster: str = flag("1gbit,10gbit", "rates of a trainer's link")
    cores: float = flag(2.0, "cores of a trainer")
    speedup: float = flag(1.0, "how much faster it trains than a core of this machine")
    decision_ms: tuple[float, ...] = flag((100.0, 1000.0), "of the llm, beside what is measured")
    calibrate: str = flag("500mbit", "links of the runs that costs are fitted to; none: no times")
    check: str = flag("1,2@200mbit,4,4@500mbit", "where times are checked: ranks or hosts@rate")
    variants: str = flag("none,overlap,fixed,lookahead,rudder,rudder sync", "what is checked there")
    repeats: int = flag(1, "times that each real run is made, of which the fastest counts")
    folder: str = flag("scale", "where partitions and whatever was found are kept")
    json: str | None = flag(None, "also write the figures to this file, with those of each step")
    figure: str | None = flag(None, "also draw them, SVG")

    def __post_init__(self) -> None:
        at_least(self, 1, "sample", "repeats")
        at_least(self, 2, "epochs", "trainers")
        for name in ("cores", "speedup"):
            require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for place in self.check.split(","):
            fits = re.fullmatch(r"[1-9]\d*(@.+)?", place) is not None
            require(fits, "check", place, "ranks, or hosts@rate such as 4@200mbit")
            fitted = place in ("2", f"2@{self.calibrate}")
            require(not fitted, "check", place, "a place that costs are not fitted to")
            bits_per_second(place.partition("@")[2] or "none")
        for rate in (self.calibrate, *self.cluster.split(",")):
            bits_per_second(rate)
        self.settings()
        for variant in self.variants.split(","):
            self.run(2, variant)

    def run(self, ranks: int, variant: str, **more: Any) -> "RunConfig":
        """A real run of a preset, or of ``rudder sync``. Raises ValueError."""
        from minidist.run_config import RunConfig

        prefetch, _, mode = variant.partition(" ")
        require(mode in ("", "sync"), "variants", variant, "presets, or 'rudder sync'")
        names = ("dataset", "method", "fanout", "batch_size", "epochs", "hidden", "seed")
        known: Row = {name: getattr(self, name) for name in names} | {"eval_every": 0}
        known |= {"ranks": ranks, "buffer": max(self.buffer), "decider_mode": mode or "async"}
        return RunConfig(**{**known, "prefetch": prefetch, **more})

    def settings(self) -> "list[RunConfig]":
        """``none``, ``overlap``, and every other preset, decider and buffer. Raises ValueError."""
        steered = [name for name in self.prefetch.split(",") if name not in ("none", "overlap")]
        return [self.run(2, name, buffer=0.0) for name in ("none", "overlap")] + [
            self.run(2, name, buffer=share, decider=decider)
            for share, name in product(self.buffer, steered)
            for decider in (self.decider.split(",") if name == "rudder" else [None])
        ]


def simulated(config: ScaleConfig, count: int) -> Row:
    """The rows of a number of trainers, with what these need; kept in the folder."""
    from benchmarks.runs import kept
    from benchmarks.scale.rows import scale_of, split
    from benchmarks.trainers import Trainers

    settings, folder = config.settings(), Path(config.folder)

    def made() -> Row:
        trainers = Trainers(split(settings[0], count, folder), settings[0])
        return scale_of(trainers, settings, config.sample, config.whole)

    return kept(folder, [count, config.sample, config.whole, *map(asdict, settings)], made)


def predicted(config: ScaleConfig, scales: Sequence[Row]) -> Row:
    """Costs, checks, and the epochs of all numbers of trainers."""
    from benchmarks.scale.costs import RealRuns

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
    error = hypot(*off) / len(off) ** 0.5
    times = [row for scale in scales for row in extrapolated(config, costs, scale, error)]
    errors = {"median_pct": median(off), "worst_pct": max(off), "root_mean_square_pct": error}
    return {"costs": costs._asdict(), "checks": checks, "errors": errors, "times": times}


def extrapolated(config: ScaleConfig, costs: "Costs", scale: Row, error: float) -> Iterator[Row]:
    """Epochs of a number of trainers, for each rate and setting. error: of checks, percent."""
    from benchmarks.scale.costs import Work

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
            pct = hypot(error, rows_pct, 100 * (1 - two[kind] / epoch))
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


def told(errors: Row) -> str:
    """For people, in percent."""
    words = [f"{name.removesuffix('_pct').replace('_', ' ')} {errors[name]:.3g}" for name in errors]
    return f"are off by, in percent: {', '.join(words) or 'not measured'}"


def measure(config: ScaleConfig) -> Row:
    if config.calibrate != "none" and (lacking := missing()):
        raise Unavailable(f"links need {lacking}, which is missing; --calibrate none: no times")
    scales = [simulated(config, count) for count in config.trainers]
    rows = [row for scale in scales for row in scale["rows"]]
    found: Row = {"benchmark": "scale", "scales": scales, "sampling": sampling_errors(rows)}
    return found | (predicted(config, scales) if config.calibrate != "none" else {})


def tables(found: Row) -> str:
    rows = [row for scale in found["scales"] for row in scale["rows"]]
    words = [table(rows, _ROWS), f"A sample's rows {told(found['sampling'])}"]
    if "times" in found:
        words += [table(found["checks"], _CHECKS), f"Times {told(found['errors'])}"]
        words.append(table(found["times"], _TIMES))
    return "\n\n".join(words)


def draw(found: Row) -> str:
    """As SVG: %-Hits, rows and epochs over the numbers of trainers, for every buffer."""
    from benchmarks.charts import Panel, figure, lines

    rows, panels = [row for scale in found["scales"] for row in scale["rows"]], list[Panel]()
    for share in dict.fromkeys(row["buffer"] for row in rows if row["buffer"]):
        title, here = f"buffer {share:.0%}", [row for row in rows if row["buffer"] == share]
        panels += lines(here, title, "trainers", "hits_pct moved_pct", "{setting}")
        timed = [row for row in found.get("times", []) if row["buffer"] in (0, share)]
        panels += lines(timed, title + ", {link}", "trainers", "epoch_s", "{setting}")
    return figure("Many trainers, from a few", panels)


if __name__ == "__main__":
    answer(parse(ScaleConfig, __doc__), measure, tables, draw)
