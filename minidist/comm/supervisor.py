"""Supervisor: the parent process of a rank, which stays to say how the rank died.

What a signal kills cannot say so (memory ran out, a file was truncated under its map, a library
crashed), and launchers tell at most a process id.

    launcher -> supervisor, which waits -> rank, which loads PyTorch and MPI and trains
"""

import faulthandler
import os
import signal
import socket
import sys
import time
from types import FrameType

from minidist.comm.launch import by_srun, under_launcher, wait_for_readers
from minidist.comm.signals import (
    INTERRUPTED,
    TERMINATED,
    TERMINATIONS,
    die_with_parent,
    interrupt_once,
    likely_cause,
    oom_kills,
)
from rudder.cli.flags import rank_of_launcher

# A rank may be deep in a library, which sees no Ctrl-C until it returns, and Python drops one that
# comes while it deletes an object: it is said again, and then no more is asked for.
_AGAIN_S, _INTERRUPTS = 1.0, 4
_READ_S = 1.0
# At the first rank's end MPICH's mpiexec kills the others. It ends with 9 and not 130 where one
# of them is rank 0, and at times where not: so the others wait to be killed. Out of its reach they
# cannot go, as each leads a session of its own.
_AFTER_RANK_0_S = 4.0


def supervise() -> None:
    """Fork; return in the child, which is the rank. The parent ends as the child does.

    Call it from the main thread before PyTorch and MPI are loaded, which start threads.
    """
    kills = oom_kills()
    child = os.fork()
    if child == 0:
        die_with_parent()
        interrupt_once()
        faulthandler.enable()
        return
    if under_launcher():
        die_with_parent()
    os._exit(_watch(child, kills))


def _watch(child: int, kills: int) -> int:
    """Pass signals on until the child is dead; returns the exit code for the launcher."""
    interrupts = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        if number in (signal.SIGINT, signal.SIGALRM):
            interrupts += number == signal.SIGALRM or not interrupts
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            number = signal.SIGINT if interrupts < _INTERRUPTS else signal.SIGKILL
        os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGALRM, *TERMINATIONS):
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    if interrupts:
        if under_launcher() and not by_srun() and rank_of_launcher() != 0:
            time.sleep(_AFTER_RANK_0_S)
        return INTERRUPTED
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    killed_by = os.WTERMSIG(status)
    if killed_by in TERMINATIONS:
        return TERMINATED
    who = f"rank {rank_of_launcher()}" if under_launcher() else "training"
    print(
        f"{who} on {socket.gethostname()} (process {child}) was killed by "
        f"{signal.Signals(killed_by).name}: {likely_cause(killed_by, oom_kills() > kills)}",
        file=sys.stderr,
    )
    wait_for_readers(_READ_S)
    return 128 + killed_by
