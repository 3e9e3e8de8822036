"""The same training under every launcher and transport, to the bit."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab import slurm as cluster
from benchmarks.lab.hosts import hosts, missing
from benchmarks.lab.jobs import LAUNCHERS, PYTHON, mpiexec, run, start, torchrun
from tests.mpi.needs import need

TRAIN = ["-m", "minidist.train", "--epochs", "2", "--hidden", "16", "--batch-size", "60"]
TRAIN += ["--device", "cpu", "--sample-threads", "3"]
# Presets that differ in when they move rows: before the start, on demand, by decision.
OPEN_MPI = [pytest.param(name, marks=need(name)) for name in ("openmpi", "pmix")]
BUFFERED = ("massivegnn", "lookahead", "rudder --decider random:0.5")
IN_THREADS = """
import json, sys
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from rudder.cli.flags import from_args
runs = [train_in_threads(from_args(RunConfig, words)) for words in json.loads(sys.argv[1])]
json.dump([summary["losses_sha256"] for summary in runs], open(sys.argv[2], "w"))
"""
pytestmark = pytest.mark.usefixtures("nothing_left")


def train(
    words: list[str],
    parts: str,
    file: Path,
    extra: dict[str, str] | None = None,
    flags: str = "",
) -> Any:
    """The summary of a job; its rows and bytes must reconcile."""
    run([*words, *TRAIN, *flags.split(), "--parts", parts, "--json", str(file)], extra)
    summary = json.loads(file.read_text())
    traffic = summary["traffic"]
    rows = summary["rows"]
    assert (rows["misses"] + rows["replacements"]) * summary["row_bytes"] == summary["bytes_moved"]
    assert summary["bytes_moved"] == traffic["bytes_received"] + traffic["bytes_mapped"]
    assert traffic["bytes_received"] == traffic["bytes_served"]
    return summary


@pytest.fixture(scope="module")
def expected(tiny_parts: dict[int, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Hashes of the losses of ranks that are threads of one process, by their number."""
    file = tmp_path_factory.mktemp("threads") / "hashes.json"
    words = [*TRAIN[2:], "--sample-threads", "1", "--prefetch", "none", "--transport", "local"]
    runs = [[*words, "--ranks", str(num), "--parts", parts] for num, parts in tiny_parts.items()]
    run([PYTHON, "-c", IN_THREADS, json.dumps(runs), str(file)])
    return dict(zip(tiny_parts, json.loads(file.read_text()), strict=True))


@pytest.mark.parametrize("launcher", ["mpiexec", *OPEN_MPI, "torchrun", "bare", "srun"])
def test_launchers_agree(
    launcher: str, tiny_parts: dict[int, str], expected: Any, tmp_path: Path, request: Any
) -> None:
    extra = request.getfixturevalue("slurm") if launcher in ("srun", "pmix") else None
    words = LAUNCHERS.get(launcher, [PYTHON])
    flags = "--ranks 2" if launcher == "bare" else ""
    summary = train(words, tiny_parts[2], tmp_path / "summary.json", extra, flags)
    assert summary["losses_sha256"] == expected[2]
    assert summary["transport"] == ("collective" if launcher == "torchrun" else "mpi")


@pytest.mark.parametrize("launcher", ["mpiexec", "torchrun"])
def test_three_ranks_agree(
    launcher: str, tiny_parts: dict[int, str], expected: Any, tmp_path: Path
) -> None:
    """Of three numbers the sum depends on the order: it is that of the ranks everywhere."""
    words = mpiexec(3) if launcher == "mpiexec" else torchrun(3)
    summary = train(words, tiny_parts[3], tmp_path / "summary.json", flags="--prefetch none")
    assert summary["losses_sha256"] == expected[3]
    assert summary["rows"]["hits"] == 0


@pytest.mark.parametrize(
    ("launcher", "prefetch"),
    # Under mpiexec test_hosts_apart_agree has lookahead.
    [("torchrun", each) for each in BUFFERED] + [("mpiexec", each) for each in BUFFERED[::2]],
)
def test_prefetching_agrees(
    launcher: str, prefetch: str, tiny_parts: dict[int, str], expected: Any, tmp_path: Path
) -> None:
    """Equal losses and traffic that adds up on real ranks, rows mapped or sent."""
    ranks = 3 if launcher == "torchrun" else 2
    words = mpiexec(ranks) if launcher == "mpiexec" else torchrun(ranks)
    flags = f"--prefetch {prefetch} --interval 2 --buffer 0.5"
    summary = train(words, tiny_parts[ranks], tmp_path / "summary.json", flags=flags)
    assert summary["losses_sha256"] == expected[ranks]
    assert summary["rows"]["hits"] > 0


@pytest.mark.skipif(missing() is not None, reason=f"no hosts here: {missing()} is missing")
@pytest.mark.parametrize("launcher", ["mpiexec", "srun"])
def test_hosts_apart_agree(
    launcher: str, tiny_parts: dict[int, str], expected: Any, tmp_path: Path
) -> None:
    """Two namespaces: rows are sent instead of mapped, over the link, and nothing else changes."""
    if launcher == "srun" and cluster.missing():
        pytest.skip(f"Slurm cannot run here: {cluster.missing()} is missing")
    file = tmp_path / "summary.json"
    with hosts(2, "1gbit") as two, tempfile.TemporaryDirectory() as folder:
        before = two.received_bytes()
        if launcher == "mpiexec":
            words, flags = [*two.mpiexec, PYTHON], "--prefetch lookahead:4"
            summary = train(words, tiny_parts[2], file, flags=flags)
        else:
            with cluster.slurm(Path(folder), two) as environment:
                words = ["ip", "netns", "exec", two.switch, "srun", "-N", "2", "-n", "2", "-K1"]
                summary = train([*words, "--mpi=pmi2", PYTHON], tiny_parts[2], file, environment)
        crossed = sum(two.received_bytes()) - sum(before)
    assert summary["losses_sha256"] == expected[2]
    assert summary["traffic"]["bytes_mapped"] == 0
    assert 0 < summary["traffic"]["bytes_received"] < crossed


def test_world_must_fit_the_parts(tiny_parts: dict[int, str]) -> None:
    code, output = start([*mpiexec(3), *TRAIN, "--parts", tiny_parts[2]]).finish()
    assert code == 2
    assert output.count("has 2 parts, but 3 ranks are running: start 2 ranks") == 1


def test_bad_flags_exit_with_2_and_one_line() -> None:
    code, output = start([PYTHON, "-m", "minidist.train", "--epochs", "none"]).finish()
    assert code == 2
    assert output.strip() == "error: --epochs none: expected a whole number"
