"""Fixtures of tests with real ranks."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lab import slurm as cluster
from benchmarks.lab.jobs import STARTED, shared_memory, wait_for
from minidist.config import PartitionConfig
from minidist.partition.partitioner import run


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """Environment of a running Slurm."""
    if cluster.missing():
        pytest.skip(f"Slurm cannot run here: {cluster.missing()} is missing")
    # Unix sockets have short names, which pytest's own folders are too deep for.
    with tempfile.TemporaryDirectory() as folder, cluster.slurm(Path(folder)) as environment:
        yield environment


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """``synthetic:tiny`` in 1, 2 and 3 parts."""
    folder = tmp_path_factory.mktemp("parts")
    found = {}
    for num_parts in (1, 2, 3):
        out = str(folder / str(num_parts))
        run(PartitionConfig(dataset="synthetic:tiny", parts=num_parts, out=out, method="random"))
        found[num_parts] = out
    return found


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test must leave no shared memory and no temporary folder of ours.

    Other jobs of this machine may come and go meanwhile: theirs are elsewhere, or gone soon.
    """
    before = shared_memory()
    # Unix sockets have short names, which pytest's own folders are too deep for.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield
        while STARTED:
            STARTED.pop().kill()
        assert not list(Path(folder).glob("minidist-*"))
    wait_for(lambda: shared_memory() <= before, 20)
