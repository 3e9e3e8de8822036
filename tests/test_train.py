"""Training as users run it, in threads of one process: summaries, resume, bad input."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from minidist.training.meter import losses_sha256
from minidist.training.summary import summary_table
from rudder.cli.flags import from_args

TINY = RunConfig(
    dataset="synthetic:tiny",
    prefetch="overlap",
    transport="local",
    method="random",
    ranks=2,
    fanout=(5, 5),
    hidden=16,
    batch_size=40,
    epochs=4,
    eval_every=2,
)
KEYS = (
    *("epoch_time_s", "sample_s", "fetch_s", "wait_s", "train_s", "test_accuracy", "val_accuracy"),
    *("rows", "bytes_moved", "peak_memory_mb", "losses", "losses_sha256"),
)


def test_summary_json_and_event_log(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    summary = train_in_threads(replace(TINY, json=str(file), out=str(tmp_path / "run")))
    written = json.loads(file.read_text())
    assert set(KEYS) <= set(written)
    assert written["losses_sha256"] == losses_sha256(summary["losses"])
    assert len(written["losses"]) == 4 * written["steps_per_epoch"]
    assert set(written["rows"]) == {"remote", "hits", "misses", "replacements"}
    assert written["rows"]["misses"] * written["row_bytes"] == written["bytes_moved"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == written
    for rank in range(2):
        lines = (tmp_path / "run" / f"events-rank{rank}.jsonl").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        assert events[0] == "started"
        assert events[-1] == "finished"
        assert events.count("step") == len(written["losses"])
        assert events.count("evaluated") == 2
    assert "accuracy" in summary_table(summary)


def test_it_learns() -> None:
    summary = train_in_threads(replace(TINY, hidden=64, epochs=15, lr=0.01, batch_size=50))
    assert summary["losses"][-1] < 0.7 * summary["losses"][0]
    assert summary["test_accuracy"] > 0.75


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    flags = (
        f"--dataset synthetic:tiny --ranks 2 --epochs 2 --prefetch none --lr 1e30 --out {tmp_path} "
        "--transport local"
    )
    words = [sys.executable, "-m", "minidist.train", *flags.split()]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("training diverges; try a lower --lr") == 1
    assert "DIVERGED" in done.stdout
    for name in ("summary.json", "events-rank0.jsonl"):
        assert "null" in (text := (tmp_path / name).read_text())
        assert not {"NaN", "Infinity"} & set(re.split(r"[^A-Za-z]", text))


def test_multilabel_reports_micro_f1() -> None:
    config = replace(TINY, dataset="synthetic:tiny-multilabel", epochs=20, hidden=64, lr=0.01)
    summary = train_in_threads(config)
    assert summary["metric"] == "micro_f1"
    assert summary["test_accuracy"] > 0.6
    assert "micro-f1" in summary_table(summary)


def test_a_first_look_has_steps_and_a_comparison() -> None:
    """What the command does by itself, but for the graph's size and the launcher."""
    assert RunConfig().compare
    assert not RunConfig(dataset="synthetic:tiny").compare
    summary = train_in_threads(replace(TINY, prefetch="fixed", batch_size=None, compare=True))
    assert summary["steps_per_epoch"] == 12
    rows = {row["prefetch"]: row for row in summary["policies"]}
    assert rows["fixed"]["own"]
    moved = summary["rows"]["misses"] + summary["rows"]["replacements"]
    assert rows["fixed"]["rows_moved"] == moved
    assert rows["fixed"]["rows_none"] == summary["rows"]["remote"]
    assert rows["lookahead"]["rows_moved"] < moved
    assert "fixed" in summary_table(summary).split("rows moved")[1]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_losses_repeat_and_do_not_depend_on_the_pipeline(ranks: int) -> None:
    """The same losses under both ways of fetching without a buffer."""
    config = replace(TINY, ranks=ranks, epochs=2)
    hashes = {
        train_in_threads(replace(config, prefetch=prefetch))["losses_sha256"]
        for prefetch in ("none", "overlap", "overlap")
    }
    assert len(hashes) == 1
    assert train_in_threads(replace(config, seed=1))["losses_sha256"] not in hashes


@pytest.mark.parametrize("topology", ["partitioned", "replicated"])
def test_topology_and_halo_hops_change_nothing(topology: str) -> None:
    config = replace(TINY, epochs=1)
    expected = train_in_threads(config)["losses_sha256"]
    other = replace(config, topology=topology, halo_hops=1)
    assert train_in_threads(other)["losses_sha256"] == expected


def test_gat_and_convs_by_name_train() -> None:
    for model in ("gat", "GraphConv"):
        summary = train_in_threads(replace(TINY, model=model, epochs=6))
        assert summary["losses"][-1] < summary["losses"][0]


@pytest.mark.parametrize("file", ["", "checkpoint-before.pt"], ids=["after an epoch", "within"])
def test_resumed_losses_equal_uninterrupted_ones(tmp_path: Path, file: str) -> None:
    config = replace(TINY, parts=str(tmp_path / "parts"))
    whole = train_in_threads(replace(config, out=str(tmp_path / "whole")))
    # The checkpoint before the last one stands three steps into the second epoch.
    every = whole["steps_per_epoch"] + 3
    run = tmp_path / "run"
    train_in_threads(replace(config, out=str(run), epochs=2, checkpoint_every=every))
    resumed = train_in_threads(replace(config, resume=str(run / file)))
    for key in ("losses", "losses_sha256", "test_accuracy", "rows", "traffic", "scores"):
        assert resumed[key] == whole[key], key


def bad(**changes: Any) -> str:
    """The message of the ValueError that these settings raise."""
    with pytest.raises(ValueError, match=r".") as raised:
        train_in_threads(replace(TINY, **changes))
    return str(raised.value)


def test_bad_settings_are_named(tmp_path: Path) -> None:
    assert "unknown dataset 'synthetic:tyni': did you mean synthetic:tiny" in bad(
        dataset="synthetic:tyni"
    )
    assert "--model sagee: expected sage, gat or a conv" in bad(model="sagee")
    assert "--model GCNConv: this conv cannot read some nodes and write others" in bad(
        model="GCNConv"
    )
    assert "--hidden 10: expected a multiple of 4, gat's heads" in bad(model="gat", hidden=10)
    assert "--parts 1001: expected 1 to 1000, the nodes of" in bad(ranks=1001)
    file = tmp_path / "file"
    file.touch()
    assert "cannot be written" in bad(out=str(file / "run"))
    assert "--json" in bad(json=str(tmp_path / "none" / "f.json"))
    assert "there is no checkpoint.pt in it" in bad(resume=str(tmp_path / "nothing"))


def test_partition_directory_must_fit(tmp_path: Path) -> None:
    parts = str(tmp_path / "parts")
    train_in_threads(replace(TINY, parts=parts, epochs=1))
    assert "has 2 parts, but 3 ranks are running" in bad(parts=parts, ranks=3)
    assert "holds synthetic:tiny" in bad(parts=parts, dataset="synthetic:small")
    assert "--halo-hops 2:" in bad(parts=parts, halo_hops=2)
    indices = tmp_path / "parts" / "part1" / "indices.npy"
    data = bytearray(indices.read_bytes())
    data[-3] ^= 1
    indices.write_bytes(data)
    assert "part1/indices.npy" in bad(parts=parts)


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    train_in_threads(replace(TINY, out=run, epochs=1))
    message = bad(resume=run, hidden=32, lr=0.1)
    assert "the checkpoint is of another run" in message
    assert "hidden was 16, is 32" in message
    assert "lr was 0.003, is 0.1" in message
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"half")
    assert "checkpoint.pt is damaged" in bad(resume=run)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epochs 0", "--epochs 0: expected at least 1"),
        ("--batch-size -5", "--batch-size -5: expected at least 1"),
        ("--hidden many", "--hidden many: expected a whole number"),
        ("--lr 0", "--lr 0.0: expected more than 0"),
        ("--dropout 1", "--dropout 1.0: expected at least 0 and less than 1"),
        ("--fanout 10,x", "--fanout 10,x: expected whole numbers with commas between"),
        ("--fanout 10,0", "expected numbers of at least 1"),
        ("--fanout 10,25 --layers 3", "--layers 3: expected as many as --fanout has numbers (2)"),
        ("--transport tcp", "--transport tcp: expected one of auto, local, mpi, collective"),
        ("--fetch-timeout 0", "--fetch-timeout 0.0: expected more than 0 seconds"),
        ("--ranks 0", "--ranks 0: expected at least 1"),
        ("--hiden 5", "unrecognized arguments: --hiden 5"),
        ("--hid 5", "unrecognized arguments: --hid 5"),
        ("--eval-every -1", "--eval-every -1: expected 0 or more"),
    ],
)
def test_bad_flags_are_named(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        from_args(RunConfig, words.split())
    assert message in str(raised.value)


def test_flags_are_read() -> None:
    config = from_args(RunConfig, ["--fanout", "3,4,5", "--lr", "0.1", "--out", "x"])
    assert (config.fanout, config.lr, config.out, config.seed) == ((3, 4, 5), 0.1, "x", 0)


def test_losses_hash_is_of_float32_bytes() -> None:
    losses = [0.1, 2.5]
    expected = hashlib.sha256(np.array(losses, np.float32).tobytes()).hexdigest()
    assert losses_sha256(losses) == expected
