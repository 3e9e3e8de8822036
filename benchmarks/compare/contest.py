"""Contest: one training under several ``--prefetch`` variants, in turn within one lab.

    repeat 1:  compute  pipeline | none  overlap  fixed ...
    repeat 2:  compute  pipeline | none  overlap  fixed ...      medians, fastest and slowest
               links of no rate  | links of the lab's rate

All runs start the same way, on hosts of their own, and learn the same to the bit.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.limit import FRAMES, Limit, compute_seconds, crossing, num_parameters
from benchmarks.lab.hosts import Hosts, bits_per_second, hosts
from benchmarks.runs import parts_of, train
from benchmarks.trainers import Trainers
from minidist.store.partition_dir import Parts

# Runs of a repeat on links of no rate: with nothing ahead, and with all that overlaps.
_FREE = ("none", "lookahead")
NUM_FREE = len(_FREE)


class Unequal(RuntimeError):
    """Two variants learned differently, which none may."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and where.

    graph: of ``traces.RECIPES``.   rate: of each link.   buffer: capacity as a share of the halo.
    """

    graph: str
    hosts: int
    rate: str
    batch_size: int
    epochs: int
    hidden: int
    fanout: tuple[int, ...]
    buffer: float
    decider_mode: str
    topology: str
    seed: int

    def flags(self, variant: str) -> dict[str, object]:
        """Of ``minidist.train``."""
        return {
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "hidden": self.hidden,
            "fanout": ",".join(map(str, self.fanout)),
            "seed": self.seed,
            "eval_every": 0,
            "prefetch": variant,
            "buffer": self.buffer,
            "decider_mode": self.decider_mode,
            "topology": self.topology,
        }


def contest(
    setting: Setting,
    variants: Sequence[str],
    repeats: int,
    folder: Path,
    tick: Callable[[str], None],
) -> dict[str, Any]:
    """The setting, its limit, and each variant's figures; ``tick`` is told of every run that ends.

    folder: where partitions are kept.   Raises Unequal where losses or accuracies differ,
    ValueError where a run fails, Unavailable where there can be no hosts.
    """
    path = parts_of(setting.graph, setting.hosts, folder)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    compute, here = [], []
    with (
        hosts(setting.hosts, "none") as free,
        hosts(setting.hosts, setting.rate) as up,
        tempfile.TemporaryDirectory(prefix="minidist-compare-") as scratch,
    ):
        for repeat in range(repeats):
            log = Path(scratch) / f"compute{repeat}"
            alone, ahead = _FREE
            train(path, {**setting.flags(alone), "out": log}, free.mpiexec)
            compute.append(compute_seconds(log))
            tick("compute")
            here.append(train(path, setting.flags(ahead), free.mpiexec)["epoch_time_s"])
            tick("pipeline")
            for variant in variants:
                runs[variant].append(_run(path, setting.flags(variant), up))
                tick(variant)
    every = [run for each in runs.values() for run in each]
    require_equal(every)
    # Other work of the machine only adds to a time, and what is a limit must not hold any.
    bytes_, limit = _limit(setting, path, min(compute), min(here))
    return {
        **asdict(setting),
        "repeats": repeats,
        "steps_per_epoch": every[0]["steps_per_epoch"],
        "crossing": bytes_,
        "limit": {**asdict(limit), "limit_s": limit.limit_s, "communication_ratio": limit.ratio},
        "losses_sha256": every[0]["losses_sha256"],
        "test_accuracy": every[0]["test_accuracy"],
        "variants": judge({name: _figures(each) for name, each in runs.items()}, limit.limit_s),
    }


def judge(variants: dict[str, dict[str, Any]], limit_s: float) -> dict[str, dict[str, Any]]:
    """The same figures, with ratios: how often faster than ``none`` and ``fixed``, and how far from
    the limit. None where the one to compare with did not run."""
    for figures in variants.values():
        seconds = figures["epoch_time_s"]
        for name in ("none", "fixed"):
            other = variants.get(name)
            figures[f"times_{name}"] = other["epoch_time_s"] / seconds if other else None
        figures["over_limit"] = seconds / limit_s
    return variants


def _run(path: Path, flags: dict[str, object], up: Hosts) -> dict[str, Any]:
    """The summary of a run, and the bytes that came to all hosts meanwhile."""
    before = sum(up.received_bytes())
    summary = train(path, flags, up.mpiexec)
    return {**summary, "link_bytes": sum(up.received_bytes()) - before}


def require_equal(runs: Sequence[dict[str, Any]]) -> None:
    """Raise Unequal unless all runs learned the same, to the bit."""
    for key in ("losses_sha256", "test_accuracy"):
        found = {run[key]: run["config"]["prefetch"] for run in runs}
        if len(found) > 1:
            raise Unequal(f"variants learned differently, by {key}: {found}")


def _figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One variant's, over its repeats: times are medians, rows and bytes those of the last."""
    times = [run["epoch_time_s"] for run in runs]
    last, decided = runs[-1], runs[-1]["decisions"] or {}
    rows, row_bytes = last["rows"], last["row_bytes"]
    stages = ("wait_s", "sample_s", "fetch_s", "train_s")
    return {
        "epoch_time_s": statistics.median(times),
        "fastest_s": min(times),
        "slowest_s": max(times),
        **{name: statistics.median(run[name] for run in runs) for name in stages},
        "rows": rows,
        "bytes_missed": rows["misses"] * row_bytes,
        "bytes_replaced": rows["replacements"] * row_bytes,
        "link_bytes": last["link_bytes"],
        "hits_pct": (last["buffer"] or {}).get("hits_pct"),
        **{name: decided.get(name) for name in ("pass_at_1", "pass_at_1_ci", "interval")},
        "decisions": last["decisions"],
        "runs": [{name: run[name] for name in ("epoch_time_s", *stages)} for run in runs],
    }


def _limit(
    setting: Setting, path: Path, compute_s: float, here_s: float
) -> tuple[dict[str, float], Limit]:
    trainers = Trainers(
        parts=Parts.open(path),
        fanouts=setting.fanout,
        batch_size=setting.batch_size,
        epochs=setting.epochs,
        seed=setting.seed,
    )
    found = crossing(
        trainers,
        setting.buffer,
        num_parameters(trainers, setting.hidden),
        asks_neighbors=setting.topology == "partitioned",
    )
    bits = bits_per_second(setting.rate)

    def seconds(num: float) -> float:
        return 0.0 if bits is None else 8 * FRAMES * num / bits

    limit = Limit(
        compute_s=compute_s,
        link_s=seconds(found.fewest),
        communication_s=seconds(found.none),
        here_s=here_s,
    )
    return asdict(found), limit
