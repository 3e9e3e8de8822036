"""Contracts of the source: exact rows, one request, every row counted, whatever the preset."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.cached_store import BufferedRows, Moved
from rudder.config import SteerConfig
from rudder.prefetcher import Prefetcher
from rudder.presets import capacity_of, read_preset
from rudder.replay.grid import replay, replay_own
from rudder.replay.trace import Trace, read_traces
from tests.rudder.streams import BUFFERED, make_test_trace

WIDTH = 3


@dataclass(frozen=True)
class At:
    epoch: int
    step: int


class Table:
    """The owners' rows; notes every request."""

    def __init__(self, num_ids: int) -> None:
        self.x = np.random.default_rng(0).standard_normal((num_ids, WIDTH)).astype(np.float32)
        self.requests: list[Ids] = []

    def request(
        self, ids: Ids, out: NDArray[Any], positions: Ids, moment: At
    ) -> Callable[[], None]:
        assert len(np.unique(ids)) == len(ids), "a row is asked for twice"
        self.requests.append(ids)

        def receive() -> None:
            out[positions] = self.x[ids]

        return receive


def make_prefetcher(config: SteerConfig, trace: Trace, table: Table) -> Prefetcher:
    preset = read_preset(config)
    capacity = capacity_of(config, preset, trace.facts.halo_rows)
    return Prefetcher(
        config,
        preset,
        table,
        facts=type(trace.facts)(**{**vars(trace.facts), "capacity": capacity}),
        prior=trace.prior,
        num_ids=trace.num_ids,
        width=WIDTH,
        seed=0,
        rank=0,
        device=torch.device("cpu"),
        log=lambda event, **fields: None,
        run={**vars(config)},
    )


def run(prefetcher: Prefetcher, trace: Trace, table: Table, first: int = 0, ahead: int = 0) -> None:
    """Serve every minibatch of the trace as a loader would, and check every row.

    ahead: minibatches that are asked for before the rows of one are waited for.
    """
    rows, foreseen = prefetcher.rows, first
    under_way: deque[Callable[[], None]] = deque()
    for number in range(first, trace.num_minibatches):
        while foreseen < min(number + rows.window + 1, trace.num_minibatches):
            rows.foresee(trace.minibatch(foreseen))
            foreseen += 1
        ids, at = trace.minibatch(number), At(*divmod(number, 10))
        num_spare = rows.plan(ids, at)
        out = np.full((len(ids) + 5 + num_spare, WIDTH), np.nan, np.float32)
        positions = np.random.default_rng(number).permutation(len(ids) + 5)[: len(ids)]
        before = len(table.requests)
        receive = rows.request(ids, out, positions, at)
        assert len(table.requests) == before + 1
        under_way.append(partial(check, rows, table, ids, out, positions, receive))
        if len(under_way) > ahead:
            under_way.popleft()()
    for each in under_way:
        each()


def check(
    rows: BufferedRows,
    table: Table,
    ids: Ids,
    out: NDArray[Any],
    positions: Ids,
    receive: Callable[[], Moved],
) -> None:
    """Wait for a minibatch's rows, and look at every one."""
    moved = receive()
    rows.finish(torch.from_numpy(out))
    np.testing.assert_array_equal(out[positions], table.x[ids])
    assert moved.remote == len(ids) == moved.hits + moved.misses


@pytest.mark.parametrize(("device", "ahead"), [("cpu", 0), ("cpu", 1), ("cuda", 1)])
@pytest.mark.parametrize("capacity", [0, 1, 10, 60, 500])
@pytest.mark.parametrize(("preset", "decider"), BUFFERED)
def test_rows_are_exact_and_counted(
    preset: str, decider: str | None, capacity: int, device: str, ahead: int, tmp_path: Path
) -> None:
    """``device`` cuda: the rows of a device buffer, here with the CPU as the device."""
    trace = make_test_trace()
    table = Table(trace.num_ids)
    config = SteerConfig(
        prefetch=preset,
        decider=decider,
        buffer_rows=capacity,
        buffer_device=device,
        interval=8,
        trace=str(tmp_path),
    )
    prefetcher = make_prefetcher(config, trace, table)
    run(prefetcher, trace, table, ahead=ahead)
    prefetcher.finish()
    prefetcher.close()
    counters = prefetcher.report().counters
    assert counters.remote == len(trace.ids) == counters.hits + counters.misses
    assert counters.moved == sum(map(len, table.requests))
    assert counters.halo_remote == np.isin(trace.ids, trace.prior.halo).sum()
    if capacity >= 10 and decider != "never":
        assert counters.hits > 0
    if capacity == 0:
        assert counters.moved == counters.remote

    # The trace that the run left, replayed with the run's own decisions, counts the same.
    (recorded,) = read_traces(tmp_path)
    np.testing.assert_array_equal(recorded.ids, trace.ids)
    assert replay_own(recorded).counters == counters
    assert recorded.run["counters"] == vars(counters)
    # So does the decider itself, as far as it goes by the minibatch alone.
    assert replay(trace, config).counters == counters


@pytest.mark.parametrize("stop", [1, 25])
@pytest.mark.parametrize(("preset", "decider"), BUFFERED)
def test_a_resumed_buffer_goes_on(preset: str, decider: str | None, stop: int) -> None:
    """The ids are kept, the rows are moved again, and from there everything is the same."""
    trace = make_test_trace()
    config = SteerConfig(prefetch=preset, decider=decider, buffer_rows=30, interval=8)
    whole_table = Table(trace.num_ids)
    whole = make_prefetcher(config, trace, whole_table)
    run(whole, trace, whole_table)

    head = Trace(**{**vars(trace), "offsets": trace.offsets[: stop + 1]})
    table = Table(trace.num_ids)
    first = make_prefetcher(config, head, table)
    run(first, head, table)
    state, hits = first.state(), first.report().counters.hits

    again = make_prefetcher(config, trace, table)
    assert again.load(dict(state))
    run(again, trace, table, stop)
    if not preset.startswith("lookahead"):  # which knew less of the future when it stopped
        assert hits + again.report().counters.hits == whole.report().counters.hits
    held = (state["ids"] >= 0).sum()
    later = whole.report().counters.replacements - first.report().counters.replacements
    if not preset.startswith("lookahead"):
        assert again.report().counters.replacements == held + later

    other = make_prefetcher(
        SteerConfig(prefetch=preset, decider=decider, buffer_rows=29, interval=8), trace, table
    )
    assert not other.load(dict(state)), "a state of other settings is not taken"
    run(other, trace, table)


def test_a_failing_fetch_leaves_the_state_to_read() -> None:
    trace = make_test_trace()

    class Broken(Table):
        def request(
            self, ids: Ids, out: NDArray[Any], positions: Ids, moment: At
        ) -> Callable[[], None]:
            raise OSError("the wire is cut")

    table = Broken(trace.num_ids)
    prefetcher = make_prefetcher(SteerConfig(prefetch="lru", buffer_rows=5), trace, table)
    with pytest.raises(OSError, match="wire"):
        run(prefetcher, trace, table)
    prefetcher.state()


@pytest.mark.parametrize("prefetch", ["lookahead", "fixed"])
def test_a_checkpoint_may_be_taken_at_any_time(prefetch: str) -> None:
    trace = make_test_trace()
    table = Table(trace.num_ids)
    prefetcher = make_prefetcher(SteerConfig(prefetch=prefetch, buffer_rows=60), trace, table)
    over, states, failures = threading.Event(), 0, list[Exception]()

    def ask() -> None:
        nonlocal states
        while not over.is_set():
            try:
                prefetcher.state()
            except Exception as error:
                failures.append(error)
                return
            states += 1

    thread = threading.Thread(target=ask)
    thread.start()
    run(prefetcher, trace, table)
    over.set()
    thread.join()
    assert not failures
    assert states > 10
