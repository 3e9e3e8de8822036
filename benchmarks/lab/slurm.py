"""A real Slurm in a scratch folder: munge, a controller, and one daemon a node."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab.hosts import NETWORK, Hosts, Unavailable

_CONFIG = """
ClusterName=minidist
SlurmctldHost={controller}
SlurmctldPort={control}
SlurmdPort={daemon}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=pmi2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmUser=root
SlurmdUser=root
ReturnToService=2
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""
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
    deadline, null = time.monotonic() + _LIMIT_S, subprocess.DEVNULL
    try:
        for command in _commands(folder, hosts, enter):
            daemons.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null))
            while not (folder / "munge.socket").exists():
                _require_time(deadline, "munged", folder)
                time.sleep(0.02)
        asking = ["ip", "netns", "exec", hosts.switch] if hosts else []
        while _num_up(asking, environment) < len(enter):
            _require_time(deadline, "a node", folder)
            time.sleep(0.2)
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
    cpus, here = os.cpu_count(), socket.gethostname().split(".")[0]
    enter: dict[str, list[str]] = {here: []}
    controller, nodes = here, [f"NodeName={here} NodeAddr=127.0.0.1 CPUs={cpus}"]
    if hosts is not None:
        enter = {f"host{number}": hosts.inside(number) for number in range(len(hosts.names))}
        controller = "switch(10.77.0.1)"
        nodes = [
            f"NodeName={name} NodeHostname={name} NodeAddr={address} CPUs={cpus}"
            for name, address in zip(enter, hosts.addresses, strict=True)
        ]
    for name in ("state", *(f"spool-{node}" for node in enter)):
        (folder / name).mkdir()
    ports = {"control": _free_port(), "daemon": _free_port()}
    text = _CONFIG.format(controller=controller, nodes="\n".join(nodes), folder=folder, **ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    return enter


def _commands(folder: Path, hosts: Hosts | None, enter: dict[str, list[str]]) -> list[list[str]]:
    """Of the daemons; in the switch's namespace and the hosts', so that none outlives these."""
    controls, config = hosts.inside(None) if hosts else [], str(folder / "slurm.conf")
    names = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    files = {**names, "socket": "socket"}.items()
    munge = [f"--{name}={folder}/munge.{end}" for name, end in files]
    return [
        [*controls, "munged", "--foreground", "--force", *munge],
        [*controls, "slurmctld", "-D", "-f", config],
        *([*words, "slurmd", "-D", "-f", config, "-N", node] for node, words in enter.items()),
    ]


def _num_up(inside: list[str], environment: dict[str, str]) -> int:
    """How many nodes take jobs."""
    words = [*inside, "sinfo", "-h", "-N", "-o", "%T"]
    every = {**os.environ, **environment}
    shown = subprocess.run(words, env=every, capture_output=True, text=True, check=False)
    return sum(state in ("idle", "mixed") for state in shown.stdout.split())


def _require_time(deadline: float, who: str, folder: Path) -> None:
    if time.monotonic() > deadline:
        logs = [line for file in folder.glob("*.log") for line in file.read_text().splitlines()]
        last = [line for line in logs if "error" in line.lower()][-3:]
        raise Unavailable(f"Slurm: {who} is not up after {_LIMIT_S} s: {' | '.join(last)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
