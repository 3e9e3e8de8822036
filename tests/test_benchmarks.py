"""What every benchmark says: of a graph that is not there, of nonsense, and of itself, at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks.agents import AgentsConfig
from benchmarks.compare.__main__ import CompareConfig
from benchmarks.paper.settings import PaperConfig
from benchmarks.peers.distdgl import DistdglConfig
from benchmarks.peers.pyg import PygConfig
from benchmarks.policies import PoliciesConfig
from benchmarks.scale.__main__ import ScaleConfig
from benchmarks.traces import available, graphs_of
from rudder.cli.flags import parse

CONFIGS = {
    "agents": AgentsConfig,
    "compare": CompareConfig,
    "distdgl": DistdglConfig,
    "paper": PaperConfig,
    "policies": PoliciesConfig,
    "pyg": PygConfig,
    "scale": ScaleConfig,
}
# A benchmark, a flag with its value, and what is said of it.
NONSENSE = """
compare --graph atlantis | --graph atlantis (unknown): expected one of {graphs}
distdgl --graph atlantis | --graph atlantis (unknown): expected one of {graphs}
pyg --graph atlantis | --graph atlantis (unknown): expected one of {graphs}
agents --graphs atlantis | --graphs atlantis (unknown): expected one of {graphs}
paper --graphs atlantis | --graphs atlantis (unknown): expected one of {graphs}
policies --graphs atlantis | --graphs atlantis (unknown): expected one of {graphs}
agents --ranks two | --ranks two: expected whole numbers with commas between
agents --ranks 1 | --ranks 1: expected at least 2
agents --buffer half | --buffer half: expected numbers with commas between
agents --others oracle | --decider oracle: expected never, always, once
policies --buffer 0.05,-1 | --buffer -1.0: expected 0 or more
policies --deciders oracle | --decider oracle: expected never, always, once
compare --hosts 0 | --hosts 0: expected 1 to
compare --rate fast | --rate fast: expected a rate
compare --repeats 0 | --repeats 0: expected at least 1
compare --variants none,best | --prefetch best: expected one of none, overlap
compare --buffer=-1.0 | --buffer -1.0: expected 0 or more
compare --batch-size 0 | --batch-size 0: expected at least 1
compare --decider-mode soon | --decider-mode soon: expected one of async, sync
compare --topology flat | --topology flat: expected one of partitioned, replicated
compare --ranks-per-host 0 | --ranks-per-host 0: expected at least 1
compare --variants lru@all | --variants lru@all: expected PRESET, PRESET@rank or
compare --sweep speed=1,2 | --sweep speed=1,2: expected NAME=VALUE,VALUE
compare --sweep buffer | --sweep buffer: expected NAME=VALUE,VALUE
compare --sweep hosts=two | --sweep hosts=two: expected numbers after hosts=
compare --sweep rate=1gbit,slow | --rate slow: expected a rate
distdgl --hosts 1 | --hosts 1: expected 2 to
distdgl --rate fast | --rate fast: expected a rate
distdgl --epochs 1 | --epochs 1: expected at least 2: the first is not counted
distdgl --samplers=-1 | --samplers -1: expected at least 0
pyg --workers=-1 | --workers -1: expected at least 0
paper --exhibits nonsense | --exhibits nonsense: expected none, or some of remote_nodes,
paper --ranks 2,x | --ranks 2,x: expected whole numbers with commas between
paper --ranks 1 | --ranks 1: expected at least 2
paper --buffer 0.0 | --buffer 0.0: expected more than 0
paper --rate fast | --rate fast: expected a rate
paper --epochs 0 | --epochs 0: expected at least 1
paper --agent-threads 0 | --agent-threads 0: expected at least 1
paper --classifier-dir /nowhere | --classifier-dir /nowhere: expected a folder
paper --agent-model , | --agent-model ,: expected at least one model
scale --trainers 1,16 | --trainers 1,16: expected at least 2
scale --epochs 1 | --epochs 1: expected at least 2
scale --decider oracle | --decider oracle: expected never, always, once
scale --variants rudder-sync | --prefetch rudder-sync: expected one of none
scale --check four | --check four: expected ranks, or hosts@rate such as 4@200mbit
scale --check 2@500mbit | --check 2@500mbit: expected a place that costs are not fitted to
scale --cluster fast | --rate fast: expected a rate
scale --decision-ms soon | --decision-ms soon: expected numbers with commas between
"""


@pytest.mark.parametrize("told", NONSENSE.strip().splitlines())
def test_nonsense_ends_with_one_line(told: str, capsys: pytest.CaptureFixture[str]) -> None:
    given, _, said = told.partition(" | ")
    name, *words = given.split()
    with pytest.raises(SystemExit) as ended:
        parse(CONFIGS[name], argv=words)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"error: {said.format(graphs=', '.join(available()))}")


def test_a_graph_whose_data_is_not_here_is_told_apart(tmp_path: Path) -> None:
    shutil.copytree(Path(benchmarks.__file__).parent, tmp_path / "project" / "benchmarks")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.policies", "--graphs", "tolokers"],
        cwd=tmp_path / "project",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        "error: --graphs tolokers (its data is missing): expected one of "
        "synthetic:small, synthetic:medium"
    )


def test_several_graphs_are_read_as_they_are_given() -> None:
    assert graphs_of("synthetic:medium,synthetic:small") == ["synthetic:medium", "synthetic:small"]
    assert graphs_of(None) == available()


def test_every_benchmark_helps_without_heavy_libraries() -> None:
    """PyTorch and numba take seconds to import, which ``--help`` need not wait for."""
    folder = Path(benchmarks.__file__).parent
    files = [file for file in folder.rglob("*.py") if ", __doc__" in file.read_text()]
    names = [
        ".".join(file.relative_to(folder.parent).with_suffix("").parts)
        for file in files
        if file != folder / "command.py"
    ]
    assert len(names) == 16
    program = f"import sys, {', '.join(names)}\n"
    program += "print(*{'torch', 'numba', 'matplotlib'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
