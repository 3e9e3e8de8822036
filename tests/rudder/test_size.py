"""Steering the buffer's size: the rule, a link of stated rates, and what a replay makes of both."""

from dataclasses import replace
from typing import Any

import pytest

from rudder.config import SteerConfig
from rudder.deciders.fixed import rule_decider
from rudder.observations import Action, Context, Trend
from rudder.presets import read_preset
from rudder.replay.grid import ReplayConfig, grid
from rudder.replay.link import Link, add_regret
from rudder.replay.play import play
from rudder.replay.runs import planner_of
from rudder.row_counts import RowCounts
from tests.rudder.contexts import snapshot
from tests.rudder.streams import make_test_trace

TRACE = make_test_trace(num_minibatches=120, num_ids=400, size=80)
LINK = Link(
    rates=(1.0, 0.1, 1.0), latency_ms=0.5, compute_ms=4.0, limits=(1.0, 0.2), facts=TRACE.facts
)


def sized(decider: str) -> SteerConfig:
    return SteerConfig(prefetch="lookahead", decider=decider, steer="size", buffer=0.1)


@pytest.mark.parametrize(
    ("fetch_ms", "capacity", "action"),
    [
        (25, 30, Action.GROW),
        (25, 90, Action.KEEP),  # the limit
        (15, 30, Action.KEEP),
        (10, 30, Action.SHRINK),
        (-1, 30, Action.KEEP),  # not known
    ],
)
def test_the_rule(fetch_ms: float, capacity: int, action: Action) -> None:
    times: dict[str, Any] = {"fetch_ms": fetch_ms, "compute_ms": 20, "limit": 90}
    recent = [snapshot(t, **times, capacity=capacity) for t in range(4)]

    def decide(recent: list[Any]) -> Action:
        return rule_decider().decide(Context(recent=recent), lambda action: None).action

    assert decide(recent) == action
    # A change of size is given time to show.
    assert decide([replace(recent[0], capacity=7), *recent[1:]]) == Action.KEEP


def test_times_and_limits_follow_the_stretches_of_the_run() -> None:
    counts = RowCounts(remote=100, misses=100)
    milliseconds = [LINK.times_ms(counts, minibatch)[0] for minibatch in (0, 40, 80)]
    assert milliseconds == pytest.approx([13.3, 128.5, 13.3])
    assert LINK.times_ms(RowCounts(remote=9, hits=9), 0) == (0.0, 4.0)
    assert LINK.limit(59) == TRACE.facts.halo_rows > LINK.limit(60)


def test_a_rule_grows_shrinks_and_keeps_to_the_limit() -> None:
    planner, inline = planner_of(TRACE, sized("rule"))
    assert inline is not None
    planner.conditions = LINK
    snapshots = list(play(planner, TRACE))
    assert all(one.capacity <= one.limit for one in snapshots)
    assert inline.ledger.tally.grow > 2
    assert max(one.capacity for one in snapshots) > 1.5 * snapshots[0].capacity
    grown = [one for one in inline.ledger.context().outcomes if one.decision.action == Action.GROW]
    assert all(one.passed == (one.hits_change > 1) for one in grown)
    assert Action.SHRINK.implied == Trend.DECREASE


def test_costs_of_a_grid(tmp_path: Any) -> None:
    TRACE.write(tmp_path / "run" / "rank0")
    config = ReplayConfig(
        traces=(str(tmp_path / "run"),),
        prefetch="lookahead",
        decider="never,rule",
        steer="size",
        buffer=(0.05, 0.3),
        link=(1.0, 0.1, 1.0),
    )
    rows = list(grid(config))
    add_regret(rows)
    small, large = (row for row in rows if row["decider"] == "never")
    assert small["seconds"] > large["seconds"]
    assert small["held_mb"] < large["held_mb"]
    assert min(small["regret_pct"], large["regret_pct"]) == 0
    assert all(row["cost"] > row["seconds"] for row in rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prefetch": "rudder", "decider": "llm"}, "--steer size --prefetch rudder"),
        ({"prefetch": "lookahead", "decider": "always"}, "expected --prefetch lookahead"),
    ],
)
def test_what_cannot_be_steered_so(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_preset(SteerConfig(steer="size", **fields))
    with pytest.raises(ValueError, match="--steer size: expected --link as well"):
        ReplayConfig(traces=("a",), steer="size")
    for other in ({"hosts": 2}, {"buffer_scope": "host"}, {"prefetch": "own"}):
        with pytest.raises(ValueError, match=r"--link \(200\.0,\): expected no --hosts, no"):
            ReplayConfig(traces=("a",), link=(200.0,), **other)
