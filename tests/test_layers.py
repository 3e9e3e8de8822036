"""Imports go one way between folders, and each outside system is imported in one place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minidist

ROOT = Path(__file__).parent.parent
# Outside systems, and the only files that may import them.
DOORS = {
    "mpi4py": {"minidist/comm/transport/mpi.py"},
    "pymetis": {"minidist/partition/partitioner.py"},
    "ogb": {"minidist/data/ogb.py"},
    "llvmlite": {"rudder/cpu_prefetch.py"},
    "llama_cpp": {"rudder/agent/llama.py"},
    "huggingface_hub": {"rudder/agent/models.py"},
    "jinja2": {"rudder/agent/template.py", "minidist/report/page.py"},
    "matplotlib": {"minidist/report/charts.py"},
    "gguf": {"rudder/learn/transformer.py"},
    "sklearn": {"rudder/learn/classifiers.py"},
    "xgboost": {"rudder/deciders/classifier.py", "rudder/learn/classifiers.py"},
    "pytorch_tabnet": {"rudder/deciders/classifier.py", "rudder/learn/classifiers.py"},
    # A second name of minidist's command; rudder knows no graphs, parts or run folders.
    "minidist": {"rudder/report.py"},
}
PACKAGES = ("rudder", "minidist")
# From the ground up: a folder, or a module of a package's own, imports only what stands before it.
ORDER = {
    "minidist": (
        *("moment", "counter_rng", "graph", "config", "data", "comm", "store", "partition"),
        *(
            "sampling",
            "host_buffer",
            "training",
            "prefetch",
            "run_config",
            "report",
            "run",
            "train",
        ),
    ),
    "rudder": (
        *("cli", "row_counts", "cpu_prefetch", "observations", "config", "buffer"),
        *("feature_store", "policies", "planner", "sizing", "agent", "deciders", "presets"),
        *("host_planner", "replay", "cached_store", "prefetcher", "learn", "fit", "distill"),
        "report",
    ),
}
MOST_FILES = 12


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def sources(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("system", DOORS)
def test_outside_systems_have_one_door(system: str) -> None:
    users = {
        str(file.relative_to(ROOT))
        for file in sources(*PACKAGES)
        if not str(file.relative_to(ROOT)).startswith(f"{system}/")
        if any(name.split(".")[0] == system for name in imports(file))
    }
    assert users <= DOORS[system]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    order = ORDER[package]
    for file in sources(package):
        place = file.relative_to(ROOT / package).with_suffix("").parts[0]
        if place == "__init__":
            continue
        assert place in order, f"give {package}.{place} its place in tests/test_layers.py"
        for name in imports(file):
            if name.startswith(f"{package}."):
                below = name.split(".")[1]
                assert order.index(below) <= order.index(place), f"{file} imports {name}"


def test_folders_can_be_taken_in_at_a_glance() -> None:
    for folder in {file.parent for file in sources(*PACKAGES)}:
        files = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
        most = MOST_FILES + (folder.name == "rudder")
        assert len(files) <= most, folder


def test_commands_answer_without_pytorch() -> None:
    """It takes seconds to import, which ``--help`` and starting ranks need not wait for."""
    commands = ["minidist.train", "minidist.partition.__main__", "rudder.replay.__main__"]
    commands += ["rudder.fit", "rudder.report"]
    program = f"import sys, {', '.join(commands)}\n"
    program += "print(*{'torch', 'torch_geometric'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_public_names_are_found() -> None:
    assert {name for name in minidist.__all__ if getattr(minidist, name)} <= set(dir(minidist))
    with pytest.raises(AttributeError, match="no attribute 'Lader'"):
        minidist.Lader  # type: ignore[attr-defined]  # noqa: B018


def test_what_command_lines_share_imports_nothing_of_ours() -> None:
    for file in sources("rudder/cli"):
        assert not {name.split(".")[0] for name in imports(file)} & {"minidist", "rudder"}


def test_no_file_is_named_for_nothing() -> None:
    nothing = {"util.py", "utils.py", "common.py", "helper.py", "helpers.py", "misc.py"}
    assert not [file for file in sources(*PACKAGES, "benchmarks", "tests") if file.name in nothing]
