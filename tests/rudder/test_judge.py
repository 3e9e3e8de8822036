"""Pass@1 and the figures beside it."""

from collections import Counter

import pytest

from rudder.deciders.judge import Tally, decisions, wilson
from rudder.observations import Action, Decision, Outcome, Trend, hits_trend, moved_trend
from tests.rudder.contexts import snapshot


def test_wilson_interval_of_known_cases() -> None:
    """Figures of Wilson (1927) as statsmodels.stats.proportion_confint gives them."""
    assert wilson(8, 10) == pytest.approx((49.0162, 94.3318), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0.0, 27.7533), abs=1e-3)
    assert wilson(400, 500) == pytest.approx((76.2711, 83.2715), abs=1e-3)


@pytest.mark.parametrize(
    ("hits", "trend"),
    [(50, "stagnant"), (51, "stagnant"), (49, "stagnant"), (52, "increase"), (48, "decrease")],
)
def test_stagnant_is_within_one_point(hits: int, trend: str) -> None:
    assert hits_trend(snapshot(0, hits=50), snapshot(2, hits=hits)) == trend


def test_volume_counts_replacement_rows() -> None:
    before, after = snapshot(0, hits=50), snapshot(1, hits=60)
    assert moved_trend(before, after) == Trend.DECREASE
    assert moved_trend(after, before) == Trend.INCREASE


@pytest.mark.parametrize(
    ("replace", "stated", "after", "passed"),
    [
        (True, Trend.INCREASE, 60, True),
        (True, Trend.STAGNANT, 60, False),
        (True, None, 60, True),
        (True, None, 50, False),
        (False, None, 50, True),
        (False, None, 60, False),
        (False, Trend.DECREASE, 40, True),
    ],
)
def test_passed_is_the_stated_or_the_implied_direction(
    replace: bool, stated: Trend | None, after: int, passed: bool
) -> None:
    decision = Decision(action=Action(replace), minibatch=0, expect_hits=stated)
    outcome = Outcome(
        decision=decision, before=snapshot(0), applied=1, after=snapshot(2, hits=after)
    )
    assert outcome.passed is passed


def test_decisions_of_several_ranks() -> None:
    tally = Tally(count=3, valid=3, replace=1, judged=2, passed=1, gaps=[1, 3], decided_ms=[1.0])
    tally += Tally(count=1, valid=0, replace=0, judged=1, passed=1, gaps=[2], decided_ms=[9.0, 2.0])
    summary = decisions("llm", tally, Counter({"late": 2}))
    assert summary["pass_at_1"] == pytest.approx(200 / 3)
    assert summary["valid_pct"] == 75
    assert summary["replace_pct"] == 25
    assert summary["interval"] == 2
    assert (summary["latency_ms_p50"], summary["latency_ms_p95"]) == (2.0, 9.0)
    assert (summary["count"], summary["failures"]) == (4, 2)
    nothing = decisions("never", Tally(), Counter())
    assert nothing["pass_at_1"] is None
    assert nothing["interval"] is None
