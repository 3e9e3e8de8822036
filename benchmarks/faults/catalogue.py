"""Catalogue: the faults that ``catalogue.toml`` tells of, and how each is brought about."""

import os
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.lab.jobs import PYTHON, Job, pid_of_rank, ranks_of, run
from rudder.agent.models import EMBEDDED

EVERY = "mpiexec openmpi torchrun srun bare local"
# A silent rank is given up after so many seconds.
DEADLINE_S = 5
TRAIN = ["-m", "minidist.train", "--hidden", "16", "--batch-size", "60", "--eval-every", "0"]
TRAIN += ["--device", "cpu", "--fetch-timeout", str(DEADLINE_S), "--prefetch", "none"]
CTRL_C, TERMINATED = 130, 143
_WORLD = """
import os, sys, time
from minidist import open_world
with open_world(device="cpu", fetch_timeout=5) as world:
    world.group.barrier("starting")
    if world.rank == {rank}:
        BODY
    world.group.barrier("going on")
"""


@dataclass(frozen=True)
class Fault:
    name: str
    code: int | None = None
    says: str = ""
    flags: str = ""
    prepare: Sequence[str] = ()
    shell: str = "exec {}"
    variables: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    strike: str = ""
    launchers: str = EVERY
    leaves: bool = False
    alone: bool = False


def _faults(told: dict[str, Any]) -> Iterator[Fault]:
    """What is told is one fault, or one for each rank."""
    if "body" in told:
        told["program"] = _WORLD.replace("BODY", told.pop("body"))
    texts = {name: value for name, value in told.items() if isinstance(value, str)}
    for rank in ("0", "1") if "{rank}" in told["name"] else ("",):
        given = {name: text.replace("{rank}", rank) for name, text in texts.items()}
        yield Fault(**{**told, **given})


_TOLD = tomllib.loads((Path(__file__).parent / "catalogue.toml").read_text())
GROUPS = {
    group: [fault for told in every for fault in _faults(told)] for group, every in _TOLD.items()
}


def prepare(folder: Path, verb: str, name: str, *texts: str) -> None:
    """Damage a file of a case."""
    file = folder / name
    match verb:
        case "flip":
            data = bytearray(file.read_bytes())
            data[len(data) * 2 // 3] ^= 0x10
            file.write_bytes(data)
        case "cut":
            os.truncate(file, file.stat().st_size // 2)
        case "remove":
            file.unlink()
        case "write":
            file.write_text(texts[0])
        case "replace":
            assert texts[0] in file.read_text()
            file.write_text(file.read_text().replace(texts[0], texts[1]))


def strike(how: str, job: Job, folder: Path) -> None:
    match how.split():
        case ["interrupt"]:
            job.process.send_signal(signal.SIGINT)
            if "srun " in job.process.args[-1]:  # type: ignore[operator, index]
                # At the first, srun only tells how the tasks are.
                subprocess.run(["sleep", "0.2"], check=True)
                job.process.send_signal(signal.SIGINT)
        case ["truncate", "parts"]:
            for file in (folder / "parts").rglob("*.npy"):
                os.truncate(file, 0)
        case ["kill", "ranks"]:
            for pid in ranks_of(str(folder)):
                os.kill(pid, signal.SIGKILL)
        case [name, "to", "launcher"]:
            job.process.send_signal(signal.Signals[name])
        case [name, "to", rank]:
            os.kill(pid_of_rank(int(rank), str(folder)), signal.Signals[name])


def template(folder: Path) -> None:
    """What every case begins with: parts for two ranks and three, a finished run, a model."""
    part = ["-m", "minidist.partition", "--dataset", "synthetic:tiny", "--method", "random"]
    run([PYTHON, *part, "--parts", "2", "--out", str(folder / "parts")])
    run([PYTHON, *part, "--parts", "3", "--out", str(folder / "three")])
    where = ["--transport", "local", "--parts", str(folder / "parts"), "--epochs", "1"]
    run([PYTHON, *TRAIN, *where, "--out", str(folder / "done")])
    for file in (folder / "done").glob("*-before.*"):  # a damaged file would be made up for
        file.unlink()
    shutil.copy(EMBEDDED, folder / "model.gguf")
    (folder / "small").mkdir()
