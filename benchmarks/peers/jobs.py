"""Jobs: a peer's environment, its processes, and the most memory that they take."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.lab.hosts import Unavailable, holds_within, processes, read_process

HOME = Path.home() / ".cache" / "minidist" / "peers"
_INSTALL_LIMIT_S = 3600.0
# Processes of a job bear its name in this variable, which their children inherit.
MARK = "MINIDIST_PEERS_JOB"
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_RSS_EVERY_S = 0.1
# The kernel walks all pages for it.
_PSS_EVERY_S = 1.0


def prepare(
    peer: str,
    folder: Path,
    installs: Sequence[Sequence[str]],
    probe: str,
    borrows: str | None = None,
) -> str:
    """The Python of a virtual environment that holds a peer, whose packages need not agree with
    ours; a folder that is missing is made by pip first.

    installs: words of one ``pip install`` each, in order.   probe: a Python program that fails
    where the peer is not usable; its last words say why.   borrows: a folder of packages that it
    sees beside its own.
    Raises Unavailable. What an installation that fails or is stopped has written is removed.
    """
    python = folder / "bin" / "python"
    if not folder.exists():
        print(f"installing {peer} in {folder}", file=sys.stderr, flush=True)
        try:
            _install(peer, folder, installs, borrows)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    why = f"{folder} is no virtual environment"
    if python.exists():
        why = _failure_of([str(python), "-c", probe], folder)
        if not why:
            return str(python)
    raise Unavailable(
        f"{peer} cannot be used from {folder}: {why}; name another folder with --env, or remove "
        "this one and it is made anew"
    )


def _install(
    peer: str, folder: Path, installs: Sequence[Sequence[str]], borrows: str | None
) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    for words in ([sys.executable, "-m", "venv", str(folder)], *([*pip, *one] for one in installs)):
        if why := _failure_of(words, folder):
            raise Unavailable(f"{peer} cannot be had here: {' '.join(words)} failed: {why}")
        for home in folder.glob("lib/python*/site-packages") if borrows else ():
            (home / "borrowed.pth").write_text(f"{borrows}\n")


def _failure_of(words: Sequence[str], folder: Path) -> str:
    """Why a program failed, by its last words on an error; empty where it did not."""
    # What builds packages from source looks for its tools, such as ninja, in PATH.
    every = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        words, env=every, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False
    )
    lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines)[-1].strip() if done.returncode else ""


@contextmanager
def watching_memory() -> Iterator[tuple[dict[str, str], dict[str, float]]]:
    """A mark for the environment of a job's processes, and the most that all held at once, MiB, as
    it is seen meanwhile.

    rss_mb: resident sizes added up, so that pages which several map count several times.
    pss_mb: each page once; looked at less often.
    """
    mark, peak = {MARK: uuid.uuid4().hex}, {"rss_mb": 0.0, "pss_mb": 0.0}
    word, done = f"{MARK}={mark[MARK]}".encode(), threading.Event()
    marked: dict[int, bool] = {}

    def look(name: str, size_of: Callable[[int], float]) -> None:
        nonlocal marked
        # Whether a process is ours is read once, when it is first seen.
        marked = {
            pid: marked[pid] if pid in marked else word in read_process(pid, "environ")
            for pid in processes()
        }
        peak[name] = max(peak[name], sum(size_of(pid) for pid, ours in marked.items() if ours))

    def sample() -> None:
        next_pss = time.monotonic()
        while not done.wait(_RSS_EVERY_S):
            look("rss_mb", _rss_mb)
            if time.monotonic() >= next_pss:
                look("pss_mb", _pss_mb)
                next_pss = time.monotonic() + _PSS_EVERY_S

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield mark, peak
    finally:
        done.set()
        thread.join()


def _rss_mb(pid: int) -> float:
    fields = read_process(pid, "statm").split()
    return int(fields[1]) * _PAGE_MB if fields else 0.0


def _pss_mb(pid: int) -> float:
    found = re.search(rb"^Pss: +(\d+)", read_process(pid, "smaps_rollup"), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


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
    started: list[subprocess.Popen[bytes]] = []
    every, null = {**os.environ, **environment}, subprocess.DEVNULL

    def codes() -> list[int | None]:
        return [process.poll() for process in started]

    try:
        with log.open("wb") as out:
            for words in commands:
                # In a session of its own, of which all can be ended together.
                session = {"stdin": null, "start_new_session": True}
                started.append(
                    subprocess.Popen(words, env=every, stdout=out, stderr=out, **session)  # type: ignore[call-overload]
                )
            holds_within(limit_s, lambda: any(codes()) or None not in codes(), every_s=0.05)
        if any(ended := codes()) or None in ended:
            failed = [f"exit code {code}" for code in ended if code]
            why = [*failed, f"still running after {limit_s:.0f} s"][0]
            last = log.read_text(errors="replace")[-3000:]
            raise ValueError(f"{' '.join(commands[0])}: {why}:\n{last}")
    finally:
        for process in started:
            # The whole session: what a process started goes with it, also if it is gone itself.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
