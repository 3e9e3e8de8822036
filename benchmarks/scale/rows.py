"""Rows: what the buffers of k of P trainers move, and how far that is from what all of them move.

Traces are played through the real policies and deciders: that counts what a real run counts.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.command import Row
from benchmarks.runs import parts_of
from benchmarks.trainers import Trainers
from minidist.run_config import RunConfig
from minidist.store.partition_dir import Parts
from rudder.config import SteerConfig
from rudder.presets import read_preset
from rudder.replay.belady import belady_rows
from rudder.replay.play import play
from rudder.replay.runs import planner_of
from rudder.replay.trace import Trace

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
