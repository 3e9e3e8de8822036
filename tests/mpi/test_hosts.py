"""Between hosts: answers are exact and cross the link, and a link that goes down is noticed."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.lab.hosts import hosts, missing
from benchmarks.lab.jobs import PYTHON, ranks_of, run, start, wait_for

PROGRAMS = Path(__file__).parent / "programs"
pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(missing() is not None, reason=f"no hosts here: {missing()} is missing"),
]
# Each rank of exchange.py receives at least 32,115 rows of 50 float32.
LEAST_BYTES = 2 * 32_115 * 50 * 4


def test_mpiexec_over_two_hosts() -> None:
    with hosts(2, "1gbit") as two:
        before = sum(two.received_bytes())
        job = start([*two.mpiexec, PYTHON, str(PROGRAMS / "exchange.py"), "auto"])
        code, output = job.finish()
        crossed = sum(two.received_bytes()) - before
    assert (code, output.count("is content")) == (0, 2), output
    assert crossed > LEAST_BYTES


def test_torchrun_over_two_hosts() -> None:
    """The hosts' name means loopback here, as Debian has it: gloo must not believe it."""
    with hosts(2, "1gbit") as two:
        before = sum(two.received_bytes())
        jobs = []
        for node, name in enumerate(two.names):
            words = ["ip", "netns", "exec", name, PYTHON, "-m", "torch.distributed.run"]
            words += ["--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1"]
            words += ["--master-addr", "10.77.0.10", "--master-port", "29500"]
            jobs.append(start([*words, str(PROGRAMS / "exchange.py"), "auto"]))
        for job in jobs:
            code, output = job.finish()
            assert (code, output.count("is content")) == (0, 1), output
        crossed = sum(two.received_bytes()) - before
    assert crossed > LEAST_BYTES


def test_requests_do_not_queue_behind_replies() -> None:
    """They have a connection each: on one, links that both ranks fetch over were half idle."""
    with hosts(2, "1gbit") as two:
        output = run([*two.mpiexec, PYTHON, str(PROGRAMS / "connections.py")])
    assert output.count("connections added: 2") == 2, output


@pytest.mark.parametrize("what", ["exchange", "sum"])
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
