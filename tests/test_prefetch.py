"""Prefetching moves time and traffic, never learning; and traffic adds up."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from minidist.training.summary import summary_table
from rudder.cli.flags import from_args
from rudder.replay.grid import replay_own
from rudder.replay.trace import read_traces

REAL = Path(__file__).parents[1] / "data" / "real" / "amazon_photo.npz"
VARIANTS = {
    "none": {},
    "overlap": {},
    "fixed": {},
    "massivegnn": {"interval": 4},
    "rudder": {"decider": "random:0.4"},
    "lru": {},
    "lfu": {},
    "vip": {},
    "degree": {},
    "lookahead": {},
    "lookahead:2": {},
}
TINY = RunConfig(
    dataset="synthetic:tiny",
    prefetch="rudder",
    decider="always",
    transport="local",
    method="random",
    ranks=2,
    fanout=(5, 5),
    hidden=16,
    batch_size=20,
    epochs=4,
    eval_every=0,
)


def reconcile(summary: dict[str, Any]) -> None:
    """What sources counted, owners served and the transport moved is the same."""
    rows, traffic = summary["rows"], summary["traffic"]
    assert rows["remote"] == rows["hits"] + rows["misses"]
    assert (rows["misses"] + rows["replacements"]) * summary["row_bytes"] == summary["bytes_moved"]
    assert summary["bytes_moved"] == traffic["bytes_received"] + traffic["bytes_mapped"]
    assert traffic["bytes_received"] == traffic["bytes_served"]
    if summary["buffer"] is not None:
        buffer = summary["buffer"]
        for name in ("remote", "hits", "misses", "replacements"):
            assert buffer[name] == rows[name]
        assert buffer["halo_hits"] <= buffer["hits"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_variants_learn_the_same_on_a_real_graph(ranks: int, tmp_path: Path) -> None:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there")
    parts = str(tmp_path / "parts")
    hashes, moved = set(), {}
    for prefetch, settings in VARIANTS.items():
        config = RunConfig(
            dataset=f"npz:{REAL}",
            parts=parts,
            prefetch=prefetch,
            transport="local",
            ranks=ranks,
            hidden=16,
            batch_size=30,
            epochs=3,
            eval_every=0,
            **settings,  # type: ignore[arg-type]
        )
        summary = train_in_threads(config)
        reconcile(summary)
        hashes.add(summary["losses_sha256"])
        rows = summary["rows"]
        moved[prefetch] = rows["misses"] + rows["replacements"]
    assert len(hashes) == 1
    assert moved["none"] == moved["overlap"]
    assert moved["lookahead"] == min(moved.values())
    assert moved["lookahead"] < 0.9 * moved["none"]


@pytest.mark.parametrize("buffer_rows", [0, 1, 3, 10**6])
@pytest.mark.parametrize("prefetch", ["fixed", "massivegnn", "lru", "lookahead"])
def test_any_capacity(prefetch: str, buffer_rows: int) -> None:
    config = replace(TINY, prefetch=prefetch, decider=None, epochs=2, interval=2)
    plain = train_in_threads(replace(config, prefetch="none"))
    summary = train_in_threads(replace(config, buffer_rows=buffer_rows))
    reconcile(summary)
    assert summary["losses_sha256"] == plain["losses_sha256"]
    assert summary["buffer"]["capacity"] == [buffer_rows] * 2
    assert (summary["rows"]["hits"] > 0) == (buffer_rows > 0)


@pytest.mark.parametrize(
    "prefetch", ["none", "overlap", "fixed", "massivegnn", "rudder", "vip", "lfu", "lookahead"]
)
def test_a_trace_replays_to_the_runs_counters(prefetch: str, tmp_path: Path) -> None:
    decider = "random:0.5" if prefetch == "rudder" else None
    config = replace(TINY, prefetch=prefetch, decider=decider, trace=str(tmp_path), interval=2)
    summary = train_in_threads(config)
    reconcile(summary)
    traces = read_traces(tmp_path)
    assert len(traces) == 2
    counted: dict[str, int] = {}
    for trace in traces:
        counters = vars(replay_own(trace).counts)
        assert counters == trace.run["counters"]
        counted = {name: counted.get(name, 0) + value for name, value in counters.items()}
    for name in ("remote", "hits", "misses", "replacements"):
        assert counted[name] == summary["rows"][name]


def test_trace_only_records_what_training_would_ask_for(tmp_path: Path) -> None:
    trained = replace(TINY, prefetch="lru", decider=None, trace=str(tmp_path / "trained"))
    only = replace(trained, trace=str(tmp_path / "only"), trace_only=True)
    summary, figures = train_in_threads(trained), train_in_threads(only)
    assert figures["rows"] == summary["rows"]
    assert "losses" not in figures
    assert "remote rows" in summary_table(figures)
    train_in_threads(replace(only, ranks=1))
    assert len(read_traces(tmp_path / "only")) == 1, "an earlier trace of more ranks is replaced"
    train_in_threads(only)
    for ours, theirs in zip(
        read_traces(tmp_path / "only"), read_traces(tmp_path / "trained"), strict=True
    ):
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        np.testing.assert_array_equal(ours.offsets, theirs.offsets)


def test_decisions_are_in_the_summary_and_the_event_log(tmp_path: Path) -> None:
    summary = train_in_threads(replace(TINY, out=str(tmp_path / "run")))
    decided, steps = summary["decisions"], summary["steps_per_epoch"] * 4
    assert decided["decider"] == "always"
    assert decided["count"] == 2 * (steps - 1)
    assert (decided["interval"], decided["replace_pct"], decided["valid_pct"]) == (1, 100, 100)
    assert decided["failures"] == 0
    lines = (tmp_path / "run" / "events-rank0.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "decision"]
    # What the last two minibatches would show was never seen.
    assert len(events) == steps - 2
    assert {"replace", "hits_pct_before", "hits_pct_after", "reason", "passed"} <= set(events[0])
    assert "Pass@1" in summary_table(summary)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_an_agent_that_is_always_late_costs_decisions_not_training(
    mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config = replace(TINY, decider="llm", decider_mode=mode, agent_timeout=1e-6)
    summary, plain = train_in_threads(config), train_in_threads(replace(TINY, decider="never"))
    decided = summary["decisions"]
    assert (decided["count"], decided["replace_pct"]) == (0, None)
    assert decided["failures"] == sum(decided["failure_reasons"].values()) > 2
    late = ("too long", "no answer within")
    assert all(any(text in reason for text in late) for reason in decided["failure_reasons"])
    told = capfd.readouterr()
    assert told.err.count("training goes on and keeps the buffer as it is") == 2, "once a rank"
    assert "times: " in told.out
    assert summary["losses_sha256"] == plain["losses_sha256"]
    assert summary["rows"]["replacements"] == plain["rows"]["replacements"]


@pytest.mark.parametrize("prefetch", ["fixed", "lfu", "lookahead", "vip"])
def test_a_resumed_run_keeps_its_buffer(prefetch: str, tmp_path: Path) -> None:
    config = replace(TINY, prefetch=prefetch, decider=None)
    whole = train_in_threads(config)
    out = str(tmp_path / "run")
    train_in_threads(replace(config, epochs=2, out=out))
    kept = {path.name for path in Path(out).glob("rank?.npz")}
    assert kept == {"rank0.npz", "rank1.npz"}
    resumed = train_in_threads(replace(config, resume=out))
    assert resumed["losses_sha256"] == whole["losses_sha256"]
    reconcile(resumed)
    fresh = train_in_threads(replace(config, resume=out, buffer_rows=7))
    assert fresh["losses_sha256"] == whole["losses_sha256"]


BAD = [
    ("--prefetch nothing", "--prefetch nothing: expected one of none, overlap"),
    ("--prefetch lookahead:0", "expected lookahead:W, W at least 1"),
    ("--prefetch lru:3", "--prefetch lru:3: expected one of"),
    ("--prefetch lru --decider always", "only --prefetch rudder asks a decider, not lru"),
    ("--decider sometimes", "--decider sometimes: expected never, always"),
    ("--decider every:0", "expected every:N with N at least 1"),
    ("--decider random:2", "expected random:P with P from 0 to 1"),
    ("--decider mlp --classifier-dir nowhere", "nowhere"),
    ("--agent-model nowhere.gguf", "nowhere.gguf"),
    ("--buffer -1", "--buffer -1.0: expected 0 or more"),
    ("--trace-only", "expected a folder in --trace"),
    ("--trace t --resume r", "a trace begins at the first minibatch"),
    ("--buffer-device cuda --device cpu --prefetch lru", "training runs on cpu here"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_named(words: str, message: str) -> None:
    line = ["--transport", "local", "--dataset", "synthetic:tiny", "--epochs", "1", *words.split()]
    with pytest.raises(ValueError, match=r".") as raised:
        train_in_threads(from_args(RunConfig, line))
    assert message in str(raised.value)


@pytest.mark.parametrize("words", ["--decider sometimes", "--agent-model nowhere.gguf"])
def test_bad_input_exits_with_2_and_one_line(words: str) -> None:
    command = [sys.executable, "-m", "minidist.train", "--dataset", "synthetic:tiny"]
    done = subprocess.run([*command, *words.split()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Abort(" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_is_rudder_with_the_agent() -> None:
    config = from_args(RunConfig, [])
    assert (config.prefetch, config.decider, config.decider_mode) == ("rudder", None, "async")
    assert config.agent_model == "embedded"
