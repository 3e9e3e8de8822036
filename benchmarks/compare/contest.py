"""Contest: one training under several ``--prefetch`` variants, in turn within one lab.

    repeat 1:  compute  pipeline | none  overlap  fixed ...
    repeat 2:  compute  pipeline | none  overlap  fixed ...      medians, fastest and slowest
               links of no rate  | links of the lab's rate

All runs start the same way, on hosts of their own, and learn the same to the bit.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmarks.command import Row
from benchmarks.compare.command import CompareConfig
from benchmarks.compare.limit import (
    Crossing,
    Limit,
    compute_seconds,
    crossing,
    num_parameters,
    seconds,
)
from benchmarks.lab.hosts import Hosts, Unavailable, hosts, missing
from benchmarks.runs import parts_of, train
from benchmarks.traces import dataset_of
from benchmarks.trainers import Trainers
from minidist.store.partition_dir import Parts

# Runs of a repeat on links of no rate: with nothing ahead, and with all that overlaps.
_FREE = ("none", "lookahead")
_STAGES = ("wait_s", "sample_s", "fetch_s", "train_s")


class Unequal(SystemExit):
    """Two variants learned differently, which none may: the command ends with 1."""


def measure(config: CompareConfig) -> Row:
    """A record for each cell of the sweep."""
    if lacking := missing():
        raise Unavailable(f"there can be no hosts here: {lacking} is missing")
    cells, num = config.cells(), len(config.variants.split(",")) + len(_FREE)
    runs = len(cells) * config.repeats * num
    with (
        tempfile.TemporaryDirectory(prefix="minidist-parts-") as scratch,
        tqdm(total=runs, unit="run", disable=None) as bar,
    ):
        folder = Path(config.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)

        def tick(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        return {"cells": [contest(cell, folder, tick) for cell in cells]}


def contest(cell: CompareConfig, folder: Path, tick: Callable[[str], None]) -> Row:
    """The setting, its limit, and each variant's figures; ``tick`` is told of every run that ends.

    folder: where partitions are kept.   Raises Unequal where losses or accuracies differ,
    ValueError where a run fails, Unavailable where there can be no hosts.
    """
    path = parts_of(dataset_of(cell.graph), cell.ranks, folder)
    runs: dict[str, list[Row]] = {name: [] for name in cell.variants.split(",")}
    compute, here, each = [], [], cell.ranks_per_host
    with (
        hosts(cell.hosts, "none", ranks=each) as free,
        hosts(cell.hosts, cell.rate, ranks=each) as up,
        tempfile.TemporaryDirectory(prefix="minidist-compare-") as scratch,
    ):
        for repeat in range(cell.repeats):
            log = Path(scratch) / f"compute{repeat}"
            alone, ahead = map(cell.flags, _FREE)
            train(path, {**alone, "out": log}, free.mpiexec)
            compute.append(compute_seconds(log))
            tick("compute")
            here.append(train(path, ahead, free.mpiexec)["epoch_time_s"])
            tick("pipeline")
            for variant, ended in runs.items():
                ended.append(_run(path, cell.flags(variant), up))
                tick(variant)
    require_equal([(name, run) for name, ended in runs.items() for run in ended])
    last = next(iter(runs.values()))[-1]
    same = {name: last[name] for name in ("steps_per_epoch", "losses_sha256", "test_accuracy")}
    # Other work of the machine only adds to a time, and what is a limit must not hold any.
    bytes_, limit = _limit(cell, Parts.open(path), min(compute), min(here))
    return {
        **asdict(cell),
        **same,
        "batch_size": cell.training().batch_size,
        "crossing": bytes_._asdict(),
        "limit": {**limit._asdict(), "limit_s": limit.limit_s, "communication_ratio": limit.ratio},
        "variants": judge({name: _figures(each) for name, each in runs.items()}, limit.limit_s),
    }


def _limit(
    cell: CompareConfig, parts: Parts, compute_s: float, here_s: float
) -> tuple[Crossing, Limit]:
    trainers = Trainers(parts, cell.training(), cell.ranks_per_host)
    asks = cell.topology == "partitioned"
    found = crossing(trainers, cell.buffer, num_parameters(trainers), asks)
    link_s, communication_s = (seconds(num, cell.rate) for num in (found.fewest, found.none))
    return found, Limit(compute_s, link_s, communication_s, here_s)


def judge(variants: dict[str, Row], limit_s: float) -> dict[str, Row]:
    """The same figures, with ratios: how often faster than ``none`` and ``fixed``, and how far from
    the limit. None where the one to compare with did not run."""
    for figures in variants.values():
        for name in ("none", "fixed"):
            other = variants.get(name)
            ratio = other["epoch_time_s"] / figures["epoch_time_s"] if other else None
            figures[f"times_{name}"] = ratio
        figures["over_limit"] = figures["epoch_time_s"] / limit_s
    return variants


def _run(path: Path, flags: dict[str, object], up: Hosts) -> Row:
    """The summary of a run, and the bytes that came to all hosts meanwhile."""
    before = sum(up.received_bytes())
    summary = train(path, flags, up.mpiexec)
    return {**summary, "link_bytes": sum(up.received_bytes()) - before}


def require_equal(runs: Sequence[tuple[str, Row]]) -> None:
    """Raise Unequal unless the runs of all variants learned the same, to the bit."""
    for key in ("losses_sha256", "test_accuracy"):
        found = {run[key]: name for name, run in runs}
        if len(found) > 1:
            raise Unequal(f"error: variants learned differently, by {key}: {found}")


def _figures(runs: Sequence[Row]) -> Row:
    """One variant's, over its repeats: times are medians, rows and bytes those of the last."""
    times = [run["epoch_time_s"] for run in runs]
    last, decided = runs[-1], runs[-1]["decisions"] or {}
    rows, row_bytes = last["rows"], last["row_bytes"]
    return {
        "epoch_time_s": statistics.median(times),
        "fastest_s": min(times),
        "slowest_s": max(times),
        **{name: statistics.median(run[name] for run in runs) for name in _STAGES},
        "rows": rows,
        "bytes_missed": rows["misses"] * row_bytes,
        "bytes_replaced": rows["replacements"] * row_bytes,
        "link_bytes": last["link_bytes"],
        "hits_pct": (last["buffer"] or {}).get("hits_pct"),
        **{name: decided.get(name) for name in ("pass_at_1", "pass_at_1_ci", "interval")},
        "decisions": last["decisions"],
        "runs": [{name: run[name] for name in ("epoch_time_s", *_STAGES)} for run in runs],
    }
