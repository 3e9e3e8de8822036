"""Link: a stated model of what a minibatch's rows cost, for replays in which no row moves.

    fetch     latency + rows moved * bytes of a row / rate
    step      the longer of fetching and computing, which overlap
    limit     rows that the buffer may have: other jobs take and give back memory

Rates and limits are of equal stretches of the run, one after the other. Queueing, other traffic and
the cost of serving rows to others are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rudder.observations import Facts, Snapshot
from rudder.row_counts import RowCounts

# What holding the whole halo is worth, as a share of the time in which it is held: without a price
# on memory the largest buffer would always be the best.
MEMORY_PRICE = 0.5


@dataclass(frozen=True, kw_only=True)
class Link:
    """rates: Mbit/s.   latency_ms: of a request.   compute_ms: of a step.   limits: shares of the
    halo rows."""

    rates: Sequence[float]
    latency_ms: float
    compute_ms: float
    limits: Sequence[float]
    facts: Facts

    def _now(self, values: Sequence[float], minibatch: int) -> float:
        return values[min(len(values) * minibatch // self.facts.num_minibatches, len(values) - 1)]

    def limit(self, minibatch: int) -> int:
        """Rows that the buffer may have at this minibatch."""
        return round(self._now(self.limits, minibatch) * self.facts.halo_rows)

    def times_ms(self, counts: RowCounts, minibatch: int) -> tuple[float, float]:
        """(fetching, computing) of a minibatch that moved so many rows."""
        bits_a_ms = 1e3 * self._now(self.rates, minibatch)
        moving = 8.0 * counts.moved * self.facts.row_bytes / bits_a_ms
        return self.latency_ms * (counts.moved > 0) + moving, self.compute_ms


class Step(NamedTuple):
    """One minibatch of a rank: milliseconds of fetching or computing, and rows that were held."""

    milliseconds: float
    held: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Step":
        return cls(max(snapshot.fetch_ms, snapshot.compute_ms), snapshot.capacity)


def costs(ranks: Sequence[Sequence[Step]], links: Sequence[Link]) -> dict[str, float]:
    """Of a run whose ranks take every step together, so that each step is as long as its longest.

    seconds: of the run.   held_mb: of all buffers, the mean over time.   cost: seconds, and
    ``MEMORY_PRICE`` of them for a whole halo held by each rank, less where less is held.
    """
    halo = max(sum(link.facts.halo_rows for link in links), 1)
    seconds, rows_held, bytes_held = 0.0, 0.0, 0.0
    for steps in zip(*ranks, strict=True):
        longest = max(step.milliseconds for step in steps) / 1e3
        seconds += longest
        rows_held += longest * sum(step.held for step in steps)
        bytes_held += longest * sum(
            step.held * link.facts.row_bytes for step, link in zip(steps, links, strict=True)
        )
    cost = seconds + MEMORY_PRICE * rows_held / halo
    return {"seconds": seconds, "held_mb": bytes_held / seconds / 1e6, "cost": cost}


def add_regret(rows: Sequence[dict[str, Any]]) -> None:
    """Beside each row its cost over that of the best fixed size of its trace, in percent."""
    for row in rows:
        fixed = [
            other["cost"]
            for other in rows
            if other["trace"] == row["trace"] and other["decider"] == "never"
        ]
        row["regret_pct"] = 100.0 * (row["cost"] / min(fixed) - 1) if fixed else None
