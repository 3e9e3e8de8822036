"""Contest: one training under several ``--prefetch`` variants, in turn within one lab.

    repeat 1:  compute  pipeline | none  overlap  fixed ...
    repeat 2:  compute  pipeline | none  overlap  fixed ...      medians, fastest and slowest
               links of no rate  | links of the lab's rate

All runs start the same way, on hosts of their own, and learn the same to the bit. How short an
epoch could be follows from what must be computed and what must cross the links:

                        rows, by Belady's bound --+
    answers and requests of sampling hop by hop --+--> the busiest way of a link / its rate --+
                        the sum of gradients -----+                                          max
    forward, backward, sum and update of the same minibatches, with no link to wait for ----+

Nobody runs for the bytes: a sample is a pure function, so each rank's minibatches are played here.
What is left out (requests that arrive, acknowledgements) only lowers the limit.

P ranks on H hosts; T minibatches of a rank.
"""

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.command import Row
from benchmarks.lab import hosts as lab
from benchmarks.runs import parts_of, train
from benchmarks.traces import dataset_of
from benchmarks.trainers import ID_BYTES, Trainers
from minidist.store.partition_dir import Parts
from rudder.replay.belady import belady_rows
from rudder.replay.trace import Trace

if TYPE_CHECKING:
    from benchmarks.compare.__main__ import CompareConfig

# A full frame of Ethernet carries 1448 bytes of 1514 under TCP; the links' buckets count them all.
FRAMES = 1514 / 1448
# Runs of a repeat on links of no rate: with nothing ahead, and with all that overlaps.
_FREE = ("none", "lookahead")
_STAGES = ("wait_s", "sample_s", "fetch_s", "train_s")

Amounts = NDArray[np.float64]


class Unequal(SystemExit):
    """Two variants learned differently, which none may: the command ends with 1."""


def measure(config: "CompareConfig") -> Row:
    if lacking := lab.missing():
        raise lab.Unavailable(f"there can be no hosts here: {lacking} is missing")
    cells, num = config.cells(), len(config.variants.split(",")) + len(_FREE)
    with (
        tempfile.TemporaryDirectory(prefix="minidist-parts-") as scratch,
        tqdm(total=len(cells) * config.repeats * num, unit="run", disable=None) as bar,
    ):
        folder = Path(config.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)

        def tick(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        return {"cells": [contest(cell, folder, tick) for cell in cells]}


def contest(cell: "CompareConfig", folder: Path, tick: Callable[[str], None]) -> Row:
    """The setting, its limit, and each variant's figures; ``tick`` is told of every run that ends.

    folder: where partitions are kept.   Raises Unequal where losses or accuracies differ,
    ValueError where a run fails, Unavailable where there can be no hosts.
    """
    path = parts_of(dataset_of(cell.graph), cell.ranks, folder)
    runs: dict[str, list[Row]] = {name: [] for name in cell.variants.split(",")}
    compute, here, each = [], [], cell.ranks_per_host
    with (
        lab.hosts(cell.hosts, "none", ranks=each) as free,
        lab.hosts(cell.hosts, cell.rate, ranks=each) as up,
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
                before = sum(up.received_bytes())
                summary = train(path, cell.flags(variant), up.mpiexec)
                crossed = sum(up.received_bytes()) - before
                ended.append({**summary, "link_bytes": crossed})
                tick(variant)
    require_equal([(name, run) for name, ended in runs.items() for run in ended])
    last = runs[cell.variants.split(",")[0]][-1]
    bytes_ = crossing(
        Trainers(Parts.open(path), cell.training(), each),
        cell.buffer,
        cell.topology == "partitioned",
    )
    # Other work only adds to a time, and what is a limit must not hold any.
    limit = limit_of(min(compute), min(here), bytes_, cell.rate)
    return {
        **asdict(cell),
        **{name: last[name] for name in ("steps_per_epoch", "losses_sha256", "test_accuracy")},
        "batch_size": cell.training().batch_size,
        "crossing": bytes_,
        "limit": limit,
        "variants": judge({name: figures(each) for name, each in runs.items()}, limit["limit_s"]),
    }


def require_equal(runs: Sequence[tuple[str, Row]]) -> None:
    """Raise Unequal unless the runs of all variants learned the same, to the bit."""
    for key in ("losses_sha256", "test_accuracy"):
        found = {run[key]: name for name, run in runs}
        if len(found) > 1:
            raise Unequal(f"error: variants learned differently, by {key}: {found}")


def figures(runs: Sequence[Row]) -> Row:
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


def judge(variants: dict[str, Row], limit_s: float) -> dict[str, Row]:
    """The same figures, with ratios: how often faster than ``none`` and ``fixed``, and how far from
    the limit. None where the one to compare with did not run."""
    for found in variants.values():
        for name in ("none", "fixed"):
            other = variants.get(name)
            ratio = other["epoch_time_s"] / found["epoch_time_s"] if other else None
            found[f"times_{name}"] = ratio
        found["over_limit"] = found["epoch_time_s"] / limit_s
    return variants


def limit_of(compute_s: float, here_s: float, crossing: Row, rate: str) -> Row:
    """Seconds of an epoch after the first; ``limit_s`` is max(compute, fewest bytes / bandwidth).

    compute_s: of training alone, of the rank that comes last to each sum and so waits for none.
    here_s: of the whole pipeline on links of no rate: sampling, gathering and training on these
    cores, which the hosts of a lab share.   link_s: the fewest bytes at the link's rate;
    communication_s: those of no buffer, as a ratio to compute.
    """
    bits = lab.bits_per_second(rate)
    link_s, communication_s = (
        0.0 if bits is None else 8 * FRAMES * crossing[name] / bits for name in ("fewest", "none")
    )
    return {
        "compute_s": compute_s,
        "link_s": link_s,
        "communication_s": communication_s,
        "here_s": here_s,
        "limit_s": max(compute_s, link_s),
        "communication_ratio": communication_s / compute_s,
    }


def crossing(trainers: Trainers, buffer: float, asks_neighbors: bool = True) -> dict[str, float]:
    """Bytes that must cross the busiest way of any host's link in an epoch after the first.

    rows_none: of remote rows with no buffer; rows: with the best filled on demand; sampling,
    gradients: what else must; none, fewest: all of it, where each is largest.   buffer: capacity as
    a share of halo rows; one a host can move fewer.   asks_neighbors: where a host lacks others'.
    """
    ranks = [trainers.play(rank) for rank in range(trainers.count)]
    steps, epochs = ranks[0].trace.facts.minibatches_per_epoch, trainers.run.epochs
    # The epochs that are timed begin with the second, if there is one.
    first, num_epochs = (steps if epochs > 1 else 0), max(epochs - 1, 1)

    def an_epoch(name: str) -> Amounts:  # [P, ...]: of each rank
        return np.array([getattr(each, name)[first:].sum(axis=0) for each in ranks]) / num_epochs

    rows = an_epoch("owners")  # [P, P]: of a rank, by owner
    needed = rows.sum(axis=1)
    fewest = np.array([_belady(played.trace, buffer, first) / num_epochs for played in ranks])
    best = np.divide(fewest, needed, out=np.zeros_like(needed), where=needed > 0)
    each = trainers.ranks_per_host
    members = np.kron(np.eye(trainers.count // each), np.ones(each))  # [H, P]: of each host
    replies, requests = (
        members @ an_epoch(name) * asks_neighbors for name in ("reply_bytes", "request_bytes")
    )
    # Each host sends and receives all but its own share, once to add up and once to spread.
    gradients = 2 * (1 - 1 / len(members)) * 4 * (trainers.num_parameters + 1) * steps

    # kept [P]: the share of its rows that a rank fetches.
    def busiest(kept: Amounts | float, *rest: Amounts) -> float:
        return _busiest(members @ (rows.T * kept).T @ members.T, 4 * trainers.num_features, *rest)

    rest = replies + gradients, requests + gradients
    return {
        "rows_none": busiest(1.0),
        "rows": busiest(best),
        "sampling": float(max(replies.max(), requests.max())),
        "gradients": gradients,
        "none": busiest(1.0, *rest),
        "fewest": busiest(best, *rest),
    }


def _belady(trace: Trace, buffer: float, first: int) -> int:
    """Rows that the best buffer of the size moves for all minibatches from ``first`` on."""
    capacity, minibatches = round(buffer * trace.facts.halo_rows), trace.minibatches
    return belady_rows(minibatches, capacity) - belady_rows(minibatches[:first], capacity)


def _busiest(moved: Amounts, row_bytes: int, *rest: Amounts) -> float:
    """Bytes of the busiest way. moved [H, H]: rows to a host, from a host.   rest: into, and out
    of, each host; then rows are also asked for by id."""
    np.fill_diagonal(moved, 0.0)  # within a host
    into, out = (row_bytes * moved.sum(axis=axis) for axis in (1, 0))
    if rest:
        into, out = into + rest[0], out + moved.sum(axis=1) * ID_BYTES + rest[1]
    return float(max(into.max(), out.max()))


def compute_seconds(folder: Path) -> float:
    """Seconds of training of an epoch, from the event logs of all ranks of a run in ``folder``.

    The median over epochs after the first. Of each step counts the rank that was quickest: the
    others' times hold what they waited for it.
    """
    steps: dict[tuple[int, int], list[float]] = defaultdict(list)
    for file in folder.glob("events-rank*.jsonl"):
        for line in file.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "step":
                steps[event["epoch"], event["step"]].append(event["train_s"])
    epochs: dict[int, float] = defaultdict(float)
    for (epoch, _), seconds in steps.items():
        epochs[epoch] += min(seconds)
    if not epochs:
        raise ValueError(f"{folder} holds no event log of a step")
    later = [seconds for epoch, seconds in epochs.items() if epoch > 0]
    return statistics.median(later or epochs.values())
