"""The paper's exhibits as commands: they run on a tiny setting, and verdicts follow the figures."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.paper.__main__ import EXHIBITS, AllConfig, write_page
from benchmarks.paper.cells import Row
from benchmarks.paper.chart import figure
from benchmarks.paper.exhibit import FAILS, HOLDS, PARTLY, UNKNOWN, Claim, overall, shown
from benchmarks.paper.settings import DENSE, EXPERTS, PaperConfig
from rudder.cli.flags import from_args
from tests.rudder.gguf_models import ONLY_STATE, ModelFile, write_model

# Its prompts are short, as it reads letter by letter.
SMALL = ModelFile(template=ONLY_STATE)
REPLAYED = ("remote_nodes", "strategies", "communication", "trajectories")
LIVE = (
    *("scaling", "buffer_sizes", "llm_and_classifiers", "modes", "massivegnn", "pass_at_1"),
    *("unseen", "experts"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


def tiny(folder: Path, agent_model: str = "embedded") -> PaperConfig:
    """Two ranks, two epochs of a generated graph, all on this host."""
    return PaperConfig(
        folder=str(folder / "kept"),
        out=str(folder / "out"),
        graphs="synthetic:small",
        ranks="2",
        buffer="0.25",
        epochs=2,
        hidden=8,
        rate="none",
        agent_model=agent_model,
    )


def check_files(name: str, config: PaperConfig) -> dict[str, Any]:
    """Run an exhibit and read what it promised to write."""
    EXHIBITS[name].run(config)
    report: dict[str, Any] = json.loads((Path(config.out) / f"{name}.json").read_text())
    assert report["name"] == name
    assert report["rows"]
    assert report["source"]
    assert report["settings"]["graphs"] == "synthetic:small"
    assert report["verdict"] in (HOLDS, PARTLY, FAILS, UNKNOWN)
    for claim in report["claims"]:
        assert claim["paper"]
        assert claim["here"]
        assert claim["verdict"] in (HOLDS, FAILS, UNKNOWN)
    header = report["table"]["header"]
    assert all(len(line) == len(header) for line in report["table"]["lines"])
    drawn = ElementTree.parse(Path(config.out) / f"{name}.svg").getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    text = shown(report)
    assert report["title"] in text
    assert "paper:" in text
    assert "here:" in text
    return report


@pytest.mark.parametrize("name", REPLAYED)
def test_replayed_exhibits_run(name: str, folder: Path) -> None:
    report = check_files(name, tiny(folder))
    assert all(row["ranks"] == 2 for row in report["rows"] if not row.get("missing"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LIVE)
def test_live_exhibits_run(name: str, folder: Path) -> None:
    given = "embedded"
    if name == "experts":
        given += f",granite3.1-3b={write_model(folder / 'granite.gguf', SMALL)}"
    report = check_files(name, tiny(folder, given))
    timed = [row for row in report["rows"] if "epoch_s" in row]
    assert all(row["epoch_s"] > 0 and row["link"].startswith("none") for row in timed)
    assert timed or name == "unseen"
    if name == "experts":
        rows = {row["variant"]: row for row in report["rows"]}
        assert rows["granite3.1-3b"]["count"] > 0
        assert "give its GGUF" in rows["mixtral-8x7b"]["missing"]
        assert report["claims"][0]["holds"] is not None


def test_what_was_measured_is_used_again(folder: Path) -> None:
    config = tiny(folder)
    first = EXHIBITS["strategies"].run(config)
    kept = {file: file.stat().st_mtime_ns for file in (folder / "kept" / "kept").iterdir()}
    assert EXHIBITS["strategies"].run(config)["rows"] == first["rows"]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def row(variant: str, kind: str, **figures: object) -> Row:
    """A made-up row; figures in place of these."""
    base = {"graph": "g", "ranks": 2, "buffer": 0.25, "variant": variant, "kind": kind}
    base |= {"moved_pct": 50.0, "hits_pct": 50.0, "epoch_s": 1.0, "pass_at_1": 50.0, "link": "none"}
    base |= {"pass_at_1_ci": [45.0, 55.0], "interval": 1.0, "replace_pct": 50.0, "count": 9}
    base |= {"valid_pct": 100.0, "latency_ms_p50": 1.0, "batch": 8, "mode": "async"}
    base |= {"curve": {"places": [0.0, 1.0], "values": [1.0, 2.0]}}
    return base | figures


def agent(**figures: object) -> Row:
    return row("embedded", "agent", **figures)


def fixed(**figures: object) -> Row:
    return row("fixed", "heuristic", **figures)


def mlp(**figures: object) -> Row:
    return row("mlp", "classifier", **figures)


def nodes(new: tuple[float, float], distinct: tuple[float, float]) -> Row:
    ends = {"new_first": new[0], "new_last": new[1]}
    ends |= {"distinct_first": distinct[0], "distinct_last": distinct[1]}
    curves = {name: {"places": [0.0, 1.0], "values": [1.0, 2.0]} for name in ("new", "distinct")}
    return {"graph": "g", "ranks": 4, "minibatches": 8} | ends | curves


def path(variant: str, kind: str, late: float, extra: int, start: float = 10.0) -> Row:
    """A made-up trajectory: its late share of replacements, and rows it replaced on purpose."""
    return row(
        variant,
        kind,
        replace_pct=late,
        early_pct=80.0,
        late_pct=late,
        start_hits=start,
        steady_hits=50.0,
        drift=0.0,
        moved=9,
        replacement_rows=extra,
        decisions=[1],
    )


def still(made: Row) -> Row:
    """The row of a replay, which has no time."""
    return {name: value for name, value in made.items() if name != "epoch_s"}


STRATEGIES = ("single", "infrequent")
# For each exhibit: figures that bear the paper out, and figures that do not.
CASES: dict[str, tuple[Sequence[Row], Sequence[Row]]] = {
    "remote_nodes": (
        [nodes((100.0, 1.0), (100.0, 50.0))],
        [nodes((100.0, 100.0), (100.0, 120.0))],
    ),
    "strategies": (
        [
            *(row(name, "heuristic", hits_pct=40.0, moved_pct=60.0) for name in STRATEGIES),
            fixed(),
            agent(hits_pct=55.0),
        ],
        [
            *(row(name, "heuristic", hits_pct=60.0, moved_pct=40.0) for name in STRATEGIES),
            fixed(),
            agent(hits_pct=45.0),
        ],
    ),
    "scaling": (
        [
            *(row("none", "plain", epoch_s=4.0 / n, ranks=n) for n in (2, 4)),
            *(fixed(epoch_s=3.0 / n, ranks=n) for n in (2, 4)),
            *(agent(epoch_s=2.0 / n, ranks=n, hits_pct=70.0) for n in (2, 4)),
        ],
        [
            *(row("none", "plain", epoch_s=2.0 * n, ranks=n) for n in (2, 4)),
            *(fixed(epoch_s=3.0 * n, ranks=n) for n in (2, 4)),
            *(agent(epoch_s=4.0 * n, ranks=n, hits_pct=30.0) for n in (2, 4)),
        ],
    ),
    "llm_and_classifiers": (
        [
            *(fixed(graph=graph) for graph in "ab"),
            *(agent(graph=graph, epoch_s=0.8, hits_pct=75.0) for graph in "ab"),
            *(mlp(graph=graph, epoch_s=s, hits_pct=75.0) for graph, s in (("a", 0.9), ("b", 0.8))),
        ],
        [
            *(fixed(graph=graph) for graph in "ab"),
            *(agent(graph=graph, epoch_s=s) for graph, s in (("a", 1.5), ("b", 1.2))),
            *(mlp(graph=graph) for graph in "ab"),
        ],
    ),
    "communication": (
        [
            agent(ranks=n, buffer=b, moved_pct=90 - 200 * b - n)
            for n in (2, 8)
            for b in (0.05, 0.25)
        ],
        [
            agent(ranks=n, buffer=b, moved_pct=10 + 200 * b + n)
            for n in (2, 8)
            for b in (0.05, 0.25)
        ],
    ),
    "massivegnn": (
        [row("massivegnn", "heuristic"), agent(moved_pct=45.0, hits_pct=55.0, epoch_s=0.9)],
        [row("massivegnn", "heuristic"), agent(moved_pct=55.0, hits_pct=45.0, epoch_s=1.1)],
    ),
    "buffer_sizes": (
        [
            *(fixed(buffer=b, moved_pct=70.0, epoch_s=20 * b) for b in (0.05, 0.25)),
            *(agent(buffer=b, epoch_s=10 * b, hits_pct=100 * b) for b in (0.05, 0.25)),
        ],
        [
            *(fixed(buffer=b, moved_pct=30.0) for b in (0.05, 0.25)),
            *(agent(buffer=b, epoch_s=2 - b, hits_pct=-100 * b) for b in (0.05, 0.25)),
        ],
    ),
    "modes": (
        [
            agent(pass_at_1=80.0, interval=9.0, replace_pct=30.0),
            agent(mode="sync", epoch_s=2.0, hits_pct=52.0),
            mlp(),
        ],
        [
            agent(pass_at_1=10.0, valid_pct=50.0, replace_pct=90.0),
            agent(mode="sync", epoch_s=0.5, hits_pct=90.0, interval=3.0),
            mlp(),
        ],
    ),
    "pass_at_1": (
        [agent(pass_at_1=80.0), mlp()],
        [agent(pass_at_1=20.0, pass_at_1_ci=[5.0, 95.0]), mlp()],
    ),
    "unseen": (
        [
            *(still(agent(hits_pct=60.0)), agent(epoch_s=0.5)),
            *(still(mlp(hits_pct=0.0)), mlp(epoch_s=0.9)),
            still(row("mlp/F25", "tuned", hits_pct=30.0, latency_ms_p50=2.0)),
            row("none", "plain"),
        ],
        [
            *(still(agent(hits_pct=10.0, pass_at_1=90.0)), agent(epoch_s=1.5)),
            *(still(mlp(hits_pct=40.0)), mlp(epoch_s=1.2)),
            still(row("mlp/F25", "tuned", hits_pct=30.0, latency_ms_p50=0.5)),
            row("none", "plain"),
        ],
    ),
    "trajectories": (
        [path("embedded", "agent", 10.0, 5), path("mlp", "classifier", 95.0, 500)],
        [path("embedded", "agent", 95.0, 500, 90.0), path("mlp", "classifier", 10.0, 5, 90.0)],
    ),
    "experts": (
        [fixed(buffer=0.05), fixed(), agent(pass_at_1=80.0)]
        + [row("granite3.1-3b", "agent", buffer=b, epoch_s=s) for b, s in ((0.05, 0.8), (0.25, 1))],
        [fixed(buffer=0.05), fixed(), agent(pass_at_1=20.0)]
        + [row("granite3.1-3b", "agent", buffer=b, epoch_s=1.5) for b in (0.05, 0.25)],
    ),
}


@pytest.mark.parametrize("name", EXHIBITS)
def test_verdicts_follow_the_figures(name: str) -> None:
    exhibit = EXHIBITS[name]
    for rows, expected in zip(CASES[name], (True, False), strict=True):
        claims = exhibit.judge(rows)
        assert [claim.holds for claim in claims] == [expected] * len(claims), claims
        assert exhibit.report(rows, {})["verdict"] == (HOLDS if expected else FAILS)
        assert exhibit.draw(rows)


@pytest.mark.parametrize("name", EXHIBITS)
def test_nothing_measured_has_no_verdict(name: str) -> None:
    exhibit = EXHIBITS[name]
    rows = [{"graph": "-", "variant": "gemma3-4b", "kind": "agent", "missing": "not run"}]
    claims = exhibit.judge(rows)
    assert [claim.holds for claim in claims] == [None] * len(claims), claims
    assert overall(claims) == UNKNOWN
    assert exhibit.table(rows)[1][0][-1] == "not run"
    ElementTree.fromstring(figure(exhibit.title, exhibit.draw(rows)))


def test_some_claims_hold_in_part() -> None:
    claims = [Claim(paper="a", here="b", holds=holds) for holds in (True, False, None)]
    assert [claim.verdict for claim in claims] == [HOLDS, FAILS, UNKNOWN]
    assert overall(claims) == PARTLY
    assert overall(claims[:1] + claims[2:]) == HOLDS


def test_models_that_were_not_given_are_named() -> None:
    config = PaperConfig(agent_model="embedded,/models/a.gguf,gemma3-4b=/b.gguf")
    found = {variant.name: variant for variant in config.agents()}
    assert config.agent.name == "embedded"
    assert [name for name, one in found.items() if not one.missing] == [
        "embedded",
        "a",
        "gemma3-4b",
    ]
    assert found["gemma3-4b"].steer["agent_model"] == "/b.gguf"
    assert {name for name, one in found.items() if one.missing} == {*DENSE} - {"gemma3-4b"}
    assert all(one.missing for one in config.agents(EXPERTS) if one.name in EXPERTS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--graphs", "nonsense"], r"--graphs nonsense \(unknown\): expected one of"),
        (["--ranks", "2,x"], "--ranks 2,x"),
        (["--ranks", "1"], "--ranks 1: expected 2 or more"),
        (["--buffer", "0"], "--buffer 0: expected more than 0"),
        (["--rate", "fast"], "--rate fast: expected a rate"),
        (["--epochs", "0"], "--epochs 0: expected at least 1"),
        (["--classifier-dir", "/nowhere"], "--classifier-dir /nowhere: expected a folder"),
        (["--agent-model", ""], "--agent-model : expected at least one model"),
    ],
)
def test_nonsense_is_told(words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_args(PaperConfig, words)


def test_the_command_line_says_what_is_wrong_and_exits_with_2() -> None:
    words = [sys.executable, "-m", "benchmarks.paper", "--only", "nonsense"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--only nonsense: expected none, or some of remote_nodes" in done.stderr


def test_the_page_shows_what_is_there_and_what_failed(tmp_path: Path) -> None:
    for name in ("scaling", "modes"):
        rows = CASES[name][1]
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"rows": rows, "settings": {"rate": "x"}})
        )
    text = write_page(tmp_path, {"unseen": "no <graph>"}).read_text()
    assert text.count("<section") == 2
    assert "<svg" in text
    assert FAILS in text
    assert "did not run: no &lt;graph&gt;" in text
    assert "http://" not in text
    assert "https://" not in text
    assert AllConfig(only="none").names == []
