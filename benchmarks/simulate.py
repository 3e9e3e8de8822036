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

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.curves import Curve, Panel, draw
from benchmarks.scaling import cells, minibatches, row
from benchmarks.split import Split
from benchmarks.trainers import Trainers
from minidist.config import METHODS
from rudder.config import SteerConfig
from rudder.presets import PRESETS, read_preset
from runnable.flags import fail, flag, parse, require
from runnable.table import render


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Settings of ``python -m benchmarks.simulate``."""

    dataset: str = flag("synthetic:products", "the graph; its features are left out")
    trainers: tuple[int, ...] = flag((16, 32, 64, 128, 256), "numbers of trainers")
    sample: int = flag(4, "trainers to play of each number, or all where there are fewer")
    method: str = flag("stream", "partitioner", METHODS)
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    batch_size: int = flag(1000, "most seed nodes of a trainer in a step")
    epochs: int = flag(20, "epochs, the same for all numbers of trainers")
    prefetch: str = flag(
        "fixed,massivegnn,degree,vip,lru,lfu,lookahead,rudder", "presets, with commas between"
    )
    decider: str = flag("once,every:8,llm,mlp", "deciders of the rudder preset")
    buffer: str = flag("0.05,0.25", "capacities as shares of the halo rows")
    seed: int = flag(0, "seed of everything random")
    folder: str = flag("scale", "where partitions are kept; made there where missing")
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
        try:
            buffers = [float(share) for share in self.buffer.split(",")]
        except ValueError:
            raise ValueError(
                f"--buffer {self.buffer}: expected numbers with commas between"
            ) from None
        settings = [
            SteerConfig(prefetch=name, decider=decider, buffer=share)
            for share in buffers
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
    """One scale after the other: its trainers' minibatches, and a row for each setting.

    Raises ValueError on a graph that cannot be split.
    """
    settings = config.settings()
    split = Split(dataset=config.dataset, method=config.method, seed=config.seed)
    total = sum(len(sampled(count, config.sample)) for count in config.trainers)
    with tqdm(total=total * len(settings), unit="replay", disable=None) as bar:
        for count in config.trainers:
            bar.set_postfix_str(f"{count} trainers")
            trainers = Trainers(
                parts=split.parts(count, Path(config.folder)),
                fanouts=config.fanout,
                batch_size=config.batch_size,
                epochs=config.epochs,
                seed=config.seed,
            )
            ranks = []
            for rank in sampled(count, config.sample):
                # One trace at a time: 16 trainers of a large graph take 0.5 GB each.
                played = trainers.play(rank)
                found = cells(played, settings, config.seed + rank, bar)
                ranks.append((minibatches(played), found))
            yield {
                "trainers": count,
                "edge_cut_share": trainers.parts.statistics["edge_cut_share"],
                "num_features": trainers.num_features,
                "sampled": [needed for needed, _ in ranks],
                "rows": [
                    row(count, setting, [found[number] for _, found in ranks], config.epochs)
                    for number, setting in enumerate(settings)
                ],
            }


def table(scales: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    header = (
        *("trainers", "setting", "buffer", "none: rows an epoch", "moved", "% of none", "+-"),
        *("Belady %", "%-Hits", "halo", "C/b"),
    )
    lines = []
    for line in (line for scale in scales for line in scale["rows"]):
        error = line["moved_pct_error"]
        lines.append(
            (
                *(line["trainers"], line["setting"], line["buffer"]),
                *(round(line["none_rows_per_epoch"]), round(line["moved_rows_per_epoch"])),
                *(f"{line['moved_pct']:.1f}", "-" if error is None else f"{error:.1f}"),
                f"{line['belady_pct']:.1f}",
                *(_shown(line["hits_pct"]), _shown(line["halo_hits_pct"])),
                f"{line['capacity_over_batch']:.2f}",
            )
        )
    return render(lines, header)


def figure(scales: Sequence[dict[str, Any]], file: Path) -> None:
    """%-Hits and rows moved over the numbers of trainers, a panel each and buffer."""
    places = [str(scale["trainers"]) for scale in scales]
    panels = []
    for buffer in dict.fromkeys(line["buffer"] for line in scales[0]["rows"]):
        by_scale = [
            {line["setting"]: line for line in scale["rows"] if line["buffer"] == buffer}
            for scale in scales
        ]
        for name, title, unit in (
            ("hits_pct", "%-Hits", "% of all remote rows"),
            ("moved_pct", "rows moved", "% of no buffer's"),
        ):
            curves = [
                Curve(name=setting, values=[lines[setting][name] for lines in by_scale])
                for setting in by_scale[0]
            ]
            if name == "moved_pct":
                least = [next(iter(lines.values()))["belady_pct"] for lines in by_scale]
                curves.append(Curve(name="Belady", values=least))
            title = f"{title}, buffer {100 * buffer:g}% of the halo"
            panels.append(
                Panel(title=title, y=f"{unit}, by trainers", places=places, curves=curves)
            )
    draw(panels, file)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def main() -> None:
    """The command line."""
    config = parse(SimulateConfig, __doc__)
    try:
        scales = []
        for scale in simulate(config):
            scales.append(scale)
            if config.json is not None:
                found = {"benchmark": "simulate", "config": asdict(config), "scales": scales}
                Path(config.json).write_text(json.dumps(found) + "\n")
        if config.figure is not None:
            figure(scales, Path(config.figure))
    except (ValueError, OSError) as error:
        fail(error)
    print(table(scales))


if __name__ == "__main__":
    main()
