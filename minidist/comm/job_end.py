"""JobEnd: how the error of one rank becomes the end of the job, said once and never with code 0."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidist.comm.launch import by_srun, wait_for_readers
from minidist.comm.resources import local_ranks
from minidist.comm.signals import INTERRUPTED, TERMINATED, was_interrupted
from minidist.comm.torch_group import EVERYBODYS
from minidist.comm.transport.base import PeerTimeout
from minidist.comm.transport.mpi import unlink_segments
from rudder.cli.whole_file import NotWritten

# Ranks that all meet the same bad input let rank 0 say so before they end the job.
_HEAD_START_S = 0.3
# How long the launcher may take to read why, before the job ends.
_READ_S = 1.0
_PACKAGES = ("minidist", "rudder")


def end_job(error: BaseException, rank: int, mpi: Any, local_pids: Sequence[int] = ()) -> None:
    """Say what happened, and take all ranks down; does not return.

    mpi: mpi4py's MPI, or None where MPI did not start us.   local_pids: of this host's ranks.
    """
    if was_interrupted():
        error = KeyboardInterrupt()
    code = _code_of(error)
    with suppress(ValueError):  # in a thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    together = time.monotonic() + _HEAD_START_S
    if code == 2 and rank > 0:
        time.sleep(_HEAD_START_S)
    # What is wrong before ranks have met, each of a host finds: its first one says so. What rank 0
    # found for all of them, it says.
    told = not local_pids and mpi is None and is_about_input(error) and local_ranks()[0] > 0
    is_everybodys = EVERYBODYS in error.__dict__
    told |= rank > 0 and is_everybodys
    # Whoever read what we print may be gone, and files may be out: the job must end all the same.
    with suppress(OSError):
        if not told:
            _say(error, rank)
    wait_for_readers(_READ_S if mpi is not None else 0)
    with suppress(OSError):
        unlink_segments()
    with suppress(OSError):
        _kill_stopped(local_pids)
    # Of an abort srun makes 137, or 0 where it then waits in vain for a task. So our code counts,
    # and -K1 ends the others. It kills: ranks that end by one error do so together.
    if by_srun() and is_everybodys:
        time.sleep(max(0.0, together - time.monotonic()))
    # A signal that ends the job has reached every rank.
    if mpi is not None and not by_srun() and code not in (INTERRUPTED, TERMINATED):
        # All is said: of its own MPICH would add a line about an abort, with nothing in it.
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        mpi.COMM_WORLD.Abort(code)
    # Stages and servers may sit in a collective that no peer will ever join.
    os._exit(code)


def is_about_input(error: BaseException) -> bool:
    """Whether an error is one of ours about what was given, and not one of a user's own code."""
    if not isinstance(error, ValueError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not frames or frames[-1].f_globals["__name__"].split(".")[0] in _PACKAGES


def _code_of(error: BaseException) -> int:
    """The exit code of a job that ends by this error: never 0."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code or 1
    return 2 if is_about_input(error) else 1


def _say(error: BaseException, rank: int) -> None:
    who = "" if rank == 0 else f" (rank {rank})"
    if isinstance(error, KeyboardInterrupt):
        if rank == 0:
            print("stopped by Ctrl-C", file=sys.stderr)
    elif is_about_input(error) or isinstance(error, PeerTimeout | NotWritten):
        print(f"error{who}: {error}", file=sys.stderr)
    elif not isinstance(error, SystemExit):
        print(f"rank {rank} failed:", file=sys.stderr)
        traceback.print_exception(error)
    elif isinstance(error.code, str):
        print(error.code, file=sys.stderr)
    elif not error.code:
        print(
            f"error{who}: sys.exit({error.code}) inside open_world, while other ranks may be at "
            "work: leave the with block instead",
            file=sys.stderr,
        )


def _kill_stopped(pids: Sequence[int]) -> None:
    """Kill those ranks of this host that are stopped (Ctrl-Z, SIGSTOP).

    No request to end reaches them, and torchrun would wait for them for 30 s.
    """
    for pid in pids:
        with suppress(OSError):  # gone
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "T":
                os.kill(pid, signal.SIGKILL)
