"""Kernels load where an installation cannot be written, and where a file of theirs is cut short."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What uses a kernel of each package, and says where it is kept.
PROGRAM = """
import numpy as np
from minidist.partition.adjacency import count_cut
import rudder.buffer.index
count_cut(np.array([0, 1, 2]), np.array([1, 0]), np.array([0, 1]))
print(count_cut._cache.cache_path)
"""


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Else root may write what nobody may.
    words = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    words += [sys.executable, "-B", "-c", PROGRAM]
    about = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **environment}
    return subprocess.run(words, cwd=folder, env=about, capture_output=True, text=True)


def test_an_installation_that_cannot_be_written(tmp_path: Path) -> None:
    shared = tmp_path / "site"
    for package in ("minidist", "rudder"):
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, shared / package, ignore=left)
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run(shared, HOME=str(shared))
    assert (done.returncode, done.stdout[:5]) == (0, "/tmp/"), done.stderr
    told = f"kernels are kept in {Path(done.stdout).parent}: {shared}/rudder cannot be written"
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert Path(done.stdout).parent.stat().st_mode == 0o040700
    for folder in [shared, *shared.rglob("*/")]:
        folder.chmod(0o755)


@pytest.mark.parametrize("kept", [0.0, 0.6])
def test_a_file_of_a_kernel_that_is_cut_short(tmp_path: Path, kept: float) -> None:
    for _ in range(2):
        done = run(ROOT, NUMBA_CACHE_DIR=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        files = [*tmp_path.rglob("adjacency.*.nb?")]
        assert {path.suffix for path in files} == {".nbi", ".nbc"}
        for path in files:
            path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
