"""Hosts on one machine: network namespaces on a bridge, their links of a set rate. Root only.

Namespaces and temporary folders bear the process that made them, as ``md<pid>x<start>n<number>h``:
whoever comes next sees from the pid and the start time, which no other process shares, that the
owner is dead, and removes what it left.
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# Addresses are 10.77.0.10 and up.
MAX_HOSTS = 240
# Over these, MPICH sends between namespaces; by default it would use the shared memory they share.
NETWORK = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
_SWITCH = "10.77.0.1"
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_CONGESTION_CONTROLS = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_NAMESPACES = Path("/run/netns")
_NAME = re.compile(r"(md(\d+)x(\d+)n\d+h)")
_numbers = itertools.count()
# A process that is still there this long after SIGKILL hangs in the kernel.
_LIMIT_S = 10.0


class Unavailable(RuntimeError):
    """What was asked for cannot be had on this machine; the message says why."""


def holds_within(limit_s: float, condition: Callable[[], object], every_s: float = 0.02) -> bool:
    """Wait until the condition holds; False if it has not after so many seconds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def processes() -> list[int]:
    """The ids of all processes of this machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read_process(pid: int, name: str) -> bytes:
    """What the kernel tells of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit meanwhile, so that ``finally`` is reached, as on Ctrl-C.

    Who has handlers already, or ignores SIGHUP (nohup), keeps that; so do threads, where Python
    allows no handlers.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    both = (signal.SIGTERM, signal.SIGHUP) if main else ()
    numbers = [number for number in both if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class Hosts:
    """Namespaces and the switch between them.

    names: of the hosts' namespaces.   addresses: of host0, host1, and so on, from 10.77.0.10 up.
    ranks: of ``mpiexec`` on each host.   folder: a temporary one that goes when the hosts do, named
    as the namespace of the bridge, 10.77.0.1.
    """

    names: list[str]
    addresses: list[str]
    ranks: int
    folder: Path

    @property
    def switch(self) -> str:
        return self.folder.name

    @property
    def mpiexec(self) -> list[str]:
        """Words that run a program on all hosts, as many ranks on each as were asked for."""
        return self.mpiexec_of(*[self.ranks] * len(self.names))

    def mpiexec_of(self, *ranks: int) -> list[str]:
        shares = zip(self.addresses, ranks, strict=True)
        return [
            *("ip", "netns", "exec", self.switch, "env"),
            *(f"{name}={value}" for name, value in NETWORK.items()),
            *("mpiexec", "-hosts", ",".join(f"{address}:{num}" for address, num in shares)),
            *("-localhost", _SWITCH, "-launcher", "ssh"),
            *("-launcher-exec", str(self.folder / "shell"), "-n", str(sum(ranks))),
        ]

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


def require_delay(delay: str | None) -> None:
    """Raise ValueError unless this is a time as tc reads it: ``2ms``; or none."""
    if delay is not None and not re.fullmatch(r"\d+(\.\d+)?(us|ms|s)", delay):
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
    require_delay(delay)
    sweep()
    prefix = f"md{os.getpid()}x{_start_of(os.getpid())}n{next(_numbers)}h"
    names = [f"{prefix}{10 + number}" for number in range(num)]
    addresses = [f"10.77.0.{10 + number}" for number in range(num)]
    up = Hosts(names, addresses, ranks, Path(tempfile.gettempdir()) / f"{prefix}sw")
    try:
        with ending_on_signals():
            up.folder.mkdir(mode=0o700)
            _write_files(up.folder, prefix, addresses)
            _bring_up(up, bits, delay)
            yield up
    finally:
        # Ctrl-C must not stop the work that it asked for.
        stopping = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        _remove(prefix)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def sweep() -> None:
    """Remove everything that dead processes left."""
    found = {match.groups() for name in _names() if (match := _NAME.match(name))}
    for prefix, pid, start in found:
        if _start_of(int(pid)) != int(start):
            _remove(prefix)


def _remove(prefix: str) -> None:
    """Kill the processes inside the namespaces of this prefix; delete those and its folders."""
    names = [name for name in _names() if name.startswith(prefix)]
    for name in names:
        _kill_inside(name)
    for name in names:
        if (_NAMESPACES / name).exists():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)


def _names() -> list[str]:
    folders = [str(_NAMESPACES), tempfile.gettempdir()]
    return [name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)]


def _kill_inside(name: str) -> None:
    words = ["ip", "netns", "pids", name]

    def is_empty() -> bool:
        shown = subprocess.run(words, check=False, capture_output=True, text=True).stdout
        for pid in shown.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return not shown.split()

    holds_within(_LIMIT_S, is_empty)


def _start_of(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if it is dead."""
    # The command's name, which stands in brackets, may hold anything.
    fields = read_process(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields and fields[0] not in b"ZX" else None


def _write_files(folder: Path, prefix: str, addresses: list[str]) -> None:
    # As peers look to sockets that listen to IPv6 too, which torch asks for names.
    names = ["127.0.0.1 localhost", "::1 localhost", f"{_SWITCH} switch"]
    for number, address in enumerate(addresses):
        names += [f"{address} host{number}", f"::ffff:{address} host{number}"]
    (folder / "names").write_text("\n".join(names) + "\n")
    for name in ("enter", "shell"):
        text = Path(__file__).with_name(f"{name}.sh").read_text()
        (folder / name).write_text(text.replace("FOLDER", str(folder)).replace("PREFIX", prefix))
        (folder / name).chmod(0o755)


def _bring_up(up: Hosts, bits: float | None, delay: str | None) -> None:
    switch = up.switch
    _ip(f"netns add {switch}")
    _ip(f"-n {switch} link set lo up")
    _ip(f"-n {switch} link add br0 type bridge")
    _ip(f"-n {switch} link set br0 up")
    _ip(f"-n {switch} addr add {_SWITCH}/24 dev br0")
    has_cubic = "cubic" in _CONGESTION_CONTROLS.read_text().split()
    for number, (name, address) in enumerate(zip(up.names, up.addresses, strict=True)):
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
            peers = [each for each in (*up.addresses, _SWITCH) if each != address]
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
