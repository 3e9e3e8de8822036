"""Two hosts on one machine: network namespaces joined by links of a set rate. Root only."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# hydra hands its remote shell ssh's options, the host, and the command.
_REMOTE_SHELL = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec "PREFIX${host##*.}" sh -c "$*"
"""


def missing() -> str | None:
    """What this machine lacks to make hosts, or None."""
    if os.geteuid() != 0:
        return "root"
    return None if shutil.which("ip") and shutil.which("tc") else "iproute2 (ip and tc)"


# Over these, MPICH sends between namespaces; by default it would use the shared memory they share.
NETWORK = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}


@dataclass(frozen=True)
class Hosts:
    """Two namespaces and the switch between them.

    switch: the namespace of the bridge, 10.77.0.1.   names: of the hosts' namespaces, 10.77.0.10
    and 10.77.0.11.   mpiexec: words that run a program on both, a rank each.
    """

    switch: str
    names: list[str]
    mpiexec: list[str]

    def received_bytes(self) -> list[int]:
        """What the network interface of each host has received."""
        shown = [_ip(f"-n {name} -s -j link show eth0") for name in self.names]
        return [int(json.loads(text)[0]["stats64"]["rx"]["bytes"]) for text in shown]


@contextmanager
def two_hosts(rate: str) -> Iterator[Hosts]:
    """Two hosts, while they are up.

    rate: of each host's link, as tc writes it ("1gbit"). Everything is taken down afterwards.
    """
    prefix = f"md{os.getpid()}x"
    switch = f"{prefix}sw"
    names = [f"{prefix}{10 + number}" for number in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        shell = Path(folder) / "shell"
        shell.write_text(_REMOTE_SHELL.replace("PREFIX", prefix))
        shell.chmod(0o755)
        try:
            _ip(f"netns add {switch}")
            _ip(f"-n {switch} link set lo up")
            _ip(f"-n {switch} link add br0 type bridge")
            _ip(f"-n {switch} link set br0 up")
            _ip(f"-n {switch} addr add 10.77.0.1/24 dev br0")
            for number, name in enumerate(names):
                _ip(f"netns add {name}")
                _ip(f"-n {switch} link add v{number} type veth peer name eth0 netns {name}")
                _ip(f"-n {switch} link set v{number} master br0 up")
                _ip(f"-n {name} link set lo up")
                _ip(f"-n {name} addr add 10.77.0.{10 + number}/24 dev eth0")
                _ip(f"-n {name} link set eth0 up")
                shape = f"netns exec {name} tc qdisc add dev eth0 root tbf rate {rate}"
                _ip(f"{shape} burst 256kb latency 50ms")
            mpiexec = [
                *("ip", "netns", "exec", switch, "env"),
                *(f"{name}={value}" for name, value in NETWORK.items()),
                *("mpiexec", "-hosts", "10.77.0.10:1,10.77.0.11:1", "-localhost", "10.77.0.1"),
                *("-launcher", "ssh", "-launcher-exec", str(shell), "-n", "2"),
            ]
            yield Hosts(switch, names, mpiexec)
        finally:
            for name in [*names, switch]:
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(words: str) -> str:
    done = subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
    return done.stdout
