"""Signals: what Ctrl-C, preemption, a launcher's death and a crash mean to a rank.

SIGINT             Ctrl-C: the job ends with 130
SIGTERM, SIGUSR1   preemption, or a limit of time near: the job ends with 143, after a
                   checkpoint where it keeps them
SIGKILL and so on  the rank is dead; its supervisor says of what
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
TERMINATIONS = (signal.SIGTERM, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1
_TOGETHER_S = 0.5


@dataclass
class Flag:
    """What a signal handler sets.

    An Event's ``set`` takes a lock: where the same signal comes twice at once, as from a launcher
    and a supervisor, the second handler would wait for ever inside the first.
    """

    is_set: bool = False


_asked, _interrupted = Flag(), Flag()


@contextmanager
def termination_noted() -> Iterator[Flag]:
    """Meanwhile SIGTERM and SIGUSR1 end nothing: they set the flag that is yielded.

    Python lets only the main thread decide on signals: in others, that must have been done before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _asked
        return
    _asked.is_set = False

    def note(number: int, frame: FrameType | None) -> None:
        _asked.is_set = True

    before = {number: signal.signal(number, note) for number in TERMINATIONS}
    try:
        yield _asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_once() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, but not those that follow within half a second.

    A terminal and a launcher may each send one, and the second would break off the first's cleanup.
    """
    latest = -_TOGETHER_S

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal latest
        _interrupted.is_set = True
        if time.monotonic() - latest > _TOGETHER_S:
            latest = time.monotonic()
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def was_interrupted() -> bool:
    """Whether Ctrl-C has come: what fails after it is its doing."""
    return _interrupted.is_set


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send us this signal when our parent process dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def oom_kills() -> int:
    """How many processes this machine's kernel has killed because memory ran out."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def likely_cause(number: int, out_of_memory: bool) -> str:
    """Why a process was most likely killed by this signal, and what to do."""
    if number == signal.SIGKILL:
        if out_of_memory:
            return "memory ran out: use more hosts or parts, or a smaller --batch-size or buffer"
        return "kill -9, or a limit of memory: see dmesg, or sacct -o MaxRSS under Slurm"
    if number == signal.SIGBUS:
        shm = os.statvfs("/dev/shm")
        free = shm.f_bavail * shm.f_frsize >> 20
        return (
            "a file was truncated while it was mapped (--parts), or /dev/shm is full (it has "
            f"{free} MiB free)"
        )
    if number == signal.SIGILL:
        return "a library was built for another CPU"
    return "a library crashed: the lines above this one say where"
