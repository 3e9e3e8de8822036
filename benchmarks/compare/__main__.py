"""The same training under every ``--prefetch`` variant, on hosts whose links have a rate. Root.

    python -m benchmarks.compare                               amazon_photo, 2 hosts, 200 Mbit/s
    python -m benchmarks.compare --graph synthetic:medium --hosts 4 --hidden 32 --json compare.json
    python -m benchmarks.compare --sweep buffer=0.05,0.1,0.25 --figure buffers.svg
    python -m benchmarks.compare --sweep rate=800mbit,400mbit,200mbit,100mbit,50mbit
    python -m benchmarks.compare --variants rudder --sweep decider_mode=sync,async
    python -m benchmarks.compare --ranks-per-host 2 --variants none,lookahead@rank,lookahead@host

Variants take turns within one lab (see ``benchmarks.lab``), as often as --repeats says; their
losses and accuracies must be equal. ``PRESET@SCOPE`` is a preset with that ``--buffer-scope``: one
buffer a rank or one a host. Times are of an epoch after the first: the median over repeats, with
the fastest and the slowest. A cell's limit is max(compute, fewest bytes / bandwidth): ``limit``
says what counts. "here" is the same pipeline on links of no rate: these cores, which the hosts
share, need that long to sample, gather and train, whatever the links are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from benchmarks.charts import bars, figure, lines
from benchmarks.command import Row, answer, at_least, table
from benchmarks.lab.hosts import MAX_HOSTS, bits_per_second
from benchmarks.traces import RECIPES, check_graph
from minidist.config import TrainConfig
from rudder.cli.flags import flag, parse, require
from rudder.config import SteerConfig

_PRESETS = "none,overlap,fixed,massivegnn,rudder,degree,vip,lru,lfu,lookahead"
SWEPT = ("buffer", "batch_size", "hosts", "rate", "decider_mode", "hidden", "topology", "graph")
_COLUMNS = "prefetch epoch_time_s fastest_s slowest_s wait_s misses replacements MB_rows MB_links "
_COLUMNS += "hits_pct pass_at_1 interval times_none times_fixed over_limit over_here"
MODES, TOPOLOGIES, SCOPES = ("async", "sync"), ("partitioned", "replicated"), ("rank", "host")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Settings of ``python -m benchmarks.compare``; of one cell where nothing is swept."""

    graph: str = flag("amazon_photo", f"what is trained on: {', '.join(RECIPES)}")
    hosts: int = flag(2, "how many")
    ranks_per_host: int = flag(1, "that train on a host, and share its link")
    rate: str = flag("200mbit", "of each host's link, in each direction, or none")
    repeats: int = flag(3, "times that each variant runs")
    variants: str = flag(_PRESETS, "values of --prefetch, or PRESET@SCOPE, with commas between")
    buffer: float = flag(0.25, "capacity as a share of the part's halo rows")
    batch_size: int | None = flag(None, "most seeds of a rank in a step (default: the graph's own)")
    epochs: int = flag(5, "epochs of a run; the first is not timed")
    hidden: int = flag(64, "hidden units of each layer")
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    decider_mode: str = flag("async", "of the variants that decide", MODES)
    topology: str = flag("partitioned", "in-edges on a host: its own part's, or all", TOPOLOGIES)
    seed: int = flag(0, "of everything random")
    sweep: str | None = flag(None, f"NAME=VALUE,VALUE...: a cell a value; {', '.join(SWEPT)}")
    folder: str | None = flag(None, "where partitions are kept (default: a temporary one)")
    json: str | None = flag(None, "also write the figures to this file")
    figure: str | None = flag(None, "also draw them into this SVG file")

    def __post_init__(self) -> None:
        from rudder.presets import read_preset

        check_graph(self.graph)
        require(1 <= self.hosts <= MAX_HOSTS, "hosts", self.hosts, f"1 to {MAX_HOSTS}")
        at_least(self, 1, "repeats", "ranks_per_host")
        bits_per_second(self.rate)
        for name, choices in (("decider_mode", MODES), ("topology", TOPOLOGIES)):
            value = getattr(self, name)
            require(value in choices, name, value, f"one of {', '.join(choices)}")
        for variant in self.variants.split(","):
            preset, at, scope = variant.partition("@")
            read_preset(SteerConfig(prefetch=preset, buffer=self.buffer))
            known = scope in SCOPES if at else True
            require(known, "variants", variant, "PRESET, PRESET@rank or PRESET@host")
        self.training()
        self.cells()

    @property
    def ranks(self) -> int:
        return self.hosts * self.ranks_per_host

    @property
    def swept(self) -> str | None:
        return self.sweep.partition("=")[0] if self.sweep else None

    def training(self) -> TrainConfig:
        """What every variant trains. Raises ValueError on what training would not take."""
        return TrainConfig(**self._trained())

    def _trained(self) -> dict[str, Any]:
        names = ("epochs", "hidden", "fanout", "topology", "seed")
        batch_size = RECIPES[self.graph].batch_size if self.batch_size is None else self.batch_size
        same = {name: getattr(self, name) for name in names}
        return {**same, "batch_size": batch_size, "eval_every": 0}

    def flags(self, variant: str) -> dict[str, object]:
        preset, _, scope = variant.partition("@")
        found = {**self._trained(), "prefetch": preset, "buffer": self.buffer}
        found["decider_mode"] = self.decider_mode
        return found | ({"buffer_scope": scope} if scope else {})

    def cells(self) -> "list[CompareConfig]":
        """One setting for each value of the sweep. Raises ValueError on what cannot be."""
        if self.sweep is None:
            return [self]
        name, _, values = self.sweep.partition("=")
        expected = f"NAME=VALUE,VALUE... with NAME one of {', '.join(SWEPT)}"
        require(name in SWEPT and values != "", "sweep", self.sweep, expected)
        kind = int if name == "batch_size" else get_type_hints(CompareConfig)[name]
        try:
            read = [kind(value) for value in values.split(",")]
        except ValueError:
            raise ValueError(f"--sweep {self.sweep}: expected numbers after {name}=") from None
        given: list[dict[str, Any]] = [{name: value} for value in read]
        return [replace(self, sweep=None, **each) for each in given]


def cell_text(record: Row) -> str:
    """One cell for people: the setting, its limit, and a row a variant."""
    limit, mb = record["limit"], {name: num / 1e6 for name, num in record["crossing"].items()}
    words = [
        "{graph}: {hosts} hosts of {ranks_per_host} ranks, links of {rate}, buffer {buffer:g} of "
        "the halo, batch {batch_size}, hidden {hidden}, {steps_per_epoch} steps an epoch, "
        "{repeats} runs each".format(**record),
        "limit {limit_s:.3f} s = max(compute {compute_s:.3f}, fewest bytes {link_s:.3f}); "
        "communication / compute {communication_ratio:.2f}; here {here_s:.3f} s".format(**limit),
        "must cross a link an epoch: rows {rows_none:.2f} MB, by Belady {rows:.2f}; sampling "
        "{sampling:.2f}; gradients {gradients:.2f}".format(**mb),
        f"equal under all: losses {record['losses_sha256'][:12]}, test accuracy "
        f"{record['test_accuracy']:.4f}",
    ]
    rows = []
    for name, figures in record["variants"].items():
        moved = figures["bytes_missed"] + figures["bytes_replaced"]
        row = {"prefetch": name, **figures, **figures["rows"]}
        row |= {"MB_rows": moved / 1e6, "MB_links": figures["link_bytes"] / 1e6}
        rows.append({**row, "over_here": figures["epoch_time_s"] / limit["here_s"]})
    return "\n".join([*words, "", table(rows, _COLUMNS)])


def draw(records: Sequence[Row], swept: str | None) -> str:
    """The figure, as SVG: epoch times by variant of each cell, and over a sweep of numbers."""
    values = _numbers([record[swept] for record in records]) if swept else []
    over, rows = "rate, Mbit/s" if swept == "rate" else str(swept), []
    for record, at in zip(records, values or [0.0] * len(records), strict=True):
        value = "" if swept in (None, "graph") else f", {swept} {record[str(swept)]}"
        limit = {"limit": {"epoch_time_s": record["limit"]["limit_s"]}}
        for name, found in {**record["variants"], **limit}.items():
            ends = [found[key] for key in ("fastest_s", "slowest_s") if key in found]
            row = {"cell": record["graph"] + value, "variant": name, over: at, **found}
            rows.append({**row, "epoch_time_s_ci": ends or None})
    panels = bars(rows, "{cell}", "epoch_time_s")
    if len(values) > 1:
        panels += lines(rows, "All cells", over, "epoch_time_s over_limit")
    shared = {"hosts": "{} hosts", "rate": "links of {}", "graph": "{}"}
    known = [text.format(records[0][key]) for key, text in shared.items() if key != swept]
    return figure(f"Epoch time: {', '.join(known)}", panels)


def _numbers(values: Sequence[Any]) -> list[float]:
    """The values of a sweep where all are numbers; rates in Mbit/s."""
    try:
        return [
            (bits_per_second(value) or 0.0) / 1e6 if str(value).endswith("bit") else float(value)
            for value in values
        ]
    except ValueError:  # names
        return []


if __name__ == "__main__":
    config = parse(CompareConfig, __doc__)
    # Imported late: who asks for help does not wait for PyTorch.
    from benchmarks.compare.contest import measure

    answer(
        config,
        measure,
        lambda found: "\n\n".join(map(cell_text, found["cells"])),
        lambda found: draw(found["cells"], config.swept),
    )
