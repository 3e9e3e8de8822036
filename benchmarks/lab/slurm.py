"""A real Slurm in a scratch folder: munge, a controller, and one daemon a node."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab.hosts import NETWORK, Hosts, Unavailable, holds_within

_DAEMONS = ("munged", "slurmctld", "slurmd")
# To be up.
_LIMIT_S = 30.0


def missing() -> str | None:
    """What this machine lacks to run Slurm, or None."""
    if os.geteuid() != 0:
        return "root"
    lacking = [name for name in ("srun", *_DAEMONS) if shutil.which(name) is None]
    return " and ".join(lacking) or None


@contextmanager
def slurm(folder: Path, hosts: Hosts | None = None) -> Iterator[dict[str, str]]:
    """The environment in which ``srun`` finds the cluster, while it is up.

    With hosts, each of their namespaces is a node, and the controller runs in the switch's;
    otherwise this machine is the only node.
    """
    # UCX, the wheel's default, now and then fails to start under srun: "invalid bandwidth 0.00".
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), **NETWORK}
    enter = _configure(folder, hosts)
    daemons: list[subprocess.Popen[bytes]] = []
    null = subprocess.DEVNULL
    asking = ["ip", "netns", "exec", hosts.switch] if hosts else []
    asking += ["sinfo", "-h", "-N", "-o", "%T"]

    def all_take_jobs() -> bool:
        every = {**os.environ, **environment}
        shown = subprocess.run(asking, env=every, capture_output=True, text=True, check=False)
        return sum(state in ("idle", "mixed") for state in shown.stdout.split()) >= len(enter)

    def await_that(who: str, is_up: Callable[[], bool]) -> None:
        if not holds_within(_LIMIT_S, is_up, every_s=0.1):
            logs = "\n".join(file.read_text() for file in folder.glob("*.log")).splitlines()
            last = " | ".join([line for line in logs if "error" in line.lower()][-3:])
            raise Unavailable(f"Slurm: {who} is not up after {_LIMIT_S} s: {last}")

    try:
        for command in _commands(folder, hosts, enter):
            daemons.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null))
            await_that("munged", (folder / "munge.socket").exists)
        await_that("a node", all_take_jobs)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _configure(folder: Path, hosts: Hosts | None) -> dict[str, list[str]]:
    """Write slurm.conf and munge's key; words that run a program on each node, by its name."""
    here = socket.gethostname().split(".")[0]
    enter, controller, addresses = {here: list[str]()}, here, ["127.0.0.1"]
    if hosts is not None:
        enter = {f"host{number}": hosts.inside(number) for number in range(len(hosts.names))}
        controller, addresses = "switch(10.77.0.1)", hosts.addresses
    nodes = [
        f"NodeName={name} NodeHostname={name} NodeAddr={address} CPUs={os.cpu_count()}"
        for name, address in zip(enter, addresses, strict=True)
    ]
    for name in ("state", *(f"spool-{node}" for node in enter)):
        (folder / name).mkdir()
    ports = {"control": _free_port(), "daemon": _free_port()}
    text = Path(__file__).with_name("slurm.conf").read_text()
    text = text.format(controller=controller, nodes="\n".join(nodes), folder=folder, **ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    return enter


def _commands(folder: Path, hosts: Hosts | None, enter: dict[str, list[str]]) -> list[list[str]]:
    """Of the daemons; in the switch's namespace and the hosts', so that none outlives these."""
    controls, config = hosts.inside(None) if hosts else [], str(folder / "slurm.conf")
    files = ["key-file=key", "pid-file=pid", "log-file=log", "seed-file=seed", "socket=socket"]
    munge = [f"--{each.replace('=', f'={folder}/munge.')}" for each in files]
    return [
        [*controls, "munged", "--foreground", "--force", *munge],
        [*controls, "slurmctld", "-D", "-f", config],
        *([*words, "slurmd", "-D", "-f", config, "-N", node] for node, words in enter.items()),
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
