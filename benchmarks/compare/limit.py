"""Limit: how short an epoch could be, from what must be computed and what must cross the links.

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
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.hosts import bits_per_second
from benchmarks.trainers import ID_BYTES, Trainers, sage_of
from rudder.replay.belady import belady_rows
from rudder.replay.trace import Trace

# A full frame of Ethernet carries 1448 bytes of 1514 under TCP; the links' buckets count them all.
FRAMES = 1514 / 1448

Amounts = NDArray[np.float64]


class Crossing(NamedTuple):
    """Bytes that must cross the busiest way of any host's link in an epoch after the first.

    rows_none: of remote rows with no buffer; rows: with the best that is filled on demand.
    sampling, gradients: what else must.   none, fewest: all of it, where each is largest.
    """

    rows_none: float
    rows: float
    sampling: float
    gradients: float
    none: float
    fewest: float


class Limit(NamedTuple):
    """Seconds of an epoch after the first.

    compute_s: of training alone, of the rank that comes last to each sum and so waits for none.
    link_s: the fewest bytes at the link's rate; communication_s: those of no buffer.
    here_s: of the whole pipeline on links of no rate: sampling, gathering and training on these
    cores, which the hosts of a lab share.
    """

    compute_s: float
    link_s: float
    communication_s: float
    here_s: float

    @property
    def limit_s(self) -> float:
        """max(compute, fewest bytes / bandwidth)."""
        return max(self.compute_s, self.link_s)

    @property
    def ratio(self) -> float:
        """Communication over compute, of no buffer."""
        return self.communication_s / self.compute_s


def seconds(num_bytes: float, rate: str) -> float:
    """That a link takes to carry so many bytes; none where it has no rate."""
    bits = bits_per_second(rate)
    return 0.0 if bits is None else 8 * FRAMES * num_bytes / bits


def crossing(
    trainers: Trainers, buffer: float, num_parameters: int, asks_neighbors: bool = True
) -> Crossing:
    """What must cross in an epoch.

    buffer: capacity of a rank as a share of its halo rows; a buffer that the ranks of a host share
    can move fewer rows.   asks_neighbors: of nodes of other hosts, as where each host has the
    in-edges of its own parts alone.
    """
    ranks = [trainers.play(rank) for rank in range(trainers.count)]
    steps, epochs = ranks[0].trace.facts.minibatches_per_epoch, trainers.run.epochs
    # The epochs that are timed begin with the second, if there is one.
    first, num_epochs = (steps if epochs > 1 else 0), max(epochs - 1, 1)

    def an_epoch(name: str) -> Amounts:
        """[P, ...]: of each rank."""
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
    gradients = 2 * (1 - 1 / len(members)) * 4 * (num_parameters + 1) * steps

    def busiest(kept: Amounts | float, with_rest: bool = True) -> float:
        """kept [P]: the share of its rows that a rank fetches."""
        moved = members @ (rows.T * kept).T @ members.T
        rest = (replies + gradients, requests + gradients) if with_rest else None
        return _busiest(moved, 4 * trainers.num_features, rest)

    return Crossing(
        rows_none=busiest(1.0, with_rest=False),
        rows=busiest(best, with_rest=False),
        sampling=float(max(replies.max(), requests.max())),
        gradients=gradients,
        none=busiest(1.0),
        fewest=busiest(best),
    )


def _busiest(moved: Amounts, row_bytes: int, rest: tuple[Amounts, Amounts] | None) -> float:
    """Bytes of the busiest way. moved [H, H]: rows to a host, from a host.   rest: into, and out
    of, each host; then rows are also asked for by id."""
    np.fill_diagonal(moved, 0.0)  # within a host
    into, out = (row_bytes * moved.sum(axis=axis) for axis in (1, 0))
    if rest is not None:
        into, out = into + rest[0], out + moved.sum(axis=1) * ID_BYTES + rest[1]
    return float(max(into.max(), out.max()))


def _belady(trace: Trace, buffer: float, first: int) -> int:
    """Rows that the best buffer of the size moves for all minibatches from ``first`` on."""
    capacity = round(buffer * trace.facts.halo_rows)
    minibatches = trace.minibatches
    return belady_rows(minibatches, capacity) - belady_rows(minibatches[:first], capacity)


def num_parameters(trainers: Trainers) -> int:
    """Of the model that is trained."""
    model = sage_of(trainers.parts, trainers.run)
    return sum(parameter.numel() for parameter in model.parameters())


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
