"""Comparison: the task that a peer and we are given, what each run showed, and the ratios.

Both sides train GraphSAGE (mean) by Adam from the same weights, with the same fan-out, batch,
widths, dropout and number of epochs. Epoch times are medians over the epochs after the first, of
the slowest rank, evaluation left out. Both sides' weights are scored on all test nodes with all
neighbours: ours by the run's own evaluation, the peer's by ``score``, after it has ended. Our
memory and the bytes on our links therefore hold an evaluation, the peer's do not.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lab.hosts import Unavailable
from benchmarks.lab.signals import ending_on_signals
from benchmarks.peers.environment import PeerMissing
from benchmarks.peers.job import Memory, MemoryWatch
from benchmarks.runs import train
from minidist.graph import Graph
from minidist.store.partition_dir import Parts
from minidist.training.models import build_model
from rudder.cli.flags import fail
from rudder.cli.table import render
from rudder.cli.whole_file import write_json

STAGES = ("sample_s", "fetch_s", "wait_s", "train_s")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained. fanout: nearest the seeds first."""

    hidden: int
    batch_size: int
    epochs: int
    fanout: tuple[int, ...] = (10, 25)
    lr: float = 0.003
    dropout: float = 0.5
    seed: int = 0

    def for_peer(self, parts: Parts) -> dict[str, Any]:
        """The task as the peers' programs read it from JSON."""
        if parts.multilabel:
            raise ValueError(f"{parts.name} is multi-label: the peers' programs take one label")
        inner = [self.hidden] * (len(self.fanout) - 1)
        widths = [parts.num_features, *inner, parts.num_classes]
        return {**asdict(self), "fanout": list(self.fanout), "widths": widths}

    def first_weights(self, parts: Parts) -> dict[str, NDArray[np.float32]]:
        """What our own training of this task starts from, named as ``score`` takes it."""
        torch.manual_seed(self.seed)
        model = build_model(
            "sage",
            num_features=parts.num_features,
            hidden=self.hidden,
            num_classes=parts.num_classes,
            num_layers=len(self.fanout),
            dropout=self.dropout,
        )
        return weights_of(model.convs)

    def flags(self) -> dict[str, object]:
        """The task as ``minidist.train`` takes it; evaluated once, at the end."""
        fanout = ",".join(map(str, self.fanout))
        return {**asdict(self), "fanout": fanout, "eval_every": 0}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    who: the peer's name, or our ``--prefetch``.   epoch_s: median.   steps: of an epoch.
    stages: seconds of an epoch by stage, medians; stages may overlap.
    link_mb: MB that hosts received over their links, in the whole run; None on one host.
    """

    who: str
    epoch_s: float
    steps: int
    stages: dict[str, float]
    test_accuracy: float
    memory: Memory
    link_mb: float | None = None


def weights_of(convs: Iterable[Any]) -> dict[str, NDArray[np.float32]]:
    """The weights of PyG's SAGEConvs, named as ``score`` takes them."""
    found = {}
    for number, conv in enumerate(convs):
        found[f"self{number}"] = conv.lin_r.weight
        found[f"neighbours{number}"] = conv.lin_l.weight
        found[f"bias{number}"] = conv.lin_l.bias
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


def train_ours(
    parts: Path, task: Task, flags: Mapping[str, object], launcher: Sequence[str] = ()
) -> Run:
    """One run of ``minidist.train``. flags: of its prefetching.   launcher: see ``runs.train``."""
    with MemoryWatch() as watch:
        summary = train(parts, {**task.flags(), **flags}, launcher, watch.mark)
    return Run(
        who=str(flags["prefetch"]),
        epoch_s=summary["epoch_time_s"],
        steps=summary["steps_per_epoch"],
        stages={stage: summary[stage] for stage in STAGES},
        test_accuracy=summary["test_accuracy"],
        memory=watch.peak,
    )


def read_peer(who: str, folder: Path, graph: Graph, memory: Memory) -> Run:
    """What a peer's program wrote: ``rank<R>.json`` with every epoch's seconds by stage, and
    ``weights.npz``. Raises ValueError where they are missing or no result."""
    try:
        files = sorted(folder.glob("rank*.json"))
        ranks = [json.loads(file.read_text())["epochs"] for file in files]
        weights = dict(np.load(folder / "weights.npz"))
        steps = {epoch["steps"] for epochs in ranks for epoch in epochs}
        names = [name for name in ranks[0][0] if name in STAGES]
        medians = {name: _median_of_slowest(ranks, name) for name in ("epoch_s", *names)}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{who} left no result in {folder}: {error}") from None
    return Run(
        who=who,
        epoch_s=medians.pop("epoch_s"),
        steps=max(steps),
        stages=medians,
        test_accuracy=score(weights, graph),
        memory=memory,
    )


def _median_of_slowest(ranks: Sequence[Sequence[Mapping[str, float]]], name: str) -> float:
    slowest = [max(times[name] for times in epoch) for epoch in zip(*ranks, strict=True)]
    return float(statistics.median(slowest[1:] or slowest))


def score(weights: Mapping[str, NDArray[np.float32]], graph: Graph) -> float:
    """Accuracy over all test nodes of a GraphSAGE (mean), with all neighbours.

    weights: of layer l from 0 on, ``self<l>`` and ``neighbours<l>`` [out, in], ``bias<l>`` [out].
    """
    degrees = np.diff(graph.indptr)
    share = np.repeat(1 / np.maximum(degrees, 1), degrees).astype(np.float32)
    adjacency = torch.sparse_csr_tensor(
        torch.from_numpy(graph.indptr),
        torch.from_numpy(graph.indices.astype(np.int64)),
        torch.from_numpy(share),
        size=(graph.num_nodes, graph.num_nodes),
        check_invariants=True,
    )
    h = torch.from_numpy(np.ascontiguousarray(graph.x))
    num_layers = len(weights) // 3
    for layer in range(num_layers):
        own, neighbours, bias = (
            torch.from_numpy(weights[f"{name}{layer}"]) for name in ("self", "neighbours", "bias")
        )
        h = h @ own.T + (adjacency @ h) @ neighbours.T + bias
        if layer + 1 < num_layers:
            h = h.relu()
    correct = h.argmax(dim=1).numpy() == graph.y
    return float(np.mean(correct[graph.test_mask]))


def best_setting(
    given: int | None, tried: Sequence[int], name: str, epoch_s: Callable[[int], float]
) -> tuple[int, list[dict[str, Any]]]:
    """A peer's setting with the shortest epoch, and what each was worth.

    given: the user's, which is not tried.   name: of the setting.   epoch_s: of a short run.
    """
    if given is not None:
        return given, []
    epochs = {value: epoch_s(value) for value in tried}
    trials = [{name: value, "epoch_s": epoch} for value, epoch in epochs.items()]
    return min(epochs, key=lambda value: epochs[value]), trials


def told(trials: Sequence[Mapping[str, Any]], name: str) -> str:
    """Trials for people, to follow the setting that was taken."""
    each = ", ".join(f"{trial[name]} {trial['epoch_s']:.3g} s" for trial in trials)
    return f" (tried: {each})" if each else ""


def report(
    measure: Callable[[], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    file: str | None,
) -> None:
    """A peer's command line: measure, print, write; what cannot be is one line and exit code 2."""
    try:
        with ending_on_signals():
            found = measure()
    except (ValueError, Unavailable, PeerMissing, subprocess.TimeoutExpired) as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    print(describe(found))
    if file is not None:
        write_json(file, found)


def summarize(peer: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each side, the peer first: medians over its runs, and ratios to the peer.

    faster: the peer's epoch time over this one's.   memory_ratio: this one's over the peer's, pages
    that processes share counted once.
    """
    names = sorted({run.who for run in runs}, key=[run.who for run in runs].index)
    rows: list[dict[str, Any]] = []
    for who in sorted(names, key=lambda name: name != peer):
        mine = [run for run in runs if run.who == who]
        links = [run.link_mb for run in mine if run.link_mb is not None]
        rows.append(
            {
                "who": who,
                "epoch_s": statistics.median(run.epoch_s for run in mine),
                "epoch_s_runs": [run.epoch_s for run in mine],
                "steps": mine[0].steps,
                "test_accuracy": statistics.median(run.test_accuracy for run in mine),
                "rss_mb": max(run.memory.rss_mb for run in mine),
                "pss_mb": max(run.memory.pss_mb for run in mine),
                "link_mb": statistics.median(links) if links else None,
                **{
                    stage: statistics.median(run.stages[stage] for run in mine)
                    for stage in mine[0].stages
                },
            }
        )
    for row in rows:
        row["faster"] = rows[0]["epoch_s"] / row["epoch_s"]
        row["memory_ratio"] = row["pss_mb"] / rows[0]["pss_mb"]
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for people."""
    header = ["", "epoch s", "runs", "faster", "steps", "sample s", "fetch s", "wait s", "train s"]
    header += ["RSS MiB", "PSS MiB", "/ peer's", "MB on links", "test acc."]
    shown = []
    for row in rows:
        runs = row["epoch_s_runs"]
        stages = [f"{row[stage]:.3g}" if stage in row else "-" for stage in STAGES]
        link = "-" if row["link_mb"] is None else f"{row['link_mb']:,.0f}"
        shown.append(
            [
                *(row["who"], row["epoch_s"], f"{min(runs):.3g}-{max(runs):.3g}"),
                *(
                    f"{row['faster']:.2f}x",
                    row["steps"],
                    *stages,
                    round(row["rss_mb"]),
                    round(row["pss_mb"]),
                ),
                *(f"{row['memory_ratio']:.2f}", link, f"{row['test_accuracy']:.4f}"),
            ]
        )
    return render(shown, header)
