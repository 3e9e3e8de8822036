"""Imports go one way, and each outside system is imported in one place."""

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
    "pymetis": {"minidist/partition/partitioner.py", "benchmarks/partition.py"},
    "ogb": {"minidist/data/ogb.py"},
    "llama_cpp": {"rudder/agent/llama.py"},
    "huggingface_hub": {"rudder/agent/models.py"},
    "jinja2": {"rudder/agent/template.py"},
    "gguf": {"rudder/learn/gguf_writer.py"},
    "sklearn": {"rudder/learn/classifiers.py"},
    "xgboost": {"rudder/deciders/classifier.py", "rudder/learn/classifiers.py"},
    "pytorch_tabnet": {"rudder/deciders/classifier.py", "rudder/learn/classifiers.py"},
    "rudder": {"minidist/steered.py", "minidist/run_config.py", "minidist/run.py"},
    "minidist": {"rudder/learn/graph_families.py"},
}
# What the rules below hold for; an entry of DOORS that is one of them speaks of the others.
PACKAGES = ("rudder.cli", "rudder", "minidist")
# From the ground up; a module imports only modules of floors below its own, or of its own.
FLOORS = (
    {"config", "summary", "splitmix", "events", "draw", "host", "bounds", "memory", "manifest"}
    | {"book", "graph", "launch"},
    {"transport.base"},
    {"transport.failure", "transport.local", "transport.piece", "transport.pool", "group"},
    {"heartbeat", "rendezvous", "transport.server"},
    {"transport.mpi", "transport.collective", "torch_group"},
    {"world"},
    {"threads"},
    {"rows", "shard", "writer", "blockmodel", "edgelist", "adjacency", "node2vec", "intake"},
    {
        "row_server",
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
    {"loader", "models", "gradients", "prefetching"},
    {"evaluate", "checkpoint", "meter", "steered"},
    {"trainer", "rehearse", "run_config"},
    {"job"},
    {"train"},
)
RUDDER_FLOORS = (
    {"snapshot", "config", "judge", "gguf_file", "buffer", "agent.gguf_header"}
    | {"agent.models", "agent.watch", "agent.sampler", "deciders.choosers"},
    {"policies.base", "rows", "trace", "ledger", "belady", "policies.choose", "deciders.base"}
    | {"agent.metrics", "agent.grammar", "agent.prompt"},
    {"steering", "recorder", "policies.score", "policies.demand", "policies.lookahead"}
    | {"policies.static", "agent.context", "deciders.fixed", "deciding", "deciders.head"},
    {"source", "play", "worker", "policies.massivegnn", "agent.state", "deciders.inputs"},
    {"agent.template", "deciders.classifier"},
    {"agent.llama"},
    {"deciders.llm"},
    {"presets"},
    {"prefetcher", "replay", "examples", "trainers"},
    {"lessons"},
    {"fit"},
    {"distilled.vocabulary", "distilled.transformer", "distilled.families"},
    {"distilled.teaching"},
    {"distilled.exam"},
    {"distill", "pages", "report"},
)
FLOOR_OF = {
    f"{package}.{name}": number
    for package, floors in (("minidist", FLOORS), ("rudder", RUDDER_FLOORS))
    for number, names in enumerate(floors)
    for name in names
}


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


def module_of(file: Path) -> str:
    """``minidist.comm.transport.mpi``; the pages of the report are one module."""
    name = str(file.relative_to(ROOT).with_suffix("")).replace("/", ".")
    return "rudder.pages" if name.startswith("rudder.pages.") else name


@pytest.mark.parametrize("system", DOORS)
def test_outside_systems_have_one_door(system: str) -> None:
    users = {
        str(file.relative_to(ROOT))
        for file in sources(*PACKAGES)
        if not str(file.relative_to(ROOT)).startswith(f"{system}/")
        if any(name.split(".")[0] == system for name in imports(file))
    }
    assert users <= DOORS[system]


@pytest.mark.parametrize("package", ["minidist", "rudder"])
def test_imports_go_one_way(package: str) -> None:
    for file in sources(package):
        module = module_of(file)
        if module.endswith("__init__"):
            continue
        assert module in FLOOR_OF, f"give {module} a floor in tests/test_layers.py"
        for name in imports(file):
            below = "rudder.pages" if name.startswith("rudder.pages") else name
            if below.startswith(f"{package}.") and below in FLOOR_OF:
                assert FLOOR_OF[below] <= FLOOR_OF[module], f"{module} imports {below}"


def test_commands_answer_without_pytorch() -> None:
    """It takes seconds to import, which ``--help`` and starting ranks need not wait for."""
    commands = "minidist.train, minidist.partition.partitioner, rudder.replay.grid, rudder.fit, rudder.report"
    program = f"import sys, {commands}; print(*{{'torch', 'torch_geometric'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_public_names_are_found() -> None:
    assert {name for name in minidist.__all__ if getattr(minidist, name)} <= set(dir(minidist))
    with pytest.raises(AttributeError, match="no attribute 'Lader'"):
        minidist.Lader  # type: ignore[attr-defined]  # noqa: B018


def test_what_command_lines_share_imports_nothing_of_ours() -> None:
    for file in sources("rudder.cli"):
        assert not {name.split(".")[0] for name in imports(file)} & {"minidist", "rudder"}


def test_no_file_is_named_for_nothing() -> None:
    nothing = {"util.py", "utils.py", "common.py", "helper.py", "helpers.py", "misc.py"}
    assert not [file for file in sources(*PACKAGES, "benchmarks", "tests") if file.name in nothing]
