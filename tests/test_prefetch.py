"""Prefetching moves time and traffic, never learning; and traffic adds up."""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.data.synthetic import PRESETS, generate
from minidist.prefetch import steer
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from minidist.sampling.loader import Loader
from minidist.training.summary import summary_table
from rudder.buffer.index import Ids
from rudder.cli.flags import from_args
from rudder.config import SteerConfig
from rudder.feature_store import FeatureStore, Fetch, Place, When
from rudder.replay.runs import replay_own
from rudder.replay.trace import read_traces
from rudder.row_counts import RowCounts
from tests.parts import split_graph

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
    "auto": {},
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


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
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
    ("--buffer some", "--buffer some: expected a number or auto"),
    ("--buffer auto --prefetch lru", "only --prefetch lookahead and auto change"),
    ("--buffer 0.1 --prefetch auto", "--prefetch auto chooses the size itself"),
    ("--buffer-rows 9 --prefetch auto", "--buffer-rows 9: the buffer chooses its size itself"),
    ("--buffer-memory 9 --prefetch auto", "expected an amount such as 500MB or 2GB"),
    ("--buffer-memory 9GB --prefetch lru", "it limits --buffer auto and --prefetch auto"),
    ("--buffer-memory 999999GB --prefetch auto", "GB are free on this host"),
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


class SlowStore(FeatureStore):
    """A store behind a link of so many seconds a row."""

    def __init__(self, inner: FeatureStore, row_s: float) -> None:
        self._inner, self._row_s = inner, row_s

    def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
        return SlowFetch(self._inner.request(ids, place, moment), len(ids) * self._row_s)


class SlowFetch(Fetch):
    """Its rows come so many seconds after they are waited for."""

    def __init__(self, inner: Fetch, seconds: float) -> None:
        super().__init__(inner.counts)
        self._inner, self._seconds = inner, seconds

    def wait(self) -> RowCounts:
        time.sleep(self._seconds)
        return self._inner.wait()


@pytest.mark.parametrize(("prefetch", "buffer"), [("auto", 0.25), ("lookahead:4", "auto")])
def test_ranks_choose_more_buffer_on_a_slow_link(prefetch: str, buffer: float | str) -> None:
    """The link is one of 0.1 ms a row, which is more than 1 ms of computing a step; or none."""
    config = SteerConfig(prefetch=prefetch, buffer=buffer)
    with tempfile.TemporaryDirectory() as folder:
        parts = split_graph(generate(PRESETS["tiny"], 0), 2, Path(folder) / "parts")

        def choices(world: World, row_s: float, compute_s: float) -> list[dict[str, Any]]:
            loader = Loader.open(world, parts, fanouts=(5, 5), batch_size=5)
            loader.store.remote = SlowStore(loader.store.remote, row_s)
            prefetcher = steer(config, world, parts, loader, num_epochs=4)
            with closing(prefetcher):
                for batch in loader.run(4):
                    prefetcher.after_step(compute_s, batch.moment)
                found: list[dict[str, Any]] = prefetcher.summarize([prefetcher.report()])["buffer"][
                    "choices"
                ]
                return found

        slow = run_in_threads(lambda world: choices(world, 1e-4, 1e-3), 2, 60.0)
        fast = run_in_threads(lambda world: choices(world, 0.0, 1.0), 2, 60.0)
    assert [choice["share"] for choice in fast[0]] == [0.0]
    assert slow[0][0]["share"] > 0
    for name in ("step", "share", "window", "hidden"):
        assert [each[name] for each in slow[0]] == [each[name] for each in slow[1]]


def test_a_run_that_chooses_learns_the_same_and_goes_on(tmp_path: Path) -> None:
    config = replace(TINY, prefetch="auto", decider=None, batch_size=3, out=str(tmp_path))
    plain = train_in_threads(replace(config, prefetch="none", out=None))
    summary = train_in_threads(replace(config, epochs=2))
    reconcile(summary)
    assert summary["buffer"]["choices"]
    resumed = train_in_threads(replace(config, resume=str(tmp_path)))
    assert resumed["losses_sha256"] == plain["losses_sha256"]
    assert resumed["buffer"]["choices"][0] == summary["buffer"]["choices"][0]
