"""What 4 to 512 trainers move and how long their epochs take, found on this one machine.

    python -m benchmarks.scale --json scale.json --figure scale.svg                          root
    python -m benchmarks.scale --calibrate none --dataset synthetic:products --trainers 64,256,512

Rows: the graph is split for each number of trainers. A few of them, evenly spread, are played with
the seeds and the sampler of a real run, and every policy and decider replays their traces: that
counts what those ranks of a real run count. Figures are the mean trainer's rows of an epoch, +- its
standard error. Epochs and batch are the same for all numbers of trainers (strong scaling);
deciders are asked about every minibatch, as with ``--decider-mode sync``.

Times: ``benchmarks/scale/model.py`` has the model. Its costs are fitted to short runs of two ranks,
on this host and on two of ``benchmarks.lab``, and checked against other runs. +- is the root of the
squares of three errors: of the checks (root mean square), of the rows, and what an epoch grows by
from 2 trainers to P, which is extrapolated. r is minibatches to a decision.
"""

import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks.charts import Panel, figure, lines
from benchmarks.command import Row, answer, at_least, table
from benchmarks.lab.hosts import bits_per_second
from minidist.config import METHODS
from rudder.cli.flags import flag, parse, require

if TYPE_CHECKING:
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


def told(errors: Row) -> str:
    """For people, in percent."""
    words = [f"{name.removesuffix('_pct').replace('_', ' ')} {errors[name]:.3g}" for name in errors]
    return f"are off by, in percent: {', '.join(words) or 'not measured'}"


def tables(found: Row) -> str:
    rows = [row for scale in found["scales"] for row in scale["rows"]]
    words = [table(rows, _ROWS), f"A sample's rows {told(found['sampling'])}"]
    if "times" in found:
        words += [table(found["checks"], _CHECKS), f"Times {told(found['errors'])}"]
        words.append(table(found["times"], _TIMES))
    return "\n\n".join(words)


def draw(found: Row) -> str:
    """As SVG: %-Hits, rows and epochs over the numbers of trainers, for every buffer."""
    rows, panels = [row for scale in found["scales"] for row in scale["rows"]], list[Panel]()
    for share in dict.fromkeys(row["buffer"] for row in rows if row["buffer"]):
        title, here = f"buffer {share:.0%}", [row for row in rows if row["buffer"] == share]
        panels += lines(here, title, "trainers", "hits_pct moved_pct", "{setting}")
        timed = [row for row in found.get("times", []) if row["buffer"] in (0, share)]
        panels += lines(timed, title + ", {link}", "trainers", "epoch_s", "{setting}")
    return figure("Many trainers, from a few", panels)


if __name__ == "__main__":
    config = parse(ScaleConfig, __doc__)
    # Imported late: who asks for help does not wait for PyTorch.
    from benchmarks.scale.calibration import measure

    answer(config, measure, tables, draw)
