"""How a run ends: interrupted, preempted, killed; what it says, and what can go on from it."""

import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.mpi.jobs import (
    LAUNCHERS,
    PYTHON,
    Job,
    mpiexec,
    pid_of_rank,
    ranks_of,
    run,
    start,
    torchrun,
    wait_for,
)

TRAIN = ["-m", "minidist.train", "--dataset", "synthetic:tiny", "--method", "random"]
TRAIN += ["--hidden", "16", "--batch-size", "60", "--prefetch", "none", "--eval-every", "0"]
WAYS = {**LAUNCHERS, "bare": [PYTHON], "local": [PYTHON]}
ENDS_WITHIN_S = 5.0
pytestmark = pytest.mark.usefixtures("nothing_left")


def at_work(way: str, folder: Path, request: Any, flags: str = "") -> Job:
    """A training without end of two ranks that takes steps by now, into ``folder/run``."""
    extra = request.getfixturevalue("slurm") if way == "srun" else None
    local = "--transport local" if way == "local" else ""
    words = f"--epochs 100000 --out {folder}/run {local} {flags}".split()
    job = start([*WAYS[way], *TRAIN, *words], extra)
    wait_for_steps(folder)
    return job


def wait_for_steps(folder: Path) -> None:
    events = folder / "run" / "events-rank1.jsonl"
    wait_for(lambda: events.exists() and '"step"' in events.read_text(), 120)


def ended(job: Job, folder: Path) -> tuple[int, str]:
    """(exit code, output) of a job that must end soon, with all its ranks."""
    began = time.monotonic()
    code, output = job.finish(20)
    assert time.monotonic() - began < ENDS_WITHIN_S
    wait_for(lambda: not ranks_of(str(folder)), ENDS_WITHIN_S)
    return code, output


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_is_130(way: str, tmp_path: Path, request: Any) -> None:
    job = at_work(way, tmp_path, request)
    os.kill(job.process.pid, signal.SIGINT)
    if way == "srun":  # the first only asks how the tasks are
        time.sleep(0.2)
        os.kill(job.process.pid, signal.SIGINT)
    code, output = ended(job, tmp_path)
    # torchrun's agent ends with 1 whatever its ranks end with.
    assert code == (1 if way == "torchrun" else 130), output
    assert way in ("srun", "torchrun") or output.count("stopped by Ctrl-C") == 1
    assert way == "torchrun" or "Traceback" not in output


@pytest.mark.parametrize("flags", ["", "--transport local"])
def test_ctrl_c_at_a_terminal_is_130(flags: str, tmp_path: Path) -> None:
    """It reaches every process of the foreground at once, and may be typed twice."""
    ours, theirs = pty.openpty()
    words = [PYTHON, *TRAIN, "--epochs", "100000", "--out", f"{tmp_path}/run", *flags.split()]
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *words], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    wait_for_steps(tmp_path)
    for _ in range(2):
        os.write(ours, b"\x03")
        time.sleep(0.1)
    code, output = process.wait(ENDS_WITHIN_S), os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert code == 130, output
    assert "ssertion" not in output
    assert "Traceback" not in output
    wait_for(lambda: not ranks_of(str(tmp_path)), ENDS_WITHIN_S)


@pytest.mark.parametrize("way", ["mpiexec", "torchrun", "srun", "bare"])
def test_death_by_a_signal_is_explained(way: str, tmp_path: Path, request: Any) -> None:
    job = at_work(way, tmp_path, request)
    os.kill(pid_of_rank(1, str(tmp_path)), signal.SIGKILL)
    code, output = ended(job, tmp_path)
    assert code not in (0, 2)
    assert f"rank 1 on {os.uname().nodename} (process " in output
    assert ") was killed by SIGKILL: " in output


def test_a_truncated_part_is_named_as_the_cause(tmp_path: Path, request: Any) -> None:
    job = at_work("bare", tmp_path, request)
    for file in (tmp_path / "run" / "parts").rglob("*.npy"):
        os.truncate(file, 0)
    code, output = ended(job, tmp_path)
    assert code == 128 + signal.SIGBUS
    assert "was killed by SIGBUS: a file was truncated while it was mapped (--parts)" in output


@pytest.mark.parametrize("way", ["torchrun", "mpiexec", "bare"])
def test_ranks_end_with_their_launcher(way: str, tmp_path: Path, request: Any) -> None:
    job = at_work(way, tmp_path, request)
    os.kill(job.process.pid, signal.SIGKILL)
    wait_for(lambda: not ranks_of(str(tmp_path)), ENDS_WITHIN_S)
    job.finish()
    subprocess.run("rm -f /dev/shm/mpich_* ; rm -rf $TMPDIR/minidist-*", shell=True, check=True)


PROGRAM = """
import sys, time
from minidist import open_world
with open_world(device="cpu", fetch_timeout=10) as world:
    world.group.barrier("starting")
    {}
"""


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise ValueError('of the user')", 1, "Traceback (most recent call last):"),
        ("int('of the user')", 1, "Traceback (most recent call last):"),
        ("sys.exit(0) if world.rank else time.sleep(30)", 1, "error (rank 1): sys.exit(0) inside"),
        ("sys.exit('of the user') if world.rank else time.sleep(30)", 1, "of the user"),
        ("sys.exit(7) if world.rank else time.sleep(30)", 7, ""),
    ],
)
def test_what_a_users_code_raises(body: str, code: int, said: str) -> None:
    ended, output = start([*mpiexec(2), "-c", PROGRAM.format(body)]).finish(20)
    assert ended == code, output
    assert said in output
    assert "of the user" in output or "of the user" not in body


@pytest.mark.parametrize("launcher", [mpiexec(2), torchrun(2)], ids=["mpiexec", "torchrun"])
def test_worlds_may_follow_each_other(launcher: list[str], tmp_path: Path) -> None:
    program = tmp_path / "worlds.py"
    program.write_text(
        "from minidist import open_world\n"
        "for turn in range(3):\n"
        "    with open_world(device='cpu', fetch_timeout=20) as world:\n"
        "        assert world.group.all_gather(world.rank, 'meeting') == [0, 1]\n"
        "print('all three')"
    )
    assert run([*launcher, str(program)]).count("all three") == 2


@pytest.mark.parametrize("leftover", ["RANK=1 WORLD_SIZE=4", "PMIX_RANK=0 SLURM_PTY_PORT=1"])
def test_leftover_variables_are_no_launcher(leftover: str, tmp_path: Path) -> None:
    extra = dict(pair.split("=") for pair in leftover.split())
    words = [*TRAIN, "--epochs", "1", "--ranks", "2"]
    assert "2 (mpi, cpu)" in run([PYTHON, *words], extra)
    if "RANK" in extra:
        assert "2 (mpi, cpu)" in run([*mpiexec(2), *words], extra)


@pytest.mark.parametrize("flags", ["", "--transport local"])
def test_a_stdout_that_takes_nothing_is_said(flags: str) -> None:
    words = f"{' '.join([PYTHON, *TRAIN])} --epochs 1 {flags} >/dev/full"
    code, output = start(["sh", "-c", words]).finish()
    assert code == 1
    assert "No space left on device" in output
    assert "ssertion" not in output


def test_a_refused_mpi_leaves_nothing() -> None:
    program = PROGRAM.format("pass")
    code, output = start([*mpiexec(2), "-c", program], {"MPI4PY_RC_THREADS": "0"}).finish()
    assert code == 2
    assert "has no MPI_THREAD_MULTIPLE" in output
