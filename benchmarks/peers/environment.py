"""Environment: a virtual environment that holds a peer, whose packages need not agree with ours."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.hosts import Unavailable

HOME = Path.home() / ".cache" / "minidist" / "peers"
_LIMIT_S = 3600.0


@dataclass(frozen=True)
class Environment:
    """A peer's packages in a folder of their own.

    peer: its name, for messages.   folder: of the virtual environment.   installs: words of one
    ``pip install`` each, in order.   probe: a Python program that fails where the peer is not
    usable; its last words say why.   borrows: a folder of packages that it sees beside its own.
    """

    peer: str
    folder: Path
    installs: tuple[tuple[str, ...], ...]
    probe: str
    borrows: Path | None = None

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def prepare(self) -> Path:
        """The interpreter that has the peer; a folder that is missing is made by pip first.

        Raises Unavailable. What an installation that fails or is stopped has written is removed.
        """
        if not self.folder.exists():
            print(f"installing {self.peer} in {self.folder}", file=sys.stderr, flush=True)
            try:
                self._install()
            except BaseException:
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
        why = f"{self.folder} is no virtual environment"
        if self.python.exists():
            done = self._run([str(self.python), "-c", self.probe])
            if done.returncode == 0:
                return self.python
            why = _last_words(done)
        raise Unavailable(
            f"{self.peer} cannot be used from {self.folder}: {why}; name another folder with "
            f"--env, or remove this one and it is made anew"
        )

    def _install(self) -> None:
        done = self._run([sys.executable, "-m", "venv", str(self.folder)])
        if self.borrows is not None and done.returncode == 0:
            home = next(self.folder.glob("lib/python*/site-packages"))
            (home / "borrowed.pth").write_text(f"{self.borrows}\n")
        steps = [[str(self.python), "-m", "pip", "install", "-q", *step] for step in self.installs]
        for words in steps:
            if done.returncode == 0:
                done = self._run(words)
        if done.returncode:
            raise Unavailable(
                f"{self.peer} cannot be had here: {' '.join(map(str, done.args))} failed: "
                f"{_last_words(done)}"
            )

    def _run(self, words: list[str]) -> "subprocess.CompletedProcess[str]":
        # What builds packages from source looks for its tools, such as ninja, in PATH.
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        every = {**os.environ, "PATH": path}
        return subprocess.run(words, env=every, capture_output=True, text=True, timeout=_LIMIT_S)


def _last_words(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines)[-1].strip()
