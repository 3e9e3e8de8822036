"""What one minibatch showed, what was decided on it, and what came of that.

A *row* is the feature row of a remote node. C capacity of the buffer in rows.

Nothing here changes once it is made. What is made for every minibatch is not frozen all the same:
that would take four times as long.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

STAGNANT_POINTS = 1.0
STAGNANT_SHARE = 0.01


class Trend(enum.StrEnum):
    """Direction of a change."""

    INCREASE = "increase"
    DECREASE = "decrease"
    STAGNANT = "stagnant"


class Action(enum.IntEnum):
    """What a decision does to the buffer: to its rows, or (with ``--steer size``) to its size."""

    KEEP = 0
    REPLACE = 1
    GROW = 2
    SHRINK = 3

    @property
    def word(self) -> str:
        """As an agent says it."""
        return self.name.lower()

    @property
    def implied(self) -> "Trend":
        """Where one who does this expects %-Hits to go, unless another direction is stated."""
        if self in (Action.REPLACE, Action.GROW):
            return Trend.INCREASE
        return Trend.DECREASE if self == Action.SHRINK else Trend.STAGNANT


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What does not change during a run.

    num_nodes, num_edges: of the graph.   part_nodes, part_edges: of this rank's part.
    halo_rows: remote nodes with an edge into the part.   capacity: C.   row_bytes: of one row.
    batch_size: seeds of a minibatch.   num_minibatches: of this rank, over all epochs.
    """

    num_nodes: int
    num_edges: int
    part_nodes: int
    part_edges: int
    num_parts: int
    halo_rows: int
    capacity: int
    row_bytes: int
    batch_size: int
    num_minibatches: int
    minibatches_per_epoch: int


@dataclass(kw_only=True, slots=True)
class Snapshot:
    """One minibatch seen from the buffer, after it was served.

    minibatch: number since the start of the run, from 0; epoch and step: the same in training's
    words. remote: distinct remote rows it needed = hits + misses; halo_remote, halo_hits: those of
    them in the halo. replaced: rows swapped into the buffer. replacement_rows: those of them that
    were not misses anyway and so were moved on purpose. stale: rows the policy would give up, and
    candidates: rows it could take in, if it were asked now; proven: those of the candidates that
    were missed more than once. filled: rows the buffer holds, of C.
    ahead_remote, ahead_hits: remote rows that minibatch + 2 will need and those of them in the
    buffer as it stands; -1 where that minibatch was not sampled yet or there is none. (A decision
    taken on this snapshot is applied at minibatch + 1 at the earliest, and shows at minibatch + 2.)
    fetch_ms, compute_ms: what fetching its rows and training on it took, and limit: the rows that
    the buffer may have; -1 where that is not known.
    """

    minibatch: int
    capacity: int
    num_minibatches: int
    epoch: int = 0
    step: int = 0
    remote: int = 0
    hits: int = 0
    halo_remote: int = 0
    halo_hits: int = 0
    replaced: int = 0
    replacement_rows: int = 0
    stale: int = 0
    candidates: int = 0
    filled: int = 0
    ahead_remote: int = -1
    ahead_hits: int = -1
    proven: int = 0
    fetch_ms: float = -1.0
    compute_ms: float = -1.0
    limit: int = -1

    @property
    def misses(self) -> int:
        return self.remote - self.hits

    @property
    def moved(self) -> int:
        """Communication volume: rows that crossed between partitions for this minibatch."""
        return self.misses + self.replacement_rows

    @property
    def hits_pct(self) -> float:
        """%-Hits of this minibatch alone; 100 where it needed no remote row."""
        return 100.0 * self.hits / self.remote if self.remote else 100.0

    @property
    def halo_hits_pct(self) -> float:
        return 100.0 * self.halo_hits / self.halo_remote if self.halo_remote else 100.0

    @property
    def ahead_hits_pct(self) -> float | None:
        """%-Hits of minibatch + 2 in the buffer as it stands; None where that is not known."""
        if self.ahead_remote < 0:
            return None
        return 100.0 * self.ahead_hits / self.ahead_remote if self.ahead_remote else 100.0

    @property
    def left(self) -> int:
        """Minibatches still to come."""
        return self.num_minibatches - self.minibatch - 1


def relative_change(before: float, after: float) -> float:
    """In percent of what it was; as ``moved_trend`` judges it."""
    return 100.0 * (after - before) / max(before, 1.0)


def _trend(change: float, stagnant: float) -> Trend:
    if abs(change) <= stagnant:
        return Trend.STAGNANT
    return Trend.INCREASE if change > 0 else Trend.DECREASE


def hits_trend(before: Snapshot, after: Snapshot) -> Trend:
    """How %-Hits changed; stagnant within one point."""
    return _trend(after.hits_pct - before.hits_pct, STAGNANT_POINTS)


def moved_trend(before: Snapshot, after: Snapshot) -> Trend:
    """How the communication volume changed; stagnant within 1% of what it was."""
    return _trend(after.moved - before.moved, STAGNANT_SHARE * max(before.moved, 1))


@dataclass(kw_only=True, slots=True)
class Decision:
    """What to do, and what its maker expects of that.

    minibatch: of the snapshot it was taken on. expect_hits, expect_moved: expected direction of
    %-Hits and of the communication volume; None from deciders that state nothing, which are held
    to what their decision implies (see ``Outcome.passed``).
    valid: False where a model's answer could not be used; ``action`` is then to keep.
    """

    action: Action
    minibatch: int
    expect_hits: Trend | None = None
    expect_moved: Trend | None = None
    reason: str = ""
    valid: bool = True

    @property
    def replace(self) -> bool:
        return self.action == Action.REPLACE


@dataclass(kw_only=True, slots=True)
class Outcome:
    """A decision that was applied, and what the minibatches around it showed.

    before: the snapshot it was taken on. applied: number of the minibatch whose request carried
    it out. after: the snapshot of minibatch ``applied + 1``, the first that was served by the
    buffer as the decision left it.

    hits_change: of %-Hits, in points.   moved_change: of the communication volume, in percent.
    passed: whether %-Hits went where the decision expected. A decider that states no expectation is
    held to what its action implies.
    """

    decision: Decision
    before: Snapshot
    applied: int
    after: Snapshot
    # Worked out once: a decider reads the same outcomes again and again.
    hits_change: float = field(init=False)
    moved_change: float = field(init=False)
    passed: bool = field(init=False)

    def __post_init__(self) -> None:
        before, after, decision = self.before, self.after, self.decision
        self.hits_change = after.hits_pct - before.hits_pct
        self.moved_change = relative_change(before.moved, after.moved)
        expected = decision.expect_hits or decision.action.implied
        self.passed = expected == _trend(self.hits_change, STAGNANT_POINTS)


@dataclass(kw_only=True, slots=True)
class Context:
    """What a decider decides on.

    recent: the latest snapshots of consecutive minibatches, oldest first, at least one and at most
    16. outcomes: the latest decisions with what came of them, oldest first, at most 32.
    """

    recent: Sequence[Snapshot]
    outcomes: Sequence[Outcome] = ()

    @property
    def latest(self) -> Snapshot:
        return self.recent[-1]
