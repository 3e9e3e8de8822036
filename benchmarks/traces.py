"""The graphs whose traces the steering benchmarks share, and recording them.

Four parts each. Batches are small enough that an epoch has several minibatches, and the run long
enough (about 200 minibatches a rank) for steering to matter.
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from rudder.cli.flags import require
from rudder.replay.trace import Trace, read_traces

DATA = Path(__file__).parents[1] / "data" / "real"
NUM_PARTS = 4


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A graph and how it is trained on."""

    dataset: str
    batch_size: int
    epochs: int


RECIPES = {
    "amazon_photo": Recipe(dataset="npz:amazon_photo", batch_size=16, epochs=40),
    "coauthor_cs": Recipe(dataset="npz:coauthor_cs", batch_size=50, epochs=12),
    "facebook_pagepage": Recipe(dataset="npz:facebook_pagepage", batch_size=50, epochs=20),
    "tolokers": Recipe(dataset="npz:tolokers", batch_size=100, epochs=14),
    "synthetic:small": Recipe(dataset="synthetic:small", batch_size=50, epochs=20),
    "synthetic:medium": Recipe(dataset="synthetic:medium", batch_size=500, epochs=20),
}


def available() -> list[str]:
    """The names whose data is here."""
    return [
        name
        for name, recipe in RECIPES.items()
        if not recipe.dataset.startswith("npz:") or (DATA / f"{name}.npz").is_file()
    ]


def check_graph(name: str, setting: str = "graph") -> None:
    """Raise ValueError naming this setting's flag unless the graph is known and its data here."""
    why = "its data is missing" if name in RECIPES else "unknown"
    expected = f"one of {', '.join(available())}"
    require(name in available(), setting, f"{name} ({why})", expected)


def graphs_of(names: str | None) -> list[str]:
    """The graphs that ``--graphs`` names, with commas between; without, all that are here.

    Raises ValueError on one that is unknown or whose data is missing.
    """
    if names is None:
        return available()
    found = names.split(",")
    for name in found:
        check_graph(name, "graphs")
    return found


def dataset_of(name: str) -> str:
    """What ``--dataset`` names this graph."""
    dataset = RECIPES[name].dataset
    return f"npz:{DATA / name}.npz" if dataset.startswith("npz:") else dataset


def record(name: str, folder: Path) -> list[Trace]:
    """All ranks' traces of a graph, from ``folder/<name>``; recorded there if they are not yet."""
    traces = folder / name.replace(":", "-")
    recipe = RECIPES[name]
    config = RunConfig(
        dataset=dataset_of(name),
        parts=str(folder / f"parts-{traces.name}"),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        ranks=NUM_PARTS,
    )
    return record_as(traces, config)


def record_as(traces: Path, config: RunConfig, quiet: bool = False) -> list[Trace]:
    """All ranks' traces of a run, in one process; recorded in a folder if it is not there yet."""
    if not traces.exists():
        # A recording that is stopped leaves nothing that looks like a trace.
        staging = traces.with_name(f"{traces.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        train_in_threads(
            replace(
                config, transport="local", prefetch="overlap", trace_only=True, trace=str(staging)
            ),
            quiet=quiet,
        )
        os.replace(staging, traces)
    return read_traces(traces)
