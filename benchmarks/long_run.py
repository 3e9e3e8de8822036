"""A long run of short epochs: what memory, open files and the log grow by.

python -m benchmarks.long_run                  2,000 epochs of a tiny graph on 2 ranks, some minutes
python -m benchmarks.long_run --epochs 300 --json long.json

Slopes are least squares over what was seen every second after the first sixth, in which kernels are
compiled and caches fill. The log and the checkpoint (which holds every loss) grow by design.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import Row, answer
from benchmarks.lab.jobs import PYTHON, mpiexec, pid_of_rank, run, start
from rudder.cli.flags import flag, parse, require
from rudder.cli.table import render

_FIGURES = ("memory of a rank, MiB", "open files of a rank", "event log, KiB", "checkpoint, KiB")


@dataclass(frozen=True, kw_only=True)
class LongRunConfig:
    epochs: int = flag(2000, "epochs to train")
    prefetch: str = flag("lookahead", "as minidist.train has it")
    json: str | None = flag(None, "also write the figures to this file")

    def __post_init__(self) -> None:
        require(self.epochs >= 60, "epochs", self.epochs, "at least 60")


def measure(config: LongRunConfig) -> Row:
    """Train, and look at the ranks once a second."""
    with tempfile.TemporaryDirectory() as folder:
        parts, out = f"{folder}/parts", Path(folder) / "run"
        graph = ["--dataset", "synthetic:tiny", "--parts", "2", "--out", parts]
        run([PYTHON, "-m", "minidist.partition", *graph])
        words = f"--prefetch {config.prefetch} --epochs {config.epochs} --parts {parts} --out {out}"
        words += " --batch-size 80 --fanout 5,5 --hidden 16 --eval-every 200 --device cpu"
        job = start([*mpiexec(2), "-m", "minidist.train", *words.split()])
        seen: list[tuple[float, ...]] = []
        while job.process.poll() is None:
            time.sleep(1)
            seen += _look(out)
        code, output = job.finish()
        if code != 0:
            raise ValueError(f"training ended with {code}: {output[-500:]}")
    # At the end, when the rank is gone, its supervisor would be taken for it.
    figures = np.array([each for each in seen if config.epochs / 6 < each[0] < config.epochs])
    if len(figures) < 5:
        raise ValueError(f"--epochs {config.epochs}: over too soon to see a slope; give more")
    slopes = [1000 * float(np.polyfit(figures[:, 0], column, 1)[0]) for column in figures.T[1:]]
    rows = zip(_FIGURES, figures[0, 1:].tolist(), figures[-1, 1:].tolist(), slopes, strict=True)
    names = ("what", "first", "last", "per_1000_epochs")
    return {"figures": [dict(zip(names, row, strict=True)) for row in rows]}


def _look(out: Path) -> list[tuple[float, ...]]:
    """(epochs so far, and the figures) once training is under way."""
    log, checkpoint = out / "events-rank0.jsonl", out / "checkpoint.pt"
    try:
        process = Path("/proc", str(pid_of_rank(0, str(out))))
        memory = int((process / "status").read_text().split("VmRSS:")[1].split()[0]) / 1024
        files = len(os.listdir(process / "fd"))
        epochs = log.read_text().count('"event": "epoch"')
        sizes = log.stat().st_size / 1024, checkpoint.stat().st_size / 1024
    except (OSError, AssertionError, IndexError):  # before it begins, or at its end
        return []
    return [(float(epochs), memory, float(files), *sizes)]


def table(found: Row) -> str:
    lines = [
        (what, *(f"{number:,.1f}" for number in numbers))
        for what, *numbers in (each.values() for each in found["figures"])
    ]
    return render(lines, ("", "first", "last", "per 1,000 epochs"))


if __name__ == "__main__":
    answer(parse(LongRunConfig, __doc__), measure, table)
