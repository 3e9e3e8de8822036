"""Every transport gives the same exact answers, on 1, 2 and 3 ranks."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.lab.jobs import PYTHON, mpiexec, openmpi, run, torchrun
from tests.mpi.needs import need

PROGRAM = ["-m", "tests.mpi.programs.exchange"]
LAUNCHED: list[Any] = [(mpiexec, 1), (mpiexec, 2), (mpiexec, 3), (torchrun, 3)]
LAUNCHED += [pytest.param(torchrun, ranks, marks=pytest.mark.slow) for ranks in (1, 2)]
LAUNCHED.append(pytest.param(openmpi, 3, marks=[pytest.mark.slow, need("openmpi")]))
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(("launcher", "ranks"), LAUNCHED)
def test_answers_are_exact(
    launcher: Callable[[int], list[str]], ranks: int, tiny_parts: dict[int, str]
) -> None:
    """Rows, neighbours and sums; then samples and fetches equal those of the whole graph."""
    words = [*launcher(ranks), *PROGRAM, "auto", tiny_parts[ranks]]
    assert run(words).count("is content") == ranks


def test_collective_under_mpiexec() -> None:
    assert run([*mpiexec(2), *PROGRAM, "collective"]).count("is content") == 2


@pytest.mark.parametrize("transport", ["mpi", "collective"])
def test_answers_are_exact_under_slurm(slurm: dict[str, str], transport: str) -> None:
    words = ["srun", "-n", "2", "-O", "-K1", "--mpi=pmi2", PYTHON, *PROGRAM, transport]
    assert run(words, slurm).count("is content") == 2
