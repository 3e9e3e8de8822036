"""Leftovers: what a lab's hosts are named after, and their removal, also after the lab was killed.

Namespaces and temporary folders bear the process that made them, as ``md<pid>x<start>n<number>h``:
whoever comes next sees from the pid and the start time, which no other process shares, that the
owner is dead, and removes what it left.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_NAMESPACES = Path("/run/netns")
_NAME = re.compile(r"(md(\d+)x(\d+)n\d+h)")
_numbers = itertools.count()
# A process that is still there this long after SIGKILL hangs in the kernel.
_LIMIT_S = 10.0


def new_prefix() -> str:
    """How names of this process begin; another at every call."""
    return f"md{os.getpid()}x{_start_of(os.getpid())}n{next(_numbers)}h"


def sweep() -> None:
    """Remove everything that dead processes left."""
    found = {match.groups() for name in _names() if (match := _NAME.match(name))}
    for prefix, pid, start in found:
        if _start_of(int(pid)) != int(start):
            remove(prefix)


def remove(prefix: str) -> None:
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
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        words = ["ip", "netns", "pids", name]
        shown = subprocess.run(words, check=False, capture_output=True, text=True).stdout
        if not shown.split():
            return
        for pid in shown.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.02)


def _start_of(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if it is dead."""
    try:
        # The command's name, which stands in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
