"""Scaling: what is known of many trainers from the ones that were played.

A *cell* is one played trainer under one setting, a *row* a number of trainers under one setting.

T minibatches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.simulate.steps import Steps, bound_of, label_of
from benchmarks.simulate.trainers import Played
from rudder.config import SteerConfig
from rudder.planner import Counters


def minibatches(played: Played) -> dict[str, Any]:
    """What the minibatches of a trainer need, whatever is kept of it: lists of T numbers."""
    trace = played.trace
    return {
        "rank": played.rank,
        "minibatches_per_epoch": trace.facts.minibatches_per_epoch,
        "halo_rows": trace.facts.halo_rows,
        "remote": np.diff(trace.offsets).tolist(),
        "nodes": played.nodes.tolist(),
        "edges": played.edges.tolist(),
        "neighbor_bytes": (played.reply_bytes + played.request_bytes).tolist(),
        "peers": (played.owners > 0).sum(1).tolist(),
    }


def cells(
    played: Played, settings: Sequence[SteerConfig], seed: int, bar: "tqdm[Any]"
) -> list[dict[str, Any]]:
    """A trainer under each setting. seed: of ``random:P``.   bar: goes on by one for each."""
    trace, bounds, found = played.trace, dict[int, int](), []
    for setting in settings:
        steps = Steps.of(trace, setting, seed)
        if steps.capacity not in bounds:
            bounds[steps.capacity] = bound_of(trace, steps.capacity)
        found.append(
            {
                "counters": steps.counters,
                "capacity": steps.capacity,
                "capacity_over_batch": steps.capacity / max(trace.mean_remote, 1e-9),
                "belady_rows": bounds[steps.capacity],
                "moved": steps.moved.tolist(),
            }
        )
        bar.update()
    return found


def row(
    count: int, setting: SteerConfig, cells: Sequence[dict[str, Any]], epochs: int
) -> dict[str, Any]:
    """A number of trainers under one setting, from the sampled ones."""
    counters = Counters()
    for cell in cells:
        counters += cell["counters"]
    each = [cell["counters"] for cell in cells]
    shares = [100.0 * one.moved / one.remote for one in each if one.remote]
    moved = counters.moved / len(cells) / epochs
    return {
        "trainers": count,
        "sampled": len(cells),
        "setting": label_of(setting),
        "buffer": setting.buffer,
        "none_rows_per_epoch": counters.remote / len(cells) / epochs,
        "moved_rows_per_epoch": moved,
        "all_trainers_moved_rows_per_epoch": moved * count,
        "moved_pct": 100.0 * counters.moved / max(counters.remote, 1),
        "moved_pct_error": _error(shares, count),
        "belady_pct": 100.0 * sum(cell["belady_rows"] for cell in cells) / max(counters.remote, 1),
        **counters.hit_shares(),
        "replacement_rows_per_epoch": counters.replacements / len(cells) / epochs,
        "capacity_rows": float(np.mean([cell["capacity"] for cell in cells])),
        "capacity_over_batch": float(np.mean([cell["capacity_over_batch"] for cell in cells])),
        "moved_rows_by_step": [cell["moved"] for cell in cells],
    }


def _error(values: Sequence[float], count: int) -> float | None:
    """Standard error of the mean of ``count``, of which these are known; None of one alone."""
    known = len(values)
    if known == count:
        return 0.0
    if known < 2:
        return None
    spread = float(np.std(values, ddof=1))
    return spread * float(np.sqrt((1 / known) * (1 - known / count)))
