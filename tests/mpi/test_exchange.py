"""Every transport gives the same exact answers, on 1, 2 and 3 ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.jobs import PYTHON, mpiexec, openmpi, run, torchrun
from tests.mpi.needs import need

PROGRAM = str(Path(__file__).parent / "programs" / "exchange.py")
LAUNCHED: list[Any] = [(launcher, ranks) for launcher in (mpiexec, torchrun) for ranks in (1, 2, 3)]
LAUNCHED.append(pytest.param(openmpi, 3, marks=need("openmpi")))
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(("launcher", "ranks"), LAUNCHED)
def test_answers_are_exact(launcher: Callable[[int], list[str]], ranks: int) -> None:
    assert run([*launcher(ranks), PROGRAM, "auto"]).count("is content") == ranks


@pytest.mark.parametrize(("launcher", "ranks"), LAUNCHED)
def test_samples_and_rows_equal_one_process(
    launcher: Callable[[int], list[str]], ranks: int, tiny_parts: dict[int, str]
) -> None:
    """Exact samples and fetches, and traffic that adds up, by requests alone."""
    program = str(Path(__file__).parent / "programs" / "contracts.py")
    assert run([*launcher(ranks), program, tiny_parts[ranks]]).count("is content") == ranks


def test_collective_under_mpiexec() -> None:
    assert run([*mpiexec(2), PROGRAM, "collective"]).count("is content") == 2


@pytest.mark.parametrize("transport", ["mpi", "collective"])
def test_answers_are_exact_under_slurm(slurm: dict[str, str], transport: str) -> None:
    words = ["srun", "-n", "2", "-O", "-K1", "--mpi=pmi2", PYTHON, PROGRAM, transport]
    assert run(words, slurm).count("is content") == 2
