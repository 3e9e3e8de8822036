"""Launch: is a launcher around us, and if not, ranks of our own under mpiexec."""

import array
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import FrameType

# Tells rank 0 that the terminal behind mpiexec's pipe can show a progress bar.
_TERMINAL = "MINIDIST_TTY"
_PR_SET_PDEATHSIG = 1
_MPI_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launcher() -> str | None:
    """``torchrun``, ``mpi`` (mpiexec or srun), or None where no launcher started us."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return "torchrun"
    if any(name in os.environ for name in _MPI_RANKS):
        return "mpi"
    # The shell of salloc is a step of one task too; only more than one are ranks.
    if "SLURM_STEP_ID" in os.environ and expected_size() > 1:
        return "mpi"
    return None


def expected_size() -> int:
    """How many ranks the launcher says it started; 1 where it does not say."""
    # A shell that salloc started is a step of one task, whatever the allocation's SLURM_NTASKS, and
    # mpiexec may run in it: so the launcher that is closest to us is asked first.
    return next((int(os.environ[name]) for name in _SIZES if name in os.environ), 1)


def under_launcher() -> bool:
    """Whether mpiexec, srun or torchrun started this process."""
    return launcher() is not None


def default_ranks(device: str) -> int:
    """One rank a GPU of this host, or 2; without PyTorch, which takes seconds to import."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        len(list(Path("/dev").glob("nvidia[0-9]*")))
        if visible is None
        else len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    )
    return 2 if device == "cpu" or not gpus else gpus


def shows_progress() -> bool:
    """Whether somebody watches this rank's stderr on a terminal."""
    return _TERMINAL in os.environ or sys.stderr.isatty()


def wait_for_readers(seconds: float) -> None:
    """Flush stdout and stderr, and wait until their pipes are empty, at most so long.

    A rank that aborts takes mpiexec along, and with it what mpiexec had yet to read: in 8 of 100
    jobs the line that says why.
    """
    deadline = time.monotonic() + seconds
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, by us or by its reader
            stream.flush()
            while _unread(stream.fileno()) and time.monotonic() < deadline:
                time.sleep(1e-3)


def _unread(pipe: int) -> int:
    """Bytes in a pipe that its reader has yet to read; 0 for what is no pipe."""
    number = array.array("i", [0])
    if stat.S_ISFIFO(os.fstat(pipe).st_mode):
        fcntl.ioctl(pipe, termios.FIONREAD, number)
    return number[0]


def launch_ranks(module: str, argv: list[str], ranks: int) -> int:
    """Run ``python -m module argv...`` on local ranks under mpiexec; returns its exit code.

    Ctrl-C and SIGTERM end the ranks, and so does our own death. Raises ValueError without mpiexec.
    """
    command = [_mpiexec(), "-n", str(ranks), sys.executable, "-m", module, *argv]
    # In a Slurm allocation mpiexec would spread the ranks over its nodes; ours are local.
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("SLURM_")}
    if sys.stderr.isatty():
        environment[_TERMINAL] = "1"
    process = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mpiexec() -> str:
    """The mpiexec of this Python's own MPI, else the first on PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise ValueError(
            "there is no mpiexec to start ranks with: pip install minidist[mpi], load your "
            "cluster's MPI module, or run under srun, torchrun, or --transport local"
        )
    return found


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
