"""Between hosts: answers are exact and cross the link, and a link that goes down is noticed."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.lab.hosts import Hosts, hosts, missing
from benchmarks.lab.jobs import PYTHON, ranks_of, run, start, wait_for
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from rudder.cli.flags import from_args

PROGRAMS = Path(__file__).parent / "programs"
EXCHANGE = ["-m", "tests.mpi.programs.exchange"]
pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(missing() is not None, reason=f"no hosts here: {missing()} is missing"),
]
# Each rank of exchange.py receives at least 32,115 rows of 50 float32.
LEAST_BYTES = 2 * 32_115 * 50 * 4


def torchruns(two: Hosts, ranks: int) -> list[list[str]]:
    """Words that run a program on each host, with so many ranks."""
    words = [PYTHON, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", str(ranks)]
    words += ["--master-addr", "10.77.0.10", "--master-port", "29500"]
    return [
        ["ip", "netns", "exec", name, *words, "--node-rank", str(node)]
        for node, name in enumerate(two.names)
    ]


def test_mpiexec_over_two_hosts() -> None:
    with hosts(2, "1gbit") as two:
        before = sum(two.received_bytes())
        job = start([*two.mpiexec, PYTHON, *EXCHANGE, "auto"])
        code, output = job.finish()
        crossed = sum(two.received_bytes()) - before
    assert (code, output.count("is content")) == (0, 2), output
    assert crossed > LEAST_BYTES


def test_torchrun_over_two_hosts() -> None:
    """The hosts' name means loopback here, as Debian has it: gloo must not believe it."""
    with hosts(2, "1gbit") as two:
        before = sum(two.received_bytes())
        for job in [start([*words, *EXCHANGE, "auto"]) for words in torchruns(two, 1)]:
            code, output = job.finish()
            assert (code, output.count("is content")) == (0, 1), output
        crossed = sum(two.received_bytes()) - before
    assert crossed > LEAST_BYTES


SHARING = "--dataset synthetic:tiny --method random --fanout 5,5 --hidden 16 --batch-size 20 "
SHARING += "--epochs 2 --prefetch lookahead"


def sharing(tmp_path: Path, ranks: int, name: str) -> list[str]:
    words = [*SHARING.split(), "--parts", str(tmp_path / f"parts{ranks}")]
    return ["-m", "minidist.train", *words, "--json", str(tmp_path / name)]


def check_shared(tmp_path: Path, ranks: int, name: str) -> None:
    """It learnt what threads of one process do without a buffer, and shared one."""
    flags = [*SHARING.split(), "--parts", str(tmp_path / f"parts{ranks}"), "--ranks", str(ranks)]
    plain = replace(from_args(RunConfig, flags), prefetch="none", transport="local")
    summary, threads = json.loads((tmp_path / name).read_text()), torch.get_num_threads()
    torch.set_num_threads(1)  # as in the job: sums in another order have other last bits
    try:
        assert summary["losses_sha256"] == train_in_threads(plain, quiet=True)["losses_sha256"]
    finally:
        torch.set_num_threads(threads)
    assert (summary["buffer"]["scope"], summary["buffer"]["shared"] > 0) == ("host", True)
    assert 0 < summary["rows_between_hosts"] < summary["rows"]["remote"] / 4


def test_ranks_of_a_host_share_a_buffer_under_mpiexec(tmp_path: Path) -> None:
    with hosts(2, "1gbit") as two:
        run([*two.mpiexec_of(2, 1), PYTHON, *sharing(tmp_path, 3, "mpi.json")])
    check_shared(tmp_path, 3, "mpi.json")


@pytest.mark.slow
def test_ranks_of_a_host_share_a_buffer_under_torchrun(tmp_path: Path) -> None:
    with hosts(2, "1gbit") as two:
        jobs = [
            start([*words, *sharing(tmp_path, 4, "torchrun.json")]) for words in torchruns(two, 2)
        ]
        for job in jobs:
            code, output = job.finish()
            assert code == 0, output
    check_shared(tmp_path, 4, "torchrun.json")


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_rank_ends_those_that_shared_its_buffer(victim: int, tmp_path: Path) -> None:
    with hosts(2, "1gbit") as two:
        words = [*sharing(tmp_path, 3, "killed.json"), "--epochs", "100000"]
        out = str(tmp_path / "run")
        job = start([*two.mpiexec_of(2, 1), PYTHON, *words, "--out", out])
        log = Path(out) / f"events-rank{victim}.jsonl"
        wait_for(lambda: log.exists() and '"step"' in log.read_text(), 90)
        os.kill(ranks_of(out)[victim], signal.SIGKILL)
        assert job.finish(30)[0] != 0
        wait_for(lambda: not ranks_of(out), 10)


def test_requests_do_not_queue_behind_replies() -> None:
    """They have a connection each: on one, links that both ranks fetch over were half idle."""
    with hosts(2, "1gbit") as two:
        output = run([*two.mpiexec, PYTHON, str(PROGRAMS / "connections.py")])
    assert output.count("connections added: 2") == 2, output


@pytest.mark.parametrize("what", ["exchange", pytest.param("sum", marks=pytest.mark.slow)])
def test_a_link_that_goes_down_ends_the_job(what: str, tmp_path: Path) -> None:
    file = tmp_path / "raise"
    with hosts(2, "1gbit") as two:
        program = [PYTHON, str(PROGRAMS / "failing.py"), "auto", what, "3", str(file)]
        job = start([*two.mpiexec, *program])
        wait_for(lambda: all(Path(f"{file}.rank{rank}").exists() for rank in range(2)))
        subprocess.run(["ip", "-n", two.names[1], "link", "set", "eth0", "down"], check=True)
        code, output = job.finish(20)
        assert code == 1
        assert "rank 0 waited 3.0 s for rank 1 (" in output
        wait_for(lambda: not ranks_of(str(file)), 10)
