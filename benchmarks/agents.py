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
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from tqdm import tqdm

from benchmarks.command import Row, answer, at_least, table
from benchmarks.policies import KINDS, best_schedule
from benchmarks.runs import parts_of, train
from benchmarks.traces import RECIPES, dataset_of, graphs_of
from rudder.cli.flags import flag, parse
from rudder.config import SteerConfig

if TYPE_CHECKING:
    from rudder.replay.trace import Trace

_LIVE = "graph ranks buffer rows_pct every:best_pct after:best_pct always_pct pass_at_1 valid_pct "
_LIVE += "replace_pct interval latency_ms_p50 latency_ms_p95 answer_ms_p50"
_DECIDERS = "decider rows_pct over_always over_every:best pass_at_1 valid_pct replace_pct "
_DECIDERS += "latency_ms_p50"
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
        from rudder.presets import read_preset

        graphs_of(self.graphs)
        at_least(self, 2, "ranks")  # one has nothing remote
        for buffer, decider in product(self.buffer, self.others.split(",")):
            read_preset(self.steering(decider, buffer))

    def steering(self, decider: str, buffer: float) -> SteerConfig:
        """The settings of a decider that replays."""
        names = ("agent_model", "agent_threads", "classifier_dir")
        named: Row = {name: getattr(self, name) for name in names}
        return SteerConfig(prefetch="rudder", decider=decider, buffer=buffer, **named)


def live(
    config: AgentsConfig, graph: str, ranks: int, buffer: float, folder: Path
) -> "tuple[Row, list[Trace]]":
    """The summary and the traces of a real run."""
    from rudder.replay.trace import read_traces

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
    parts = parts_of(dataset_of(graph), ranks, folder)
    return train(parts, flags), read_traces(folder / "trace")


def beside(config: AgentsConfig, traces: "Sequence[Trace]", buffer: float) -> dict[str, Row]:
    """Rows and decisions of the other deciders on the same minibatches."""
    from rudder.replay.grid import row_of
    from rudder.replay.runs import replay

    found = {}
    for kind in KINDS:
        best, ranks, moved = best_schedule(traces, buffer, kind)
        row = {**row_of(traces, best, ranks, 0), "setting": best.decider, "moved_by": moved}
        found[f"{kind}:best"] = row
    for decider in config.others.split(","):
        setting = config.steering(decider, buffer)
        found[decider] = row_of(traces, setting, [replay(trace, setting) for trace in traces], 0)
    return found


def measure(config: AgentsConfig) -> Row:
    """One record for each cell."""
    cells = [*product(graphs_of(config.graphs), config.ranks, config.buffer)]
    records = []
    with tempfile.TemporaryDirectory(prefix="rudder-agents-") as folder:
        for graph, ranks, buffer in tqdm(cells, unit="cell", disable=None):
            summary, traces = live(config, graph, ranks, buffer, Path(folder))
            rows = summary["rows"]
            record = {"graph": graph, "ranks": ranks, "buffer": buffer}
            record["epoch_time_s"] = summary["epoch_time_s"]
            record["rows_none"] = rows["remote"]
            record["rows_moved"] = rows["misses"] + rows["replacements"]
            record["hits_pct"] = summary["buffer"]["hits_pct"]
            record["live"] = summary["decisions"]
            record["beside"] = beside(config, traces, buffer)
            records.append(record)
    return {"cells": records}


def live_row(record: Row) -> Row:
    """A live run for people: rows in percent of none, and the agent's figures."""
    moved = {f"{name}_pct": other["rows_moved"] for name, other in record["beside"].items()}
    moved["rows_pct"] = record["rows_moved"]
    shares = {name: 100 * rows / record["rows_none"] for name, rows in moved.items()}
    return {**record, **record["live"], **shares}


def decider_row(records: Sequence[Row], name: str, cells: Sequence[Row]) -> Row:
    """A decider over all cells: means of its rows and of its figures, and in how many cells it
    moves more than two others."""
    pairs = [*zip(cells, records, strict=True)]
    row: Row = {"decider": name}
    row["rows_pct"] = fmean(100 * cell["rows_moved"] / all_["rows_none"] for cell, all_ in pairs)
    for rival in ("always", "every:best"):
        if rival in records[0]["beside"]:
            others = [record["beside"][rival]["rows_moved"] for record in records]
            over = [cell["rows_moved"] > rows for cell, rows in zip(cells, others, strict=True)]
            row[f"over_{rival}"] = sum(over)
    for figure in ("pass_at_1", "valid_pct", "replace_pct", "latency_ms_p50"):
        told = [cell["decisions"][figure] for cell in cells]
        known = [value for value in told if value is not None]
        row[figure] = fmean(known) if known else None
    return row


def tables(found: Row) -> str:
    """The live runs, and every decider beside them, fewest rows first."""
    records = found["cells"]
    live = [{"rows_moved": record["rows_moved"], "decisions": record["live"]} for record in records]
    deciders = [decider_row(records, "llm (live)", live)]
    for name in records[0]["beside"]:
        deciders.append(decider_row(records, name, [record["beside"][name] for record in records]))
    deciders.sort(key=lambda row: float(row["rows_pct"]))
    return f"{table([*map(live_row, records)], _LIVE)}\n\n{table(deciders, _DECIDERS)}"


if __name__ == "__main__":
    answer(parse(AgentsConfig, __doc__), measure, tables)
