"""On a GPU: the same training as on the CPU, NCCL between ranks, no two ranks on one GPU."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.mpi.jobs import run, start

NUM_GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(NUM_GPUS == 0, reason="PyTorch finds no GPU here")
TRAIN = ["-m", "minidist.train", "--dataset", "synthetic:tiny", "--epochs", "3", "--dropout", "0"]


def train(folder: Path, ranks: int, device: str) -> Any:
    file = folder / f"{device}.json"
    words = ["--ranks", str(ranks), "--device", device, "--json", str(file)]
    run([sys.executable, *TRAIN, "--method", "random", *words])
    return json.loads(file.read_text())


@pytest.mark.parametrize("ranks", sorted({1, min(2, NUM_GPUS)}))
def test_losses_are_those_of_the_cpu(ranks: int, tmp_path: Path) -> None:
    expected, found = (train(tmp_path, ranks, device) for device in ("cpu", "cuda"))
    assert found["device"] == "cuda"
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-3)


def test_two_ranks_on_one_gpu_are_refused() -> None:
    words = ["--ranks", str(NUM_GPUS + 1), "--device", "cuda", "--method", "random"]
    code, output = start([sys.executable, *TRAIN, *words]).finish()
    assert code == 2
    assert "no two may share one" in output
