"""Sizes that choose themselves: what is foretold, what is chosen, and when it changes."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from rudder.config import SteerConfig
from rudder.replay.runs import replay
from rudder.sizing.choice import (
    MARGIN,
    SHARES,
    WINDOWS,
    Choice,
    View,
    choose,
    shares_up_to,
)
from rudder.sizing.curve import ReuseSample
from rudder.sizing.governor import EVERY, Governor, Host, windows_up_to
from rudder.sizing.watch import PROBE_EVERY, Link, Watch, fit_link
from tests.rudder.streams import make_stream, make_test_trace

# Rows that a minibatch moves with each of SHARES: 1000 without a buffer, none with all of it.
CURVE = [1000 * max(0.0, 1 - share) ** 2 for share in SHARES]

NONE = Choice(share=0.0, window=16)


class At(NamedTuple):
    epoch: int
    step: int


def view(latency_s: float, row_s: float, compute_s: float = 0.1, worse: float = 1.5) -> View:
    """Of a rank; the smallest of two windows moves ``worse`` times as many rows."""
    seconds = [latency_s + row_s * rows for rows in CURVE]
    return View(compute_s, [[latency_s + row_s * worse * rows for rows in CURVE], seconds])


def chosen(*views: View, current: Choice = NONE) -> Choice:
    return choose(views, min(v.compute_s for v in views), SHARES, (4, 16), current)


def test_no_buffer_where_fetching_is_hidden_without() -> None:
    choice = chosen(view(1e-3, 5e-5))
    assert (choice.share, choice.window, choice.hidden) == (0.0, 4, True)


def test_the_smallest_buffer_that_hides_fetching() -> None:
    choice = chosen(view(0.0, 2e-4))
    assert (choice.share, choice.window, choice.hidden) == (0.5, 4, True), "4 windows do as well"
    assert choice.fetch_s <= choice.compute_s / MARGIN < 2e-4 * CURVE[SHARES.index(0.35)]
    assert chosen(view(0.0, 2e-4, worse=3.0)).window == 16
    # Nothing hides this: the smallest that is as good as the largest.
    choice = chosen(view(0.3, 1e-4))
    assert (choice.share, choice.hidden) == (1.0, False)
    # The slowest rank of the host counts, and the quickest to compute.
    fast = view(0.0, 1e-5, compute_s=0.2)
    assert chosen(fast, view(0.0, 2e-4)) == chosen(view(0.0, 2e-4), fast)
    assert chosen(fast, view(0.0, 2e-4)).share == 0.5


@pytest.mark.parametrize("change", [1.25, 10.0, 0.55, 0.1])
def test_it_follows_a_change_and_stays(change: float) -> None:
    before = chosen(view(0.0, 2e-4))
    after = chosen(view(0.0, change * 2e-4), current=before)
    assert (after.share > before.share) == (change > MARGIN)
    assert (after.share < before.share) == (change < 1)
    assert chosen(view(0.0, change * 2e-4), current=after) == after


def test_noise_within_the_margin_changes_nothing() -> None:
    rng, choice = np.random.default_rng(0), chosen(view(0.0, 2e-4))
    for _ in range(200):
        noisy = view(0.0, 2e-4 * rng.uniform(0.85, 1.15))
        again = chosen(noisy, current=choice)
        assert (again.share, again.window) == (choice.share, choice.window)


def test_memory_limits_the_sizes() -> None:
    assert shares_up_to(float("inf")) == SHARES
    assert shares_up_to(0.2) == (0.0, 0.03, 0.05, 0.08, 0.12, 0.18, 0.2)
    assert shares_up_to(0.25) == SHARES[:7]
    assert shares_up_to(0.0) == (0.0,)
    assert windows_up_to(16, True) == WINDOWS
    assert windows_up_to(3, False) == (3,)


def test_the_line_through_fetches() -> None:
    assert fit_link([]) == Link(0.0, 0.0)
    alike = [(1000 + n, 0.1) for n in range(7)]
    assert fit_link([*alike, (1000, 9.0)]) == pytest.approx(Link(0.0, 1e-4), rel=0.01)
    spread = [(rows, 0.02 + 1e-5 * rows) for rows in (100, 200, 900, 1500, 3000)]
    assert fit_link([*spread, (0, 0.5)]) == pytest.approx(Link(0.02, 1e-5))


@pytest.mark.parametrize("window", [4, 16])
@pytest.mark.parametrize("num_ids", [600, 30_000])
def test_rows_are_foretold_within_three_in_a_hundred(num_ids: int, window: int) -> None:
    """Of those that no buffer moves; against a replay, of which the second half counts as well."""
    trace = make_test_trace(64, num_ids, num_ids // 6)
    sample = ReuseSample()
    for number in range(trace.num_minibatches):
        sample.add(trace.minibatch(number))
    assert sample.is_full
    assert (sample.every > 1) == (num_ids > 6000)
    capacities = [round(share * trace.facts.halo_rows) for share in SHARES]
    half = replace(
        trace,
        ids=trace.ids[: trace.offsets[32]],
        offsets=trace.offsets[:33],
        replace=trace.replace[:32],
    )
    for capacity, foretold in zip(capacities, sample.moved(capacities, window), strict=True):
        config = SteerConfig(prefetch=f"lookahead:{window}", buffer_rows=capacity)
        moved = replay(trace, config).counts.moved - replay(half, config).counts.moved
        needed = len(trace.ids) - len(half.ids)
        assert foretold / trace.mean_remote == pytest.approx(moved / needed, abs=0.03)


def drive(governors: list[Governor], watches: list[Watch], row_s: float, steps: int) -> None:
    """Steps of a link of this speed; both ranks agree as threads of training would."""
    for _ in range(steps):
        for watch in watches:
            if watch.is_due():
                watch.fetched(500, 500 * row_s)
        for governor in governors:
            governor.after_step(0.1, At(0, 0))


def test_ranks_choose_together_and_follow_the_link() -> None:
    stream = make_stream(64, 3000, 500)
    watches = [Watch(), Watch()]
    for watch, minibatches in zip(watches, (stream, stream[:40]), strict=True):
        for ids in minibatches:
            watch.foresee(ids)
    sizes: list[list[tuple[int, int]]] = [[], []]
    views: list[View] = []

    def agree(mine: View, at: object) -> list[View]:
        """The other rank has seen less, and this is the second time that both are asked."""
        views.append(mine)
        return views[-2:] if len(views) % 2 == 0 else [mine, mine]

    def governor(rank: int) -> Governor:
        def resize(capacity: int, window: int) -> None:
            sizes[rank].append((capacity, window))

        host = Host(agree=agree, ranks=[0, 1], most_bytes=1e9)
        return Governor(host, watches[rank], resize, 1500, 16, WINDOWS, lambda event, **_: None)

    alone = [governor(0)]
    drive(alone, watches[:1], 1e-6, 4 * EVERY)
    assert alone[0].choice.share == 0, "a fast link needs no buffer"
    assert len(alone[0].changes) == 1
    drive(alone, watches[:1], 1e-3, 2 * EVERY)
    slow = alone[0].choice
    assert slow.share > 0.1, "a slow link does, two rounds after it became slow"
    drive(alone, watches[:1], 1e-3, 6 * EVERY)
    assert alone[0].choice.share == slow.share, "and so it stays"
    assert PROBE_EVERY * 8 <= EVERY, "a round sees the link as it is"
    drive(alone, watches[:1], 1e-6, 2 * EVERY)
    assert alone[0].choice.share == 0
    assert [size[0] for size in sizes[0]] == [each["capacity"] for each in alone[0].changes]

    again = governor(1)
    again.load(alone[0].state())
    assert (again.choice, again.changes) == (alone[0].choice, alone[0].changes)
