"""OutputFolder: one job at a time writes into ``--out``, and no run in it is lost unasked.

The lock is the operating system's: it goes with the process that holds it, whatever that died of,
and holds between hosts where they share the folder over NFS.
"""

import fcntl
import os
import socket
import sys
import tempfile
from pathlib import Path
from types import TracebackType

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


class OutputFolder:
    """The folder of one run, held by rank 0 until it is left.

    resume: the checkpoint or folder to go on from; of another folder's run, all the same.
    Raises ValueError where the folder cannot be written, another job holds it, or it holds a run
    that neither ``resume`` nor ``overwrite`` is about.
    """

    def __init__(self, path: Path, resume: Path | None, overwrite: bool) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
            self._file = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ValueError(f"--out {path}: cannot be written: {error.strerror}") from None
        try:
            self._lock()
            if not (goes_on(path, resume) or overwrite) and _files(path, _KEPT):
                raise ValueError(
                    f"--out {path}: there is a run in it: --resume {path} goes on with it, "
                    "--overwrite replaces it; or give another --out"
                )
        except ValueError:
            os.close(self._file)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 1000).decode(errors="replace")
            raise ValueError(
                f"--out {self.path}: another job is at work in it ({holder}): wait for its end, or "
                "give another --out"
            ) from None
        except OSError as error:
            print(
                f"--out {self.path}: its file system has no locks ({error.strerror}): see to it "
                "that no other job uses it",
                file=sys.stderr,
            )
        os.truncate(self._file, 0)
        os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
