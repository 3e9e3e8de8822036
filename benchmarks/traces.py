"""The graphs whose traces the steering benchmarks share, and recording them.

Four parts each. Batches are small enough that an epoch has several minibatches, and the run long
enough (about 200 minibatches a rank) for steering to matter.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.runs import parts_of
from rudder.cli.flags import require

if TYPE_CHECKING:
    from minidist.run_config import RunConfig
    from rudder.replay.trace import Trace

DATA = Path(__file__).parents[1] / "data" / "real"
NUM_PARTS = 4


class Recipe(NamedTuple):
    """How a graph is trained on."""

    batch_size: int
    epochs: int


RECIPES = {
    "amazon_photo": Recipe(16, 40),
    "coauthor_cs": Recipe(50, 12),
    "facebook_pagepage": Recipe(50, 20),
    "tolokers": Recipe(100, 14),
    "synthetic:small": Recipe(50, 20),
    "synthetic:medium": Recipe(500, 20),
}


def dataset_of(name: str) -> str:
    """What ``--dataset`` names this graph: the real ones are files here."""
    return name if ":" in name else f"npz:{DATA / name}.npz"


def available() -> list[str]:
    """The names whose data is here."""
    return [name for name in RECIPES if ":" in name or (DATA / f"{name}.npz").is_file()]


def check_graph(name: str, setting: str = "graph") -> None:
    """Raise ValueError naming this setting's flag unless the graph is known and its data here."""
    why = "its data is missing" if name in RECIPES else "unknown"
    expected = f"one of {', '.join(available())}"
    require(name in available(), setting, f"{name} ({why})", expected)


def graphs_of(names: str | None) -> list[str]:
    """The graphs that ``--graphs`` names, with commas between; without, all that are here.

    Raises ValueError on one that is unknown or whose data is missing.
    """
    found = available() if names is None else names.split(",")
    for name in found:
        check_graph(name, "graphs")
    return found


def record(name: str, folder: Path) -> "list[Trace]":
    """All ranks' traces of a graph, from ``folder/<name>``; recorded there if they are not yet."""
    from minidist.run_config import RunConfig

    batch_size, epochs = RECIPES[name]
    parts = str(parts_of(dataset_of(name), NUM_PARTS, folder))
    run = RunConfig(parts=parts, batch_size=batch_size, epochs=epochs, ranks=NUM_PARTS)
    return record_as(folder / name.replace(":", "-"), run)


def record_as(traces: Path, config: "RunConfig", quiet: bool = False) -> "list[Trace]":
    """All ranks' traces of a run, in one process; recorded in a folder if it is not there yet."""
    from minidist.run import train_in_threads
    from rudder.replay.trace import read_traces

    if not traces.exists():
        # A recording that is stopped leaves nothing that looks like a trace.
        staging = traces.with_name(f"{traces.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        config = replace(config, transport="local", prefetch="overlap", trace=str(staging))
        train_in_threads(replace(config, trace_only=True), quiet=quiet)
        os.replace(staging, traces)
    return read_traces(traces)
