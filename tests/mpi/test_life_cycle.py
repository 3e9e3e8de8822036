"""How a run ends: interrupted, preempted, killed; what it says, and what can go on from it."""

import json
import os
import pty
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.lab.jobs import (
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
from tests.mpi.needs import need

TRAIN = ["-m", "minidist.train", "--dataset", "synthetic:tiny", "--method", "random"]
TRAIN += ["--hidden", "16", "--batch-size", "60", "--prefetch", "none", "--eval-every", "0"]
WAYS = {**LAUNCHERS, "bare": [PYTHON], "local": [PYTHON]}
# What starts as users start it first; each start of PyTorch takes seconds.
SLOW = [
    pytest.param(launcher, marks=[pytest.mark.slow, need(launcher)])
    for launcher in ("mpiexec", "openmpi", "torchrun", "srun")
]
# Launchers that end a job which failed or was stopped with 1, whatever its ranks end with.
ALWAYS_1 = ("torchrun", "openmpi")
# Twice what is promised: starting and ending of launchers is in it, on a machine with other work.
ENDS_WITHIN_S = 10.0
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


@pytest.mark.parametrize("way", ["local", *SLOW])
def test_ctrl_c_is_130(way: str, tmp_path: Path, request: Any) -> None:
    job = at_work(way, tmp_path, request)
    os.kill(job.process.pid, signal.SIGINT)
    if way == "srun":  # the first only asks how the tasks are
        time.sleep(0.2)
        os.kill(job.process.pid, signal.SIGINT)
    code, output = ended(job, tmp_path)
    # Launchers kill ranks that take longer than others. MPICH's mpiexec then ends with 9 at times.
    expected = {"srun": (130, 137), "mpiexec": (130, 9)}.get(way, (130,))
    expected = (1,) if way in ALWAYS_1 else expected
    assert code in expected or "Timed out waiting for job step" in output, output
    assert way in ("srun", *ALWAYS_1) or output.count("stopped by Ctrl-C") == 1
    assert way == "torchrun" or "Traceback" not in output


@pytest.mark.parametrize("flags", ["", pytest.param("--transport local", marks=pytest.mark.slow)])
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


@pytest.mark.parametrize("way", ["bare", *SLOW[2:]])
def test_death_by_a_signal_is_explained(way: str, tmp_path: Path, request: Any) -> None:
    job = at_work(way, tmp_path, request)
    os.kill(pid_of_rank(1, str(tmp_path)), signal.SIGKILL)
    code, output = ended(job, tmp_path)
    assert code not in (0, 2)
    assert f"rank 1 on {os.uname().nodename} (process " in output
    assert ") was killed by SIGKILL: " in output


@pytest.mark.slow
def test_a_truncated_part_is_named_as_the_cause(tmp_path: Path, request: Any) -> None:
    job = at_work("bare", tmp_path, request)
    for file in (tmp_path / "run" / "parts").rglob("*.npy"):
        os.truncate(file, 0)
    code, output = ended(job, tmp_path)
    assert code not in (0, 2)
    assert "was killed by SIGBUS: a file was truncated while it was mapped (--parts)" in output


@pytest.mark.slow
@pytest.mark.parametrize("way", ["torchrun", "bare"])
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


def test_leftover_variables_are_no_launcher() -> None:
    """Of torchrun, in a notebook or container; of an interactive shell of Slurm."""
    leftover = {"RANK": "1", "WORLD_SIZE": "4", "PMIX_RANK": "0", "SLURM_PTY_PORT": "1"}
    leftover["SLURM_STEP_NUM_TASKS"] = "1"
    words = [*TRAIN, "--epochs", "1", "--ranks", "2"]
    assert "2 (mpi, cpu)" in run([PYTHON, *words], leftover)
    program = "from minidist.comm.launch import launcher; print(launcher())"
    torch = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "n", "MASTER_PORT": "1"}
    assert run([*mpiexec(2), "-c", program], torch).split() == ["mpi"] * 2
    srun = "from minidist.comm.launch import by_srun, launcher; print(launcher(), by_srun())"
    assert run([*mpiexec(2), "-c", srun], {"SLURM_STEP_ID": "0"}).split() == ["mpi", "False"] * 2
    assert run([PYTHON, "-c", program], torch).split() == ["torchrun"]


@pytest.mark.parametrize("flags", [pytest.param("", marks=pytest.mark.slow), "--transport local"])
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


@pytest.mark.parametrize("way", ["local", "bare", *SLOW])
def test_preemption_leaves_a_checkpoint(way: str, tmp_path: Path, request: Any) -> None:
    """SIGTERM to the launcher, as Slurm, Kubernetes and systemd send it."""
    job = at_work(way, tmp_path, request)
    if way == "srun":
        environment = {**os.environ, **request.getfixturevalue("slurm")}
        subprocess.run(["scancel", "--user=root", "--full"], env=environment, check=True)
    else:
        os.kill(job.process.pid, signal.SIGTERM)
    code, output = ended(job, tmp_path)
    assert code == (1 if way in ALWAYS_1 else 143), output
    assert "stopped by a signal before epoch" in output
    taken = (tmp_path / "run" / "events-rank0.jsonl").read_text().count('"event": "step"')
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    # No step was lost.
    assert len(saved["losses"]) == taken


def test_preemption_where_nothing_is_kept(tmp_path: Path) -> None:
    job = start([PYTHON, *TRAIN, "--epochs", "100000", "--json", f"{tmp_path}/none.json"])
    wait_for(lambda: len(ranks_of(str(tmp_path))) == 5, 60)  # we, and two ranks with supervisors
    os.kill(job.process.pid, signal.SIGTERM)
    assert ended(job, tmp_path)[0] == 143


@pytest.mark.slow
def test_a_requeued_batch_job_goes_on(slurm: dict[str, str], tmp_path: Path) -> None:
    """The script of docs/cluster.md: requeued by Slurm, it ends as a run that never stopped."""
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    script = page.split("```bash\n", 2)[2].split("```")[0]
    flags = f"{' '.join(TRAIN[2:])} --epochs 300 --out"
    script = script.replace("--parts /shared/products4 --epochs 20 --out", flags)
    script = script.replace("python -m", f"{PYTHON} -m").replace("/shared/run", f"{tmp_path}/run")
    script = script.replace("srun ", "srun -O -n 2 ").replace("--nodes=4", "--nodes=1")
    script = "\n".join(line for line in script.splitlines() if not line.startswith("source"))
    script = script.replace("--cpus-per-task=16 --gpus-per-task=1 ", "")
    (tmp_path / "job.sh").write_text(script)
    environment = {**os.environ, **slurm, "OMP_NUM_THREADS": "1"}

    def slurms(*words: str) -> str:
        return subprocess.run(
            words, env=environment, check=True, capture_output=True, text=True, cwd=tmp_path
        ).stdout

    number = slurms("sbatch", "--parsable", "--output", "job.log", "job.sh").strip()
    wait_for_steps(tmp_path)
    slurms("scontrol", "requeue", number)
    summary = tmp_path / "run" / "summary.json"
    try:
        # Slurm begins a requeued job anew after two minutes, unless it is released.
        wait_for(lambda: "Reason=BeginTime" in slurms("scontrol", "show", "job", number), 60)
        slurms("scontrol", "update", f"JobId={number}", "StartTime=now")
        wait_for(summary.exists, 120)
    finally:
        subprocess.run(["scancel", number], env=environment, check=False)
    assert "DUE TO JOB REQUEUE" in (tmp_path / "job.log").read_text()
    events = [
        json.loads(line)
        for line in (tmp_path / "run" / "events-rank0.jsonl").read_text().splitlines()
    ]
    # Its second start went on where the first one stood.
    begins = [number for number, event in enumerate(events) if event["event"] == "started"]
    assert len(begins) == 2
    assert events[begins[1] + 1]["epoch"] > 0
    found = json.loads(summary.read_text())
    assert len(found["losses"]) == 300 * found["steps_per_epoch"]


def on_a_disk_of(size: str, folder: Path, command: list[str]) -> list[str]:
    """The command, with a file system of its own of this size on the folder."""
    words = f"mount -t tmpfs -o size={size} tmpfs {folder}; exec {shlex.join(command)}"
    return ["unshare", "-m", "sh", "-c", words]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
THREE_RANKS = [*mpiexec(3), *TRAIN, "--epochs", "1"]


@needs_root
def test_modest_limits_are_enough_on_one_host() -> None:
    """A small /dev/shm, and few open files by a soft limit, which is raised."""
    command = on_a_disk_of("64m", Path("/dev/shm"), THREE_RANKS)
    limited = f"ulimit -S -n 64; exec {shlex.join(command)}"
    assert "3 (mpi, cpu)" in run(["sh", "-c", limited])


@needs_root
@pytest.mark.parametrize("connections", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_too_small_a_dev_shm_is_named(connections: int) -> None:
    command = on_a_disk_of(f"{10 * connections}m", Path("/dev/shm"), THREE_RANKS)
    code, output = start(command, {"MPIR_CVAR_CH4_NUM_VCIS": str(connections)}).finish()
    assert code == 2
    assert output.count("error: /dev/shm has ") == 1
    assert f"MPI needs {'15.9' if connections == 1 else '99.6'} MiB there for 3 ranks" in output
    assert "docker run --shm-size 1g" in output


def test_too_few_open_files_are_named() -> None:
    command = shlex.join([*mpiexec(2), *TRAIN, "--epochs", "1"])
    code, output = start(["sh", "-c", f"ulimit -n 64; exec {command}"]).finish()
    assert code == 2
    assert "a process may open 64 files here, but a rank of 2 may need 248" in output


@needs_root
@pytest.mark.parametrize("way", ["local", pytest.param("bare", marks=pytest.mark.slow)])
def test_a_full_disk_is_one_line(way: str, tmp_path: Path) -> None:
    """Each rank names the file that could not be written."""
    local = ["--transport", "local"] if way == "local" else []
    command = [PYTHON, *TRAIN, "--epochs", "100000", "--out", str(tmp_path / "run"), *local]
    code, output = start(on_a_disk_of("1m", tmp_path, command)).finish()
    assert code == 1
    assert f"{tmp_path}/run/" in output
    assert "cannot be written: No space left on device; its disk has " in output
    assert "Traceback" not in output


@needs_root
def test_a_disk_without_room_for_checkpoints_is_named(tmp_path: Path) -> None:
    words = ["--transport", "local", "--ranks", "2", "--hidden", "2000", "--epochs", "1"]
    command = [PYTHON, *TRAIN, *words, "--out", str(tmp_path / "run")]
    code, output = start(on_a_disk_of("3m", tmp_path, command)).finish()
    assert code == 2
    assert "MiB needed for checkpoints, but its disk has 2." in output
