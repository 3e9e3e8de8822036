"""Every transport gives the same exact answers, on 1, 2 and 3 ranks."""

from pathlib import Path

import pytest

from tests.mpi.jobs import PYTHON, mpiexec, run, torchrun

PROGRAM = str(Path(__file__).parent / "programs" / "exchange.py")
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("transport", ["mpi", "collective"])
def test_answers_are_exact(transport: str, ranks: int) -> None:
    launcher = mpiexec(ranks) if transport == "mpi" else torchrun(ranks)
    assert run([*launcher, PROGRAM, "auto"]).count("is content") == ranks


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("transport", ["mpi", "collective"])
def test_samples_and_rows_equal_one_process(
    transport: str, ranks: int, tiny_parts: dict[int, str]
) -> None:
    """Exact samples and fetches, and traffic that adds up, by requests alone."""
    launcher = mpiexec(ranks) if transport == "mpi" else torchrun(ranks)
    program = str(Path(__file__).parent / "programs" / "contracts.py")
    assert run([*launcher, program, tiny_parts[ranks]]).count("is content") == ranks


def test_collective_under_mpiexec() -> None:
    assert run([*mpiexec(2), PROGRAM, "collective"]).count("is content") == 2


@pytest.mark.parametrize("transport", ["mpi", "collective"])
def test_answers_are_exact_under_slurm(slurm: dict[str, str], transport: str) -> None:
    words = ["srun", "-n", "2", "-O", "-K1", "--mpi=pmi2", PYTHON, PROGRAM, transport]
    assert run(words, slurm).count("is content") == 2
