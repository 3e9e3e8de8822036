"""The same training under every launcher and transport, to the bit."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.lab import slurm as cluster
from benchmarks.lab.hosts import hosts, missing
from benchmarks.lab.jobs import LAUNCHERS, PYTHON, mpiexec, run, start, torchrun
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from rudder.cli.flags import from_args
from tests.mpi.needs import need

FLAGS = "--epochs 2 --hidden 16 --batch-size 60 --device cpu --sample-threads 3"
TRAIN = ["-m", "minidist.train", *FLAGS.split()]
# Presets that differ in when they move rows: never, before the start, on demand, by decision.
PRESETS = ("none", "massivegnn", "lookahead", "rudder --decider random:0.5")
ALSO = [
    pytest.param(launcher, marks=[pytest.mark.slow, need(launcher)])
    for launcher in ("mpiexec", "openmpi", "pmix")
]
pytestmark = pytest.mark.usefixtures("nothing_left")


def check_traffic(summary: dict[str, Any]) -> None:
    """Rows and bytes add up."""
    traffic, rows = summary["traffic"], summary["rows"]
    assert (rows["misses"] + rows["replacements"]) * summary["row_bytes"] == summary["bytes_moved"]
    assert summary["bytes_moved"] == traffic["bytes_received"] + traffic["bytes_mapped"]
    assert traffic["bytes_received"] == traffic["bytes_served"]


def train(
    words: list[str],
    parts: str,
    file: Path,
    extra: dict[str, str] | None = None,
    flags: str = "",
) -> Any:
    """The summary of a job."""
    run([*words, *TRAIN, *flags.split(), "--parts", parts, "--json", str(file)], extra)
    summary = json.loads(file.read_text())
    check_traffic(summary)
    return summary


@pytest.fixture(scope="module")
def expected(tiny_parts: dict[int, str]) -> dict[int, str]:
    """Hashes of the losses of ranks that are threads of this process, by their number."""
    words = [*TRAIN[2:], "--sample-threads", "1", "--prefetch", "none", "--transport", "local"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the jobs: sums in another order have other last bits
    try:
        return {
            ranks: train_in_threads(
                from_args(RunConfig, [*words, "--ranks", str(ranks), "--parts", parts]), quiet=True
            )["losses_sha256"]
            for ranks, parts in tiny_parts.items()
        }
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("launcher", ["bare", "torchrun", "srun", *ALSO])
def test_launchers_agree(
    launcher: str, tiny_parts: dict[int, str], expected: Any, tmp_path: Path, request: Any
) -> None:
    extra = request.getfixturevalue("slurm") if launcher in ("srun", "pmix") else None
    words = LAUNCHERS.get(launcher, [PYTHON])
    flags = "--ranks 2" if launcher == "bare" else ""
    summary = train(words, tiny_parts[2], tmp_path / "summary.json", extra, flags)
    assert summary["losses_sha256"] == expected[2]
    assert summary["transport"] == ("collective" if launcher == "torchrun" else "mpi")


@pytest.mark.parametrize("launcher", [mpiexec, torchrun])
def test_three_ranks_agree(
    launcher: Any, tiny_parts: dict[int, str], expected: Any, tmp_path: Path
) -> None:
    """Equal losses, of whose three parts the sum depends on the order, and traffic that adds up."""
    program = ["-m", "tests.mpi.programs.runs", str(tmp_path / "summaries.json")]
    common = f"{FLAGS} --parts {tiny_parts[3]} --interval 2 --buffer 0.5 --prefetch "
    run([*launcher(3), *program, *(common + preset for preset in PRESETS)])
    for preset, summary in zip(
        PRESETS, json.loads((tmp_path / "summaries.json").read_text()), strict=True
    ):
        assert summary["losses_sha256"] == expected[3], preset
        assert (summary["rows"]["hits"] > 0) == (preset != "none")
        check_traffic(summary)


@pytest.mark.skipif(missing() is not None, reason=f"no hosts here: {missing()} is missing")
@pytest.mark.parametrize("launcher", ["mpiexec", pytest.param("srun", marks=pytest.mark.slow)])
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
