"""Many trainers from a few: rows are those of real runs; errors and times are right by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.command import Row
from benchmarks.scale.__main__ import ScaleConfig
from benchmarks.scale.calibration import RealRuns, extrapolated, line, sampling_errors
from benchmarks.scale.model import Costs, Work, estimate, scale_of, split, worst
from benchmarks.trainers import Trainers
from minidist.comm.rank_threads import run_in_threads
from minidist.comm.transport.base import Op
from minidist.run import train, train_in_threads
from minidist.run_config import RunConfig
from rudder.cli.flags import from_args
from rudder.replay.trace import read_traces
from tests.mpi.needs import need

RUN: dict[str, Any] = {"fanout": (5, 4), "batch_size": 20, "epochs": 3, "seed": 3, "hidden": 8}
COSTS = Costs((1.0, 0.0), (2.0, 0.0), (3.0, 0.5), message_s=0.25, link_share=0.5, sum_s=0.125)
TINY = "--dataset synthetic:tiny --batch-size 50 --fanout 5,4 --epochs 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scale")


def make_run(folder: Path, count: int, prefetch: str, **more: Any) -> tuple[RunConfig, Trainers]:
    named: Row = {"dataset": "synthetic:tiny", "ranks": count, "eval_every": 0}
    parts = split(RunConfig(**RUN, **named), count, folder)
    named |= {"parts": str(parts.path), "prefetch": prefetch, "buffer": 0.2, **more}
    run = RunConfig(**RUN, **named)
    return run, Trainers(parts, run)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("prefetch", ["none", "fixed", "lfu", "lookahead", "vip", "rudder"])
def test_rows_are_those_of_a_run(prefetch: str, count: int, folder: Path) -> None:
    decider = "every:3" if prefetch == "rudder" else None
    run, trainers = make_run(folder, count, prefetch, decider=decider, transport="local")
    rows = train_in_threads(run, quiet=True)["rows"]
    row = scale_of(trainers, [run], sample=count)["rows"][0]
    assert sum(map(sum, row["by_step"])) == rows["misses"] + rows["replacements"]
    for name in ("remote", "misses", "replacements"):
        assert row[name] * count * run.epochs == pytest.approx(rows[name], abs=1e-6), name
        assert row[f"{name}_error"] == 0.0
    assert row["hits_pct"] == pytest.approx(100 * rows["hits"] / rows["remote"])
    assert row["belady_pct"] <= row["moved_pct"] + 1e-9


def test_traces_are_those_of_a_run(folder: Path, tmp_path: Path) -> None:
    run, trainers = make_run(folder, 3, "overlap", trace=str(tmp_path / "run"), trace_only=True)
    train_in_threads(run, quiet=True)
    for rank, recorded in enumerate(read_traces(tmp_path / "run")):
        ours = trainers.play(rank).trace
        pairs = [(vars(ours.prior)[name], array) for name, array in vars(recorded.prior).items()]
        for given, expected in (*pairs, (ours.ids, recorded.ids), (ours.offsets, recorded.offsets)):
            np.testing.assert_array_equal(given, expected)
        assert ours.facts == recorded.facts


def test_bytes_are_those_between_hosts(folder: Path) -> None:
    run, trainers = make_run(folder, 3, "none")
    found = run_in_threads(lambda world: (train(run, world, True), world), 3, hosts=range(3))
    for _, world in found:
        received, played = world.transport.traffic.received, trainers.play(world.rank)
        assert played.reply_bytes.sum() == received[Op.NEIGHBORS].sum()
        rows = played.owners.sum(axis=0) * 4 * trainers.num_features
        np.testing.assert_array_equal(rows, received[Op.ROWS])


def test_a_sample_and_its_error() -> None:
    # Residuals of 5 / 10 are -1 and 1: their variance is 2, of which (1 - 2 / 8) / 2 is left.
    assert estimate([4, 6], [10, 10], 8) == pytest.approx((0.5, 0.75**0.5 / 10))
    # Where both grow together there is nothing to err, nor where all are known.
    assert estimate([5, 10], [10, 20], 8) == estimate([4, 6], [10, 10], 2) == (0.5, 0.0)
    assert (estimate([4], [10], 8), estimate([0, 0], [0, 0], 8)) == ((0.4, None), (0.0, 0.0))


def test_what_a_sample_errs_is_measured_where_all_are_played(folder: Path) -> None:
    run, trainers = make_run(folder, 6, "lru")
    scale = scale_of(trainers, [run], sample=2, whole=6)
    row, guess = scale["rows"][0], scale["rows"][0]["of_a_sample"]
    each = [sum(steps) / 3 for steps in row["by_step"]]
    assert (scale["sampled"], row["moved"]) == ([*range(6)], pytest.approx(np.mean(each)))
    assert guess["moved"] == pytest.approx((each[0] + each[5]) / 2)
    off, said = 100 * abs(guess["moved"] / row["moved"] - 1), 100 * guess["moved_error"]
    expected = {"count": 1, "median_pct": off, "worst_pct": off, "said_pct": said / row["moved"]}
    assert dict([*sampling_errors([row]).items()][:4]) == pytest.approx(expected)
    assert sampling_errors(scale_of(trainers, [run], sample=2)["rows"]) == {}


def test_an_epoch_by_hand() -> None:
    ones, edges = np.ones((2, 4)), np.array([[1.0, 1, 1, 1], [1, 2, 1, 2]])
    work = Work(ones, edges, 4 * ones, 16 * ones, num_epochs=2, num_hops=2)
    # Links of 8 bytes a second, of which half is to be had: neighbours take 1 s, rows 4 s.
    costs = COSTS._replace(gradient_bytes=2.0)
    summing, cores = 0.125 + 2 / 4, 2 * 6 + (0.5 + 0.75)
    assert costs._replace(exposed=0.25).epoch(work, 2, 1.0, "64bit") == {
        "train": 3.5 + 4.0 + 2 * summing,
        "sample": 2 * (1 + 0.25 + 1),
        "fetch": 2 * (0.25 + 4),
        "links": 2 * (4 + 16 + 2) / 4,
        "cores": cores,
        "none": (none := 2 * (2.25 + 2 + 4.25 + summing) + 3.5 + 4.0),
        "ahead": 0.75 * cores + 0.25 * none,
    }
    here, half = (COSTS.epoch(work, 2, cores, None) for cores in (1.0, 0.5))
    assert (here["none"], here["links"]) == (2 * 3 + 3.5 + 4.0, 0.0)
    assert (half["none"], half["cores"]) == (2 * here["none"], 2 * here["cores"])
    sync = COSTS.epoch(work, 2, 1.0, None, decision_s=10.0, sync=True)
    assert (sync["fetch"], sync["none"]) == (2 * 12.0, here["none"] + 2 * 10.0)
    assert COSTS.epoch(work, 2, 1.0, None, 0.5)["cores"] == here["cores"] + 2 * 0.5


def test_the_slowest_of_many() -> None:
    amounts = np.array([[9.0, 18.0], [11.0, 22.0]])
    assert worst(amounts, 2).tolist() == [11.0, 22.0]
    drawn = np.random.default_rng(0).normal(10, 2**0.5, (4000, 256)).max(axis=1).mean()
    np.testing.assert_allclose(worst(amounts, 256), [drawn, 2 * drawn], rtol=0.01)
    assert worst(amounts[:1], 256).tolist() == [9.0, 18.0]


class FormulaRuns(RealRuns):
    """Runs that take what a formula says; on links half of the rate is to be had."""

    def summary(self, run: RunConfig, rate: str | None = None) -> Row:
        work, wire = self.work(run)[1], 0.0 if rate is None else 8 / (0.5 * 1e5)
        steps = work.edges.shape[1] // work.num_epochs
        sample = 0.1 + 1e-3 * work.edges.mean(axis=1).max() + wire / 2 * work.neighbor_bytes.mean()
        fetch = 0.2 + 2e-3 * work.nodes.mean(axis=1).max() + wire * work.row_bytes.mean()
        epoch = steps * (sample + fetch + 0.3 + 3e-3 * work.edges.max(axis=0).mean())
        found = {"epoch_time_s": epoch * (1.0 if run.prefetch == "none" else 0.8)}
        found |= {"sample_s": steps * sample, "fetch_s": steps * fetch, "steps_per_epoch": steps}
        return {**found, "decisions": {"latency_ms_p50": 10.0}}


def test_costs_are_found_again(folder: Path) -> None:
    found = [line((10.0, y), (20.0, 5.0)) for y in (3.0, 2.0, 6.0)]
    assert found == [(1.0, 0.2), (0.0, 0.25), (5.0, 0.0)]
    runs, run = FormulaRuns(folder, 1), make_run(folder, 2, "overlap")[0]
    fitted = runs.calibrate(run, "100kbit")
    given = [0.1, 1e-3, 0.2, 2e-3, 0.3, 3e-3, 0.5, 0.01, 4 * (1 + (32 * 8 + 4 + 8 * 5) * 2 + 5)]
    costs = [*fitted.sample, *fitted.gather, *fitted.train, fitted.link_share, fitted.decision_s]
    assert [*costs, fitted.gradient_bytes] == pytest.approx(given)
    assert (fitted.message_s, fitted.sum_s) == pytest.approx((0.0, 0.0), abs=1e-9)
    took = runs.summary(run, "100kbit")["epoch_time_s"]
    assert runs.epochs(run, "100kbit", fitted)["ahead"] == pytest.approx(took)


def test_many_trainers_and_their_error(folder: Path) -> None:
    (none, trainers), (lru, _) = (make_run(folder, 6, name) for name in ("none", "lru"))
    scale = scale_of(trainers, [none, lru], sample=2)
    scale["rows"][1]["setting"] = "rudder llm"
    words = ["--cluster", "1mbit", "--decision-ms", "60000", "--speedup", "2", "--fanout", "5,4"]
    costs = COSTS._replace(decision_s=0.25)
    times = list(extrapolated(from_args(ScaleConfig, words), costs, scale, error=20.0))
    assert times[3]["setting"] == "rudder llm async 6e+04 ms"
    work, fast = Work.of(scale, scale["rows"][1], 2), costs._replace(train=(1.5, 0.25))
    two, six = (fast.epoch(work, count, 2.0, "1mbit", 60.0)["ahead"] for count in (2, 6))
    assert (times[3]["epoch_s"], times[3]["of_none"]) == (six, six / times[0]["epoch_s"])
    rows = 100 * scale["rows"][1]["moved_error"] / scale["rows"][1]["moved"]
    error = np.linalg.norm([20.0, rows, 100 * (1 - two / six)])
    assert times[3]["epoch_s_error"] == pytest.approx(error * six / 100)
    steps = len(scale["rows"][1]["by_step"][0]) // 3
    assert [row["r"] for row in times] == [1, 1, 1, -(-60 * steps // six), 1]


def command(folder: Path, words: str) -> tuple[str, Row]:
    """What it says, and what it writes."""
    every = f"-m benchmarks.scale --folder {folder} --json {folder}/scale.json {TINY} {words}"
    done = subprocess.run([sys.executable, *every.split()], stdout=-1, text=True, check=True)
    return done.stdout, json.loads((folder / "scale.json").read_text())


def test_the_command(tmp_path: Path) -> None:
    words = f"--figure {tmp_path}/scale.svg --prefetch lookahead,rudder --decider never"
    sizes = "--trainers 3,8 --whole 3 --sample 2 --buffer 0.1,0.5 --calibrate none"
    said, found = command(tmp_path, f"{words} {sizes}")
    assert "A sample's rows are off by, in percent: count 6, median" in said
    assert [len(scale["sampled"]) for scale in found["scales"]] == [3, 2]
    for scale in found["scales"]:
        rows = {(row["setting"], row["buffer"]): row for row in scale["rows"]}
        assert len(rows) == 2 + 2 * 2
        assert rows["rudder never", 0.5]["moved_pct"] == 100.0
        assert rows["lookahead", 0.5]["moved_pct"] < rows["lookahead", 0.1]["moved_pct"] < 100.0
        assert (rows["none", 0.0]["remote_error"] > 0) == (scale["trainers"] == 8)
    assert (tmp_path / "scale.svg").read_text().startswith("<svg")


@pytest.mark.slow
@need("hosts")
def test_the_command_with_times(tmp_path: Path) -> None:
    found = command(tmp_path, "--trainers 8 --prefetch fixed --check 1,3 --variants none,fixed")[1]
    assert [row["checked_at"] for row in found["checks"]] == ["1", "1", "3", "3"]
    assert {row["link"] for row in found["times"] if row["epoch_s_error"]} == {"1gbit", "10gbit"}
