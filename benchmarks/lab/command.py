"""A cluster on this machine: a command on several hosts whose links have a rate. Root, Linux.

    python -m benchmarks.lab --hosts 4 --rate 200mbit -- python -m minidist.train --parts p4
    python -m benchmarks.lab --hosts 2 --rate 1gbit --delay 1ms -- python -m my_own.program
    python -m benchmarks.lab --hosts 3 --rate none --slurm -- python -m minidist.train --parts p3

    --hosts 3      host0         host1         host2        network namespaces: name, address,
                 10.77.0.10    10.77.0.11    10.77.0.12     interface, shared memory of their own
                     |             |             |
                   --rate        --rate        --rate       token buckets, one in each direction
                     +-------------+-------------+          a bridge, in a namespace too

COMMAND runs as one rank a host under MPICH's mpiexec, or with --slurm under the srun of a Slurm
whose nodes the hosts are. Files are shared, as on a cluster. Its output passes through; the exit
code is what the launcher makes of its own (MPICH has no one code for a rank that a signal ended),
or 128 + the signal that stopped the lab, or 2 where the lab cannot run. At the end the bytes that
crossed each host's link are on stderr: rows that were sent are among them.

Everything is taken down afterwards, also on Ctrl-C and kill; after kill -9, by the next start.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmarks.lab import slurm
from benchmarks.lab.hosts import (
    MAX_HOSTS,
    Hosts,
    HostsError,
    Traffic,
    bits_per_second,
    cores_for,
    hosts,
    missing,
    require_delay,
)
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.table import render
from rudder.cli.whole_file import write_json

# A command that is asked to stop has this long until it is killed.
_GRACE_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Those of the launcher around the lab would mislead the one inside.
_LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "OMPI_")


@dataclass(frozen=True, kw_only=True)
class LabConfig:
    """Settings of ``python -m benchmarks.lab``; the command follows after ``--``."""

    hosts: int = flag(2, "how many, with a rank each")
    rate: str = flag("1gbit", "of each host's link, in each direction, or none")
    delay: str | None = flag(None, "of every message, as 2ms; needs the kernel's netem")
    slurm: bool = flag(False, "run under srun, on a Slurm of these hosts, and not under mpiexec")
    json: str | None = flag(None, "also write bytes, seconds and the exit code to this file")

    def __post_init__(self) -> None:
        require(1 <= self.hosts <= MAX_HOSTS, "hosts", self.hosts, f"1 to {MAX_HOSTS}")
        bits_per_second(self.rate)
        if self.delay is not None:
            require_delay(self.delay)
        if self.json is not None:
            parent = Path(self.json).absolute().parent
            require(parent.is_dir(), "json", self.json, "a file in a folder that exists")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, how long it took, and what crossed each host's link meanwhile."""

    exit_code: int
    seconds: float
    links: list[Traffic]


class _Stopped(BaseException):
    """A signal asked the lab to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def main() -> NoReturn:
    """The command line."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    config, command = parse(LabConfig, __doc__, words[:end]), words[end + 1 :]
    # The launchers of this Python's own environment, and its python, come first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        if not command:
            raise ValueError("no command: python -m benchmarks.lab [flags] -- COMMAND...")
        if shutil.which(command[0]) is None:
            raise ValueError(f"no command {command[0]} in PATH")
        if lacking := missing() or _no_launcher(config):
            raise HostsError(f"the lab cannot run here: {lacking} is missing")
        with _stoppable():
            outcome = run(config, command)
    except (ValueError, HostsError) as error:
        fail(error)
    except _Stopped as stopped:
        raise SystemExit(stopped.exit_code) from None
    print(summary_table(config, outcome), file=sys.stderr, flush=True)
    if config.json is not None:
        write_json(config.json, summary(config, command, outcome))
    raise SystemExit(outcome.exit_code)


def run(config: LabConfig, command: list[str]) -> Outcome:
    """Run a command on hosts of its own. Raises HostsError where there can be none."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)
    }
    environment.setdefault("OMP_NUM_THREADS", str(cores_for(config.hosts)))
    with hosts(config.hosts, config.rate, config.delay) as up:
        # What a killed command leaves there goes with the hosts.
        scratch = up.folder / "tmp"
        scratch.mkdir()
        environment["TMPDIR"] = str(scratch)
        with _launcher(config, up, environment) as words:
            before = up.traffic()
            began = time.perf_counter()
            exit_code = _finish([*words, *command], environment)
            seconds = time.perf_counter() - began
            links = [now.since(then) for now, then in zip(up.traffic(), before, strict=True)]
    return Outcome(exit_code, seconds, links)


def summary(config: LabConfig, command: list[str], outcome: Outcome) -> dict[str, Any]:
    """What ``--json`` writes."""
    links = [{"host": host, **asdict(link)} for host, link in enumerate(outcome.links)]
    return {"benchmark": "lab", **asdict(config), "command": command, **asdict(outcome)} | {
        "links": links
    }


def summary_table(config: LabConfig, outcome: Outcome) -> str:
    """Bytes per host and, of a link that has a rate, the share of the time that they filled it."""
    bits = bits_per_second(config.rate)
    header = ["link of", "MB sent", "MB received"] + ["% busy"] * (bits is not None)
    rows: list[list[object]] = []
    for host, link in enumerate(outcome.links):
        rows.append([f"host{host}", link.sent / 1e6, link.received / 1e6])
        if bits is not None:
            busier = max(link.sent, link.received)
            rows[-1].append(100 * busier * 8 / bits / outcome.seconds)
    delay = f", {config.delay} delay" if config.delay else ""
    launcher = "srun" if config.slurm else "mpiexec"
    shown = f"{config.hosts} hosts under {launcher}, links of rate {config.rate}{delay}"
    ending = f"{shown}: {outcome.seconds:.1f} s, exit code {outcome.exit_code}"
    return f"{ending}\n{render(rows, header)}"


def _no_launcher(config: LabConfig) -> str | None:
    if config.slurm:
        return slurm.missing()
    found = shutil.which("mpiexec")
    if found is None:
        return "mpiexec (pip install mpich)"
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return None if "HYDRA" in shown.stdout else f"MPICH's mpiexec ({found} is not)"


@contextmanager
def _launcher(config: LabConfig, up: Hosts, environment: dict[str, str]) -> Iterator[list[str]]:
    """Words that run a command on the hosts; what it needs is added to the environment."""
    if not config.slurm:
        yield up.mpiexec
        return
    folder = up.folder / "slurm"
    folder.mkdir()
    with slurm.slurm(folder, up) as extra:
        environment |= extra
        num = str(config.hosts)
        srun = ["srun", "-N", num, "-n", num, "-K1", "--mpi=pmi2"]
        yield ["ip", "netns", "exec", up.switch, *srun]


def _finish(words: list[str], environment: dict[str, str]) -> int:
    """Run words to their end, or until a signal; returns the exit code."""
    # In a session of its own: Ctrl-C comes to the lab alone, which ends the command.
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        exit_code = process.wait()
        return exit_code if exit_code >= 0 else 128 - exit_code
    except _Stopped as stopped:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return stopped.exit_code


@contextmanager
def _stoppable() -> Iterator[None]:
    """The first signal raises ``_Stopped``; others, while things are taken down, do nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each in _SIGNALS:
        # A lab under nohup stays.
        if each != signal.SIGHUP or before[each] != signal.SIG_IGN:
            signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
