"""Imports go one way, and each outside system is imported in one place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Outside systems, and the only files that may import them.
DOORS = {
    "mpi4py": {"minidist/transport/mpi.py"},
    "pymetis": {"minidist/partition.py", "benchmarks/partition.py"},
    "ogb": {"minidist/ogb.py"},
}
# From the ground up; a module imports only modules of floors below its own, or of its own.
FLOORS = (
    {"config", "splitmix", "events", "draw", "host", "bounds", "memory", "manifest"}
    | {"book", "graph", "launch"},
    {"transport.base"},
    {"transport.failure", "transport.local", "transport.piece", "transport.pool", "group"},
    {"heartbeat", "rendezvous", "transport.server"},
    {"transport.mpi", "transport.collective", "torch_group"},
    {"world"},
    {"threads"},
    {"shard", "writer", "blockmodel", "edgelist", "adjacency", "node2vec", "intake"},
    {
        "parts",
        "npz",
        "pyg",
        "ogb",
        "snap",
        "synthetic",
        "balance",
        "stream",
        "deal",
        "quality",
        "tighten",
    },
    {"datasets"},
    {"partition"},
    {"features", "sampler", "seeds", "batch"},
    {"loader", "models", "gradients"},
    {"evaluate", "checkpoint", "meter"},
    {"trainer"},
    {"train"},
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def sources(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("system", DOORS)
def test_outside_systems_have_one_door(system: str) -> None:
    users = {
        str(file.relative_to(ROOT))
        for file in sources("minidist", "benchmarks")
        if any(name.split(".")[0] == system for name in imports(file))
    }
    assert users <= DOORS[system]


def test_imports_go_one_way() -> None:
    for file in sources("minidist"):
        module = str(file.relative_to(ROOT / "minidist").with_suffix("")).replace("/", ".")
        if module.endswith("__init__"):
            continue
        assert module in FLOOR_OF, f"give {module} a floor in tests/test_layers.py"
        for name in imports(file):
            below = name.removeprefix("minidist.")
            if name.startswith("minidist.") and below in FLOOR_OF:
                assert FLOOR_OF[below] <= FLOOR_OF[module], f"{module} imports {below}"


def test_no_file_is_named_for_nothing() -> None:
    nothing = {"util.py", "utils.py", "common.py", "helper.py", "helpers.py", "misc.py"}
    assert not [file for file in sources("minidist", "benchmarks", "tests") if file.name in nothing]
