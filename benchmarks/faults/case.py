"""Case: one fault under one launcher, watched from its start until nothing of it is left."""

import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.catalogue import CTRL_C, DEADLINE_S, TERMINATED, TRAIN, Fault
from benchmarks.lab.jobs import LAUNCHERS, PYTHON, Job, ranks_of, shared_memory, start, wait_for

# When the deadline for a silent rank is over, everything must have ended so much later.
GRACE_S = 5.0
# Starting: imports, the meeting of the ranks, compiled kernels; under load.
_START_S = 120.0
# Processes and shared memory that go by themselves have this long.
_GONE_S = 5.0
WAYS = {**LAUNCHERS, "bare": [PYTHON], "local": [PYTHON]}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a case ended. seconds: from the fault (or the start) to the launcher's end.

    said: the line that explains it.   left: what was still there 5 s later.   bad: why this is no
    good end; empty where it is one.
    """

    fault: str
    launcher: str
    code: int | None
    seconds: float
    said: str
    left: str
    bad: str


def run_case(fault: Fault, launcher: str, template: Path, slurm: Mapping[str, str]) -> Ending:
    """Bring the fault about in a copy of the template's folder, and see what comes of it."""
    before = shared_memory()
    # Unix sockets have short names.
    with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        shutil.copytree(template, folder, dirs_exist_ok=True)
        (folder / "tmp").mkdir()
        fault.prepare(folder)
        job = _start(fault, launcher, folder, slurm)
        try:
            code, output, seconds = _end(fault, job, folder)
            left = _left(folder, before)
        finally:  # also when we are told to end
            job.kill()
            for pid in ranks_of(name):
                os.kill(pid, signal.SIGKILL)
    said = next((line for line in output.splitlines() if _explains(line, fault)), "")
    return Ending(
        fault=fault.name,
        launcher=launcher,
        code=code,
        seconds=round(seconds, 1),
        said=said.strip()[:300],
        left=left,
        bad=judge(fault, launcher, code, output, left),
    )


def _end(fault: Fault, job: Job, folder: Path) -> tuple[int | None, str, float]:
    """(exit code, None where it did not end in time, output, seconds) of a job with the fault."""
    began = time.monotonic()
    code: int | None = None
    try:
        if fault.strike is not None:
            wait_for(lambda: _at_work(folder), _START_S)
            began = time.monotonic()
            fault.strike(job, folder)
        code, output = job.finish(DEADLINE_S + GRACE_S if fault.strike else _START_S)
    except AssertionError as error:  # of wait_for and finish
        output = str(error)
    return code, output, time.monotonic() - began


def _start(fault: Fault, launcher: str, folder: Path, slurm: Mapping[str, str]) -> Job:
    if fault.program:
        (folder / "program.py").write_text(fault.program)
        words = [str(folder / "program.py")]
    else:
        epochs = "100000" if fault.strike else "2"
        words = [*TRAIN, "--epochs", epochs]
        words += [] if "--parts" in fault.flags else ["--parts", str(folder / "parts")]
        words += ["--transport", "local", "--ranks", "2"] if launcher == "local" else []
        words += ["--out", str(folder / "run")] if fault.strike else []
        words += fault.flags.format(folder=folder).split()
    command = shlex.join([*WAYS[launcher], *words])
    shell = fault.shell.replace("{folder}", str(folder)).replace("{}", command)
    extra = {"TMPDIR": str(folder / "tmp"), **slurm, **fault.variables}
    return start(["sh", "-c", shell], extra)


def _at_work(folder: Path) -> bool:
    events = folder / "run" / "events-rank1.jsonl"
    return events.exists() and '"step"' in events.read_text()


def _explains(line: str, fault: Fault) -> bool:
    return fault.says in line if fault.says else "error" in line or "failed" in line


def _left(folder: Path, before: set[str]) -> str:
    """What is still there when the launcher is gone, as text."""
    deadline = time.monotonic() + _GONE_S

    def found() -> list[str]:
        temporary = [path.name for path in (folder / "tmp").glob("minidist-*")]
        processes = [f"process {pid}" for pid in ranks_of(str(folder))]
        return [*processes, *sorted(shared_memory() - before), *temporary]

    while (there := found()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return ", ".join(there)


def judge(fault: Fault, launcher: str, code: int | None, output: str, left: str) -> str:
    """Why a case ended badly; empty where it ended well."""
    if code is None:
        return "it did not end in time"
    expected = fault.code
    if launcher == "torchrun" and expected:
        expected = 1  # its agent's, whatever its ranks end with
    if launcher == "openmpi" and expected in (CTRL_C, TERMINATED):
        expected = 1  # mpirun's, which passes both on as SIGTERM
    if launcher == "srun" and expected and code in (137, 143):
        expected = code  # the highest of its tasks', and -K1 killed those that met no error
    if code != expected if expected is not None else code == 0:
        return f"exit code {code}, expected {'any other' if expected is None else expected}"
    if fault.says not in output:
        return f"nothing said of {fault.says!r}"
    if left and ("process" in left or not fault.leaves):
        return f"left behind: {left}"
    return ""
