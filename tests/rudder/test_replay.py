"""The replay's command line: grids, JSON, and bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rudder.buffer.index import Ids
from rudder.cli.flags import from_args
from rudder.presets import PRESETS
from rudder.replay.__main__ import main
from rudder.replay.belady import belady_rows
from rudder.replay.grid import ReplayConfig, grid, grid_table
from rudder.replay.runs import hosts_of_run, own_setting, replay_own
from rudder.replay.trace import Trace, read_traces
from tests.rudder.streams import make_test_trace

KEYS = (
    *("prefetch", "decider", "buffer", "rows_moved", "rows_none", "hits_pct", "halo_hits_pct"),
    *("replacement_rows", "belady_rows", "capacity_over_batch"),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The traces of a run of two ranks."""
    for rank in range(2):
        trace = make_test_trace(seed=rank)
        facts = replace(trace.facts, num_parts=2)
        settings = {"prefetch": "lfu", "decider": None}
        Trace(**{**vars(trace), "facts": facts, "run": settings}).write(
            tmp_path / "run" / f"rank{rank}"
        )
    return tmp_path / "run"


def test_a_grid_of_everything(run: Path) -> None:
    config = from_args(ReplayConfig, [str(run), "--buffer", "0.1,0.5", "--decider", "always,never"])
    rows = list(grid(config))
    # Every preset once a buffer, rudder once a decider and buffer.
    assert len(rows) == 2 * (len(PRESETS) + 1)
    traces = read_traces(run)
    for row in rows:
        assert set(KEYS) <= set(row)
        assert row["rows_none"] == sum(len(trace.ids) for trace in traces)
        assert row["rows_moved"] >= row["belady_rows"] or row["prefetch"] in ("degree", "vip")
        if row["prefetch"] in ("none", "overlap") or row["decider"] == "never":
            assert row["rows_moved"] == row["rows_none"]
        if row["prefetch"] == "lookahead":
            assert row["rows_moved"] <= 1.02 * row["belady_rows"]
        if row["buffer"]:
            capacities = [round(row["buffer"] * trace.facts.halo_rows) for trace in traces]
            bounds = zip(traces, capacities, strict=True)
            best = sum(belady_rows(trace.minibatches, capacity) for trace, capacity in bounds)
            assert row["belady_rows"] == best
            ratio = sum(capacities) / sum(trace.mean_remote for trace in traces)
            assert row["capacity_over_batch"] == pytest.approx(ratio)
    assert "lookahead" in grid_table(rows)


def test_a_replay_of_the_runs_own_setting(run: Path) -> None:
    (row,) = grid(from_args(ReplayConfig, [str(run), "--prefetch", "own"]))
    assert row["prefetch"] == "lfu"
    ranks = [replay_own(trace) for trace in read_traces(run)]
    assert row["rows_moved"] == sum(rank.counts.moved for rank in ranks)
    assert own_setting(read_traces(run)[0]).prefetch == "lfu"


def test_one_buffer_a_host(tmp_path: Path) -> None:
    """Four ranks on two hosts: fewer rows cross than with one a rank, and hardly more than must."""
    for rank in range(4):
        trace = make_test_trace(seed=rank)
        facts = replace(trace.facts, num_parts=4, part_nodes=trace.num_ids // 4)
        Trace(**{**vars(trace), "facts": facts}).write(tmp_path / "run" / f"rank{rank}")
    words = "--prefetch lookahead,lfu,degree,overlap --buffer 0.1,0.3 --buffer-scope rank,host"
    rows = list(
        grid(from_args(ReplayConfig, [str(tmp_path / "run"), "--hosts", "2", *words.split()]))
    )
    assert len(rows) == 16
    for alone, shared in zip(rows[:2] + rows[4:6], rows[2:4] + rows[6:8], strict=True):
        assert (alone["scope"], shared["scope"]) == ("rank", "host")
        assert shared["rows_none"] == alone["rows_none"] < sum(map(len, streams(tmp_path / "run")))
        assert shared["belady_rows"] < shared["belady_rank_rows"] == alone["belady_rows"]
        assert shared["belady_rows"] <= shared["rows_moved"] < alone["rows_moved"]
    for row in rows[2:4]:
        assert row["rows_moved"] <= 1.02 * row["belady_rows"]
    # Nothing kept: each row crosses once a host and step.
    overlap, hosts = rows[-1], hosts_of_run(read_traces(tmp_path / "run"), 2)
    assert hosts is not None
    once = 0
    for group in ([0, 1], [2, 3]):
        far = [
            [ids[hosts.far(rank, ids)] for ids in hosts.traces[rank].minibatches] for rank in group
        ]
        once += sum(len(np.unique(np.concatenate(step))) for step in zip(*far, strict=True))
    assert overlap["rows_moved"] == overlap["belady_rows"] == once
    assert "x Belady a rank" in grid_table(rows)


def streams(folder: Path) -> list[Ids]:
    return [trace.ids for trace in read_traces(folder)]


def test_json_of_the_command_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "grid.json"
    words = ["replay", str(run), "--prefetch", "lru,lfu", "--buffer", "0.2", "--json", str(file)]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert [row["prefetch"] for row in json.loads(file.read_text())["grid"]] == ["lru", "lfu"]
    assert "x Belady" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{run} --prefetch lru,best", "--prefetch best: expected one of none"),
        ("{run} --decider perhaps --prefetch rudder", "--decider perhaps: expected never"),
        ("{run} --buffer 0.1,x", "--buffer 0.1,x: expected numbers with commas between"),
        ("nowhere", "nowhere: no trace there"),
        ("{run}/rank0", "no trace there"),
        ("{run} --buffer-scope node", "--buffer-scope node: expected rank or host"),
        ("{run} --buffer-scope host --prefetch fixed", "--prefetch fixed is a rank's own"),
        ("{run} --buffer-scope host --prefetch lru", "ran on one host; deal them to several with"),
        ("{run} --hosts 3", "--hosts 3: expected 1 to 2, the ranks of run"),
        ("{run} --hosts 2", "2 ranks with 400 of 200 nodes"),
    ],
)
def test_bad_input(
    words: str,
    message: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["replay", *words.format(run=run).split()])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_traces_that_are_damaged_or_not_whole(run: Path) -> None:
    (run / "rank1" / "ids.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match="rank1 cannot be read as a trace"):
        read_traces(run)
    meta = json.loads((run / "rank0" / "meta.json").read_text())
    (run / "rank0" / "meta.json").write_text(json.dumps({**meta, "version": 0}))
    with pytest.raises(ValueError, match="version 0, expected 1: record it anew"):
        Trace.read(run / "rank0")
