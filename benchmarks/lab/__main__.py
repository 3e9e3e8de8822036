"""A cluster on this machine: a command on several hosts whose links have a rate. Root, Linux.

    python -m benchmarks.lab --hosts 4 --rate 200mbit -- python -m minidist.train --parts p4
    python -m benchmarks.lab --hosts 2 --ranks-per-host 2 -- python -m minidist.train --parts p4
    python -m benchmarks.lab --hosts 2 --rate 1gbit --delay 1ms -- python -m my_own.program
    python -m benchmarks.lab --hosts 3 --rate none --slurm -- python -m minidist.train --parts p3

    --hosts 3      host0         host1         host2        network namespaces: name, address,
                 10.77.0.10    10.77.0.11    10.77.0.12     interface, shared memory of their own
                     |             |             |
                   --rate        --rate        --rate       buckets, one in each direction, of which
                     +-------------+-------------+          all peers have fair shares; a bridge

COMMAND runs as one rank a host, or as many as are asked for, under MPICH's mpiexec, or with --slurm
under the srun of a Slurm whose nodes the hosts are. Files are shared, as on a cluster. Its output
passes through; the exit code is what the launcher makes of its own (MPICH has no one code for a
rank that a signal ended), or 128 + the signal that stopped the lab, or 2 where the lab cannot run.
At the end the bytes that crossed each host's link are on stderr: sent rows are among them.

Everything is taken down afterwards, also on Ctrl-C and kill; after kill -9, by the next start.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from benchmarks.command import Row, at_least, check_files, one_line
from benchmarks.lab import hosts as lab
from benchmarks.lab import slurm
from rudder.cli.flags import flag, parse, require
from rudder.cli.table import render
from rudder.cli.whole_file import write_json

# A command that is asked to stop has this long until it is killed.
_GRACE_S = 5.0
# Those of the launcher around the lab would mislead the one inside.
_LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "OMPI_")


@dataclass(frozen=True, kw_only=True)
class LabConfig:
    """Settings of ``python -m benchmarks.lab``; the command follows after ``--``."""

    hosts: int = flag(2, "how many")
    ranks_per_host: int = flag(1, "of the command")
    rate: str = flag("1gbit", "of each host's link, in each direction, or none")
    delay: str | None = flag(None, "of every message, as 2ms; needs the kernel's netem")
    slurm: bool = flag(False, "run under srun, on a Slurm of these hosts, and not under mpiexec")
    json: str | None = flag(None, "also write bytes, seconds and the exit code to this file")

    def __post_init__(self) -> None:
        require(1 <= self.hosts <= lab.MAX_HOSTS, "hosts", self.hosts, f"1 to {lab.MAX_HOSTS}")
        at_least(self, 1, "ranks_per_host")
        lab.bits_per_second(self.rate)
        lab.require_delay(self.delay)
        check_files(self)

    @property
    def ranks(self) -> int:
        return self.hosts * self.ranks_per_host


def main() -> NoReturn:
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    config, command = parse(LabConfig, __doc__, words[:end]), words[end + 1 :]
    # The launchers of this Python's own environment, and its python, come first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with one_line():
        if not command:
            raise ValueError("no command: python -m benchmarks.lab [flags] -- COMMAND...")
        if shutil.which(command[0]) is None:
            raise ValueError(f"no command {command[0]} in PATH")
        if lacking := lab.missing() or (slurm.missing() if config.slurm else _no_mpiexec()):
            raise lab.Unavailable(f"the lab cannot run here: {lacking} is missing")
        outcome = run(config, command)
    print(summary_table(config, outcome), file=sys.stderr, flush=True)
    if config.json is not None:
        settings = {"benchmark": "lab", **asdict(config), "command": command}
        write_json(config.json, {**settings, **outcome})
    raise SystemExit(outcome["exit_code"])


def _no_mpiexec() -> str | None:
    found = shutil.which("mpiexec")
    if found is None:
        return "mpiexec (pip install mpich)"
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return None if "HYDRA" in told.stdout else f"MPICH's mpiexec ({found} is not)"


def run(config: LabConfig, command: list[str]) -> Row:
    """Run a command on hosts of its own: its exit code, the seconds that it took, and the bytes
    that crossed each host's link meanwhile. Raises Unavailable where there can be none."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)
    }
    environment.setdefault("OMP_NUM_THREADS", str(lab.cores_for(config.ranks)))
    with lab.hosts(config.hosts, config.rate, config.delay, config.ranks_per_host) as up:
        # What a killed command leaves there goes with the hosts.
        scratch = up.folder / "tmp"
        scratch.mkdir()
        environment["TMPDIR"] = str(scratch)
        with _launcher(config, up, environment) as words:
            before, began = up.traffic(), time.perf_counter()
            exit_code = _finish([*words, *command], environment)
            seconds = time.perf_counter() - began
            links = [
                {"host": host, "sent": now[0] - then[0], "received": now[1] - then[1]}
                for host, (now, then) in enumerate(zip(up.traffic(), before, strict=True))
            ]
    return {"exit_code": exit_code, "seconds": seconds, "links": links}


@contextmanager
def _launcher(config: LabConfig, up: lab.Hosts, environment: dict[str, str]) -> Iterator[list[str]]:
    """Words that run a command on the hosts; what it needs is added to the environment."""
    if not config.slurm:
        yield up.mpiexec
        return
    folder = up.folder / "slurm"
    folder.mkdir()
    with slurm.slurm(folder, up) as extra:
        environment |= extra
        srun = f"srun -N {config.hosts} -n {config.ranks} -K1 --mpi=pmi2"
        yield ["ip", "netns", "exec", up.switch, *srun.split()]


def _finish(words: list[str], environment: dict[str, str]) -> int:
    # In a session of its own: Ctrl-C comes to the lab alone, which ends the command.
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        exit_code = process.wait()
    except (SystemExit, KeyboardInterrupt):
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return exit_code if exit_code >= 0 else 128 - exit_code


def summary_table(config: LabConfig, outcome: Row) -> str:
    """Bytes per host and, of a link that has a rate, the share of the time that they filled it."""
    bits = lab.bits_per_second(config.rate)
    header = ["link of", "MB sent", "MB received"] + ["% busy"] * (bits is not None)
    rows: list[list[object]] = []
    for link in outcome["links"]:
        rows.append([f"host{link['host']}", link["sent"] / 1e6, link["received"] / 1e6])
        if bits is not None:
            busier = max(link["sent"], link["received"])
            rows[-1].append(100 * busier * 8 / bits / outcome["seconds"])
    delay = f", {config.delay} delay" if config.delay else ""
    each = f" of {config.ranks_per_host} ranks" if config.ranks_per_host > 1 else ""
    launcher = "srun" if config.slurm else "mpiexec"
    where = f"{config.hosts} hosts{each} under {launcher}, links of rate {config.rate}{delay}"
    ending = "{seconds:.1f} s, exit code {exit_code}".format(**outcome)
    return f"{where}: {ending}\n{render(rows, header)}"


if __name__ == "__main__":
    main()
