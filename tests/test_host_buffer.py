"""One buffer a host: exact, counted, bounded in its waits, and below the bound of one a rank."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.prefetch import steer
from minidist.run import train
from minidist.run_config import RunConfig
from minidist.sampling.loader import Loader
from rudder.config import SteerConfig
from rudder.presets import SHARED, scope_of
from rudder.replay.runs import bound_of, hosts_of_run, replay_run
from rudder.replay.trace import read_traces
from tests.parts import split_graph
from tests.test_prefetch import TINY, reconcile

MakeGraph = Callable[..., Graph]
# The host of each rank.
TWO_TWO, TWO_ONE, IN_TURN = (0, 0, 1, 1), (0, 0, 1), (0, 1, 0, 1)
PLAIN = replace(TINY, prefetch="none", decider=None, epochs=3)


Run = Callable[[Sequence[int], RunConfig], dict[str, Any]]


@pytest.fixture(scope="module")
def run_on(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``run_on(hosts, config)``: the summary of ranks on these hosts, whose counts add up."""
    folder = tmp_path_factory.mktemp("parts")

    def run(hosts: Sequence[int], config: RunConfig) -> dict[str, Any]:
        ranks = len(hosts)
        config = replace(config, ranks=ranks, parts=str(folder / str(ranks)))
        summary = run_in_threads(lambda world: train(config, world, True), ranks, hosts=hosts)[0]
        reconcile(summary)
        received = summary["rows_between_hosts"] * summary["row_bytes"]
        assert received == summary["traffic"]["bytes_received"]
        return summary

    return run


@pytest.fixture(scope="module")
def losses(run_on: Run) -> dict[int, str]:
    """Of 3 and of 4 ranks without a buffer."""
    return {len(hosts): run_on(hosts, PLAIN)["losses_sha256"] for hosts in (TWO_ONE, TWO_TWO)}


@pytest.mark.parametrize(
    ("hosts", "prefetch"),
    [
        *((TWO_TWO, prefetch) for prefetch in SHARED),
        *((TWO_ONE, "lookahead:2"), (TWO_ONE, "vip"), (IN_TURN, "lookahead")),
    ],
)
def test_a_run_is_exact_and_replays_to_its_counts(
    hosts: tuple[int, ...], prefetch: str, run_on: Run, losses: dict[int, str], tmp_path: Path
) -> None:
    shared = replace(PLAIN, prefetch=prefetch, buffer_scope="host", trace=str(tmp_path))
    summary = run_on(hosts, shared)
    assert summary["losses_sha256"] == losses[len(hosts)]
    buffer = summary["buffer"]
    assert (buffer["scope"], buffer["ring_bytes"] > 0) == ("host", True)
    assert buffer["bytes"] == sum(buffer["capacity"]) * summary["row_bytes"]

    traces = read_traces(tmp_path)
    layout = hosts_of_run(traces)
    ranks = replay_run(traces, None, layout)
    assert [vars(rank.counts) for rank in ranks] == [trace.run["counters"] for trace in traces]
    crossed = sum(rank.crossed for rank in ranks)
    assert crossed == summary["rows_between_hosts"]
    capacities = [rank.capacity for rank in ranks]
    bound = bound_of(traces, layout, capacities, "host")
    assert crossed >= bound or prefetch in ("degree", "vip")
    if prefetch in ("overlap", "lookahead"):
        assert crossed <= 1.02 * bound
        assert bound < bound_of(traces, layout, capacities, "rank")

    # The same with a buffer a rank, which replay tells from the same trace.
    alone = run_on(hosts, replace(shared, buffer_scope="rank", trace=None))
    assert alone["losses_sha256"] == losses[len(hosts)]
    setting = SteerConfig(prefetch=prefetch, buffer_scope="rank")
    replayed = replay_run(traces, [setting] * len(hosts), layout)
    assert sum(rank.crossed for rank in replayed) == alone["rows_between_hosts"] > crossed


def test_any_capacity(run_on: Run, losses: dict[int, str]) -> None:
    for rows in (0, 1, 10**6):
        config = replace(PLAIN, prefetch="lru", buffer_rows=rows)
        assert run_on(TWO_TWO, config)["losses_sha256"] == losses[4]


def test_a_resumed_run_keeps_its_buffer(
    run_on: Run, losses: dict[int, str], tmp_path: Path
) -> None:
    config = replace(PLAIN, prefetch="lfu", buffer_rows=150)
    out = str(tmp_path / "run")
    run_on(TWO_TWO, replace(config, epochs=1, out=out))
    resumed = run_on(TWO_TWO, replace(config, resume=out))
    assert resumed["losses_sha256"] == losses[4]
    assert resumed["rows"]["replacements"] > 0, "its rows were brought in again"
    fresh = run_on(IN_TURN, replace(config, resume=out, out=str(tmp_path / "other"), epochs=4))
    assert fresh["rows"]["replacements"] == resumed["rows"]["replacements"], "other hosts: afresh"


@pytest.mark.parametrize("ahead", [0, 2])
def test_leaving_early_and_looping_again(
    power_law_graph: MakeGraph, tmp_path: Path, ahead: int
) -> None:
    """On parts of which some have no seeds left in most steps."""
    parts = split_graph(power_law_graph(300, 2000), 3, tmp_path / "parts", even=False)
    rows = np.concatenate([parts.shard(part).x for part in range(3)])

    def loop(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(4, 4), batch_size=5, ahead=ahead)
        config = SteerConfig(prefetch="lookahead:3", buffer_rows=20)
        with closing(steer(config, world, parts, loader, num_epochs=4)):
            for _ in range(3):
                for taken, batch in enumerate(loader):
                    np.testing.assert_array_equal(batch.x.numpy(), rows[batch.n_id.numpy()])
                    if taken == 1:
                        break
            assert sum(1 for _ in loader) == len(loader) > 3

    run_in_threads(loop, 3, hosts=TWO_ONE)


@pytest.mark.parametrize("fails", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_fails_ends_the_others_soon(
    power_law_graph: MakeGraph, tmp_path: Path, fails: int
) -> None:
    parts = split_graph(power_law_graph(300, 2000), 3, tmp_path / "parts")

    def loop(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(4, 4), batch_size=5)
        config = SteerConfig(prefetch="lookahead", buffer_rows=20)
        with closing(steer(config, world, parts, loader, num_epochs=50)):
            for batch in loader.run(50):
                if world.rank == fails and batch.moment.step == 1:
                    raise ArithmeticError("of the user's own")

    began = time.monotonic()
    with pytest.raises(ArithmeticError, match="own"):
        run_in_threads(loop, 3, timeout=120, hosts=TWO_ONE)
    assert time.monotonic() - began < 60


def test_which_scope_a_run_has() -> None:
    def scope(prefetch: str, hosts: Sequence[int], **settings: Any) -> str:
        return scope_of(SteerConfig(prefetch=prefetch, **settings), hosts)

    for prefetch in ("lookahead", "lru", "lfu", "vip", "degree"):
        assert scope(prefetch, TWO_ONE) == "host"
        assert scope(prefetch, (0, 1)) == scope(prefetch, (0, 0)) == "rank"
        assert scope(prefetch, TWO_TWO, buffer_scope="rank") == "rank"
    assert scope("lru", TWO_TWO, buffer_device="cuda") == "rank"
    for prefetch in ("rudder", "fixed", "massivegnn", "overlap", "none"):
        assert scope(prefetch, TWO_TWO) == "rank"
    assert scope("overlap", TWO_TWO, buffer_scope="host") == "host"
    assert scope("lru", (0, 1), buffer_scope="host") == "rank", (
        "a host with one rank has one buffer"
    )


@pytest.mark.parametrize(
    ("settings", "hosts", "message"),
    [
        ({"prefetch": "fixed"}, TWO_TWO, "--buffer-scope host: --prefetch fixed is a rank's own"),
        ({"prefetch": "none"}, TWO_TWO, "expected overlap, degree, vip, lru, lfu, lookahead"),
        ({"prefetch": "lru", "buffer_device": "cuda"}, TWO_TWO, "expected cpu"),
        ({"prefetch": "lru"}, (0, 0), "all ranks run on one host"),
        (
            {"prefetch": "lru", "buffer_rows": 10**12},
            TWO_TWO,
            "--buffer: .* of memory needed on this host",
        ),
    ],
)
def test_bad_input_is_one_line(
    settings: dict[str, Any], hosts: tuple[int, ...], message: str, run_on: Run
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        run_on(hosts, replace(PLAIN, buffer_scope="host", **settings))
    assert "\n" not in str(raised.value)
