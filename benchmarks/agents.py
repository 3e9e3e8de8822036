"""The agent live, beside every other decider on the very same minibatches.

    python -m benchmarks.agents --json agents.json
    python -m benchmarks.agents --graphs amazon_photo --ranks 2 --buffer 0.25 --agent-model FILE

Each cell is a real asynchronous training run on MPI ranks, with the agent in its thread, that
records a trace; then the other deciders replay that trace (their rows are those of a run: samples
are pure functions, and a replay counts exactly what a run counts). Graphs are the four real ones
and generated families, none of which the embedded model was trained on. ``every:best`` and
``after:best`` are the best single schedules for that cell, found by search.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.policies import KINDS, best_schedule
from benchmarks.runs import parts_of, train
from benchmarks.traces import RECIPES, graphs_of
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.table import render
from rudder.cli.whole_file import write_json
from rudder.config import SteerConfig
from rudder.presets import read_preset
from rudder.replay.grid import replay, row_of
from rudder.replay.trace import Trace, read_traces

OTHERS = ("always", "never", "once", "mlp", "tabnet", "lr", "rf", "svm", "xgb", "llm")


@dataclass(frozen=True, kw_only=True)
class AgentsConfig:
    """Settings of ``python -m benchmarks.agents``."""

    graphs: str | None = flag(None, "names with commas between (default: all that are here)")
    ranks: tuple[int, ...] = flag((2, 4), "numbers of ranks")
    buffer: tuple[float, ...] = flag((0.05, 0.25), "capacities as shares of the halo rows")
    agent_model: str = flag("embedded", "the language model")
    agent_threads: int = flag(1, "its CPU threads")
    classifier_dir: str | None = flag(None, "folder of rudder.fit (default: the shipped ones)")
    decider_mode: str = flag("async", "of the live runs", ("async", "sync"))
    others: str = flag(",".join(OTHERS), "deciders to replay beside; llm is asked in sync")
    json: str | None = flag(None, "also write the figures to this file")

    def __post_init__(self) -> None:
        graphs_of(self.graphs)
        for count in self.ranks:
            require(count >= 2, "ranks", count, "2 or more: one rank has nothing remote")
        for buffer in self.buffer:
            for decider in self.others.split(","):
                read_preset(self.steering(decider, buffer))

    def steering(self, decider: str, buffer: float) -> SteerConfig:
        """The settings of a decider that replays."""
        return SteerConfig(
            prefetch="rudder",
            decider=decider,
            buffer=buffer,
            agent_model=self.agent_model,
            agent_threads=self.agent_threads,
            classifier_dir=self.classifier_dir,
        )


def live(
    config: AgentsConfig, graph: str, ranks: int, buffer: float, folder: Path
) -> tuple[dict[str, Any], list[Trace]]:
    """The summary and the traces of a real run."""
    recipe = RECIPES[graph]
    flags = {
        "hidden": 32,
        "batch_size": recipe.batch_size,
        "epochs": max(recipe.epochs * ranks // 8, 2),
        "eval_every": 0,
        "buffer": buffer,
        "agent_model": config.agent_model,
        "agent_threads": config.agent_threads,
        "decider_mode": config.decider_mode,
        "trace": folder / "trace",
    }
    return train(parts_of(graph, ranks, folder), flags), read_traces(folder / "trace")


def beside(
    config: AgentsConfig, traces: Sequence[Trace], buffer: float
) -> dict[str, dict[str, Any]]:
    """Rows and decisions of the other deciders on the same minibatches."""
    found = {}
    for kind in KINDS:
        best, ranks, moved = best_schedule(traces, buffer, kind)
        row = {**row_of(traces, best, ranks, 0), "setting": best.decider, "moved_by": moved}
        found[f"{kind}:best"] = row
    for decider in config.others.split(","):
        setting = config.steering(decider, buffer)
        found[decider] = row_of(traces, setting, [replay(trace, setting) for trace in traces], 0)
    return found


def measure(config: AgentsConfig) -> list[dict[str, Any]]:
    """One record for each cell."""
    cells = [
        (graph, ranks, buffer)
        for graph in graphs_of(config.graphs)
        for ranks in config.ranks
        for buffer in config.buffer
    ]
    records = []
    with tempfile.TemporaryDirectory(prefix="rudder-agents-") as folder:
        for graph, ranks, buffer in tqdm(cells, unit="cell", disable=None):
            summary, traces = live(config, graph, ranks, buffer, Path(folder))
            rows = summary["rows"]
            records.append(
                {
                    "graph": graph,
                    "ranks": ranks,
                    "buffer": buffer,
                    "epoch_time_s": summary["epoch_time_s"],
                    "rows_none": rows["remote"],
                    "rows_moved": rows["misses"] + rows["replacements"],
                    "hits_pct": summary["buffer"]["hits_pct"],
                    "live": summary["decisions"],
                    "beside": beside(config, traces, buffer),
                }
            )
    return records


def cells_table(records: Sequence[dict[str, Any]]) -> str:
    """Live runs: rows in percent of none, and the agent's figures."""
    header = (
        *("graph", "ranks", "buffer", "rows %", "every:best %", "after:best %", "always %"),
        *("Pass@1", "valid"),
        *("replace", "r", "decision ms p50", "p95", "answer ms p50"),
    )
    lines = []
    for record in records:
        live, none = record["live"], record["rows_none"]
        others = [record["beside"].get(name) for name in ("every:best", "after:best", "always")]
        shares = [100 * other["rows_moved"] / none if other else None for other in others]
        figures = ("pass_at_1", "valid_pct", "replace_pct", "interval")
        latencies = ("latency_ms_p50", "latency_ms_p95", "answer_ms_p50")
        lines.append(
            (
                *(record["graph"], record["ranks"], record["buffer"]),
                *_shown([100 * record["rows_moved"] / none, *shares], 2),
                *_shown([live[name] for name in (*figures, *latencies)], 1),
            )
        )
    return render(lines, header)


def deciders_table(records: Sequence[dict[str, Any]]) -> str:
    """Every decider over all cells: means of its rows and of its figures."""
    lines = []
    live = [{"rows_moved": record["rows_moved"], "decisions": record["live"]} for record in records]
    columns = {"llm (live)": live}
    for name in records[0]["beside"]:
        columns[name] = [record["beside"][name] for record in records]
    for name, cells in columns.items():
        shares = [
            100 * cell["rows_moved"] / record["rows_none"]
            for cell, record in zip(cells, records, strict=True)
        ]
        against = [
            sum(
                cell["rows_moved"] > record["beside"][other]["rows_moved"]
                for cell, record in zip(cells, records, strict=True)
            )
            for other in ("always", "every:best")
            if other in records[0]["beside"]
        ]
        figures = [
            _mean([cell["decisions"][figure] for cell in cells])
            for figure in ("pass_at_1", "valid_pct", "replace_pct", "latency_ms_p50")
        ]
        lines.append((name, *_shown([_mean(shares)], 3), *against, *_shown(figures, 1)))
    header = (
        *("decider", "rows %", "cells over always", "over every:best", "Pass@1", "valid"),
        *("replace", "decision ms"),
    )
    return render(sorted(lines, key=lambda line: float(str(line[1]))), header)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _shown(values: Sequence[float | None], digits: int) -> list[str]:
    return ["-" if value is None else f"{value:.{digits}f}" for value in values]


def main() -> None:
    """Measure, and print both tables."""
    config = parse(AgentsConfig, __doc__)
    try:
        records = measure(config)
    except ValueError as error:
        fail(error)
    if config.json is not None:
        write_json(config.json, {"config": asdict(config), "cells": records})
    print(cells_table(records))
    print()
    print(deciders_table(records))


if __name__ == "__main__":
    main()
