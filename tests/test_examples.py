"""What the README shows is what runs."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist import Loader, Parts
from minidist.comm.world import local_worlds
from minidist.config import PartitionConfig
from minidist.data.datasets import load_dataset
from minidist.moment import Moment
from minidist.partition.partitioner import run as partition
from minidist.prefetch import steer
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from minidist.sampling.neighbor_sampler import NeighborSampler
from minidist.store.shard import whole
from rudder.config import SteerConfig

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "own_model.py"


def test_readme_shows_the_example() -> None:
    code = EXAMPLE.read_text().split('"""')[2].strip()
    assert code in (ROOT / "README.md").read_text()


def test_steering_without_a_buffer_is_an_error(tmp_path: Path) -> None:
    config = PartitionConfig(dataset="synthetic:tiny", parts=1, out=str(tmp_path / "parts"))
    partition(config)
    parts, (world,) = Parts.open(tmp_path / "parts"), local_worlds(1)
    loader = Loader.open(world, parts, fanouts=(5,), batch_size=9)
    with pytest.raises(ValueError, match="--prefetch overlap: expected a preset with a buffer"):
        steer(SteerConfig(prefetch="overlap"), world, parts, loader, num_epochs=1)
    world.close()


def test_own_model_trains_on_two_ranks(tmp_path: Path) -> None:
    partition(PartitionConfig(dataset="synthetic:tiny", parts=2, out=str(tmp_path / "parts")))
    mpiexec = str(Path(sys.executable).parent / "mpiexec")
    words = [mpiexec, "-n", "2", sys.executable, str(EXAMPLE), str(tmp_path / "parts")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(losses) == 5
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("share", [pytest.param(0.25, marks=pytest.mark.slow), 0.6])
def test_the_plain_pipeline_is_the_fast_one(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same samples, same rows moved, same losses."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    plain: Any = importlib.import_module("plain_pipeline")
    plain.SHARE = share
    losses, rows = plain.train()
    config = RunConfig(
        dataset="synthetic:tiny",
        method="random",
        transport="local",
        ranks=plain.RANKS,
        prefetch="rudder",
        decider="always",
        buffer=share,
        fanout=plain.FANOUTS,
        hidden=plain.HIDDEN,
        batch_size=plain.BATCH,
        epochs=plain.EPOCHS,
        eval_every=0,
    )
    summary = train_in_threads(config, quiet=True)
    assert losses == summary["losses"]
    assert {"replacements": 0} | rows == summary["rows"]
    assert (rows.get("replacements", 0) > 0) == (share > 0.5)
    graph, _ = plain.partition(load_dataset("synthetic:tiny"))
    shard, moment = whole(graph), Moment(1, 2)
    sampler = NeighborSampler(shard, [shard], fanouts=plain.FANOUTS, seed=plain.SEED, rank=1)
    seeds = shard.train_ids[::7]
    fast, (nodes, batch) = sampler.sample(seeds, moment), plain.sample(graph, seeds, moment, 1)
    assert fast.n_id.tolist() == nodes
    assert fast.indptr.tolist() == batch.indptr.tolist()
    assert fast.sources.tolist() == batch.sources.tolist()


def test_predictions_reproduce_the_summarys_accuracy(tmp_path: Path) -> None:
    out, file = tmp_path / "run", tmp_path / "predictions.npy"
    config = RunConfig(
        dataset="synthetic:tiny", transport="local", ranks=2, hidden=16, epochs=3, eval_every=1
    )
    summary = train_in_threads(replace(config, out=str(out)), quiet=True)
    mpiexec = str(Path(sys.executable).parent / "mpiexec")
    words = [mpiexec, "-n", "2", sys.executable, str(ROOT / "examples" / "predict.py")]
    words += [str(out), str(out / "parts"), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    graph = load_dataset("synthetic:tiny")
    right = (np.load(file) == graph.y)[graph.test_mask].mean()
    assert right == pytest.approx(summary["test_accuracy"], abs=1e-12)
