"""Hosts on one machine: network namespaces on a bridge, their links of a set rate. Root only."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.leftovers import new_prefix, remove, sweep
from benchmarks.lab.signals import ending_on_signals

# Addresses are 10.77.0.10 and up.
MAX_HOSTS = 240
# Over these, MPICH sends between namespaces; by default it would use the shared memory they share.
NETWORK = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
_SWITCH = "10.77.0.1"
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
# Runs words in a namespace, under a host's name: files are shared, as on a cluster, but for the
# names of hosts; /dev/shm and System V's memory are not. `ip netns exec` would hide the cgroups
# that slurmd needs.
_ENTER = """#!/bin/sh
namespace=$1; name=$2; shift 2
exec nsenter --net="/run/netns/$namespace" unshare --uts --ipc --mount sh -c '
    hostname "$0" && mount -t tmpfs shm /dev/shm && mount --bind "FOLDER/names" /etc/hosts &&
    exec "$@"' "$name" "$@"
"""
# hydra hands its remote shell ssh's options, the host, and the command.
_REMOTE_SHELL = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
number=${1##*.}; shift
exec "FOLDER/enter" "PREFIX$number" "host$((number - 10))" sh -c "$*"
"""
_CONGESTION_CONTROLS = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Unavailable(RuntimeError):
    """What was asked for cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Hosts:
    """Namespaces and the switch between them.

    switch: the namespace of the bridge, 10.77.0.1.   names: of the hosts' namespaces.
    addresses: of host0, host1, and so on, from 10.77.0.10 up.
    mpiexec: words that run a program on all hosts, as many ranks on each as were asked for.
    folder: a temporary one that goes when the hosts do.
    """

    switch: str
    names: list[str]
    addresses: list[str]
    mpiexec: list[str]
    folder: Path

    def inside(self, host: int | None) -> list[str]:
        """Words that run a program on a host, or with None on the switch."""
        where = (self.switch, "switch") if host is None else (self.names[host], f"host{host}")
        return [str(self.folder / "enter"), *where]

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes that each host's link has carried (sent, received), frames' headers included."""
        shown = [_ip(f"-n {name} -s -j link show eth0") for name in self.names]
        stats = [json.loads(text)[0]["stats64"] for text in shown]
        return [(int(each["tx"]["bytes"]), int(each["rx"]["bytes"])) for each in stats]

    def received_bytes(self) -> list[int]:
        """What the network interface of each host has received."""
        return [received for _, received in self.traffic()]


def cores_for(ranks: int) -> int:
    """Threads of a rank where this machine's cores are dealt among the ranks."""
    return max(1, (os.cpu_count() or 1) // ranks)


def missing() -> str | None:
    """What this machine lacks to make hosts, or None."""
    if os.geteuid() != 0:
        return "root"
    return None if shutil.which("ip") and shutil.which("tc") else "iproute2 (ip and tc)"


def bits_per_second(rate: str) -> float | None:
    """A link's rate from its text: ``200mbit``; None for ``none``. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)bit", rate.lower())
    if rate != "none" and (match is None or float(match[1]) == 0):
        raise ValueError(f"--rate {rate}: expected a rate such as 200mbit or 1gbit, or none")
    return None if match is None else float(match[1]) * _UNITS[match[2]]


def require_delay(delay: str) -> None:
    """Raise ValueError unless this is a time as tc reads it: ``2ms``."""
    if not re.fullmatch(r"\d+(\.\d+)?(us|ms|s)", delay):
        raise ValueError(f"--delay {delay}: expected a time such as 500us or 2ms")


@contextmanager
def hosts(num: int, rate: str, delay: str | None = None, ranks: int = 1) -> Iterator[Hosts]:
    """So many hosts, while they are up; then they go, with every process inside them.

    rate: of each host's link, in each direction, as ``200mbit``, or ``none``.
    delay: of every message between two hosts, as ``2ms``; needs the kernel's netem.
    ranks: of ``mpiexec`` on each host.
    What processes left that were killed is removed at the start. Raises ValueError on nonsense,
    Unavailable where the kernel refuses.
    """
    if not 1 <= num <= MAX_HOSTS:
        raise ValueError(f"--hosts {num}: expected 1 to {MAX_HOSTS}")
    bits = bits_per_second(rate)
    if delay is not None:
        require_delay(delay)
    sweep()
    prefix = new_prefix()
    folder = Path(tempfile.gettempdir()) / f"{prefix}sw"
    names = [f"{prefix}{10 + number}" for number in range(num)]
    addresses = [f"10.77.0.{10 + number}" for number in range(num)]
    mpiexec = [
        *("ip", "netns", "exec", folder.name, "env"),
        *(f"{name}={value}" for name, value in NETWORK.items()),
        *("mpiexec", "-hosts", ",".join(f"{address}:{ranks}" for address in addresses)),
        *("-localhost", _SWITCH, "-launcher", "ssh", "-launcher-exec", str(folder / "shell")),
        *("-n", str(num * ranks)),
    ]
    try:
        with ending_on_signals():
            folder.mkdir(mode=0o700)
            _write_files(folder, prefix, addresses)
            _bring_up(folder.name, names, addresses, bits, delay)
            yield Hosts(folder.name, names, addresses, mpiexec, folder)
    finally:
        # Ctrl-C must not stop the work that it asked for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        remove(prefix)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write_files(folder: Path, prefix: str, addresses: list[str]) -> None:
    # As peers look to sockets that listen to IPv6 too, which torch asks for names.
    both = [each for address in addresses for each in (address, f"::ffff:{address}")]
    hosts = [f"{address} host{number // 2}" for number, address in enumerate(both)]
    names = ["127.0.0.1 localhost", "::1 localhost", f"{_SWITCH} switch", *hosts]
    (folder / "names").write_text("\n".join(names) + "\n")
    for name, text in (("enter", _ENTER), ("shell", _REMOTE_SHELL)):
        (folder / name).write_text(text.replace("FOLDER", str(folder)).replace("PREFIX", prefix))
        (folder / name).chmod(0o755)


def _bring_up(
    switch: str, names: list[str], addresses: list[str], bits: float | None, delay: str | None
) -> None:
    _ip(f"netns add {switch}")
    _ip(f"-n {switch} link set lo up")
    _ip(f"-n {switch} link add br0 type bridge")
    _ip(f"-n {switch} link set br0 up")
    _ip(f"-n {switch} addr add {_SWITCH}/24 dev br0")
    has_cubic = "cubic" in _CONGESTION_CONTROLS.read_text().split()
    for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
        _ip(f"netns add {name}")
        _ip(f"-n {switch} link add v{number} type veth peer name eth0 netns {name}")
        _ip(f"-n {switch} link set v{number} master br0 up")
        _ip(f"-n {name} link set lo up")
        _ip(f"-n {name} addr add {address}/24 dev eth0")
        _ip(f"-n {name} link set eth0 up")
        if has_cubic:
            # Linux's own choice, whatever this or that cloud has chosen.
            _ip(f"-n {name} route replace 10.77.0.0/24 dev eth0 src {address} congctl cubic")
        # A message leaves one host by its bucket and enters another by that one's, so several that
        # send to one share its link. It is delayed once, on entering.
        place = "root"
        if delay is not None:
            netem = f"root handle 9: netem delay {delay} limit 100000"
            _ip(f"netns exec {switch} tc qdisc add dev v{number} {netem}")
            place = "parent 9:1"
        if bits is not None:
            peers = [each for each in (*addresses, _SWITCH) if each != address]
            _shape(switch, f"v{number}", place, bits, [f"src {peer}" for peer in peers])
            _shape(name, "eth0", "root", bits, [f"dst {peer}" for peer in peers])


def _shape(namespace: str, device: str, place: str, bits: float, matches: Sequence[str]) -> None:
    """A link's rate in one direction, shared fairly by the peers that have something to send.

    Each peer has a class and a queue under the link's bucket; in one queue for all, TCP decides who
    goes first. fq_codel would do as well, where the kernel has it: this one's virtual machines do
    not.   matches: of u32, one a peer.
    """
    # Two milliseconds' worth, and no less than the largest frame that TCP hands down.
    burst = max(70_000, int(bits / 8 * 0.002))
    share = max(bits / len(matches), 8)
    waiting = max(2 * 70_000, int(bits / 8 * 0.050))
    lines = [f"qdisc add dev {device} {place} handle 1: htb"]
    rate = f"ceil {bits:.0f}bit burst {burst}b cburst {burst}b quantum 70000"
    lines.append(f"class add dev {device} parent 1: classid 1:1 htb rate {bits:.0f}bit {rate}")
    for number, match in enumerate(matches, 2):
        own = f"1:{number:x}"
        lines += [
            f"class add dev {device} parent 1:1 classid {own} htb rate {share:.0f}bit {rate}",
            f"qdisc add dev {device} parent {own} bfifo limit {waiting}b",
            f"filter add dev {device} parent 1: protocol ip u32 match ip {match} flowid {own}",
        ]
    _ip(f"netns exec {namespace} tc -batch -", "\n".join(lines))


def _ip(words: str, lines: str = "") -> str:
    done = subprocess.run(["ip", *words.split()], input=lines, capture_output=True, text=True)
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        if "netem" in words:
            raise Unavailable(f"--delay needs netem, which this kernel lacks: {why}")
        raise Unavailable(f"cannot make hosts here: ip {words}: {why}")
    return done.stdout
