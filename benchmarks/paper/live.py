"""Cells that are training runs.

Their ranks are on hosts of their own with links of ``--rate``, where this machine can make them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lab.hosts import HostsError, hosts, missing
from benchmarks.paper.cells import Row, base_of, figures_of
from benchmarks.paper.kept import kept_or_made
from benchmarks.paper.settings import PaperConfig, Variant
from benchmarks.runs import parts_of, train
from benchmarks.traces import NUM_PARTS, RECIPES


def live(
    config: PaperConfig,
    graph: str,
    ranks: int,
    variant: Variant,
    buffer: float,
    flags: Mapping[str, object] | None = None,
) -> Row:
    """A training run: the figures of ``replayed``, and its times.

    flags: of training, beside the variant's.   epoch_s, train_s, wait_s: seconds, the median over
    epochs after the first.   link: of each host, or why there is none.
    The run is kept in the config's folder, and used again where settings, models and code are the
    same. Raises ValueError with the run's last words where it fails.
    """
    base = base_of(graph, ranks, buffer, variant)
    recipe = RECIPES[graph]
    settings: dict[str, object] = {
        "batch_size": recipe.batch_size,
        # About 100 minibatches a rank, whatever the number of ranks.
        "epochs": config.epochs or max(recipe.epochs * ranks // (4 * NUM_PARTS), 4),
        "hidden": config.hidden,
        "eval_every": 0,
        **({"buffer": buffer} if variant.kind != "plain" else {}),
        **variant.steer,
        **(flags or {}),
    }
    named = {"graph": graph, "ranks": ranks, "rate": config.rate, **settings}

    def run() -> dict[str, Any]:
        parts = parts_of(graph, ranks, Path(config.folder))
        with _links(config.rate, ranks) as (launcher, link):
            return {**train(parts, settings, launcher), "link": link}

    summary = kept_or_made(config, named, run)
    rows = summary["rows"]
    figures = {**(summary["buffer"] or {}), "decisions": summary["decisions"]}
    times = {
        name.replace("epoch_time_s", "epoch_s"): summary[name]
        for name in ("epoch_time_s", "train_s", "wait_s")
    }
    moved = rows["misses"] + rows["replacements"]
    return base | figures_of(moved, rows["remote"], figures) | times | {"link": summary["link"]}


@contextmanager
def _links(rate: str, ranks: int) -> Iterator[tuple[list[str], str]]:
    """Words that start ranks on hosts of their own, and the rate of each one's link."""
    lacking = missing()
    if rate == "none" or lacking:
        why = f"needs {lacking}" if lacking and rate != "none" else "not asked for"
        yield [], f"none: all ranks on this host ({why})"
        return
    try:
        with hosts(ranks, rate) as up:
            yield up.mpiexec, rate
    except HostsError as error:
        raise ValueError(f"--rate {rate}: {error}: give --rate none") from None
