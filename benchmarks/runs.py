"""Runs: training as benchmarks start it, on real ranks of this host or of the lab's; what is kept.

path = parts_of(dataset_of("tolokers"), 4, folder)
summary = train(path, {"prefetch": "lru"}, up.mpiexec)
kept(folder, ["what", "was", "asked"], lambda: {"found": 1})
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lab.hosts import cores_for
from rudder.cli.whole_file import write_json


def parts_of(
    dataset: str, num_parts: int, folder: Path, method: str = "metis", seed: int = 0
) -> Path:
    """The partition directory of a dataset; made in folder where missing. Raises ValueError."""
    name = Path(dataset.removeprefix("npz:")).stem.replace(":", "-")
    path = folder / f"{name}-{method}-s{seed}-p{num_parts}"
    if not path.exists():
        from minidist.config import PartitionConfig
        from minidist.partition.partitioner import run

        given = {"dataset": dataset, "parts": num_parts, "method": method, "seed": seed}
        run(PartitionConfig(**given, out=str(path)))  # type: ignore[arg-type]
    return path


def train(
    parts: Path,
    flags: Mapping[str, object],
    launcher: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The summary of ``python -m minidist.train`` on a partition directory, a rank a part.

    flags: ``{"batch_size": 16, "fanout": (10, 25)}``.   launcher: words before python's, such as
    ``Hosts.mpiexec``; without, training starts its own ranks on this host.   environment: added.
    The cores are dealt among the ranks. Raises ValueError with the run's last words if it fails.
    """
    from minidist.store.partition_dir import Parts

    ranks = Parts.open(parts).num_parts
    threads = {"OMP_NUM_THREADS": str(cores_for(ranks)), **(environment or {})}
    with tempfile.TemporaryDirectory(prefix="minidist-run-") as folder:
        file = Path(folder) / "summary.json"
        words = [*launcher, sys.executable, "-m", "minidist.train", "--parts", str(parts)]
        words += [] if launcher else ["--ranks", str(ranks)]
        for name, value in {**flags, "json": file}.items():
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
        output_of(words, threads)
        summary: dict[str, Any] = json.loads(file.read_text())
    return summary


def output_of(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a program prints, with this Python's own launchers first in PATH. Raises ValueError with
    its last words if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    every = {**os.environ, "PATH": path, **environment}
    done = subprocess.run(words, env=every, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(words)} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def kept(folder: Path, asked: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was found in the folder when the same was asked before, or is made now."""
    words = json.dumps(asked, sort_keys=True)
    file = folder / f"{hashlib.sha256(words.encode()).hexdigest()[:20]}.json"
    if not file.exists():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, made)
    return dict(json.loads(file.read_text()))
