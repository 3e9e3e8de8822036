"""The same training under every ``--prefetch`` variant, on hosts whose links have a rate. Root.

    python -m benchmarks.compare                               amazon_photo, 2 hosts, 200 Mbit/s
    python -m benchmarks.compare --graph synthetic:medium --hosts 4 --hidden 32 --json compare.json
    python -m benchmarks.compare --sweep buffer=0.05,0.1,0.25 --figure buffers.svg
    python -m benchmarks.compare --sweep rate=800mbit,400mbit,200mbit,100mbit,50mbit
    python -m benchmarks.compare --variants rudder --sweep decider_mode=sync,async

Variants take turns within one lab (see ``benchmarks.lab``), as often as --repeats says; their
losses and accuracies must be equal. Times are of an epoch after the first: the median over repeats,
with the fastest and the slowest. A cell's limit is max(compute, fewest bytes / bandwidth):
``limit`` says what counts. "here" is the same pipeline on links of no rate: these cores, which the
hosts share, need that long to sample, gather and train, whatever the links are.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from tqdm import tqdm

from benchmarks.compare.contest import NUM_FREE, Setting, Unequal, contest
from benchmarks.compare.scoreboard import cell_text, draw, name_of
from benchmarks.lab.hosts import MAX_HOSTS, Unavailable, bits_per_second, missing
from benchmarks.traces import RECIPES, check_graph
from minidist.config import TrainConfig
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.whole_file import write_json, write_text
from rudder.config import SteerConfig
from rudder.presets import PRESETS, read_preset

SWEPT = ("buffer", "batch_size", "hosts", "rate", "decider_mode", "hidden", "topology", "graph")
MODES, TOPOLOGIES = ("async", "sync"), ("partitioned", "replicated")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Settings of ``python -m benchmarks.compare``."""

    graph: str = flag("amazon_photo", f"what is trained on: {', '.join(RECIPES)}")
    hosts: int = flag(2, "how many, with a rank each")
    rate: str = flag("200mbit", "of each host's link, in each direction, or none")
    repeats: int = flag(3, "times that each variant runs")
    variants: str = flag(",".join(PRESETS), "values of --prefetch, with commas between")
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
        require(self.repeats >= 1, "repeats", self.repeats, "at least 1")
        for name in ("json", "figure"):
            file = getattr(self, name)
            there = file is None or Path(file).absolute().parent.is_dir()
            require(there, name, file, "a file in a folder that exists")
        for variant in self.variants.split(","):
            read_preset(SteerConfig(prefetch=variant))
        self.cells()

    @property
    def swept(self) -> str | None:
        """The name of what is swept."""
        return self.sweep.partition("=")[0] if self.sweep else None

    def cells(self) -> list[Setting]:
        """One setting for each value of the sweep. Raises ValueError on what cannot be."""
        own = {name: getattr(self, name) for name in Setting.__dataclass_fields__}
        if self.sweep is None:
            return [_checked(own)]
        name, _, values = self.sweep.partition("=")
        if name not in SWEPT or not values:
            raise ValueError(
                f"--sweep {self.sweep}: expected NAME=VALUE,VALUE... with NAME one of "
                f"{', '.join(SWEPT)}"
            )
        kind = get_type_hints(Setting)[name]
        try:
            read = [kind(value) for value in values.split(",")]
        except ValueError:
            raise ValueError(f"--sweep {self.sweep}: expected numbers after {name}=") from None
        return [_checked({**own, name: value}) for value in read]


def _checked(values: dict[str, Any]) -> Setting:
    check_graph(values["graph"])
    require(1 <= values["hosts"] <= MAX_HOSTS, "hosts", values["hosts"], f"1 to {MAX_HOSTS}")
    bits_per_second(values["rate"])
    if values["batch_size"] is None:
        values["batch_size"] = RECIPES[values["graph"]].batch_size
    # What is handed on to training is checked as training does.
    TrainConfig(
        **{key: values[key] for key in ("batch_size", "epochs", "hidden", "fanout", "seed")}
    )
    SteerConfig(buffer=values["buffer"])
    for name, choices in (("decider_mode", MODES), ("topology", TOPOLOGIES)):
        require(values[name] in choices, name, values[name], f"one of {', '.join(choices)}")
    return Setting(**values)


def measure(config: CompareConfig) -> list[dict[str, Any]]:
    """One record for each cell of the sweep (see ``contest``)."""
    cells, variants = config.cells(), config.variants.split(",")
    with (
        tempfile.TemporaryDirectory(prefix="minidist-parts-") as scratch,
        tqdm(
            total=len(cells) * config.repeats * (len(variants) + NUM_FREE),
            unit="run",
            disable=None,
        ) as bar,
    ):
        folder = Path(config.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        records = []
        for cell in cells:

            def tick(what: str, cell: Setting = cell) -> None:
                bar.set_postfix_str(f"{name_of(asdict(cell), config.swept)}: {what}")
                bar.update()

            records.append(contest(cell, variants, config.repeats, folder, tick))
    return records


def main() -> None:
    """Measure, and say everything."""
    config = parse(CompareConfig, __doc__)
    try:
        if lacking := missing():
            raise Unavailable(f"there can be no hosts here: {lacking} is missing")
        records = measure(config)
        if config.json is not None:
            write_json(config.json, {"config": asdict(config), "cells": records})
        if config.figure is not None:
            write_text(config.figure, draw(records, config.swept))
    except (ValueError, Unavailable) as error:
        fail(error)
    except Unequal as error:
        raise SystemExit(f"error: {error}") from None
    print("\n\n".join(map(cell_text, records)))
