"""Context builder (paper, section 4.2): past decisions, what was expected, what came of them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rudder.observations import Action, Context, Outcome, Trend

# Past decisions that are told one by one; all those of the context count in the means.
HISTORY = 6
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Past:
    """One decision and what came of it.

    ago: minibatches since the one that applied it.   expected: None where nothing was stated.
    hits_change: of %-Hits, in points; moved_change: of the communication volume, in percent.
    """

    ago: int
    action: Action
    expected: Trend | None
    hits_change: float
    moved_change: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What decisions of one kind did on average; units as in ``Past``."""

    count: int
    hits_change: float
    moved_change: float


@dataclass(frozen=True, kw_only=True)
class History:
    """past: the latest decisions, oldest first. effects: over all that are remembered, by what
    they did."""

    past: Sequence[Past]
    effects: Mapping[Action, Effect]

    def latest(self, count: int) -> "History":
        """Without all but the latest ``count`` single decisions."""
        past = self.past[max(len(self.past) - count, 0) :]
        return History(past=past, effects=self.effects)


def _past(outcome: Outcome, now: int) -> Past:
    return Past(
        ago=now - outcome.applied,
        action=outcome.decision.action,
        expected=outcome.decision.expect_hits,
        hits_change=outcome.hits_change,
        moved_change=outcome.moved_change,
        passed=outcome.passed,
    )


def _effect(outcomes: Sequence[Outcome]) -> Effect:
    return Effect(
        count=len(outcomes),
        hits_change=statistics.fmean([one.hits_change for one in outcomes]),
        moved_change=statistics.fmean([one.moved_change for one in outcomes]),
    )


def build_history(context: Context) -> History:
    """What the outcomes of a context teach."""
    now, outcomes = context.latest.minibatch, context.outcomes
    by_action: dict[Action, list[Outcome]] = {}
    for outcome in outcomes:
        by_action.setdefault(outcome.decision.action, []).append(outcome)
    return History(
        past=[_past(outcome, now) for outcome in outcomes[-HISTORY:]],
        effects={action: _effect(those) for action, those in by_action.items()},
    )


def fit(
    history: History, write: Callable[[History], _T], size: Callable[[_T], int], budget: int
) -> _T:
    """What ``write`` makes of the longest history that keeps it within ``budget`` tokens.

    The oldest decisions go first. Raises ValueError where not even an empty history fits.
    """
    for count in range(len(history.past), -1, -1):
        text = write(history.latest(count))
        if size(text) <= budget:
            return text
    raise ValueError(
        f"the prompt takes {size(text)} tokens without its history, and there is room for {budget}"
    )
