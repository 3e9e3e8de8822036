"""Jobs of real ranks, and what they may leave behind: nothing."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import slurm
from benchmarks.lab.hosts import holds_within, missing, processes, read_process

PYTHON = sys.executable
MPIEXEC = str(Path(PYTHON).parent / "mpiexec")
# mpi4py has a binding for each MPI, and finds MPICH by itself.
OPEN_MPI = ["env", "MPI4PY_LIBMPI=libmpi.so.40"]
# A job that hangs is a failed test, soon.
LIMIT_S = 90.0


def mpiexec(ranks: int) -> list[str]:
    return [MPIEXEC, "-n", str(ranks), PYTHON]


def openmpi(ranks: int) -> list[str]:
    """Debian's Open MPI, beside the MPICH of this Python."""
    words = ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    return [*OPEN_MPI, *words, PYTHON]


def torchrun(ranks: int) -> list[str]:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [PYTHON, *words]


# What starts two ranks of a Python program.
LAUNCHERS = {
    "mpiexec": mpiexec(2),
    "openmpi": openmpi(2),
    "torchrun": torchrun(2),
    "srun": ["srun", "-n", "2", "-O", "-K1", "--mpi=pmi2", PYTHON],
    "pmix": [*OPEN_MPI, "srun", "-n", "2", "-O", "-K1", "--mpi=pmix", PYTHON],
}


def lacking(launcher: str) -> str | None:
    """What this machine lacks for a launcher, or for ``hosts``; None if nothing."""
    if launcher == "hosts" and missing():
        return f"no hosts here: {missing()} is missing"
    if launcher in ("openmpi", "pmix") and shutil.which("mpirun.openmpi") is None:
        return "Open MPI is missing: apt-get install openmpi-bin libpmix-dev"
    if launcher in ("srun", "pmix") and slurm.missing():
        return f"Slurm cannot run here: {slurm.missing()} is missing"
    return None


@dataclass
class Job:
    """A started job and its output so far."""

    process: "subprocess.Popen[str]"

    def finish(self, limit: float = LIMIT_S) -> tuple[int, str]:
        """(exit code, stdout and stderr together). A job past its limit is killed and fails."""
        try:
            output, _ = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self.kill()
            output, _ = self.process.communicate()
            raise AssertionError(f"still running after {limit} s:\n{output[-3000:]}") from None
        return self.process.returncode, output

    def kill(self) -> None:
        """Kill what is left of it; its ranks die with their launcher."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


# Those of this test; a fixture kills what a failed one leaves at work.
STARTED: list[Job] = []


def start(words: Sequence[str], extra: dict[str, str] | None = None) -> Job:
    """Start a job in a session of its own, one thread a rank."""

    def as_from_a_terminal() -> None:
        # What nohup and shells' background jobs ignore, and children would inherit.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(extra or {})}
    environment["PATH"] = f"{Path(PYTHON).parent}{os.pathsep}{environment['PATH']}"
    process = subprocess.Popen(
        list(words),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=as_from_a_terminal,
    )
    STARTED.append(Job(process))
    return STARTED[-1]


def run(words: Sequence[str], extra: dict[str, str] | None = None) -> str:
    """Run a job to its end; returns its output. It must exit with 0."""
    code, output = start(words, extra).finish()
    assert code == 0, output[-3000:]
    return output


def ranks_of(marker: str) -> list[int]:
    """Process ids of the Python ranks whose command line holds the marker, oldest first."""
    found = []
    for pid in processes():
        line = read_process(pid, "cmdline").decode()
        words = line.split("\0")
        if words[0] == PYTHON and "torch.distributed.run" not in words and marker in line:
            found.append(pid)
    return sorted(found)


def pid_of_rank(rank: int, marker: str) -> int:
    """The process of a rank; where it has a supervisor, which is older, not that one."""
    for pid in reversed(ranks_of(marker)):
        words = Path(f"/proc/{pid}/environ").read_text().split("\0")
        if any(f"{name}={rank}" in words for name in ("PMI_RANK", "RANK", "OMPI_COMM_WORLD_RANK")):
            return pid
    raise AssertionError(f"no rank {rank}")


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def wait_for(condition: Callable[[], object], limit: float = 60.0) -> None:
    """Wait until the condition holds; fails after ``limit`` seconds."""
    assert holds_within(limit, condition, every_s=0.05), "waited in vain"
