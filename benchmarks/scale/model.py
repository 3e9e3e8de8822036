"""Model: what the buffers of k of P trainers move, and how long an epoch of all takes.

Traces are played through the real policies and deciders: that counts what a real run counts. How
far a sample is from what all of them move is part of the answer, as is what an epoch's parts cost.

For a minibatch of n nodes, e edges, b_s bytes of neighbours and b_r of rows from other trainers:

    sample  s = s0 + s1 e + m (L - 1) + b_s / (h R)     m a message, L hops, h of the link's rate R
    gather  f = f0 + f1 n,  rows  w = m + b_r / (h R)
    train   c = c0 + c1 e
    sum     g = y ceil(log2 P) + 2 (P - 1) / P G / (h R)           G bytes of gradients

    none    T0 = sum of (max over trainers of (s + f + w + c) + g)
    ahead   T = M + x (T0 - M), where M is the longest of what overlaps: sum of (max c + g),
            sum of (max(f, w) + d), sum of s, bytes / (h R), work / cores

x is the share of hidden time that shows, d a decision that minibatches wait for. Where a trainer
has less than a core, all computing takes as much longer. Within a host there are no m, h and g.
``calibration`` fits the costs.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.command import Row
from benchmarks.lab.hosts import bits_per_second
from benchmarks.runs import parts_of
from benchmarks.trainers import ID_BYTES, Trainers
from minidist.run_config import RunConfig
from minidist.store.partition_dir import Parts
from rudder.config import SteerConfig
from rudder.presets import read_preset
from rudder.replay.belady import belady_rows
from rudder.replay.play import play
from rudder.replay.runs import planner_of
from rudder.replay.trace import Trace

Amounts = NDArray[np.float64]
NEEDS = ("nodes", "edges", "request_bytes", "reply_bytes")


def split(run: RunConfig, count: int, folder: Path) -> Parts:
    """A run's dataset in ``count`` parts; made in the folder where missing. Raises ValueError."""
    return Parts.open(parts_of(str(run.dataset), count, folder, run.method or "metis", run.seed))


def estimate(
    tops: Sequence[float], bottoms: Sequence[float], count: int
) -> tuple[float, float | None]:
    """sum(tops) / sum(bottoms) over ``count`` trainers from k of them, and its standard error: of
    the ratio estimator for a sample of a finite population; None where k is 1 of several."""
    top, bottom, known = np.array(tops, float), np.array(bottoms, float), len(tops)
    ratio = float(top.sum() / max(bottom.sum(), 1e-9))
    if known in (1, count):
        return ratio, 0.0 if known == count else None
    spread = np.std(top - ratio * bottom, ddof=1) * np.sqrt((1 - known / count) / known)
    return ratio, float(spread / max(bottom.mean(), 1e-9))


def figures_of(count: int, cells: Sequence[Row]) -> Row:
    """``count`` trainers under one setting from some of them: rows of an epoch and percentages of
    a mean trainer, each with its ``.._error``."""
    figures: Row = {}
    rows = [(name, name, "epochs", 1) for name in ("remote", "misses", "replacements", "moved")]
    shares = [(f"{name}_pct", name, "remote", 100) for name in ("moved", "belady", "hits")]
    halo = ("halo_hits_pct", "halo_hits", "halo_remote", 100)
    for name, top, bottom, factor in (*rows, *shares, halo, ("C/b", "capacity", "batch", 1)):
        tops, bottoms = [factor * cell[top] for cell in cells], [cell[bottom] for cell in cells]
        figures[name], figures[f"{name}_error"] = estimate(tops, bottoms, count)
    return figures


def scale_of(
    trainers: Trainers, settings: Sequence[SteerConfig], sample: int, whole: int = 0
) -> Row:
    """What k trainers need, and a row for each setting: for JSON.

    sample: k, evenly spread over the ranks.   whole: of up to so many trainers all are played, and
    rows tell what a sample of k, or of half of them, would have said.
    """
    count, needs, cells = trainers.count, list[Row](), list[list[Row]]()
    most = min(sample, max(2, count // 2) if count <= whole else count)
    chosen = sorted({round(rank) for rank in np.linspace(0, count - 1, most)})
    ranks = list(range(count)) if count <= whole else chosen
    for rank in tqdm(ranks, f"{count} trainers", disable=None):
        # One trace at a time: those of 16 trainers of a large graph take gigabytes.
        played = trainers.play(rank)
        needs.append({name: getattr(played, name).tolist() for name in NEEDS})
        cells.append([_cell(played.trace, each, trainers.run.seed + rank) for each in settings])
    rows = []
    for setting, found in zip(settings, zip(*cells, strict=True), strict=True):
        preset = read_preset(setting)
        label = f"rudder {preset.decider}" if preset.name == "rudder" else setting.prefetch
        row = {"trainers": count, "setting": label, "buffer": setting.buffer}
        row |= {"by_step": [cell["by_step"] for cell in found], **figures_of(count, found)}
        if chosen != ranks and row["moved"]:
            row["of_a_sample"] = figures_of(count, [found[rank] for rank in chosen])
        rows.append(row)
    known: Row = {"trainers": count, "epochs": trainers.run.epochs, "sampled": ranks}
    known["row_bytes"] = 4 * trainers.num_features
    known["edge_cut_share"] = trainers.parts.statistics["edge_cut_share"]
    return {**known, "needs": needs, "rows": rows}


def _cell(trace: Trace, setting: SteerConfig, seed: int) -> Row:
    """Counts of a trainer under a setting. by_step: rows moved for each minibatch, in the first
    also those that the buffer starts with."""
    planner, deciding = planner_of(trace, setting, seed=seed)
    by_step = [shown.moved for shown in play(planner, trace)]
    if deciding is not None:
        deciding.close()
    capacity, num = planner.facts.capacity, trace.num_minibatches
    by_step[0] += planner.counts.moved - sum(by_step)
    known: Row = {"moved": sum(by_step), "by_step": by_step, "capacity": capacity}
    known["belady"] = belady_rows(trace.minibatches, capacity)
    known["epochs"] = num / trace.facts.minibatches_per_epoch
    return {**asdict(planner.counts), **known, "batch": trace.mean_remote}


class Work(NamedTuple):
    """What the minibatches of k trainers need: float64 [k, T] each."""

    nodes: Amounts
    edges: Amounts
    neighbor_bytes: Amounts
    row_bytes: Amounts
    num_epochs: int
    num_hops: int

    @classmethod
    def of(cls, scale: Row, row: Row, num_hops: int) -> "Work":
        """Of a row of ``scale_of``, the first epoch left out, which fills the buffer."""
        lists = [*([one[name] for one in scale["needs"]] for name in NEEDS), row["by_step"]]
        later = np.array(lists, float)[:, :, len(row["by_step"][0]) // scale["epochs"] :]
        nodes, edges, requests, replies, moved = later
        row_bytes = moved * (scale["row_bytes"] + ID_BYTES)
        return cls(nodes, edges, requests + replies, row_bytes, scale["epochs"] - 1, num_hops)


class Costs(NamedTuple):
    """sample, gather, train: seconds of a minibatch, and of one more edge or node.   message_s: m.

    link_share: h.   sum_s: y.   gradient_bytes: G.   decision_s: of one, measured.   exposed: x.
    """

    sample: tuple[float, float]
    gather: tuple[float, float]
    train: tuple[float, float]
    message_s: float = 0.0
    link_share: float = 1.0
    sum_s: float = 0.0
    gradient_bytes: float = 0.0
    decision_s: float = 0.0
    exposed: float = 0.0

    def epoch(
        self,
        work: Work,
        count: int,
        cores: float,
        rate: str | None,
        decision_s: float = 0.0,
        sync: bool = False,
    ) -> dict[str, float]:
        """Seconds of an epoch: of ``none``, of all that is ``ahead``, and of what may be longest.

        count: P.   cores: of a trainer.   rate: of its link, ``200mbit``; None: all on one host.
        decision_s: for which each minibatch waits if ``sync``, else of a thread that always thinks.
        """
        slow, bits = max(1.0, 1.0 / cores), bits_per_second(rate or "none")
        costed = [(self.sample, work.edges), (self.gather, work.nodes), (self.train, work.edges)]
        sample, gather, train = (slow * (once + each * amount) for (once, each), amount in costed)
        computing, wait_s = sample + gather + train, decision_s if sync else 0.0
        thinking = 0.0 if sync else min(decision_s, float(computing.mean()))
        per_byte, message, sum_s = 0.0, 0.0, 0.0
        if bits is not None:
            per_byte, message, sum_s = 8 / (self.link_share * bits), self.message_s, self.sum_s
        gradients = 2 * (count - 1) / count * self.gradient_bytes
        summing = sum_s * math.ceil(math.log2(count)) + per_byte * gradients
        carried = per_byte * (work.neighbor_bytes + work.row_bytes + gradients)
        sample = sample + message * (work.num_hops - 1) + per_byte * work.neighbor_bytes
        rows = message + per_byte * work.row_bytes
        parts = {
            "train": (worst(train, count) + summing).sum(),
            "fetch": worst((np.maximum(gather, rows) + wait_s).sum(axis=1), count),
            "sample": worst(sample.sum(axis=1), count),
            "links": worst(carried.sum(axis=1), count),
            "cores": (computing + thinking).sum(axis=1).mean() / slow / cores,
        }
        none = (worst(sample + gather + rows + wait_s + train, count) + summing).sum()
        longest = max(parts.values())
        parts |= {"none": none, "ahead": longest + self.exposed * max(none - longest, 0.0)}
        return {name: float(seconds) / work.num_epochs for name, seconds in parts.items()}


def worst(amounts: Amounts, count: int) -> Amounts:
    """Of the slowest of ``count`` trainers, from k of them: [k, ...] to [...].

    Where fewer are known it lies where the largest of so many normals is expected (Blom).
    """
    known, mean = len(amounts), amounts.mean(axis=0)
    if known == count:
        return np.asarray(amounts.max(axis=0))
    far = NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
    spread = amounts.std(axis=0, ddof=1) / np.maximum(mean, 1e-30) if known > 1 else np.zeros(1)
    return np.asarray(mean * (1 + far * spread.mean()))
