"""%-Hits and rows moved with 16 to 256 trainers, from their traces: nothing is trained or moved.

    python -m benchmarks.simulate --json scale.json --figure scale.svg
    python -m benchmarks.simulate --dataset synthetic:large --trainers 16,64 --sample 4

The graph is partitioned once for each number of trainers. Of the trainers a sample, evenly spread
over the ranks, is played one after another, with the seeds and the sampler of a real run: the
trace of each is that of the run, whatever the other trainers do. Every policy and decider replays
it; what it counts is what that rank of a real run would count. Figures are means over the sampled
trainers, +- the standard error of that mean as one for all trainers; those of all trainers together
are that mean times their number.

The number of epochs is the same for all numbers of trainers, as is the batch (strong scaling): so
minibatches, of an epoch and in all, get fewer, and below one batch a trainer smaller. Deciders are
asked about every minibatch, as with ``--decider-mode sync``.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.paper.chart import figure
from benchmarks.simulate.scaling import cells, minibatches, row
from benchmarks.simulate.simulated import panels, table
from benchmarks.simulate.split import Split
from benchmarks.simulate.trainers import Trainers
from minidist.config import METHODS
from minidist.store.partition_dir import Parts
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.whole_file import write_json, write_text
from rudder.config import SteerConfig
from rudder.presets import PRESETS, read_preset

_TITLE = "Many trainers, simulated from traces"


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Settings of ``python -m benchmarks.simulate``."""

    dataset: str = flag("synthetic:products", "the graph; its features are left out")
    trainers: tuple[int, ...] = flag((16, 32, 64, 128, 256), "numbers of trainers")
    sample: int = flag(3, "trainers to play of each number, or all where there are fewer")
    method: str = flag("stream", "partitioner", METHODS)
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    batch_size: int = flag(1000, "most seed nodes of a trainer in a step")
    epochs: int = flag(30, "epochs, the same for all numbers of trainers")
    prefetch: str = flag(
        "fixed,massivegnn,degree,vip,lru,lfu,lookahead,rudder", "presets, with commas between"
    )
    decider: str = flag("once,every:8,llm,mlp", "deciders of the rudder preset")
    buffer: tuple[float, ...] = flag((0.05, 0.25), "capacities as shares of the halo rows")
    seed: int = flag(0, "seed of everything random")
    folder: str = flag("scale", "where partitions and finished scales are kept")
    json: str | None = flag(None, "also write the figures to this file, with those of each step")
    figure: str | None = flag(None, "also draw them, SVG")

    def __post_init__(self) -> None:
        for name in ("sample", "batch_size", "epochs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(
            bool(self.trainers) and min(self.trainers) >= 2,
            *("trainers", ",".join(map(str, self.trainers)), "numbers of at least 2"),
        )
        require(
            bool(self.fanout) and min(self.fanout) >= 1,
            *("fanout", self.fanout, "numbers of at least 1"),
        )
        self.settings()

    def settings(self) -> list[SteerConfig]:
        """Every policy, decider and buffer. Raises ValueError on what cannot be read."""
        settings = [
            SteerConfig(prefetch=name, decider=decider, buffer=share)
            for share in self.buffer
            for name in self.prefetch.split(",")
            for decider in (self.decider.split(",") if name == "rudder" else [None])
        ]
        for setting in settings:
            require(
                read_preset(setting).has_buffer,
                *("prefetch", setting.prefetch, f"presets with a buffer, of {', '.join(PRESETS)}"),
            )
        return settings


def sampled(count: int, most: int) -> list[int]:
    """At most so many ranks of ``count``, evenly spread."""
    ranks = np.linspace(0, count - 1, min(most, count)).round()
    return [int(rank) for rank in np.unique(ranks)]


def simulate(config: SimulateConfig) -> Iterator[dict[str, Any]]:
    """One scale after the other, from the folder where an earlier call with these settings left it.

    Raises ValueError on a graph that cannot be split.
    """
    split = Split(dataset=config.dataset, method=config.method, seed=config.seed)
    shared = {**asdict(config), **dict.fromkeys(("trainers", "folder", "json", "figure"))}
    for count in config.trainers:
        key = json.dumps({**shared, "trainers": count}, sort_keys=True)
        name = f"scale-{count}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        kept = Path(config.folder) / name
        if not kept.exists():
            scale = _scale(config, split.parts(count, Path(config.folder)))
            write_json(kept, scale)
        yield json.loads(kept.read_text())


def _scale(config: SimulateConfig, parts: Parts) -> dict[str, Any]:
    """What the sampled trainers of a partition need, and a row for each setting."""
    trainers = Trainers(
        parts=parts,
        fanouts=config.fanout,
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
    )
    settings, ranks = config.settings(), sampled(trainers.count, config.sample)
    needed, found = [], []
    with tqdm(total=len(ranks) * len(settings), unit="replay", disable=None) as bar:
        bar.set_postfix_str(f"{trainers.count} trainers")
        for rank in ranks:
            # One trace at a time: those of 16 trainers of a large graph take gigabytes.
            played = trainers.play(rank)
            needed.append(minibatches(played))
            found.append(cells(played, settings, config.seed + rank, bar))
    return {
        "trainers": trainers.count,
        "edge_cut_share": parts.statistics["edge_cut_share"],
        "num_features": trainers.num_features,
        "sampled": needed,
        "rows": [
            row(trainers.count, setting, [one[number] for one in found], config.epochs)
            for number, setting in enumerate(settings)
        ],
    }


def main() -> None:
    """The command line."""
    config = parse(SimulateConfig, __doc__)
    try:
        scales = []
        for scale in simulate(config):
            scales.append(scale)
            if config.json is not None:
                found = {"benchmark": "simulate", "config": asdict(config), "scales": scales}
                write_json(config.json, found)
        if config.figure is not None:
            write_text(config.figure, figure(_TITLE, panels(scales)))
    except (ValueError, OSError) as error:
        fail(error)
    print(table(scales))
