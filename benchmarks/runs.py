"""Training runs as benchmarks start them: real ranks, on this host or on several of the lab's."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lab.hosts import cores_for
from benchmarks.traces import dataset_of
from minidist.config import PartitionConfig
from minidist.partition.partitioner import run as partition
from minidist.store.partition_dir import Parts


def parts_of(graph: str, num_parts: int, folder: Path) -> Path:
    """The partition directory of a graph of ``traces.RECIPES``; made in folder where missing."""
    path = folder / f"{graph.replace(':', '-')}-p{num_parts}"
    if not path.exists():
        dataset = dataset_of(graph)
        partition(PartitionConfig(dataset=dataset, parts=num_parts, out=str(path)))
    return path


def train(
    parts: Path,
    flags: Mapping[str, object],
    launcher: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The summary of ``python -m minidist.train`` on a partition directory, a rank a part.

    flags: ``{"batch_size": 16, "prefetch": "fixed"}``.   launcher: words before python's, such as
    ``Hosts.mpiexec``; without, training starts its own ranks on this host.   environment: added.
    The cores are dealt among the ranks. Raises ValueError with the run's last words if it fails.
    """
    ranks = Parts.open(parts).num_parts
    every = {**os.environ, "OMP_NUM_THREADS": str(cores_for(ranks)), **(environment or {})}
    every["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{every['PATH']}"
    with tempfile.TemporaryDirectory(prefix="minidist-run-") as folder:
        file = Path(folder) / "summary.json"
        words = [*launcher, sys.executable, "-m", "minidist.train", "--parts", str(parts)]
        words += [] if launcher else ["--ranks", str(ranks)]
        for name, value in {**flags, "json": file}.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        done = subprocess.run(words, env=every, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"{' '.join(words)} failed:\n{(done.stderr or done.stdout)[-2000:]}")
        summary: dict[str, Any] = json.loads(file.read_text())
    return summary
