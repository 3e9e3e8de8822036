"""Comparison: the task that a peer and we are given, what each run showed, and the ratios.

Both sides train GraphSAGE (mean) by Adam from the same weights, with the same fan-out, batch,
widths, dropout and number of epochs. Epoch times are medians over the epochs after the first, of
the slowest rank, evaluation left out. Both sides' weights are scored on all test nodes with all
neighbours: ours by the run's own evaluation, the peer's by ``score``, after it has ended. Our
memory and the bytes on our links therefore hold an evaluation, the peer's do not.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.command import Row, at_least, table
from benchmarks.peers.jobs import watching_memory
from benchmarks.runs import train
from benchmarks.traces import check_graph
from minidist.config import TrainConfig
from rudder.cli.flags import flag, require

if TYPE_CHECKING:
    from minidist.graph import Graph
    from minidist.store.partition_dir import Parts

PROGRAMS = Path(__file__).parent / "programs"
# A peer's run.
LIMIT_S = 900.0
STAGES = ("sample_s", "fetch_s", "wait_s", "train_s")
_TABLE = "who epoch_s fastest slowest faster steps sample_s fetch_s wait_s train_s rss_mb pss_mb "
_TABLE += "memory_ratio link_mb test_accuracy"
_TRIAL_EPOCHS, _TRIED = 3, (0, 1, 2)
# One training run: ``who`` (the peer's name, or our ``--prefetch``), ``epoch_s`` (median),
# ``steps`` of an epoch, ``stages`` (seconds of an epoch by stage, medians; they may overlap),
# ``test_accuracy``, ``memory`` (see ``watching_memory``) and ``link_mb`` (MB that hosts received
# over their links, in the whole run; None on one host).
Run = Row


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """Settings that the comparisons with all peers have."""

    graph: str = flag("synthetic:medium", "a graph of benchmarks.traces")
    variants: str = flag("none,overlap", "of ours, with commas between")
    hidden: int = flag(64, "hidden units")
    batch_size: int = flag(1000, "seed nodes of a rank in a step")
    epochs: int = flag(5, "epochs of a run; the first is not counted")
    repeats: int = flag(3, "runs of each, in turn")
    folder: str = flag("runs/peers", "where partitions are kept; made there where missing")
    json: str | None = flag(None, "also write everything to this file")

    def __post_init__(self) -> None:
        check_graph(self.graph)
        at_least(self, 1, "hidden", "batch_size", "repeats")
        require(self.epochs >= 2, "epochs", self.epochs, "at least 2: the first is not counted")

    def training(self) -> TrainConfig:
        names = ("hidden", "batch_size", "epochs")
        sizes: Row = {name: getattr(self, name) for name in names}
        return TrainConfig(**sizes, eval_every=0)


def write_task(run: TrainConfig, parts: "Parts", out: Path, **more: object) -> Path:
    """What a peer's program reads, in a folder: settings, and the weights that ours starts from.
    Returns the settings' file. Raises ValueError on labels that the programs do not take."""
    import torch

    from benchmarks.trainers import sage_of

    if parts.multilabel:
        raise ValueError(f"{parts.name} is multi-label: the peers' programs take one label")
    torch.manual_seed(run.seed)
    np.savez(out / "first_weights.npz", **weights_of(sage_of(parts, run).convs))  # type: ignore[arg-type]
    inner = [run.hidden] * (len(run.fanout) - 1)
    widths = [parts.num_features, *inner, parts.num_classes]
    settings = {**asdict(run), "widths": widths, "out": str(out), **more}
    (out / "settings.json").write_text(json.dumps(settings))
    return out / "settings.json"


def weights_of(convs: Iterable[Any]) -> dict[str, NDArray[np.float32]]:
    """The weights of PyG's SAGEConvs, named as ``score`` takes them."""
    found = {}
    for number, conv in enumerate(convs):
        found[f"self{number}"] = conv.lin_r.weight
        found[f"neighbours{number}"] = conv.lin_l.weight
        found[f"bias{number}"] = conv.lin_l.bias
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


def train_ours(
    parts: Path, run: TrainConfig, flags: Mapping[str, object], launcher: Sequence[str] = ()
) -> Run:
    """One run of ``minidist.train``. flags: of its prefetching.   launcher: see ``runs.train``."""
    names = ("hidden", "batch_size", "epochs", "fanout", "lr", "dropout", "seed", "eval_every")
    with watching_memory() as (mark, memory):
        given = {name: getattr(run, name) for name in names}
        summary = train(parts, {**given, **flags}, launcher, mark)
    return {
        "who": flags["prefetch"],
        "epoch_s": summary["epoch_time_s"],
        "steps": summary["steps_per_epoch"],
        "stages": {stage: summary[stage] for stage in STAGES},
        "test_accuracy": summary["test_accuracy"],
        "memory": memory,
        "link_mb": None,
    }


def read_peer(who: str, folder: Path, graph: "Graph", memory: Mapping[str, float]) -> Run:
    """What a peer's program wrote: ``rank<R>.json`` with every epoch's seconds by stage, and
    ``weights.npz``. Raises ValueError where they are missing or no result."""

    def slowest(name: str) -> float:
        """Of each epoch after the first; the median."""
        times = [max(rank[name] for rank in epoch) for epoch in zip(*ranks, strict=True)]
        return float(statistics.median(times[1:] or times))

    try:
        ranks = [json.loads(file.read_text())["epochs"] for file in sorted(folder.glob("rank*"))]
        weights = dict(np.load(folder / "weights.npz"))
        return {
            "who": who,
            "epoch_s": slowest("epoch_s"),
            "steps": max(int(epoch["steps"]) for epochs in ranks for epoch in epochs),
            "stages": {name: slowest(name) for name in ranks[0][0] if name in STAGES},
            "test_accuracy": score(weights, graph),
            "memory": memory,
            "link_mb": None,
        }
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{who} left no result in {folder}: {error}") from None


def score(weights: Mapping[str, NDArray[np.float32]], graph: "Graph") -> float:
    """Accuracy over all test nodes of a GraphSAGE (mean), with all neighbours.

    weights: of layer l from 0 on, ``self<l>`` and ``neighbours<l>`` [out, in], ``bias<l>`` [out].
    """
    import torch

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
        h = h.relu() if layer + 1 < num_layers else h
    correct = h.argmax(dim=1).numpy() == graph.y
    return float(np.mean(correct[graph.test_mask]))


def in_turn(
    config: Any,
    peer: str,
    setting: str,
    train_peer: Callable[[int, TrainConfig], Run],
    ours: Callable[[str], Run],
) -> Row:
    """Every repeat of the peer and of our variants.

    setting: the peer's number of loader processes; unless the user names one, that with the
    shortest epoch in a short run.   train_peer: given it.   ours: by ``--prefetch``.
    """
    run, number, trials = config.training(), getattr(config, setting), list[Row]()
    if number is None:
        short = replace(run, epochs=_TRIAL_EPOCHS)
        trials = [
            {setting: tried, "epoch_s": train_peer(tried, short)["epoch_s"]} for tried in _TRIED
        ]
        number = min(trials, key=lambda trial: float(trial["epoch_s"]))[setting]
    sides = [peer, *config.variants.split(",")] * config.repeats
    runs = [
        train_peer(number, run) if side == peer else ours(side)
        for side in tqdm(sides, unit="run", disable=None)
    ]
    found = {"benchmark": f"peers.{peer.lower()}", setting: number, "trials": trials}
    return {**found, "sides": summarize(peer, runs), "runs": runs}


def summarize(peer: str, runs: Sequence[Run]) -> list[Row]:
    """A row for each side, the peer first: medians over its runs, and ratios to the peer.

    faster: the peer's epoch time over this one's.   memory_ratio: this one's over the peer's, pages
    that processes share counted once.
    """
    rows: list[Row] = []
    for who in sorted(dict.fromkeys(run["who"] for run in runs), key=lambda name: name != peer):
        mine = [run for run in runs if run["who"] == who]
        times = [run["epoch_s"] for run in mine]
        row = {"who": who, "epoch_s": statistics.median(times), "epoch_s_runs": times}
        row |= {"fastest": min(times), "slowest": max(times), "steps": mine[0]["steps"]}
        row["test_accuracy"] = statistics.median(run["test_accuracy"] for run in mine)
        for name in ("rss_mb", "pss_mb"):
            row[name] = max(run["memory"][name] for run in mine)
        links = [run["link_mb"] for run in mine if run["link_mb"] is not None]
        row["link_mb"] = statistics.median(links) if links else None
        for stage in mine[0]["stages"]:
            row[stage] = statistics.median(run["stages"][stage] for run in mine)
        rows.append(row)
    for row in rows:
        row["faster"] = rows[0]["epoch_s"] / row["epoch_s"]
        row["memory_ratio"] = row["pss_mb"] / rows[0]["pss_mb"]
    return rows


def describe(head: str, peer: str, setting: str, found: Row) -> str:
    tried = ", ".join(f"{each[setting]} {each['epoch_s']:.3g} s" for each in found["trials"])
    told = f" (tried: {tried})" if tried else ""
    used = f"{peer} with {found[setting]} {setting} a process{told}"
    return "\n".join([head, used, table(found["sides"], _TABLE)])
