"""What a rank prints before the job ends is read first."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

SPEAK = """
import sys, time
from minidist.comm.launch import wait_for_readers
print("why")
began = time.monotonic()
wait_for_readers(float(sys.argv[1]))
open(sys.argv[2], "w").write(str(time.monotonic() - began))
"""


def speak(out: int | IO[bytes], most: float, waited: Path) -> "subprocess.Popen[bytes]":
    """Print a line into ``out``, wait at most so long for its reader, and note how long it was."""
    words = [sys.executable, "-c", SPEAK, str(most), str(waited)]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(words, stdout=out, stderr=out, env=buffered)


def _wait_for_data(pipe: IO[bytes]) -> None:
    ready = select.poll()  # select() takes no descriptor over 1023, and other tests map many files
    ready.register(pipe, select.POLLIN)
    assert ready.poll(30_000)


def test_a_slow_reader_is_waited_for(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe, speak(writer, 60, tmp_path / "waited") as process:
        os.close(writer)
        _wait_for_data(pipe)
        time.sleep(0.2)
        assert not (tmp_path / "waited").exists()
        assert pipe.read() == b"why\n"
        assert process.wait(30) == 0
    assert 0.1 < float((tmp_path / "waited").read_text()) < 60


def test_but_not_for_ever(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with speak(writer, 0.2, tmp_path / "waited") as process:
        assert process.wait(30) == 0
    os.close(reader)
    os.close(writer)
    assert 0.2 <= float((tmp_path / "waited").read_text()) < 10


def test_files_and_lost_readers_are_not_waited_for(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, speak(log, 60, tmp_path / "waited") as process:
        assert process.wait(30) == 0
    assert (tmp_path / "log").read_bytes() == b"why\n"
    assert float((tmp_path / "waited").read_text()) < 10
    reader, writer = os.pipe()
    os.close(reader)
    with speak(writer, 60, tmp_path / "lost") as process:
        os.close(writer)
        process.wait(30)
    assert float((tmp_path / "lost").read_text()) < 10


SIGNALLED = """
import os, signal, sys
from minidist.comm.signals import termination_noted
left = 50
def again(*_):
    global left
    if left:
        left -= 1
        signal.raise_signal(signal.SIGTERM)
with termination_noted() as asked:
    sys.setprofile(again)
    signal.raise_signal(signal.SIGTERM)
    sys.setprofile(None)
    os._exit(0 if asked.is_set and left < 50 else 1)
"""


def test_sigterm_may_come_while_one_is_noted() -> None:
    """As from a launcher and a supervisor at once; the handler itself must not wait."""
    assert subprocess.run([sys.executable, "-c", SIGNALLED], timeout=20).returncode == 0
