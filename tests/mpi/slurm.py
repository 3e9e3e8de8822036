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

_CONFIG = """
ClusterName=minidist
SlurmctldHost={host}
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
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""
_DAEMONS = ("munged", "slurmctld", "slurmd")


def missing() -> str | None:
    """What this machine lacks to run Slurm, or None."""
    if os.geteuid() != 0:
        return "root"
    lacking = [name for name in ("srun", *_DAEMONS) if shutil.which(name) is None]
    return " and ".join(lacking) or None


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which ``srun`` finds the cluster, while it is up."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    config = folder / "slurm.conf"
    ports = {"control": _free_port(), "daemon": _free_port()}
    cpus = os.cpu_count()
    config.write_text(_CONFIG.format(host=host, folder=folder, cpus=cpus, **ports))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    munge = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid"}
    munge |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    words = [f"--{name}={path}" for name, path in munge.items()]
    commands = [
        ["munged", "--foreground", "--force", *words],
        ["slurmctld", "-D", "-f", str(config)],
        ["slurmd", "-D", "-f", str(config), "-N", host],
    ]
    environment = {"SLURM_CONF": str(config)}
    # UCX, the wheel's default, now and then fails to start under srun: "invalid bandwidth 0.00".
    environment |= {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
    daemons = []
    try:
        for command in commands:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            daemons.append(subprocess.Popen(command, **quiet))  # type: ignore[call-overload]
            time.sleep(0.5)
        _await_node(environment)
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


def _await_node(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while True:
        words = ["sinfo", "-h", "-o", "%T"]
        every = {**os.environ, **environment}
        shown = subprocess.run(words, env=every, capture_output=True, text=True, check=False)
        if "idle" in shown.stdout or "mixed" in shown.stdout:
            return
        assert time.monotonic() < deadline, f"the node is not up: {shown.stdout}{shown.stderr}"
        time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
