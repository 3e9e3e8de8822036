"""Meter: where a rank's time and rows went, and the summary of all ranks."""

import hashlib
import math
import resource
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidist.comm.transport.base import Op, Traffic
from minidist.comm.world import World
from minidist.sampling.batch import MiniBatch
from rudder.prefetcher import Prefetcher
from rudder.row_counts import RowCounts

STAGES = ("sample_s", "fetch_s", "wait_s", "train_s")


@dataclass
class EpochTimes:
    """Seconds of one epoch on one rank.

    epoch_time_s: wall time of the training loop, evaluation left out. sample_s, fetch_s: in their
    stages, which may overlap training. wait_s: the loop waiting for them. train_s: forward,
    backward, the sum over ranks and the update.
    """

    epoch_time_s: float = 0.0
    sample_s: float = 0.0
    fetch_s: float = 0.0
    wait_s: float = 0.0
    train_s: float = 0.0


@dataclass
class Meter:
    """Adds up one rank's epochs."""

    epochs: list[EpochTimes] = field(default_factory=list)
    rows: RowCounts = field(default_factory=RowCounts)
    # Of ``rows``, those that an earlier process moved, whose transport had its own counters.
    before: RowCounts = field(default_factory=RowCounts)

    def start_epoch(self) -> None:
        """The steps that follow belong to a new epoch."""
        self.epochs.append(EpochTimes())

    def go_on_from(self, totals: dict[str, Any]) -> None:
        """Go on from ``epochs`` and ``rows`` as dictionaries, of a run that this one continues."""
        self.epochs = [EpochTimes(**times) for times in totals["epochs"]]
        self.rows, self.before = RowCounts(**totals["rows"]), RowCounts(**totals["rows"])

    def add_step(self, batch: MiniBatch, train_s: float, step_s: float) -> None:
        """Count a step's stages and rows; step_s is its wall time, the wait included."""
        times = self.epochs[-1]
        times.sample_s += batch.seconds.sample
        times.fetch_s += batch.seconds.fetch
        times.wait_s += batch.seconds.wait
        times.train_s += train_s
        times.epoch_time_s += step_s
        self.rows += batch.rows

    def summarize(
        self, world: World, row_bytes: int, prefetcher: Prefetcher | None
    ) -> dict[str, Any]:
        """Times, rows, bytes, memory and prefetching over all ranks; every rank must call it.

        Times are medians over the epochs after the first (which compiles and warms up) of the
        slowest rank's seconds. Rows and bytes are sums over ranks and epochs.
        """
        # Peers may still be asking for rows when we are done with ours.
        world.group.barrier("adding up the summary")
        traffic = _rows_traffic(world.transport.traffic, self.before)
        mine = (self.epochs, self.rows, traffic, peak_memory_mb())
        ranks = world.group.all_gather(mine, "adding up the summary")
        summary: dict[str, Any] = {
            name: _median_of_slowest([epochs for epochs, _, _, _ in ranks], name)
            for name in ("epoch_time_s", *STAGES)
        }
        steered: dict[str, Any] = {"buffer": None, "decisions": None}
        if prefetcher is not None:
            reports = world.group.all_gather(prefetcher.report(), "adding up the summary")
            steered = prefetcher.summarize(reports)
        rows = RowCounts()
        for _, counts, _, _ in ranks:
            rows += counts
        traffic = {
            key: sum(part[key] for _, _, part, _ in ranks)
            for key in ("received", "mapped", "served")
        }
        bytes_moved = traffic["received"] + traffic["mapped"]
        return {
            **summary,
            "rows": rows.by_cause(),
            "rows_between_hosts": rows.received,
            "bytes_moved": bytes_moved,
            "row_bytes": row_bytes,
            "traffic": {f"bytes_{key}": value for key, value in traffic.items()},
            "peak_memory_mb": max(memory for _, _, _, memory in ranks),
            **steered,
        }


def _rows_traffic(traffic: Traffic, before: RowCounts) -> dict[str, int]:
    """Bytes by kind; what ranks received before is what they served, over all of them."""
    earlier = {
        "received": before.received_bytes,
        "mapped": before.mapped_bytes,
        "served": before.received_bytes,
    }
    return {
        key: int(getattr(traffic, key)[Op.ROWS].sum()) + count for key, count in earlier.items()
    }


def _median_of_slowest(ranks: list[list[EpochTimes]], name: str) -> float:
    slowest = [max(getattr(times, name) for times in epoch) for epoch in zip(*ranks, strict=True)]
    return float(statistics.median(slowest[1:] or slowest))


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, MiB; mapped pages in use are part of it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def finite(value: float) -> float | None:
    """A number, or None for NaN and infinity, which JSON has not."""
    return value if math.isfinite(value) else None


def diverged_at(losses: list[float], steps_per_epoch: int) -> dict[str, int] | None:
    """Epoch and step, counted from 1, of the first loss that is no number."""
    first = next((i for i, loss in enumerate(losses) if finite(loss) is None), None)
    if first is None:
        return None
    epoch, step = divmod(first, steps_per_epoch)
    return {"epoch": epoch + 1, "step": step + 1}


def losses_sha256(losses: list[float]) -> str:
    """Hash of the exact float32 bytes of the losses, little-endian, in step order."""
    return hashlib.sha256(np.asarray(losses, "<f4").tobytes()).hexdigest()
