"""The lab: a command's ending and output pass through, links have their rate, nothing stays."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lab import hosts
from benchmarks.lab.jobs import PYTHON, Job, start, wait_for
from minidist.config import PartitionConfig
from minidist.partition.partitioner import run as partition
from tests.mpi.needs import need

LAB = [PYTHON, "-m", "benchmarks.lab"]
NAMESPACES = Path("/run/netns")
needs_hosts = need("hosts")
needs_slurm = need("srun")
# Each rank sends so many bytes to the next in a ring, or all to rank 0, and rank 2 then by four
# connections; prints the seconds from its first byte to its last. Rank 0 also prints the share of
# its bytes that the last rank had sent when the first was through.
SEND = """
import os, socket, sys, threading, time
from collections import Counter
rank, size, shape, num = int(os.environ["PMI_RANK"]), int(os.environ["PMI_SIZE"]), *sys.argv[1:]
num, to = int(num), 0 if shape == "fan-in" else (rank + 1) % size
flows = {2: 4}.get(rank, 1) if shape == "fan-in" else 1
expected = 1 if shape == "ring" else 5 * (rank == 0)
received, lock, ready = Counter(), threading.Lock(), threading.Barrier(6)
def receive(server):
    there, (sender, _) = server.accept()
    if expected > 1:
        ready.wait(20)
        there.sendall(b"g")
    while part := there.recv(1 << 20):
        with lock:
            received[sender] += len(part)
            if shape == "fan-in" and received[sender] == num == max(received.values()):
                share = min(received.values()) / num
                sys.stdout.write(f"share {share}\\n" if share < 1 else "")
    there.sendall(b"k")
def send():
    for _ in range(100):
        try:
            there = socket.create_connection((f"10.77.0.{10 + to}", 5000), 20)
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    if shape == "fan-in":
        there.recv(1)
    began = time.perf_counter()
    there.sendall(bytes(num // flows))
    there.shutdown(socket.SHUT_WR)
    there.recv(1)
    sys.stdout.write(f"seconds {time.perf_counter() - began}\\n")
with socket.create_server((f"10.77.0.{10 + rank}", 5000)) as server:
    threads = [threading.Thread(target=receive, args=(server,)) for _ in range(expected)]
    threads += [threading.Thread(target=send) for _ in range(flows)] * (to != rank)
    for thread in threads: thread.start()
    if expected > 1: ready.wait(20)
    for thread in threads: thread.join()
"""

HAS_HOSTS = """
import time
from benchmarks.lab.hosts import hosts
with hosts(2, "none"):
    time.sleep(60)
"""
CRASH = """
import os, signal, subprocess, sys, tempfile
words = ["sh", "-c", f"touch {sys.argv[1]}; sleep 120; : {sys.argv[1]}"]
null = subprocess.DEVNULL
subprocess.Popen(words, start_new_session=True, stdin=null, stdout=null, stderr=null)
while not os.path.exists(sys.argv[1]):
    pass
tempfile.mkstemp()
os.kill(os.getpid(), signal.SIGSEGV)
"""

THREADS = """
import sys, torch
from minidist import open_world
with open_world() as world:
    # In one write also where Python does not buffer: ranks share a pipe.
    sys.stdout.write(f"{torch.get_num_threads()} threads\\n")
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where labs of this test keep their files; it must be empty in the end."""
    # Unix sockets have short names, which pytest's own folders are too deep for.
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)
        assert not os.listdir(name)


def hosts_of(lab: Job) -> list[str]:
    """The namespaces that a lab has brought up."""
    found = NAMESPACES.iterdir() if NAMESPACES.is_dir() else []
    return [each.name for each in found if each.name.startswith(f"md{lab.process.pid}x")]


def processes_with(marker: str) -> list[int]:
    """Process ids of all whose command line holds the marker, the lab itself left out."""
    lines = {pid: hosts.read_process(pid, "cmdline").decode() for pid in hosts.processes()}
    return [pid for pid, line in lines.items() if marker in line and "benchmarks.lab" not in line]


def start_waiting(marker: Path, *flags: str) -> Job:
    """A lab whose two ranks have made a file each, and wait."""
    marker.mkdir()
    lab = start([*LAB, *flags, "--", "sh", "-c", f"touch {marker}/$$; sleep 120; : {marker}"])
    wait_for(lambda: len(os.listdir(marker)) == 2, 30)
    assert len(hosts_of(lab)) == 3
    assert processes_with(str(marker))
    return lab


@needs_hosts
def test_output_and_exit_code_are_the_commands(folder: Path) -> None:
    words = ["sh", "-c", "echo $(hostname); echo err $PMI_RANK >&2; exit 7"]
    flags = ["--hosts", "3", "--ranks-per-host", "2"]
    done = subprocess.run([*LAB, *flags, "--", *words], capture_output=True, text=True)
    assert done.returncode == 7
    assert sorted(done.stdout.split()) == ["host0", "host0", "host1", "host1", "host2", "host2"]
    assert {f"err {rank}" for rank in range(6)} <= set(done.stderr.split("\n"))
    assert "3 hosts of 2 ranks under mpiexec, links of rate 1gbit" in done.stderr


@needs_hosts
@pytest.mark.parametrize(("shape", "senders"), [("ring", 1), ("fan-in", 2)])
def test_links_have_the_rate(shape: str, senders: int, folder: Path, tmp_path: Path) -> None:
    """Three hosts send at once: each way of a link has the rate, and serves all peers alike."""
    num, rate, report = 5_000_000, 100e6, tmp_path / "lab.json"
    words = [PYTHON, "-c", SEND, shape, str(num)]
    code, output = start(
        [*LAB, "--hosts", "3", "--rate", "100mbit", "--json", str(report), "--", *words]
    ).finish()
    assert code == 0, output
    told = [line.split() for line in output.splitlines()]
    slowest = max(float(words[1]) for words in told if words[0] == "seconds")
    # The bucket lets a first burst pass; beside it run the machine's other work and TCP's start.
    assert 0.9 < slowest / (senders * num * 8 / rate) < 2
    links = json.loads(report.read_text())["links"]
    if shape == "fan-in":
        # Whoever opens more connections gets no more than others.
        assert min(float(words[1]) for words in told if words[0] == "share") > 0.75
    expected = [num] * 3 if shape == "ring" else [2 * num, 0, 0]
    for link, received in zip(links, expected, strict=True):
        # Frames' headers, acknowledgements, and the launcher's own words come on top.
        assert received <= link["received"] < 1.1 * received + 400_000


@needs_hosts
def test_training_crosses_the_links(folder: Path, tmp_path: Path) -> None:
    parts, summary_file, report = (tmp_path / name for name in ("parts", "run.json", "lab.json"))
    partition(PartitionConfig(dataset="synthetic:tiny", parts=2, out=str(parts), method="random"))
    words = [PYTHON, "-m", "minidist.train", "--parts", str(parts), "--epochs", "1"]
    words += ["--hidden", "16", "--prefetch", "overlap", "--json", str(summary_file)]
    lab = [*LAB, "--rate", "200mbit", "--json", str(report), "--", *words]
    code, output = start(lab).finish()
    assert code == 0, output
    summary, outcome = (json.loads(file.read_text()) for file in (summary_file, report))
    assert summary["traffic"]["bytes_mapped"] == 0
    crossed = sum(link["received"] for link in outcome["links"])
    assert crossed > summary["bytes_moved"] > 100_000
    assert outcome["exit_code"] == 0
    assert (outcome["hosts"], outcome["rate"], outcome["command"]) == (2, "200mbit", words)


@needs_hosts
def test_hosts_share_the_cores(folder: Path) -> None:
    """Each host sees all cores of this machine; two threads on one core would wait spinning."""
    num = max(2, os.cpu_count() or 1)
    code, output = start([*LAB, "--hosts", str(num), "--", PYTHON, "-c", THREADS]).finish()
    assert code == 0, output
    assert output.count("1 threads") == num


@needs_hosts
@needs_slurm
def test_srun_has_a_node_a_host(folder: Path) -> None:
    words = ["sh", "-c", "echo $SLURM_PROCID of $SLURM_NTASKS on $(hostname); cat /etc/hosts"]
    code, output = start([*LAB, "--slurm", "--ranks-per-host", "2", "--", *words]).finish()
    assert code == 0, output
    told = {f"{rank} of 4 on host{rank // 2}" for rank in range(4)}
    assert told <= set(output.split("\n")), output
    assert "10.77.0.11 host1" in output
    assert "2 hosts of 2 ranks under srun" in output


@needs_hosts
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_everything_down(number: int, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "waiting"
    lab = start_waiting(marker)
    # Ctrl-C reaches the whole process group.
    os.killpg(lab.process.pid, number)
    began = time.monotonic()
    code, output = lab.finish(20)
    assert code == 128 + number, output
    assert "Traceback" not in output
    assert time.monotonic() - began < 10
    assert not hosts_of(lab)
    assert not processes_with(str(marker))


@needs_hosts
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_down_hosts_that_a_benchmark_has(number: int, folder: Path) -> None:
    benchmark = start([PYTHON, "-c", HAS_HOSTS])
    wait_for(lambda: len(hosts_of(benchmark)) == 3, 30)
    os.kill(benchmark.process.pid, number)
    code, output = benchmark.finish(20)
    # Python's own end after Ctrl-C is that of the signal.
    assert code == (-number if number == signal.SIGINT else 128 + number), output
    assert not hosts_of(benchmark)


@needs_hosts
@needs_slurm
@pytest.mark.slow
def test_a_signal_ends_srun_and_its_daemons(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "waiting"
    lab = start_waiting(marker, "--slurm")
    daemons = processes_with(f"md{lab.process.pid}x")
    assert len(daemons) >= 4  # munged, slurmctld, two slurmd
    os.kill(lab.process.pid, signal.SIGTERM)
    code, output = lab.finish(30)
    assert code == 128 + signal.SIGTERM, output
    assert not hosts_of(lab)
    assert not processes_with(str(marker))
    assert not processes_with(f"md{lab.process.pid}x")


@needs_hosts
def test_what_a_command_left_behind_is_ended(folder: Path, tmp_path: Path) -> None:
    """A rank that crashes leaves a process of its own session, and a file."""
    marker = str(tmp_path / "stray")
    lab = start([*LAB, "--", PYTHON, "-c", CRASH, marker])
    code, output = lab.finish(20)
    # MPICH says 139, or another code where its proxies trip over the end of the other rank.
    assert code > 0, output
    assert Path(marker).exists()
    assert not hosts_of(lab)
    assert not processes_with(marker)


@needs_hosts
def test_the_next_start_sweeps_up_after_kill_9(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "waiting"
    lab, other = start_waiting(marker), start_waiting(tmp_path / "other")
    lab.process.kill()
    lab.process.wait(10)
    assert len(hosts_of(lab)) == 3
    assert start([*LAB, "--", "true"]).finish(20)[0] == 0
    assert not hosts_of(lab)
    assert not processes_with(str(marker))
    # What still has an owner stays.
    assert len(hosts_of(other)) == 3
    assert processes_with(str(tmp_path / "other"))
    other.process.terminate()
    other.finish(20)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hosts", "0", "--", "true"], "--hosts 0: expected 1 to 240"),
        (["--hosts", "two", "--", "true"], "--hosts two: expected a whole number"),
        (["--rate", "fast", "--", "true"], "--rate fast: expected a rate such as 200mbit"),
        (["--delay", "2", "--", "true"], "--delay 2: expected a time such as 500us or 2ms"),
        (["--speed", "2", "--", "true"], "unrecognized arguments: --speed 2"),
        (["--json", "/nowhere/at/all", "--", "true"], "expected a file in a folder that exists"),
        (["--hosts", "2"], "no command: python -m benchmarks.lab [flags] -- COMMAND..."),
        (["--", "no-such-program"], "no command no-such-program in PATH"),
    ],
)
def test_what_makes_no_sense_is_named(words: list[str], said: str) -> None:
    code, output = start([*LAB, *words]).finish(20)
    assert code == 2
    assert output.startswith("error: ")
    assert said in output
    assert output.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="the lab says here that root is missing")
@pytest.mark.parametrize("lacking", ["root", "iproute2 (ip and tc)", "srun"])
def test_where_it_cannot_run_it_says_what_is_missing(lacking: str, tmp_path: Path) -> None:
    words, extra = [*LAB, "--", "true"], dict[str, str]()
    (tmp_path / "true").symlink_to("/bin/true")
    if lacking == "root":
        # Another user may not be able to read this Python's modules.
        program = "import os; from benchmarks.lab.__main__ import main; os.seteuid(65534); main()"
        words[1:3] = ["-c", program]
    else:
        extra["PATH"] = str(tmp_path)
    if lacking == "srun":
        for tool in ("ip", "tc"):
            (tmp_path / tool).symlink_to("/bin/true")
        words.insert(3, "--slurm")
    code, output = start(words, extra).finish(20)
    assert (code, output.count("\n")) == (2, 1), output
    assert output.startswith(f"error: the lab cannot run here: {lacking}")


def test_delay_asks_the_kernel(folder: Path) -> None:
    """Where it has netem messages are late, and where it has not the lab says that."""
    if hosts.missing():
        pytest.skip(f"no hosts here: {hosts.missing()} is missing")
    code, output = start([*LAB, "--delay", "20ms", "--", "true"]).finish(20)
    if code != 0:
        assert code == 2
        assert "--delay needs netem, which this kernel lacks" in output
