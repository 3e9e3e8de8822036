"""Faults under every launcher: what each job said, how soon it ended, and what it left behind.

python -m benchmarks.faults                                      all of them, about half an hour
python -m benchmarks.faults --launchers bare,local --groups files
python -m benchmarks.faults --only Ctrl-C --json faults.json

Exits with 1 where a case ended badly: with the wrong exit code, too late (the deadline for a silent
rank is 5 s, and 5 s more are given), without a word on why, or with something left behind.
"""

import os
import shlex
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.command import Row, answer
from benchmarks.faults import catalogue
from benchmarks.faults.catalogue import DEADLINE_S, GROUPS, TRAIN, Fault
from benchmarks.lab import jobs
from benchmarks.lab.hosts import holds_within
from benchmarks.lab.slurm import slurm
from rudder.cli.flags import flag, parse, require

# When the deadline for a silent rank is over, everything must have ended so much later.
GRACE_S = 5.0
# Starting: imports, the meeting of the ranks, compiled kernels; under load.
_START_S = 120.0
# Processes and shared memory that go by themselves have this long.
_GONE_S = 5.0
WAYS = {**jobs.LAUNCHERS, "bare": [jobs.PYTHON], "local": [jobs.PYTHON]}


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    launchers: str = flag(catalogue.EVERY.replace(" ", ","), "launchers, with commas between")
    groups: str = flag(",".join(GROUPS), "groups of faults")
    only: str | None = flag(None, "faults whose name holds this text")
    json: str | None = flag(None, "also write what happened to this file")

    def __post_init__(self) -> None:
        for name, known in (("launchers", catalogue.EVERY.split()), ("groups", [*GROUPS])):
            value = getattr(self, name)
            listed = ", ".join(known)
            require(set(value.split(",")) <= set(known), name, value, f"some of {listed}")


def measure(config: FaultsConfig) -> Row:
    """Run the cases one after the other, as leftovers could not be told apart otherwise."""
    asked = config.launchers.split(",")
    skipped = {name: why for name in asked if (why := jobs.lacking(name))}
    cases = [
        (fault, launcher)
        for group in config.groups.split(",")
        for fault in GROUPS[group]
        for launcher in fault.launchers.split()
        if launcher in asked and launcher not in skipped
        if config.only is None or config.only in fault.name
    ]
    require(bool(cases), "only", config.only, "part of a fault's name, under these launchers")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        catalogue.template(folder)
        cluster: dict[str, str] = {}
        if any(launcher == "srun" for _, launcher in cases):
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            cluster = stack.enter_context(slurm(Path(scratch)))
        endings = []
        for fault, launcher in (bar := tqdm(cases, unit="case", disable=None)):
            bar.set_postfix_str(f"{fault.name}, {launcher}")
            ending = run_case(fault, launcher, folder, cluster if launcher == "srun" else {})
            endings.append(ending)
            bar.write(
                "{fault:48} {launcher:9} {code!s:>4} {seconds:6.1f} s  ".format(**ending)
                + f"{ending['bad'] and 'BAD: ' + ending['bad'] + ': '}{ending['said'][:90]}"
            )
    return {"cases": endings, "skipped": skipped}


def run_case(fault: Fault, launcher: str, template: Path, slurm: Mapping[str, str]) -> Row:
    """Bring a fault about in a copy of the template's folder, and watch until nothing is left.

    How it ended: seconds: from the fault (or the start) to the launcher's end.   said: the line
    that explains it.   left: what was still there 5 s later.   bad: why this is no good end; empty
    where it is one.
    """
    before = jobs.shared_memory()
    # Unix sockets have short names.
    with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        shutil.copytree(template, folder, dirs_exist_ok=True)
        (folder / "tmp").mkdir()
        if fault.prepare:
            catalogue.prepare(folder, *fault.prepare)
        job = _start(fault, launcher, folder, slurm)
        try:
            code, output, seconds = _end(fault, job, folder)
            left = _left(folder, before)
        finally:  # also when we are told to end
            job.kill()
            for pid in jobs.ranks_of(name):
                os.kill(pid, signal.SIGKILL)
    told = (fault.says,) if fault.says else ("error", "failed")
    said = (line for line in output.splitlines() if any(word in line for word in told))
    return {
        "fault": fault.name,
        "launcher": launcher,
        "code": code,
        "seconds": round(seconds, 1),
        "said": next(said, "").strip()[:300],
        "left": left,
        "bad": judge(fault, launcher, code, output, left),
    }


def _start(fault: Fault, launcher: str, folder: Path, slurm: Mapping[str, str]) -> jobs.Job:
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
    return jobs.start(["sh", "-c", shell], extra)


def _end(fault: Fault, job: jobs.Job, folder: Path) -> tuple[int | None, str, float]:
    """(exit code, None where it did not end in time, output, seconds) of a job with the fault."""
    began, code = time.monotonic(), None
    events = folder / "run" / "events-rank1.jsonl"
    try:
        if fault.strike:
            jobs.wait_for(lambda: events.exists() and '"step"' in events.read_text(), _START_S)
            began = time.monotonic()
            catalogue.strike(fault.strike, job, folder)
        code, output = job.finish(DEADLINE_S + GRACE_S if fault.strike else _START_S)
    except AssertionError as error:  # of wait_for and finish
        output = str(error)
    return code, output, time.monotonic() - began


def _left(folder: Path, before: set[str]) -> str:
    """What is still there when the launcher is gone, as text."""

    def found() -> list[str]:
        temporary = [path.name for path in (folder / "tmp").glob("minidist-*")]
        processes = [f"process {pid}" for pid in jobs.ranks_of(str(folder))]
        return [*processes, *sorted(jobs.shared_memory() - before), *temporary]

    holds_within(_GONE_S, lambda: not found(), every_s=0.1)
    return ", ".join(found())


def judge(fault: Fault, launcher: str, code: int | None, output: str, left: str) -> str:
    """Why a case ended badly; empty where it ended well."""
    if code is None:
        return "it did not end in time"
    expected = fault.code
    if launcher == "torchrun" and expected:
        expected = 1  # its agent's, whatever its ranks end with
    if launcher == "openmpi" and expected in (catalogue.CTRL_C, catalogue.TERMINATED):
        expected = 1  # mpirun's, which passes both on as SIGTERM
    if launcher == "mpiexec" and expected == catalogue.CTRL_C and code == 9:
        expected = 9  # MPICH's, at times, where it kills a rank that ends later than another
    if launcher == "srun" and fault.alone and code in (137, 143):
        expected = code  # the highest of its tasks', and -K1 killed those that met no error
    if code != expected if expected is not None else code == 0:
        return f"exit code {code}, expected {'any other' if expected is None else expected}"
    if fault.says not in output:
        return f"nothing said of {fault.says!r}"
    if left and ("process" in left or not fault.leaves):
        return f"left behind: {left}"
    return ""


def table(found: Row) -> str:
    """What it comes to; each case was told as it ended."""
    bad = [each for each in found["cases"] if each["bad"]]
    text = "".join("\nBAD: {fault}, {launcher}: {bad}".format(**each) for each in bad)
    text += "".join(f"\nnot tried: {name}: {why}" for name, why in found["skipped"].items())
    counts = Counter(each["launcher"] for each in found["cases"])
    tried = ", ".join(f"{count} under {name}" for name, count in counts.items())
    slowest = max(each["seconds"] for each in found["cases"])
    return (
        f"{text}\n{len(bad)} of {sum(counts.values())} ended badly ({tried}); slowest {slowest} s"
    )


if __name__ == "__main__":
    found = answer(parse(FaultsConfig, __doc__), measure, table)
    raise SystemExit(any(each["bad"] for each in found["cases"]))
