"""Examples: moments of recorded runs, labelled by what would have come of either decision.

A trace is played under behaviours and settings of the score policy of many kinds, so that the
buffer gets into many states, some of which replacing makes worse. At a moment after minibatch t the
run is forked: one copy replaces at t + 1, others keep for some minibatches first; from then on each
replaces at every minibatch. Keeping was right where the best of those moved fewer rows over the
horizon, by more than ``MARGIN``. The copies also show which way %-Hits and the communication volume
really went at t + 2.

Labels by a rule would teach the rule alone. Because the copies go on replacing, rather than keep, a
decider that follows the labels improves on ``always`` decision by decision, and the lasting cost of
rows that enter an empty buffer too early shows within the horizon.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from rudder.config import SteerConfig
from rudder.deciders.ledger import Ledger
from rudder.observations import (
    Action,
    Context,
    Decision,
    Facts,
    Outcome,
    Snapshot,
    Trend,
    hits_trend,
    moved_trend,
)
from rudder.planner import Planner
from rudder.replay.play import play
from rudder.replay.runs import planner_of
from rudder.replay.trace import Trace

# Minibatches over which the rows of the copies are compared.
HORIZON = 64
# For how many minibatches the copies that keep do so.
DELAYS = (1, 3, 8)
# Rows, of a minibatch's remote rows, that keeping must save to be right: less is chance.
MARGIN = 0.1
# Of the first minibatches of a run, where most hangs on the decision, every one is an example.
EARLY = 16
# (increment, decay, threshold): the defaults three times as often as all others together.
_SCORES = (
    *[(1.0, 0.95, 0.95)] * 12,
    *((1.0, 0.8, 0.95), (0.0, 0.8, 0.5), (1.0, 0.95, 4.0), (0.0, 0.95, 0.95)),
)
# Share of decisions to replace, share of minibatches without a decision (a slow decider's), and
# minibatches before the first replacement.
_BEHAVIOURS = (
    *((1.0, 0.0, 0), (0.9, 0.2, 8), (1.0, 0.1, 16), (0.5, 0.6, 0), (0.9, 0.0, 4)),
    *((0.2, 0.0, 0), (1.0, 0.3, 12), (0.8, 0.7, 2), (0.9, 0.1, 24), (0.05, 0.0, 0), (1.0, 0.0, 6)),
)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What a decision led to: at t + 2, and rows moved over the horizon.

    Of keeping: at t + 2 with the last of ``DELAYS``, and the rows of the best of them.
    """

    outcome: Outcome
    rows: int

    @property
    def hits(self) -> Trend:
        return hits_trend(self.outcome.before, self.outcome.after)

    @property
    def moved(self) -> Trend:
        return moved_trend(self.outcome.before, self.outcome.after)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A moment and what either decision led to.

    context: what a decider sees.   run: the trace's folder, by which examples are split.
    """

    context: Context
    facts: Facts
    replaced: Rollout
    kept: Rollout
    run: str

    @property
    def replace(self) -> bool:
        """Whether replacing was right: keeping would not have saved rows to speak of."""
        return self.replaced.rows - self.kept.rows <= MARGIN * self.context.latest.remote

    @property
    def stake(self) -> float:
        """How much hangs on it: rows between the two, of a minibatch's remote rows."""
        return abs(self.replaced.rows - self.kept.rows) / max(self.context.latest.remote, 1)


class _Behaviour:
    """Decides by chance, and states what the look ahead says, or at times something else."""

    looks_ahead = True

    def __init__(self, kind: int, rng: np.random.Generator) -> None:
        self._share, self._silent, self._first = _BEHAVIOURS[kind % len(_BEHAVIOURS)]
        self._rng, self.ledger = rng, Ledger("behaviour")

    def take(self, minibatch: int) -> Action:
        before = self.ledger.latest
        if before is None or self._rng.random() < self._silent:
            return Action.KEEP
        replaces = bool(self._rng.random() < self._share) and minibatch > self._first
        decision = Decision(
            action=Action(replaces), minibatch=before.minibatch, expect_hits=self._guess(before)
        )
        self.ledger.apply(decision, before, minibatch)
        return decision.action

    def _guess(self, before: Snapshot) -> Trend:
        if self._rng.random() < 0.15 or before.ahead_hits_pct is None:
            return list(Trend)[self._rng.integers(3)]
        after = replace(before, hits=before.ahead_hits, remote=before.ahead_remote)
        return hits_trend(before, after)

    def post(self, snapshot: Snapshot) -> None:
        self.ledger.see(snapshot)


class _From:
    """Replaces at every minibatch from one on."""

    looks_ahead = False

    def __init__(self, first: int) -> None:
        self._first = first

    def take(self, minibatch: int) -> Action:
        return Action(minibatch >= self._first)

    def post(self, snapshot: Snapshot) -> None:
        return


def _rollout(planner: Planner, trace: Trace, latest: Snapshot, delay: int) -> Rollout:
    first = latest.minibatch + 1
    fork = planner.fork(_From(first + delay))
    before = fork.counts.moved
    _, after, *_ = play(fork, trace, first, first + HORIZON)
    decision = Decision(action=Action(delay == 0), minibatch=latest.minibatch)
    return Rollout(
        outcome=Outcome(decision=decision, before=latest, applied=first, after=after),
        rows=fork.counts.moved - before,
    )


def _moments(
    trace: Trace, config: SteerConfig, rng: np.random.Generator, every: float, kind: int
) -> Iterator[Example]:
    planner, _ = planner_of(trace, config)
    planner.decisions = behaviour = _Behaviour(kind, rng)
    for snapshot in play(planner, trace):
        # The two minibatches after it must exist.
        if snapshot.left < 2 or (snapshot.minibatch >= EARLY and rng.random() * every >= 1):
            continue
        replaced, *kept = (_rollout(planner, trace, snapshot, delay) for delay in (0, *DELAYS))
        yield Example(
            context=behaviour.ledger.context(),
            facts=planner.facts,
            replaced=replaced,
            kept=replace(kept[-1], rows=min(rollout.rows for rollout in kept)),
            run=trace.name.split("/")[0],
        )


def gather(
    traces: Sequence[Trace], buffers: Sequence[float], *, seed: int = 0, every: float = 3.0
) -> list[Example]:
    """Examples from every trace at every buffer: early ones, then one in ``every`` minibatches.

    buffers: capacities as shares of the halo rows. A function of its arguments alone.
    Raises ValueError where there is none.
    """
    examples: list[Example] = []
    cells = [(trace, share) for trace in traces for share in buffers]
    for number, (trace, share) in enumerate(tqdm(cells, "examples", disable=None)):
        rng = np.random.default_rng([seed, number])
        increment, decay, threshold = _SCORES[rng.integers(len(_SCORES))]
        config = SteerConfig(
            prefetch="rudder",
            decider="never",
            buffer=share,
            score_increment=increment,
            score_decay=decay,
            score_threshold=threshold,
        )
        examples += _moments(trace, config, rng, every, number)
    if not examples:
        raise ValueError(f"{len(traces)} traces gave no example: each needs at least 3 minibatches")
    return examples
