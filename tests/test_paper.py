"""The paper's exhibits: a tiny setting runs really, and verdicts follow the figures."""

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.charts import figure
from benchmarks.command import Row
from benchmarks.paper.claims import FAILS, HOLDS, PARTLY, UNKNOWN, judge, verdict
from benchmarks.paper.exhibits import EXHIBITS, report, run
from benchmarks.paper.settings import DENSE, EXPERTS, PaperConfig
from tests.rudder.gguf_models import ONLY_STATE, write_model

REPLAYED = ("remote_nodes", "strategies", "communication", "trajectories")
LIVE = [pytest.param(one, marks=pytest.mark.slow) for one in EXHIBITS if one not in REPLAYED]
KINDS = {"none": "plain", "embedded": "agent", "mlp": "classifier", "F25": "tuned", "moe": "expert"}
# Figures of a world in which all holds that the paper says, and of one in which nothing does.
GOOD = (
    "none new_change=-99 distinct_change=-50; fixed epoch_s=.8; single|infrequent moved_pct=60 "
    "hits_pct=30; massivegnn epoch_s=.6 moved_pct=45 hits_pct=65; embedded epoch_s=.5 moved_pct=40 "
    "hits_pct=70 pass_at_1=53 replace_pct=30 interval=9 rise=40 later=-70 replacement_rows=5; "
    "embedded mode=sync ranks=2 buffer=.25 epoch_s=1 hits_pct=72; mlp epoch_s=.6 moved_pct=40 "
    "hits_pct=60 replace_pct=95 rise=40 replacement_rows=500; F25 hits_pct=65 latency_ms_p50=2; "
    "moe pass_at_1=40 buffer=.05 epoch_s=.7; moe pass_at_1=40 buffer=.25 epoch_s=.8"
)
BAD = (
    "none new_change=0 distinct_change=9; fixed epoch_s=1.2; single|infrequent moved_pct=40 "
    "hits_pct=70; massivegnn epoch_s=1.4 moved_pct=55 hits_pct=35; embedded epoch_s=1.5 "
    "moved_pct=60 hits_pct=30 pass_at_1=20 ci_width=90 valid_pct=50 replace_pct=90 rise=-40 "
    "later=15 drift=9 replacement_rows=500; embedded mode=sync ranks=2 buffer=.25 interval=3 "
    "hits_pct=90; mlp epoch_s=1.4 moved_pct=60 hits_pct=40 replace_pct=10 rise=-40 drift=9 "
    "replacement_rows=5; F25 hits_pct=35 latency_ms_p50=.5; moe pass_at_1=60 buffer=.05 "
    "epoch_s=1.3; moe pass_at_1=60 buffer=.25 epoch_s=1"
)


def world(text: str) -> list[Row]:
    """Rows with 2 and 8 ranks and two buffers, unless told otherwise."""
    found, sign = [], 1 if text == GOOD else -1
    for names, *words in (each.split() for each in text.split("; ")):
        pairs = dict(word.split("=") for word in words)
        told = {key: value if key == "mode" else float(value) for key, value in pairs.items()}
        for name, ranks, buffer in product(names.split("|"), (2, 8), (0.05, 0.25)):
            row: Row = {"graph": "g", "ranks": ranks, "buffer": buffer, "batch": 8, "mode": "async"}
            row |= {"variant": name, "kind": KINDS.get(name, "heuristic"), "live": 0, "drift": 0}
            row |= dict.fromkeys(("moved_pct", "hits_pct", "replace_pct", "pass_at_1"), 50.0)
            row |= {"epoch_s": 1.0, "ci_width": 10.0, "interval": 1.0, "valid_pct": 100.0}
            row |= {"curves": {name: {"places": [0.0, 1.0], "values": [1.0, 2.0]}}}
            row |= {"latency_ms_p50": 1.0, "pass_at_1_ci": [45.0, 55.0], **told}
            if (row["ranks"], row["buffer"]) == (ranks, buffer):
                many, large = sign * (ranks > 2), sign * (buffer > 0.1)
                varies = many * ({"mlp": 1, "embedded": -1}.get(name) == sign)
                row["epoch_s"] *= 1.8 ** (large - many) * 1.05**varies
                row["moved_pct"] *= 1.1 ** (-large - many)
                row["hits_pct"] *= 1.1**large
                found.append(row)
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PaperConfig:
    """Two ranks, two epochs of a generated graph, all on this host."""
    folder = tmp_path_factory.mktemp("paper")
    config = PaperConfig(folder=str(folder / "kept"), out=str(folder / "out"), rate="none")
    config = replace(config, graphs="synthetic:small", ranks=(2,), buffer=(0.25,))
    return replace(config, epochs=2, hidden=8)


def measured(name: str, config: PaperConfig) -> dict[str, Any]:
    """Run an exhibit, check what every exhibit promises, and return its JSON."""
    assert run(replace(config, exhibits=name)) == 0
    found: dict[str, Any] = json.loads((Path(config.out) / f"{name}.json").read_text())
    assert found["settings"]["graphs"] == "synthetic:small"
    assert all(len(line) == len(found["header"]) for line in found["lines"])
    page = (Path(config.out) / "index.html").read_text()
    assert f'<section id="{name}">' in page
    assert (Path(config.out) / f"{name}.svg").read_text() in page
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*REPLAYED, *LIVE])
def test_exhibits_run(name: str, tiny: PaperConfig, tmp_path: Path) -> None:
    if name == "experts":
        # Its prompts are short, as it reads letter by letter.
        model = write_model(tmp_path / "granite.gguf", ONLY_STATE)
        tiny = replace(tiny, agent_model=f"embedded,granite3.1-3b={model}")
    rows = {row["variant"]: row for row in measured(name, tiny)["rows"]}
    timed = [row for row in rows.values() if "epoch_s" in row]
    assert all(row["epoch_s"] > 0 and row["link"].startswith("none") for row in timed)
    assert bool(timed) == (name not in (*REPLAYED, "unseen"))
    if name == "experts":
        assert rows["granite3.1-3b"]["count"] > 0
        assert "give its GGUF" in rows["mixtral-8x7b"]["missing"]


def test_an_exhibit_that_cannot_run_stops_no_other(tiny: PaperConfig, tmp_path: Path) -> None:
    config = replace(tiny, out=str(tmp_path), agent_model="/nowhere.gguf")
    assert run(replace(config, exhibits="strategies,remote_nodes")) == 1
    page = (tmp_path / "index.html").read_text()
    assert re.search("<td>strategies</td>.*did not run: .*/nowhere.gguf", page)
    assert '<section id="remote_nodes">' in page


def test_what_was_measured_is_used_again_while_settings_are_the_same(tiny: PaperConfig) -> None:
    def kept() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in (Path(tiny.folder) / "kept").iterdir()}

    first, before = measured("strategies", tiny)["rows"], kept()
    assert measured("strategies", replace(tiny, hidden=16))["rows"] == first  # not of replays
    assert kept() == before
    assert measured("strategies", replace(tiny, buffer=(0.1,)))["rows"] != first
    assert before.items() < kept().items()


@pytest.mark.parametrize("name", EXHIBITS)
@pytest.mark.parametrize("text", [GOOD, BAD], ids=["good", "bad"])
def test_verdicts_follow_the_figures(name: str, text: str) -> None:
    found = report(name, world(text), {})
    assert {claim["holds"] for claim in found["claims"]} == {text == GOOD}, found["claims"]
    assert found["verdict"] == (HOLDS if text == GOOD else FAILS)
    assert EXHIBITS[name].draw(found["rows"])


@pytest.mark.parametrize("name", EXHIBITS)
def test_nothing_measured_has_no_verdict(name: str) -> None:
    rows = [{"graph": "-", "variant": "gemma3-4b", "kind": "agent", "missing": "not run"}]
    found = report(name, rows, {})
    assert (found["verdict"], found["lines"][0][-1]) == (UNKNOWN, "not run")
    assert figure(found["title"], EXHIBITS[name].draw(rows)).startswith("<svg")


def test_checks_say_what_was_measured_and_some_claims_hold_in_part() -> None:
    figures = (("fixed", 2, 1.0), ("agent", 2, 0.9), ("fixed", 4, 1.0), ("agent", 4, 1.1))
    rows = [{"variant": who, "ranks": ranks, "epoch_s": time} for who, ranks, time in figures]
    text, holds = judge("epoch_s agent/fixed < -5", rows)
    told = "agent against fixed: median +0.0% (-10.0 to +10.0) over 2 cells; below -5 in 1 of 2"
    assert (text, holds) == (f"epoch s, {told}", False)
    told = "epoch s, agent against fixed: +0.1 points in 1 cell; above 0 in 1 of 1 (max)"
    assert judge("epoch_s ranks=max agent-fixed max > 0", rows) == (told, True)
    assert judge("epoch_s mlp/fixed < 0", rows)[1] is None
    assert verdict([True, False, None]) == PARTLY


def test_models_that_were_not_given_are_named() -> None:
    config = PaperConfig(agent_model="embedded,/models/a.gguf,gemma3-4b=/b.gguf")
    found = {variant.name: variant for variant in config.agents()}
    given = {name for name, one in found.items() if not one.missing}
    assert given == {"embedded", "a", "gemma3-4b"}
    assert found["gemma3-4b"].steer["agent_model"] == "/b.gguf"
    assert {*found} == {*DENSE} | given
    assert all(one.missing for one in config.agents(EXPERTS) if one.name in EXPERTS)


@pytest.mark.parametrize("name", EXHIBITS)
def test_quick_settings_are_smaller_and_what_is_given_stays(name: str) -> None:
    full, quick = (EXHIBITS[name].settle(PaperConfig(quick=quick)) for quick in (False, True))
    assert quick.graphs == str(full.graphs).split(",")[0]
    assert max(map(len, (quick.ranks, quick.buffer, quick.classifiers()))) <= 2
    assert (quick.epochs, quick.rate, full.rate) == (4, "200mbit", "50mbit")
    given = replace(quick, graphs="synthetic:medium", ranks=(3, 5, 7), rate="none", epochs=9)
    assert EXHIBITS[name].settle(given) == given


def test_the_page_is_made_anew(tmp_path: Path) -> None:
    rows = [*world(BAD), {"variant": "<b>", "missing": "not run"}]
    settings = {"rate": "1gbit", "quick": True, "ranks": [2, 4], "epochs": None}
    (tmp_path / "scaling.json").write_text(json.dumps({"rows": rows, "settings": settings}))
    config = PaperConfig(out=str(tmp_path), exhibits="none")
    assert run(config) == 0
    page = (tmp_path / "index.html").read_text()
    for text in (FAILS, "&lt;b&gt;", "--rate 1gbit --quick --ranks 2,4<", "Measured with --quick"):
        assert text in page
    assert not re.search(r"(src|href)=.http", page)
    (tmp_path / "strategies.json").write_text('{"rows": [{"graph": "g"}], "settings": {}}')
    with pytest.raises(
        ValueError, match=r"strategies.json has no 'ranks', so it is of another ver"
    ):
        run(config)
