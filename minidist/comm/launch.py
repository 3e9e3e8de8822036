"""Launch: is a launcher around us, and if not, ranks of our own under mpiexec."""

import array
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from types import FrameType
from typing import IO

from minidist.comm.signals import INTERRUPTED, TERMINATED, TERMINATIONS, die_with_parent

# Tells rank 0 that the terminal behind mpiexec's pipe can show a progress bar.
_TERMINAL = "MINIDIST_TTY"
_MPI_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
_TORCH_RANKS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
# What the launchers of other ranks, or of the shell we were typed into, may have left.
_LEFT = ("SLURM_", "PMI", "OMPI_", "PRTE_", *_TORCH_RANKS, "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# Ctrl-C ends ranks at once, and a rank deep in a library within seconds: mpiexec must follow.
_INTERRUPT_S = 4.5


def launcher() -> str | None:
    """``torchrun``, ``mpi`` (mpiexec or srun), or None where no launcher started us."""
    if _in_interactive_shell():
        return None
    by_mpi = by_srun() or any(name in os.environ for name in _MPI_RANKS)
    # A notebook or container may have set torchrun's variables: mpiexec's are of this process.
    by_torch = all(name in os.environ for name in _TORCH_RANKS)
    if by_torch and ("TORCHELASTIC_RUN_ID" in os.environ or not by_mpi):
        return "torchrun"
    return "mpi" if by_mpi else None


def by_srun() -> bool:
    """Whether this is one of several tasks of Slurm, whose shells are a step of one task.

    mpiexec may run in such a shell, and leaves its variables to the ranks.
    """
    return "SLURM_STEP_ID" in os.environ and expected_size() > 1 and not _by_mpiexec()


def _by_mpiexec() -> bool:
    return "MPI_LOCALRANKID" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ


def _in_interactive_shell() -> bool:
    """Whether the ranks' variables are those of the shell of ``srun --pty`` or salloc.

    That is a step of one task, and what is typed there was started by no launcher.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    alone = expected_size() == 1
    return "SLURM_PTY_PORT" in os.environ and alone and not _by_mpiexec() and not by_torchrun


def expected_size() -> int:
    """How many ranks mpiexec or srun says it started; 1 where it does not say."""
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
    """Run ``python -m module argv...`` on local ranks under mpiexec; returns the exit code.

    Ctrl-C (130) and SIGTERM (143) end the ranks, and so does our own death. What ranks leave in
    their temporary folder goes when they end. Raises ValueError without mpiexec.
    """
    command = [_mpiexec(), "-n", str(ranks), sys.executable, "-m", module, *argv]
    # In a Slurm allocation mpiexec would spread the ranks over its nodes; ours are local.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT)}
    if sys.stderr is not None and sys.stderr.isatty():
        environment[_TERMINAL] = "1"
    # Else each job that is interrupted leaves a description of the machine in /tmp.
    environment.setdefault("HWLOC_XMLFILE", os.devnull)
    with tempfile.TemporaryDirectory(prefix="minidist-") as scratch:
        environment["TMPDIR"] = scratch
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=_apart,
        )
        return _follow(process)


def _apart() -> None:
    """Of a terminal's Ctrl-C only we shall hear, who pass it on; mpiexec aborts when it hears two.

    Its ranks end with it, by hydra; it ends with us.
    """
    os.setpgid(0, 0)
    die_with_parent(signal.SIGTERM)


def _follow(process: "subprocess.Popen[bytes]") -> int:
    """Pass signals and output on until mpiexec has ended; returns the exit code."""
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            process.kill()  # whose proxies then kill the ranks
            return
        if number == signal.SIGINT:
            signal.setitimer(signal.ITIMER_REAL, _INTERRUPT_S)
        if number not in asked:
            asked.append(number)
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGALRM, *TERMINATIONS)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        lost = _pass_on(process.stdout)
        code = process.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            # One more Ctrl-C must not change how we end.
            signal.signal(number, signal.SIG_IGN if asked else handler)
    if asked:
        return INTERRUPTED if signal.SIGINT in asked else code and TERMINATED
    if lost is not None:
        print(f"error: stdout cannot be written: {lost.strerror}", file=sys.stderr)
    # A negative code is of a signal that killed mpiexec itself.
    return code if code > 0 else 128 - code if code else int(lost is not None)


def _pass_on(output: "IO[bytes] | None") -> OSError | None:
    """Copy mpiexec's output to ours until it ends; returns why, if some of it was lost.

    mpiexec itself fails an assertion where stdout is full or its reader gone, and training with it.
    """
    assert output is not None
    lost = None
    while data := os.read(output.fileno(), 1 << 16):
        while data and lost is None:
            try:
                data = data[os.write(1, data) :]
            except OSError as error:
                lost = error
    return lost


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
