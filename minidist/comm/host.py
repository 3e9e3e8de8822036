"""Host: which machine a rank runs on, and the addresses by which others reach it."""

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_SIOCGIFADDR = 0x8915


@dataclass(frozen=True)
class Host:
    """Two ranks are on one host when all three agree.

    namespace: inode of the network namespace, so that containers and namespaces of one machine
    count as hosts of their own: no loopback joins them.
    """

    name: str
    boot_id: str
    namespace: int


def this_host() -> Host:
    """The host this process runs on."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(socket.gethostname(), boot_id, os.stat("/proc/self/ns/net").st_ino)


def interfaces() -> dict[str, str]:
    """The IPv4 address of each network interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:  # down, or without IPv4
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def route_to(address: str) -> str | None:
    """Our own address on the way to another, without sending anything; None if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def reachable_address() -> str:
    """The address at which other hosts find this one: GLOO_SOCKET_IFNAME's where it is set.

    Raises ValueError when GLOO_SOCKET_IFNAME names no interface of ours.
    """
    addresses = interfaces()
    chosen = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    if chosen:
        if chosen not in addresses:
            raise ValueError(
                f"GLOO_SOCKET_IFNAME={chosen}: {socket.gethostname()} has no such interface with "
                f"an IPv4 address, only {', '.join(addresses) or 'none'}"
            )
        return addresses[chosen]
    by_default = route_to("192.0.2.1")  # any address outside: asks for the default route
    outside = [address for address in addresses.values() if not address.startswith("127.")]
    if by_default in outside:
        return by_default
    return outside[0] if outside else "127.0.0.1"


def interface_towards(address: str) -> str | None:
    """The name of our interface on the way to an address."""
    source = route_to(address)
    return next((name for name, own in interfaces().items() if own == source), None)


def available_bytes() -> int | None:
    """What this process may still take: of the machine and of its control group; None: unknown."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    most, used = group / "memory.max", group / "memory.current"
    if most.is_file() and used.is_file() and (text := most.read_text().strip()) != "max":
        limits.append(int(text) - int(used.read_text()))
    return min(limits, default=None)
