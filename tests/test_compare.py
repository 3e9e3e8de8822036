"""Comparing variants: what must cross, the limit, the ratios, on runs that are real and tiny."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.compare import contest as contests
from benchmarks.compare.__main__ import CompareConfig, cell_text, draw
from benchmarks.compare.contest import FRAMES, compute_seconds, contest, crossing, judge, limit_of
from benchmarks.lab.jobs import PYTHON, start
from benchmarks.runs import parts_of
from benchmarks.trainers import Trainers
from minidist.config import TrainConfig
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from minidist.store.partition_dir import Parts
from rudder.replay.belady import plain_belady_rows
from rudder.replay.trace import read_traces
from tests.mpi.needs import need

HIDDEN, BATCH, EPOCHS = 8, 60, 3
needs_hosts = need("hosts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where partitions are kept."""
    return tmp_path_factory.mktemp("parts")


def trainers(folder: Path, ranks: int, ranks_per_host: int = 1) -> Trainers:
    run = TrainConfig(batch_size=BATCH, epochs=EPOCHS, hidden=HIDDEN)
    path = parts_of("synthetic:tiny", ranks, folder, "random")
    return Trainers(Parts.open(path), run, ranks_per_host)


@pytest.mark.parametrize("num", [2, 3])
def test_what_must_cross_is_what_a_run_needs(num: int, folder: Path, tmp_path: Path) -> None:
    """By hand from the traces of a run: rows into and out of each host, and Belady's bound."""
    played = trainers(folder, num)
    train_in_threads(
        RunConfig(
            parts=str(played.parts.path),
            batch_size=BATCH,
            epochs=EPOCHS,
            ranks=num,
            transport="local",
            prefetch="overlap",
            trace_only=True,
            trace=str(tmp_path / "traces"),
        ),
        quiet=True,
    )
    traces = read_traces(tmp_path / "traces")
    steps = traces[0].facts.minibatches_per_epoch
    into, out, best = np.zeros(num), np.zeros(num), np.zeros(num)
    for rank, trace in enumerate(traces):
        every = trace.minibatches
        owners = played.parts.book.owner(np.concatenate(every[steps:]))
        into[rank] = len(owners)
        out += np.bincount(owners, minlength=num)
        capacity = round(0.1 * trace.facts.halo_rows)
        first = plain_belady_rows(every[:steps], capacity)
        best[rank] = plain_belady_rows(every, capacity) - first
    row_bytes, timed = 4 * played.num_features, EPOCHS - 1
    parameters = played.num_parameters
    found = crossing(played, 0.1)
    assert found["rows_none"] == pytest.approx(row_bytes * max(*into, *out) / timed)
    assert best.max() <= found["rows"] * timed / row_bytes < found["rows_none"] * timed / row_bytes
    gradients = 2 * (num - 1) / num * 4 * (parameters + 1) * steps
    assert found["gradients"] == pytest.approx(gradients)
    assert found["none"] > found["rows_none"] + found["gradients"]
    alone = crossing(played, 0.1, asks_neighbors=False)
    assert alone["sampling"] == 0 < found["sampling"]
    assert alone["none"] < found["none"]
    assert found["none"] - found["fewest"] >= found["rows_none"] - found["rows"] - 8 * into.max()


def test_ranks_of_a_host_need_no_link(folder: Path) -> None:
    """Two hosts of two ranks: what crosses is between the hosts, and of each sum once."""
    four, two = trainers(folder, 4), trainers(folder, 4, ranks_per_host=2)
    apart, paired = (crossing(each, 0.1) for each in (four, two))
    steps = four.play(0).trace.facts.minibatches_per_epoch
    owners = np.array([two.play(rank).owners[steps:].sum(axis=0) for rank in range(4)])
    links = owners[:2, 2:].sum(), owners[2:, :2].sum()
    assert paired["rows_none"] == pytest.approx(4 * two.num_features * max(links) / (EPOCHS - 1))
    assert paired["gradients"] == 4 * (two.num_parameters + 1) * steps < apart["gradients"]
    assert two.play(1).request_bytes.sum() < four.play(1).request_bytes.sum()
    assert crossing(trainers(folder, 4, ranks_per_host=4), 0.1)["fewest"] == 0


def test_a_buffer_of_everything_fetches_each_row_once(folder: Path) -> None:
    """After the first epoch, which is not timed, nearly nothing is left to fetch."""
    played = trainers(folder, 2)
    everything, nothing = (crossing(played, share) for share in (100.0, 0.0))
    assert nothing["rows"] == nothing["rows_none"]
    assert everything["rows"] < 0.1 * everything["rows_none"]


def test_parameters_are_those_of_the_model(folder: Path) -> None:
    played = trainers(folder, 2)
    width, classes = played.parts.num_features, played.parts.num_classes
    # Two SAGE layers: a matrix each for neighbours and for the node itself, and a bias.
    expected = 2 * width * HIDDEN + HIDDEN + 2 * HIDDEN * classes + classes
    assert played.num_parameters == expected


def test_compute_is_of_the_rank_that_comes_last(tmp_path: Path) -> None:
    """Steps of two ranks; the first epoch compiles, and what a rank waits for is no work."""
    times = {
        0: [9.0, 9.0, 1.0, 5.0, 2.0, 2.0, 3.0, 3.0],
        1: [9.0, 9.0, 4.0, 2.0, 2.0, 3.0, 9.0, 1.0],
    }
    for rank, seconds in times.items():
        steps = [
            {"event": "step", "epoch": number // 2, "step": number % 2, "train_s": each}
            for number, each in enumerate(seconds)
        ]
        lines = [json.dumps(line) for line in [{"event": "started"}, *steps]]
        (tmp_path / f"events-rank{rank}.jsonl").write_text("\n".join(lines) + "\n")
    assert compute_seconds(tmp_path) == 4.0  # the median of 1 + 2, 2 + 2 and 3 + 1
    with pytest.raises(ValueError, match="holds no event log"):
        compute_seconds(tmp_path / "elsewhere")


def test_the_limit_is_the_larger_of_two() -> None:
    crossed = {"fewest": 3e6 / (8 * FRAMES), "none": 5e6 / (8 * FRAMES)}
    limit = limit_of(2.0, 4.0, crossed, "1mbit")
    assert [limit[name] for name in ("link_s", "communication_s", "limit_s")] == [3.0, 5.0, 3.0]
    assert (limit["communication_ratio"], limit["here_s"]) == (2.5, 4.0)
    assert limit_of(2.0, 4.0, crossed, "3mbit")["limit_s"] == 2.0
    assert limit_of(2.0, 4.0, crossed, "none")["communication_s"] == 0.0


def test_ratios_are_to_none_fixed_and_the_limit() -> None:
    times = {"none": 8.0, "fixed": 4.0, "lookahead": 2.0}
    judged = judge({name: {"epoch_time_s": seconds} for name, seconds in times.items()}, 1.6)
    found = [judged["lookahead"][key] for key in ("times_none", "times_fixed", "over_limit")]
    assert found == [4.0, 2.0, 1.25]
    assert judge({"lru": {"epoch_time_s": 3.0}}, 2.0)["lru"] == {
        "epoch_time_s": 3.0, "times_none": None, "times_fixed": None, "over_limit": 1.5,
    }  # fmt: skip


@pytest.mark.slow
@needs_hosts
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks_per_host", [1, 2])
def test_variants_in_one_lab(ranks_per_host: int, folder: Path) -> None:
    cell = CompareConfig(
        graph="synthetic:small",
        ranks_per_host=ranks_per_host,
        rate="50mbit",
        repeats=1,
        variants="none,lookahead",
        batch_size=250,
        epochs=EPOCHS,
        hidden=HIDDEN,
    )
    ended: list[str] = []
    record = contest(cell, folder, ended.append)
    assert ended == ["compute", "pipeline", "none", "lookahead"]
    json.dumps(record)
    none, lookahead = record["variants"]["none"], record["variants"]["lookahead"]
    path = parts_of("synthetic:small", 2 * ranks_per_host, folder)
    row_bytes = 4 * Parts.open(path).num_features
    for figures in (none, lookahead):
        rows = figures["rows"]
        assert rows["hits"] + rows["misses"] == rows["remote"] == none["rows"]["remote"]
        assert figures["bytes_missed"] == rows["misses"] * row_bytes
        moved = figures["bytes_missed"] + figures["bytes_replaced"]
        # What ranks of a host have of each other crosses no link.
        assert (figures["link_bytes"] > moved) == (ranks_per_host == 1)
        assert figures["over_limit"] == figures["epoch_time_s"] / record["limit"]["limit_s"]
        assert figures["times_none"] == none["epoch_time_s"] / figures["epoch_time_s"]
        assert figures["times_fixed"] is None
    assert lookahead["rows"]["misses"] < none["rows"]["misses"]
    assert lookahead["hits_pct"] > 0
    limit, bytes_ = record["limit"], record["crossing"]
    assert limit["link_s"] == pytest.approx(8 * FRAMES * bytes_["fewest"] / 50e6)
    # Nobody is faster than the wire.
    assert none["epoch_time_s"] > limit["communication_s"] > limit["link_s"]
    text = cell_text(record)
    assert "lookahead" in text
    assert record["losses_sha256"][:12] in text
    ElementTree.fromstring(draw([record], None))
    twice = [{**record, "buffer": share} for share in (0.1, 0.25)]
    assert "epoch / limit" in draw(twice, "buffer")


def test_variants_that_learn_differently_are_an_error() -> None:
    def runs(*losses: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            (f"variant{number}", {"losses_sha256": name, "test_accuracy": 0.5})
            for number, name in enumerate(losses)
        ]

    contests.require_equal(runs("a", "a"))
    with pytest.raises(contests.Unequal, match=r"losses_sha256.*variant1.*variant2"):
        contests.require_equal(runs("a", "a", "b"))


def test_a_sweep_has_a_cell_a_value() -> None:
    config = CompareConfig(graph="synthetic:small", sweep="buffer=0.05,0.25", batch_size=7)
    assert [cell.buffer for cell in config.cells()] == [0.05, 0.25]
    assert {cell.flags("lru")["batch_size"] for cell in config.cells()} == {7}


def test_a_variant_may_name_the_scope_of_its_buffer() -> None:
    config = CompareConfig(graph="synthetic:small", variants="lookahead,lookahead@host")
    plain, shared = map(config.flags, config.variants.split(","))
    assert shared == {**plain, "buffer_scope": "host"}


def test_the_command_exits_with_2_on_nonsense() -> None:
    words = [PYTHON, "-m", "benchmarks.compare", "--json", "/nowhere/at/all"]
    code, output = start(words).finish(30)
    assert (code, output.count("\n")) == (2, 1), output
    assert output.startswith("error: --json /nowhere/at/all: expected a file in a fold")
