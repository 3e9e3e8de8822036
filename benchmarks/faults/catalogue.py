"""Catalogue: the faults, how each is brought about, and how a job must end because of it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab.jobs import Job, pid_of_rank, ranks_of

Acts = Callable[[Job, Path], None]
# Launchers whose ranks are processes of their own.
SEPARATE = ("mpiexec", "openmpi", "torchrun", "srun", "bare")
EVERY = (*SEPARATE, "local")
# A silent rank is given up after so many seconds.
DEADLINE_S = 5
TRAIN = ["-m", "minidist.train", "--hidden", "16", "--batch-size", "60", "--eval-every", "0"]
TRAIN += ["--device", "cpu", "--fetch-timeout", str(DEADLINE_S), "--prefetch", "none"]
INPUT, FAILED, CTRL_C, TERMINATED = 2, 1, 130, 143


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    name: of what is wrong.   code: the exit code it must end with; None: any but 0.
    says: what the output must hold.   flags: of training, beside those of every case; ``{folder}``
    is the case's.   prepare: what is done to that folder before.   shell: ``{}`` is the command.
    variables: of the environment.   program: in place of training, for a user's code.
    strike: what is done once steps are taken; None: the fault is there from the start.
    launchers: under which it can occur.
    leaves: files may stay, since nobody is left who knows of them.
    """

    name: str
    code: int | None
    says: str = ""
    flags: str = ""
    prepare: Callable[[Path], None] = lambda folder: None
    shell: str = "exec {}"
    variables: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    strike: Acts | None = None
    launchers: tuple[str, ...] = EVERY
    leaves: bool = False


def _flip(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        file = folder / name
        data = bytearray(file.read_bytes())
        data[len(data) * 2 // 3] ^= 0x10
        file.write_bytes(data)

    return prepare


def _cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).write_text(text)

    return prepare


def _replace(name: str, before: str, after: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after))

    return prepare


def _to_rank(rank: int, number: int) -> Acts:
    return lambda job, folder: os.kill(pid_of_rank(rank, str(folder)), number)


def _interrupt(job: Job, folder: Path) -> None:
    """Twice where it is srun, which only tells how the tasks are at the first."""
    job.process.send_signal(signal.SIGINT)
    if "srun " in job.process.args[-1]:  # type: ignore[operator, index]
        subprocess.run(["sleep", "0.2"], check=True)
        job.process.send_signal(signal.SIGINT)


def _truncate_maps(job: Job, folder: Path) -> None:
    for file in (folder / "parts").rglob("*.npy"):
        os.truncate(file, 0)


def _kill_all_ranks(job: Job, folder: Path) -> None:
    for pid in ranks_of(str(folder)):
        os.kill(pid, signal.SIGKILL)


_X = "parts/part1/x.npy"
_RESUME = "--resume {folder}/done --epochs 5"
_RUN_FILES = ("checkpoint.pt", "rank1.npz")
# Files that a run finds damaged, cut short or gone.
FILES = [
    Fault(name="a byte of a part flipped", code=INPUT, says="x.npy", prepare=_flip(_X)),
    Fault(name="a part's file cut short", code=INPUT, says="x.npy", prepare=_cut(_X)),
    Fault(name="a part's file gone", code=INPUT, says="x.npy", prepare=_remove(_X)),
    Fault(name="meta.json garbled", code=INPUT, says="parts",
          prepare=_write("parts/meta.json", "{")),
    Fault(name="meta.json gone", code=INPUT, says="parts",
          prepare=_remove("parts/meta.json")),
    Fault(name="parts of another version", code=INPUT, says="version",
          prepare=_replace("parts/meta.json", '"version": ', '"version": 9')),
    Fault(name="parts for three ranks", code=INPUT, says="3 parts",
          flags="--parts {folder}/three --ranks 2"),
    Fault(name="no such graph", code=INPUT, says="nowhere.npz",
          flags="--dataset npz:{folder}/nowhere.npz --parts {folder}/new"),
    Fault(name="a graph that is no archive", code=INPUT, says="graph.npz",
          prepare=_write("graph.npz", "junk"),
          flags="--dataset npz:{folder}/graph.npz --parts {folder}/new"),
    *(Fault(name=f"{file} {what}", code=INPUT, says=says, flags=_RESUME, prepare=do(f"done/{file}"))
      for file in _RUN_FILES
      for what, do, says in (("with a byte flipped", _flip, file), ("cut short", _cut, file),
                             ("gone", _remove, "done"))),
    Fault(name="a model that is none", code=INPUT, says="junk.gguf",
          prepare=_write("junk.gguf", "junk"),
          flags="--prefetch rudder --agent-model {folder}/junk.gguf"),
    Fault(name="a model cut short", code=INPUT, says="model.gguf", prepare=_cut("model.gguf"),
          flags="--prefetch rudder --agent-model {folder}/model.gguf"),
    Fault(name="no such model", code=INPUT, says="none.gguf",
          flags="--prefetch rudder --agent-model {folder}/none.gguf"),
]  # fmt: skip
# What a user asks for and cannot have.
SETTINGS = [
    Fault(name="a flag out of range", code=INPUT, says="--fanout", flags="--fanout 0"),
    Fault(name="an unknown preset", code=INPUT, says="--prefetch", flags="--prefetch best"),
    Fault(name="an --out that is a file", code=INPUT, says="--out", flags="--out {folder}/a-file",
          prepare=_write("a-file", "")),
    Fault(name="a --json that cannot be written", code=INPUT, says="--json",
          flags="--json {folder}/none/summary.json"),
    Fault(name="an --out of another run", code=INPUT, says="--overwrite",
          flags="--out {folder}/done"),
    Fault(name="other settings than the run to continue had", code=INPUT, says="hidden",
          flags=f"{_RESUME} --hidden 8"),
    Fault(name="a run that is finished, resumed", code=0, says="is finished",
          flags="--resume {folder}/done --epochs 1"),
]  # fmt: skip
# What a machine lacks.
MACHINE = [
    Fault(name="few open files", code=INPUT, says="open", shell="ulimit -n 64; exec {}",
          launchers=("mpiexec", "openmpi", "torchrun", "bare")),
    Fault(name="a small /dev/shm", code=INPUT, says="/dev/shm", launchers=("mpiexec", "bare"),
          shell="exec unshare -m sh -c 'mount -t tmpfs -o size=4m tmpfs /dev/shm; exec {}'"),
    Fault(name="a disk that fills up", code=FAILED, says="No space left on device",
          flags="--epochs 100000 --out {folder}/small/run", launchers=("mpiexec", "bare", "local"),
          shell="exec unshare -m sh -c 'mount -t tmpfs -o size=3m tmpfs {folder}/small; exec {}'"),
    Fault(name="a stdout that takes nothing", code=FAILED, says="No space left on device",
          shell="exec {} >/dev/full", launchers=("bare", "local")),
    Fault(name="RANK and WORLD_SIZE left over", code=0, launchers=("mpiexec", "bare", "local"),
          variables={"RANK": "1", "WORLD_SIZE": "4"}),
    Fault(name="no home and no cache that can be written", code=0,
          variables={"HOME": "/nonexistent", "NUMBA_CACHE_DIR": "/proc/none"}),
]  # fmt: skip
# What happens to a job at work.
STRIKES = [
    Fault(name="Ctrl-C", code=CTRL_C, strike=_interrupt),
    Fault(name="SIGTERM", code=TERMINATED, says="stopped by a signal",
          strike=lambda job, folder: job.process.send_signal(signal.SIGTERM),
          launchers=("mpiexec", "openmpi", "torchrun", "bare", "local")),
    *(Fault(name=f"{signal.Signals(number).name} to rank {rank}", code=None, says=f"rank {rank}",
            strike=_to_rank(rank, number), launchers=SEPARATE)
      for number in (signal.SIGKILL, signal.SIGSEGV) for rank in (0, 1)),
    *(Fault(name=f"rank {rank} stopped", code=None, says=f"for rank {rank}",
            strike=_to_rank(rank, signal.SIGSTOP), launchers=SEPARATE) for rank in (0, 1)),
    Fault(name="the launcher killed", code=None, launchers=("mpiexec", "torchrun", "bare"),
          strike=lambda job, folder: job.process.send_signal(signal.SIGKILL), leaves=True),
    Fault(name="every rank killed", code=None, strike=_kill_all_ranks, launchers=SEPARATE,
          leaves=True),
    Fault(name="parts truncated while they are mapped", code=None, says="SIGBUS",
          strike=_truncate_maps, launchers=SEPARATE),
]  # fmt: skip
_WORLD = """
import os, sys, time
from minidist import open_world
with open_world(device="cpu", fetch_timeout=5) as world:
    world.group.barrier("starting")
    if world.rank == {rank}:
        {body}
    world.group.barrier("going on")
"""
# What a user's own code does inside ``open_world``, on either rank.
PROGRAMS = [
    Fault(name=f"{what} on rank {rank}", code=code, says=says,
          # MPICH's mpiexec takes a rank that ends with 0 by itself for done, and says 0 of the job.
          launchers=SEPARATE[1:-1] if "os._exit" in what else SEPARATE[:-1],
          program=_WORLD.format(rank=rank, body=body))
    for what, code, says, body in (
        ("an exception", FAILED, "Traceback", "raise RuntimeError('of the user')"),
        ("a ValueError", FAILED, "Traceback", "int('of the user')"),
        ("sys.exit(0)", None, "sys.exit(0) inside", "sys.exit(0)"),
        ("sys.exit(7)", 7, "", "sys.exit(7)"),
        ("os._exit(0)", None, "", "os._exit(0)"),
        ("a loop without end", None, "for rank", "time.sleep(1000)"),
    )
    for rank in (0, 1)
]  # fmt: skip
GROUPS = {
    "files": FILES,
    "settings": SETTINGS,
    "machine": MACHINE,
    "strikes": STRIKES,
    "programs": PROGRAMS,
}


def template(folder: Path, run: Callable[[list[str]], object]) -> None:
    """What every case begins with: parts for two ranks and three, a finished run, a model."""
    part = ["-m", "minidist.partition", "--dataset", "synthetic:tiny", "--method", "random"]
    run([*part, "--parts", "2", "--out", str(folder / "parts")])
    run([*part, "--parts", "3", "--out", str(folder / "three")])
    where = ["--transport", "local", "--parts", str(folder / "parts"), "--epochs", "1"]
    run([*TRAIN, *where, "--out", str(folder / "done")])
    for file in (folder / "done").glob("*-before.*"):  # a damaged file would be made up for
        file.unlink()
    from rudder.agent.models import EMBEDDED

    shutil.copy(EMBEDDED, folder / "model.gguf")
    (folder / "small").mkdir()
