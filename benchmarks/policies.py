"""Every policy and decider on recorded traces of real and generated graphs, beside Belady's bound.

    python -m benchmarks.policies --folder traces --json policies.json
    python -m benchmarks.policies --graphs amazon_photo,tolokers --deciders always,every:8,llm

Four parts of each graph, buffers of 5% and 25% of the halo. Rows moved are shares of no buffer's,
and ratios to the fewest that any demand-filled buffer of that size could move. The
best ``every:n`` and the best ``after:n`` for that graph and buffer are found by search: what tuning
would find.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.traces import graphs_of, record
from rudder.cli.flags import fail, flag, parse
from rudder.cli.whole_file import write_json
from rudder.config import SteerConfig
from rudder.presets import read_preset
from rudder.replay.belady import belady_rows
from rudder.replay.grid import Replayed, grid_table, replay, row_of
from rudder.replay.trace import Trace

BUFFERED = ("fixed", "massivegnn", "degree", "vip", "lru", "lfu", "lookahead")
NUMBERS = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)
KINDS = ("every", "after")


@dataclass(frozen=True, kw_only=True)
class PoliciesConfig:
    """Settings of ``python -m benchmarks.policies``."""

    folder: str = flag("traces", "where traces are kept; recorded there where missing")
    graphs: str | None = flag(None, "names with commas between (default: all that are here)")
    buffer: tuple[float, ...] = flag((0.05, 0.25), "capacities as shares of the halo rows")
    deciders: str = flag("never,once,random:0.1,llm", "of the rudder preset, beside every:best")
    classifier_dir: str | None = flag(None, "folder of rudder.fit, for classifiers")
    agent_model: str = flag("embedded", "the language model of llm")
    json: str | None = flag(None, "also write the grid to this file")

    def __post_init__(self) -> None:
        graphs_of(self.graphs)
        for buffer in self.buffer:
            for setting in self.settings(buffer):
                read_preset(setting)

    def settings(self, buffer: float) -> list[SteerConfig]:
        """Of every preset, then of every decider."""
        return [SteerConfig(prefetch=preset, buffer=buffer) for preset in BUFFERED] + [
            SteerConfig(
                prefetch="rudder",
                decider=decider,
                buffer=buffer,
                classifier_dir=self.classifier_dir,
                agent_model=self.agent_model,
            )
            for decider in self.deciders.split(",")
        ]


def best_schedule(
    traces: Sequence[Trace], buffer: float, kind: str = "every"
) -> tuple[SteerConfig, list[Replayed], dict[int, int]]:
    """The ``every:n``, or ``after:n``, that moves fewest rows, its replays, and each n's rows."""
    found: dict[int, tuple[SteerConfig, list[Replayed]]] = {}
    for number in NUMBERS:
        config = SteerConfig(prefetch="rudder", decider=f"{kind}:{number}", buffer=buffer)
        found[number] = config, [replay(trace, config) for trace in traces]
    moved = {n: sum(rank.counts.moved for rank in ranks) for n, (_, ranks) in found.items()}
    return *found[min(moved, key=lambda n: moved[n])], moved


def measure(config: PoliciesConfig) -> list[dict[str, Any]]:
    """The rows of the grid."""
    names, rows = graphs_of(config.graphs), []
    cells = sum(len(KINDS) + len(config.settings(buffer)) for buffer in config.buffer)
    with tqdm(total=len(names) * cells, unit="cell", disable=None) as bar:
        for name in names:
            bar.set_postfix_str(name)
            traces = record(name, Path(config.folder))
            for buffer in config.buffer:
                searched = [best_schedule(traces, buffer, kind) for kind in KINDS]
                belady = sum(
                    belady_rows(
                        [trace.minibatch(t) for t in range(trace.num_minibatches)], rank.capacity
                    )
                    for trace, rank in zip(traces, searched[0][1], strict=True)
                )
                for best, replayed, moved in searched:
                    row = {**row_of(traces, best, replayed, belady), "trace": name}
                    rows.append({**row, "decider": f"{best.decider} (best)", "moved_by": moved})
                    bar.update()
                for setting in config.settings(buffer):
                    ranks = [replay(trace, setting) for trace in traces]
                    rows.append({**row_of(traces, setting, ranks, belady), "trace": name})
                    bar.update()
    return rows


def main() -> None:
    """Measure, and print the grid."""
    config = parse(PoliciesConfig, __doc__)
    try:
        rows = measure(config)
    except ValueError as error:
        fail(error)
    print(grid_table(rows))
    if config.json is not None:
        write_json(config.json, {"config": asdict(config), "grid": rows})


if __name__ == "__main__":
    main()
