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
from benchmarks.traces import available, graphs_of
from rudder.cli.flags import parse

ONE = (CompareConfig, DistdglConfig, PygConfig)
SEVERAL = (AgentsConfig, PaperConfig, PoliciesConfig)


@pytest.mark.parametrize(
    ("config", "flag"), [(one, "--graph") for one in ONE] + [(many, "--graphs") for many in SEVERAL]
)
def test_an_unknown_graph_ends_with_one_line(
    config: type, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(config, argv=[flag, "atlantis"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flag} atlantis (unknown): expected one of ")
    assert "synthetic:small" in line


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


@pytest.mark.parametrize(
    ("config", "words", "said"),
    [
        (AgentsConfig, "--ranks two", "--ranks two: expected whole numbers with commas between"),
        (AgentsConfig, "--ranks 1", "--ranks 1: expected at least 2"),
        (AgentsConfig, "--buffer half", "--buffer half: expected numbers with commas between"),
        (AgentsConfig, "--others oracle", "--decider oracle: expected one of"),
        (PoliciesConfig, "--buffer 0.05,-1", "--buffer -1.0: expected 0 or more"),
        (PoliciesConfig, "--deciders oracle", "--decider oracle: expected one of"),
    ],
)
def test_other_nonsense_is_named(config: type, words: str, said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(config, argv=words.split())
    assert ended.value.code == 2


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
