"""Job: processes that run to their end under a deadline, and the most memory that a job takes."""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# Processes of a job bear its name in this variable, which their children inherit.
MARK = "MINIDIST_PEERS_JOB"
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_RSS_EVERY_S = 0.1
# The kernel walks all pages for it.
_PSS_EVERY_S = 1.0


class Memory(NamedTuple):
    """The most that all processes of a job held at once, MiB.

    rss_mb: resident sizes added up, so that pages which several map count several times.
    pss_mb: each page once; looked at less often.
    """

    rss_mb: float
    pss_mb: float


class MemoryWatch:
    """Samples the memory of a job's processes from when it is entered until it is left."""

    def __init__(self) -> None:
        self.mark = {MARK: uuid.uuid4().hex}
        self._rss, self._pss = 0.0, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._marked: dict[int, bool] = {}

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def peak(self) -> Memory:
        return Memory(self._rss, self._pss)

    def _sample(self) -> None:
        next_pss = time.monotonic()
        while not self._done.wait(_RSS_EVERY_S):
            processes = self._processes()
            self._rss = max(self._rss, sum(map(_rss_mb, processes)))
            if time.monotonic() >= next_pss:
                self._pss = max(self._pss, sum(map(_pss_mb, processes)))
                next_pss = time.monotonic() + _PSS_EVERY_S

    def _processes(self) -> list[Path]:
        """Folders in /proc; whether a process is ours is read once, when it is first seen."""
        folders = {int(each.name): each for each in Path("/proc").glob("[0-9]*")}
        self._marked = {pid: known for pid, known in self._marked.items() if pid in folders}
        word = f"{MARK}={self.mark[MARK]}".encode()
        for pid in folders.keys() - self._marked.keys():
            self._marked[pid] = word in _read(folders[pid] / "environ")
        return [folders[pid] for pid, is_ours in self._marked.items() if is_ours]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # gone meanwhile
        return b""


def _rss_mb(process: Path) -> float:
    fields = _read(process / "statm").split()
    return int(fields[1]) * _PAGE_MB if fields else 0.0


def _pss_mb(process: Path) -> float:
    lines = _read(process / "smaps_rollup").splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith(b"Pss:")]
    return sum(found) / 1024


def run_together(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    log: Path,
    limit_s: float,
) -> None:
    """Run commands side by side until all have ended; none of their processes stays behind.

    environment: added to ours.   log: a file for what they print.
    Raises ValueError with their last words as soon as one fails, or after limit_s seconds.
    """
    processes: list[subprocess.Popen[bytes]] = []
    deadline = time.monotonic() + limit_s
    every, null = {**os.environ, **environment}, subprocess.DEVNULL
    try:
        with log.open("wb") as out:
            for words in commands:
                # In a session of its own, of which all can be ended together.
                session = {"stdin": null, "start_new_session": True}
                processes.append(
                    subprocess.Popen(words, env=every, stdout=out, stderr=out, **session)  # type: ignore[call-overload]
                )
            codes: list[int | None] = [None]
            while None in codes and not any(codes) and time.monotonic() < deadline:
                time.sleep(0.05)
                codes = [process.poll() for process in processes]
        if any(codes) or None in codes:
            failed = [f"exit code {code}" for code in codes if code]
            why = [*failed, f"still running after {limit_s:.0f} s"][0]
            last = log.read_text(errors="replace")[-3000:]
            raise ValueError(f"{' '.join(commands[0])}: {why}:\n{last}")
    finally:
        for process in processes:
            # The whole session: what a process started goes with it, also if it is gone itself.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
