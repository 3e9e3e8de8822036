"""Contracts of the source: exact rows, one request, every row counted, whatever the preset."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.cached_store import CachedStore
from rudder.config import SteerConfig
from rudder.feature_store import BufferedStore, FeatureStore, Fetch, Place, When
from rudder.prefetcher import Prefetcher, RankContext
from rudder.presets import capacity_of, read_preset
from rudder.replay.runs import replay, replay_own
from rudder.replay.trace import Trace, read_traces
from rudder.row_counts import RowCounts
from tests.rudder.streams import BUFFERED, make_test_trace

WIDTH = 3


@dataclass(frozen=True)
class At:
    epoch: int
    step: int


class Rows(Fetch):
    """Rows that come when they are waited for."""

    def __init__(self, rows: NDArray[Any], out: NDArray[Any], positions: Ids) -> None:
        super().__init__(RowCounts(remote=len(rows), misses=len(rows)))
        self._rows, self._out, self._positions = rows, out, positions

    def wait(self) -> RowCounts:
        self._out[self._positions] = self._rows
        return self.counts


class Table(FeatureStore):
    """The owners' rows; notes every request."""

    def __init__(self, num_ids: int) -> None:
        self.x = np.random.default_rng(0).standard_normal((num_ids, WIDTH)).astype(np.float32)
        self.requests: list[Ids] = []

    def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
        assert len(np.unique(ids)) == len(ids), "a row is asked for twice"
        self.requests.append(ids)
        return Rows(self.x[ids], *place(0))


def make_prefetcher(config: SteerConfig, trace: Trace, table: Table) -> Prefetcher:
    capacity = capacity_of(config, read_preset(config), trace.facts.halo_rows)
    context = RankContext(
        facts=replace(trace.facts, capacity=capacity, row_bytes=4 * WIDTH),
        prior=trace.prior,
        num_ids=trace.num_ids,
        rank=0,
        seed=0,
        device=torch.device("cpu"),
        run={**vars(config)},
    )
    return Prefetcher(config, table, context, lambda event, **fields: None)


def run(prefetcher: Prefetcher, trace: Trace, table: Table, first: int = 0, ahead: int = 0) -> None:
    """Serve every minibatch of the trace as a loader would, and check every row.

    ahead: minibatches that are asked for before the rows of one are waited for.
    """
    store, foreseen = prefetcher.store, first
    under_way: deque[Callable[[], None]] = deque()
    for number in range(first, trace.num_minibatches):
        while foreseen < min(number + store.window + 1, trace.num_minibatches):
            store.foresee(trace.minibatch(foreseen))
            foreseen += 1
        before = len(table.requests)
        under_way.append(request(store, trace.minibatch(number), number, table))
        assert len(table.requests) == before + 1 + (number == first)
        if len(under_way) > ahead:
            under_way.popleft()()
    for check in under_way:
        check()


def request(store: BufferedStore, ids: Ids, number: int, table: Table) -> Callable[[], None]:
    """Ask for a minibatch's rows; what is returned waits for them, and looks at every one."""
    positions = np.random.default_rng(number).permutation(len(ids) + 5)[: len(ids)]
    out = np.zeros(0)

    def place(num_spare: int) -> tuple[NDArray[Any], Ids]:
        nonlocal out
        out = np.full((len(ids) + 5 + num_spare, WIDTH), np.nan, np.float32)
        return out, positions

    fetch = store.request(ids, place, At(*divmod(number, 10)))

    def check() -> None:
        counts = fetch.wait()
        fetch.on_device(torch.from_numpy(out), lambda _, array: torch.from_numpy(array))
        np.testing.assert_array_equal(out[positions], table.x[ids])
        assert counts.remote == len(ids) == counts.hits + counts.misses

    return check


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
    counts = prefetcher.report().counts
    assert counts.remote == len(trace.ids) == counts.hits + counts.misses
    assert counts.moved == sum(map(len, table.requests))
    assert counts.halo_remote == np.isin(trace.ids, trace.prior.halo).sum()
    if capacity >= 10 and decider != "never":
        assert counts.hits > 0
    if capacity == 0:
        assert counts.moved == counts.remote

    # The trace that the run left, replayed with the run's own decisions, counts the same.
    (recorded,) = read_traces(tmp_path)
    np.testing.assert_array_equal(recorded.ids, trace.ids)
    assert replay_own(recorded).counts == counts
    assert recorded.run["counters"] == vars(counts)
    # So does the decider itself, as far as it goes by the minibatch alone.
    assert replay(trace, config).counts == counts


def cached(prefetcher: Prefetcher) -> CachedStore:
    """Its store, which no other rank shares."""
    assert isinstance(prefetcher.store, CachedStore)
    return prefetcher.store


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_are_exact_while_the_size_changes(device: str) -> None:
    trace = make_test_trace()
    table = Table(trace.num_ids)
    config = SteerConfig(prefetch="lookahead:4", buffer_rows=30, buffer_device=device)
    prefetcher = make_prefetcher(config, trace, table)
    store, sizes = cached(prefetcher), [30, 100, 5, 60, 0, 61, 7, 120]
    under_way: deque[Callable[[], None]] = deque()
    for number in range(trace.num_minibatches):
        for foreseen in range(5 * number, 5 * (number + 1)) if number < 12 else ():
            store.foresee(trace.minibatch(foreseen))
        store.resize(sizes[number // 3 % len(sizes)])
        under_way.append(request(store, trace.minibatch(number), number, table))
        assert store.planner.buffer.capacity == sizes[number // 3 % len(sizes)]
        if len(under_way) > 1:
            under_way.popleft()()
    under_way.popleft()()
    counts = prefetcher.report().counts
    assert counts.moved == sum(map(len, table.requests))
    assert counts.hits > 0

    # A run that goes on has the size that the buffer had in the end.
    again = make_prefetcher(config, trace, table)
    again.store.load_state_dict(store.state_dict())
    assert cached(again).planner.buffer.capacity == 60
    run(again, trace, table)


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
    state, hits = first.state_dict(), first.report().counts.hits

    again = make_prefetcher(config, trace, table)
    assert again.load_state_dict(dict(state))
    run(again, trace, table, stop)
    if not preset.startswith("lookahead"):  # which knew less of the future when it stopped
        assert hits + again.report().counts.hits == whole.report().counts.hits
    held = (state["ids"] >= 0).sum()
    later = whole.report().counts.replacements - first.report().counts.replacements
    if not preset.startswith("lookahead"):
        assert again.report().counts.replacements == held + later

    other = make_prefetcher(
        SteerConfig(prefetch=preset, decider=decider, buffer_rows=29, interval=8), trace, table
    )
    assert not other.load_state_dict(dict(state)), "a state of other settings is not taken"
    run(other, trace, table)


def test_a_failing_fetch_leaves_the_state_to_read() -> None:
    trace = make_test_trace()

    class Broken(Table):
        def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
            raise OSError("the wire is cut")

    table = Broken(trace.num_ids)
    prefetcher = make_prefetcher(SteerConfig(prefetch="lru", buffer_rows=5), trace, table)
    with pytest.raises(OSError, match="wire"):
        run(prefetcher, trace, table)
    prefetcher.state_dict()


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
                prefetcher.state_dict()
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
