"""A model of an epoch's time, checked against measured runs, and extrapolated to 256 trainers.

    python -m benchmarks.model --json model.json --figure model.svg                        root
    python -m benchmarks.model --simulation scale.json --cluster 1gbit,10gbit --decision-ms 100,1000

For minibatch t of rank p, with n nodes, e sampled edges, b_s bytes of neighbours and b_f of rows
that other ranks own (misses and replacements; played from the trace, not measured):

    sample   s = s0 + s1 e + w(b_s)          w(b) = x + max(b, mean of b over ranks) / (h R)
    fetch    f = f0 + f1 n [+ d]             [+ d] where the decider is synchronous; of a decision
    carry    w = w(b_f)                      h of the rate R of a rank's link
    train    c = c0 + c1 e
    sum      g = y ceil(log2 P) + 2 (P - 1) / P G / (h R) + j z(P) c        G bytes of gradients;
             j the jitter of equal work, z(P) the largest of P normals; in none of s + f + c

    none     T = sum over t of (max over p of (s + f + w + c) + g)

    else     rows are on the links all the time, at a share h' of the rate; s and g wait for
             q b_f / R more. T = the greatest of
             pipeline   begin a stage when its minibatch is there and the one before was handed on;
                        at most 2 minibatches lie between two stages; W more are sampled before a
                        fetch (W = 2, lookahead 16); rows of t + 1 are asked for before those of t
                        have come; step t ends with its slowest rank:
                        E(t) = max over p of (max(fetched(p, t), E(t - 1)) + c) + g
             links      sum over t of (b_s + b_f + 2 (P - 1) / P G) / R
             cores      sum over t of (s0 + s1 e + f0 + f1 n + c [+ d]) P / K
                        (1 + u (P / K - 1)) where P > K

An asynchronous decision hides: d costs time only as work of the K cores (a thread's [+ d], no more
than one core), and r = d / (T / steps) minibatches to a decision. A synchronous one is in f. In the
paper's words: max(T_train, T_prefetch) against max(T_train, T_prefetch + T_decide).

With P ranks on K < P cores, what all ranks begin at once takes max(own, P / K of the mean). That is
so on this machine, whose cores all hosts share; a cluster's trainers have ``--cores`` each. What
moving bytes takes of the cores is left out.

Calibrated on two ranks: of one host with two batch sizes, of two hosts with ``none`` and with
``overlap``; and where this host has few cores on three ranks to a core of it with ``overlap``,
which tell u, what threads take from each other. Checked on other places.

Extrapolated with the minibatches that ``benchmarks.simulate`` played: see ``extrapolate`` for the
slowest of P trainers. The error beside a figure is the root of the squares of the median error
measured (that of the most ranks where it is greater), of what grows with P (the slowest trainer of
a step, rounds of the sum: both supposed from two ranks), and of the simulation's own error. An
asynchronous decider's rows are those of a decision for each minibatch.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.lab.hosts import HostsError, bits_per_second, cores_for, missing
from benchmarks.model.calibrate import Known, calibrate
from benchmarks.model.costs import Cluster, Costs
from benchmarks.model.extrapolate import Scaled, scaled
from benchmarks.model.measured import Place, measure
from benchmarks.model.modelled import check_table, error_of, panels, scale_table
from benchmarks.model.variants import VARIANTS, Setup
from benchmarks.paper.chart import figure
from benchmarks.traces import check_graph
from minidist.store.partition_dir import Parts
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.whole_file import write_json, write_text

_CORES = cores_for(1)
# Of ranks to a core, where threads take from each other; on more cores no such run is made.
_CROWD, _MOST_CORES = 3, 4
_TITLE = "Epoch time: predicted, measured, extrapolated"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings of ``python -m benchmarks.model``."""

    graph: str = flag("synthetic:medium", "graph that is trained on, of benchmarks.traces")
    calibrate: str = flag("500mbit", "rate of the two hosts that links are calibrated on")
    check: str = flag(
        "2@200mbit,4@500mbit,8@500mbit,4,8", "where to check: ranks of this host, or hosts@rate"
    )
    variants: str = flag(",".join(VARIANTS), "what to check there")
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    batch_size: int = flag(1000, "most seed nodes of a rank in a step")
    epochs: int = flag(6, "epochs, of which the first does not count")
    hidden: int = flag(128, "hidden units of each layer")
    buffer: float = flag(0.25, "capacity as a share of the halo rows")
    seed: int = flag(0, "seed of everything random")
    folder: str = flag("model", "where partitions and runs are kept; runs that are not are made")
    simulation: str | None = flag(None, "JSON of benchmarks.simulate to extrapolate to")
    cluster: str = flag("1gbit,10gbit", "rates of a trainer's link there")
    cores: float = flag(2.0, "cores of a trainer there")
    speedup: float = flag(1.0, "how much faster it trains there than on a core here")
    decision_ms: str = flag("100,1000", "more times of a decision there, beside the measured one")
    json: str | None = flag(None, "also write the figures to this file")
    figure: str | None = flag(None, "also draw them, SVG")

    def __post_init__(self) -> None:
        check_graph(self.graph)
        for name in ("batch_size", "hidden"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.epochs >= 2, "epochs", self.epochs, "at least 2")
        for name in ("cores", "speedup"):
            require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for name in self.variants.split(","):
            require(name in VARIANTS, "variants", name, "some of " + ", ".join(VARIANTS))
        for rate in self.cluster.split(","):
            bits_per_second(rate)
        require(
            self.calibration.link is not None,
            *("calibrate", self.calibrate, "the rate of a link, such as 500mbit"),
        )
        for place in self.places:
            if place in (self.calibration, Place(2, None), self.crowded):
                raise ValueError(f"--check {place}: the model is calibrated there; check elsewhere")
        self.decisions_s()

    @property
    def calibration(self) -> Place:
        return Place.read(f"2@{self.calibrate}", "calibrate")

    @property
    def crowded(self) -> Place | None:
        """Where more ranks than cores are calibrated on."""
        return Place(_CROWD * _CORES, None) if _CORES <= _MOST_CORES else None

    @property
    def places(self) -> list[Place]:
        return [Place.read(text, "check") for text in self.check.split(",")]

    @property
    def setup(self) -> Setup:
        names = ("graph", "fanout", "batch_size", "epochs", "hidden", "buffer", "seed")
        return Setup(folder=Path(self.folder), **{name: getattr(self, name) for name in names})

    def decisions_s(self) -> list[float]:
        """Seconds. Raises ValueError on what is none."""
        try:
            return [float(text) / 1e3 for text in self.decision_ms.split(",") if text]
        except ValueError:
            raise ValueError(
                f"--decision-ms {self.decision_ms}: expected numbers with commas between"
            ) from None


def calibrated(config: ModelConfig) -> Costs:
    """Costs from runs of two ranks, and of more than there are cores."""
    setup, here = config.setup, Place(2, None)
    small = replace(setup, batch_size=max(1, setup.batch_size // 4))

    def known(of: Setup, place: Place, variant: str = "none") -> Known:
        run = measure(
            of.parts(place.ranks), of.flags(variant), place, of.folder / "runs", logged=True
        )
        return Known(run=run, work=of.work(place.ranks, variant))

    computing = [known(setup, here), known(small, here)]
    deciding = measure(setup.parts(2), setup.flags("rudder"), here, setup.folder / "runs")
    parts, crowd = Parts.open(setup.parts(2)), config.crowded
    return calibrate(
        computing,
        known(setup, config.calibration),
        known(setup, config.calibration, "overlap"),
        None if crowd is None else known(setup, crowd, "overlap"),
        setup.gradient_bytes(parts.num_features, parts.num_classes),
        1e-3 * deciding.summary["decisions"]["latency_ms_p50"],
        _CORES,
    )


def checked(config: ModelConfig, costs: Costs) -> Iterator[dict[str, Any]]:
    """A row for each place and variant: predicted and measured."""
    setup = config.setup
    for place in config.places:
        cluster = Cluster(ranks=place.ranks, cores=_CORES, link=place.link)
        for variant in config.variants.split(","):
            run = measure(
                setup.parts(place.ranks), setup.flags(variant), place, setup.folder / "runs"
            )
            predicted = costs.epoch_s(
                setup.work(place.ranks, variant), cluster, VARIANTS[variant][1]
            )
            yield {
                "place": str(place),
                "ranks": place.ranks,
                "variant": variant,
                "predicted_s": predicted,
                "measured_s": run.epoch_s,
                "error_pct": 100.0 * (predicted / run.epoch_s - 1.0),
            }


def extrapolated(config: ModelConfig, costs: Costs) -> list[Scaled]:
    """A cell for each number of trainers, rate, setting and time of a decision."""
    assert config.simulation is not None
    try:
        scales = json.loads(Path(config.simulation).read_text())["scales"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"--simulation {config.simulation}: not a file of benchmarks.simulate --json: {error}"
        ) from None
    there = replace(
        costs,
        train_s=costs.train_s / config.speedup,
        train_edge_s=costs.train_edge_s / config.speedup,
    )
    found: list[Scaled] = []
    for scale in scales:
        for rate in config.cluster.split(","):
            bits, ranks = bits_per_second(rate), scale["trainers"]
            cluster = Cluster(
                ranks=ranks, cores=config.cores * ranks, link=None if bits is None else bits / 8
            )
            times = [costs.decision_s, *config.decisions_s()]
            found += scaled(scale, rate, cluster, there, times, config.buffer)
    return found


def main() -> None:
    """The command line."""
    config = parse(ModelConfig, __doc__)
    try:
        if lacking := missing():
            raise HostsError(f"links cannot be calibrated here: {lacking} is missing")
        costs = calibrated(config)
        checks = list(checked(config, costs))
        print(f"{check_table(checks)}\n\n{error_of(checks).text()}")
        cells = [] if config.simulation is None else extrapolated(config, costs)
        error = error_of(checks)
        rows = [cell.row(error.carried_pct) for cell in cells]
        report = {
            "benchmark": "model",
            "config": asdict(config),
            "cores": _CORES,
            "costs": asdict(costs),
            "checks": checks,
            "error": asdict(error),
            "scales": rows,
        }
        if rows:
            print(f"\n{scale_table(rows)}")
        if config.json is not None:
            write_json(config.json, report)
        if config.figure is not None:
            write_text(config.figure, figure(_TITLE, panels(checks, rows)))
    except (ValueError, OSError, HostsError) as error:
        fail(error)
