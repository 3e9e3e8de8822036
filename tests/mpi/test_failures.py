"""One rank's end is the job's end, soon; a silent rank is named; nothing is left behind."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.jobs import (
    LAUNCHERS,
    PYTHON,
    Job,
    mpiexec,
    pid_of_rank,
    ranks_of,
    run,
    start,
    wait_for,
)
from tests.mpi.needs import need

OPEN_MPI = pytest.param("openmpi", marks=[pytest.mark.slow, need("openmpi")])
PROGRAM = str(Path(__file__).parent / "programs" / "failing.py")
pytestmark = pytest.mark.usefixtures("nothing_left")
ENDS_WITHIN_S = 5.0


def at_work(
    launcher: str, request: Any, folder: Path, what: str, timeout: float
) -> tuple[Job, Path]:
    """A job whose two ranks exchange or sum by now, and the file that makes rank 1 raise."""
    extra = request.getfixturevalue("slurm") if launcher == "srun" else None
    file = folder / "raise"
    job = start([*LAUNCHERS[launcher], PROGRAM, "auto", what, str(timeout), str(file)], extra)
    wait_for(lambda: all(Path(f"{file}.rank{rank}").exists() for rank in range(2)))
    return job, file


@pytest.mark.parametrize("end", ["exception", "kill"])
@pytest.mark.parametrize("launcher", ["mpiexec", OPEN_MPI, "torchrun", "srun"])
def test_one_failing_rank_ends_the_job(
    launcher: str, end: str, tmp_path: Path, request: Any
) -> None:
    job, file = at_work(launcher, request, tmp_path, "exchange", 60)
    began = time.monotonic()
    if end == "exception":
        file.touch()
    else:
        os.kill(ranks_of(str(file))[-1], signal.SIGKILL)
    code, output = job.finish(20)
    assert code != 0
    assert time.monotonic() - began < ENDS_WITHIN_S
    if end == "exception":
        assert "rank 1 failed:" in output
        assert "this rank has had enough" in output
    wait_for(lambda: not ranks_of(str(file)), ENDS_WITHIN_S)


OPERATIONS = {
    "exchange": "(ROWS, epoch 2, step ",
    "sum": "(summing gradients, epoch 2, step ",
    "first": "(working alone, outside the epochs)",
}


# Rank 0 is a case of its own: its process keeps the store that the others would ask.
STOPPED = [("mpiexec", "exchange", 1), ("mpiexec", "sum", 0), ("mpiexec", "first", 0)]
ALSO_STOPPED = [("mpiexec", "exchange", 0), ("mpiexec", "sum", 1)]
# torchrun gives the stopped rank 30 s to react to SIGTERM before it kills it.
ALSO_STOPPED += [("torchrun", what, rank) for what in ("exchange", "sum") for rank in (0, 1)]
ALSO_STOPPED.append(("torchrun", "first", 0))


@pytest.mark.parametrize(
    ("launcher", "what", "stopped"),
    [*STOPPED, *(pytest.param(*each, marks=pytest.mark.slow) for each in ALSO_STOPPED)],
)
def test_a_stopped_rank_is_named(
    launcher: str, what: str, stopped: int, tmp_path: Path, request: Any
) -> None:
    job, file = at_work(launcher, request, tmp_path, what, 3)
    os.kill(pid_of_rank(stopped, str(file)), signal.SIGSTOP)
    try:
        code, output = job.finish(60)
    finally:
        for pid in ranks_of(str(file)):
            os.kill(pid, signal.SIGKILL)
    assert code != 0
    assert f"rank {1 - stopped} waited" in output
    assert f"s for rank {stopped} {OPERATIONS[what]}" in output
    assert "raise --fetch-timeout" in output


def test_a_busy_rank_0_is_not_taken_for_dead() -> None:
    """METIS holds the interpreter's lock for minutes, longer than any timeout."""
    program = (
        "import ctypes; from minidist.comm.world import open_world\n"
        "with open_world(device='cpu', fetch_timeout=1) as world:\n"
        "    world.group.first(lambda: ctypes.PyDLL(None).sleep(3), 'partitioning')\n"
        "    print('went on')"
    )
    assert run([*mpiexec(2), "-c", program]).count("went on") == 2


def test_a_rank_that_does_not_leave_is_named() -> None:
    program = (
        "import time; from minidist.comm.world import open_world\n"
        "with open_world(device='cpu', fetch_timeout=2) as world:\n"
        "    time.sleep(30 * (world.rank == 1))"
    )
    code, output = start([*mpiexec(2), "-c", program]).finish()
    assert code == 1
    assert "rank 0 waited 2.0 s for rank 1 (leaving, outside the epochs)" in output


def test_a_job_ends_also_where_nobody_reads_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    program = (
        "from minidist import Parts, open_world\n"
        "with open_world(device='cpu'):\n"
        "    Parts.open('/nowhere')\n"  # an error of ours, which nobody hears
    )
    job = start([PYTHON, "-c", program], names)
    assert job.process.stdout is not None
    job.process.stdout.close()
    assert job.process.wait(60) == 2


def test_what_every_rank_rejects_is_said_once() -> None:
    program = (
        "from minidist import Parts, open_world\n"
        "with open_world(device='cpu', fetch_timeout=2) as world:\n"
        "    Parts.open('/nowhere')"
    )
    code, output = start([*mpiexec(3), "-c", program]).finish()
    assert code == 2
    assert output.count("error: /nowhere") == 1


def test_wrong_process_manager_is_explained(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["srun", "-n", "2", "-O", "--mpi=none", PYTHON, PROGRAM, "auto", "sum", "3"]
    code, output = start([*words, str(tmp_path / "raise")], slurm).finish()
    assert code != 0
    assert "the launcher started 2 ranks, but MPI sees 1" in output
    assert "--mpi=pmi2" in output


def test_missing_mpi_is_explained(tmp_path: Path) -> None:
    extra = {"PMI_RANK": "0", "PMI_SIZE": "1", "MPI4PY_LIBMPI": "/nonexistent/libmpi.so"}
    words = [PYTHON, PROGRAM, "auto", "sum", "3", str(tmp_path / "raise")]
    code, output = start(words, extra).finish()
    assert code == 2
    assert "pip install minidist[mpi]" in output


def test_no_mpiexec_is_explained() -> None:
    program = (
        "import os, sys; from minidist.comm.launch import launch_ranks; "
        "os.environ['PATH'] = ''; sys.executable = '/nowhere/python'; launch_ranks('x', [], 2)"
    )
    code, output = start([PYTHON, "-c", program]).finish()
    assert code != 0
    assert "there is no mpiexec to start ranks with: pip install minidist[mpi]" in output
