"""Every policy and decider on recorded traces of real and generated graphs, beside Belady's bound.

    python -m benchmarks.policies --folder traces --json policies.json
    python -m benchmarks.policies --graphs amazon_photo,tolokers --deciders always,every:8,llm

Four parts of each graph, buffers of 5% and 25% of the halo. Rows moved are shares of no buffer's,
and ratios to the fewest that any demand-filled buffer of that size could move. The
best ``every:n`` and the best ``after:n`` for that graph and buffer are found by search: what tuning
would find.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.command import Row, answer
from benchmarks.traces import graphs_of, record
from rudder.cli.flags import flag, parse
from rudder.config import SteerConfig

if TYPE_CHECKING:
    from rudder.replay.runs import Replayed
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
        from rudder.presets import read_preset

        graphs_of(self.graphs)
        for buffer in self.buffer:
            for setting in self.settings(buffer):
                read_preset(setting)

    def settings(self, buffer: float) -> list[SteerConfig]:
        """Of every preset, then of every decider."""
        named = {"classifier_dir": self.classifier_dir, "agent_model": self.agent_model}
        return [SteerConfig(prefetch=preset, buffer=buffer) for preset in BUFFERED] + [
            SteerConfig(prefetch="rudder", decider=decider, buffer=buffer, **named)  # type: ignore[arg-type]
            for decider in self.deciders.split(",")
        ]


def best_schedule(
    traces: "Sequence[Trace]", buffer: float, kind: str = "every"
) -> "tuple[SteerConfig, list[Replayed], dict[int, int]]":
    """The ``every:n``, or ``after:n``, that moves fewest rows, its replays, and each n's rows."""
    from rudder.replay.runs import replay

    found = {}
    for number in NUMBERS:
        config = SteerConfig(prefetch="rudder", decider=f"{kind}:{number}", buffer=buffer)
        found[number] = config, [replay(trace, config) for trace in traces]
    moved = {n: sum(rank.counts.moved for rank in ranks) for n, (_, ranks) in found.items()}
    return *found[min(moved, key=lambda n: moved[n])], moved


def measure(config: PoliciesConfig) -> Row:
    """The rows of the grid."""
    from rudder.replay.belady import belady_rows
    from rudder.replay.grid import row_of
    from rudder.replay.runs import replay

    names, rows = graphs_of(config.graphs), list[Row]()
    for name, buffer in tqdm([*product(names, config.buffer)], unit="cell", disable=None):
        traces = record(name, Path(config.folder))
        searched = [best_schedule(traces, buffer, kind) for kind in KINDS]
        belady = sum(
            belady_rows(trace.minibatches, rank.capacity)
            for trace, rank in zip(traces, searched[0][1], strict=True)
        )
        for best, replayed, moved in searched:
            row = {**row_of(traces, best, replayed, belady), "trace": name, "moved_by": moved}
            rows.append({**row, "decider": f"{best.decider} (best)"})
        for setting in config.settings(buffer):
            ranks = [replay(trace, setting) for trace in traces]
            rows.append({**row_of(traces, setting, ranks, belady), "trace": name})
    return {"grid": rows}


def _table(found: dict[str, Any]) -> str:
    from rudder.replay.grid import grid_table

    return grid_table(found["grid"])


if __name__ == "__main__":
    answer(parse(PoliciesConfig, __doc__), measure, _table)
