"""Output folder: one job at a time writes into ``--out``, and no run in it is lost unasked.

The lock is the operating system's: it goes with the process that holds it, whatever that died of,
and holds between hosts where they share the folder over NFS.
"""

import fcntl
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidist.training.checkpoint import folder_of

_LOCK = ".lock"
# What there is to lose, and all that a run leaves.
_KEPT = ("checkpoint*.pt", "summary.json")
_LEFT = (*_KEPT, "best.pt", "rank[0-9]*.npz", "events-rank[0-9]*.jsonl", "report.html")


def goes_on(path: Path, resume: Path | None) -> bool:
    """Whether the run to resume is the one in this folder."""
    return resume is not None and folder_of(resume).resolve() == path.resolve()


def clear(path: Path) -> None:
    """Remove what another run left in the folder."""
    for file in _files(path, _LEFT):
        file.unlink()


def _files(path: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [file for pattern in patterns for file in path.glob(pattern)]


@contextmanager
def output_folder(path: Path, resume: Path | None, overwrite: bool) -> Iterator[None]:
    """Hold the folder of one run, on rank 0, until it is left.

    resume: the checkpoint or folder to go on from; of another folder's run, all the same.
    Raises ValueError where the folder cannot be written, another job holds it, or it holds a run
    that neither ``resume`` nor ``overwrite`` is about.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
        file = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ValueError(f"--out {path}: cannot be written: {error.strerror}") from None
    try:
        _lock(file, path)
        if not (goes_on(path, resume) or overwrite) and _files(path, _KEPT):
            raise ValueError(
                f"--out {path}: there is a run in it: --resume {path} goes on with it, "
                "--overwrite replaces it; or give another --out"
            )
        yield
    finally:
        os.close(file)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 1000).decode(errors="replace")
        raise ValueError(
            f"--out {path}: another job is at work in it ({holder}): wait for its end, or "
            "give another --out"
        ) from None
    except OSError as error:
        print(
            f"--out {path}: its file system has no locks ({error.strerror}): see to it "
            "that no other job uses it",
            file=sys.stderr,
        )
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
