"""On a GPU: the training of the CPU, the same bits in each run, ranks with a GPU or sharing one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.lab.jobs import run, start

NUM_GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(NUM_GPUS == 0, reason="PyTorch finds no GPU here")
TRAIN = ["-m", "minidist.train", "--dataset", "synthetic:tiny", "--epochs", "3", "--dropout", "0"]
TRAIN += ["--method", "random", "--batch-size", "50"]


def train(folder: Path, *words: str) -> Any:
    file = folder / "summary.json"
    run([sys.executable, *TRAIN, *words, "--json", str(file)])
    return json.loads(file.read_text())


@pytest.mark.parametrize("ranks", sorted({1, min(2, NUM_GPUS), 2}))
def test_losses_are_those_of_the_cpu(ranks: int, tmp_path: Path) -> None:
    words = ["--ranks", str(ranks)]
    expected = train(tmp_path, *words, "--device", "cpu")
    found = train(tmp_path, *words, "--device", "cuda", "--share-gpus")
    assert found["device"] == "cuda"
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-3)
    assert found["test_accuracy"] == pytest.approx(expected["test_accuracy"], abs=0.02)


def test_deterministic_runs_are_equal_wherever_rows_lie(tmp_path: Path) -> None:
    hashes = {
        train(tmp_path, "--ranks", "1", "--deterministic", "--features", kind, *threads)[
            "losses_sha256"
        ]
        for kind in ("host", "pinned", "cuda", "cuda")
        for threads in (["--sample-threads", "1"], ["--sample-threads", "3"])
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("prefetch", ["none", "lookahead", "fixed", "lru"])
@pytest.mark.parametrize("buffer_device", ["cpu", "cuda"])
@pytest.mark.parametrize("features", ["host", "pinned", "cuda"])
def test_ranks_that_share_a_gpu_learn_the_same(
    prefetch: str, buffer_device: str, features: str, tmp_path: Path
) -> None:
    words = ["--ranks", "2", "--device", "cuda", "--share-gpus", "--deterministic"]
    words += ["--features", features, "--prefetch", prefetch, "--buffer-device", buffer_device]
    summary = train(tmp_path, *words)
    plain = train(tmp_path, *words[:5], "--prefetch", "overlap")
    assert summary["losses_sha256"] == plain["losses_sha256"]


def test_more_ranks_than_gpus(tmp_path: Path) -> None:
    words = ["--ranks", str(NUM_GPUS + 1), "--method", "random"]
    code, output = start([sys.executable, *TRAIN, *words, "--device", "cuda"]).finish()
    assert code == 2
    assert "let them share with --share-gpus" in output
    assert train(tmp_path, *words)["device"] == "cpu"


def test_bfloat16_learns(tmp_path: Path) -> None:
    found = train(tmp_path, "--ranks", "1", "--amp", "bf16")
    expected = train(tmp_path, "--ranks", "1")
    assert found["losses"] == pytest.approx(expected["losses"], rel=5e-2)
    assert found["losses"] != expected["losses"]
