"""The report of runs: it says what the runs say, of any folder, in a browser, and runs nothing."""

import html
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.report.charts import COLOURS, draw
from minidist.report.numerals import seconds, short
from minidist.report.page import write_report
from minidist.report.run_folder import read_run
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from rudder.cli.flags import from_args
from tests.run_folders import TRENDS, RunFolder

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
# Asks the page in the frame what it is, once it is laid out.
PROBE = """
const frame = document.getElementById("frame");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  if (!page.querySelector("main")) return;  // The frame is still empty.
  const all = (name) => [...page.querySelectorAll(name)], box = (e) => e.getBoundingClientRect();
  const style = (name) => view.getComputedStyle(page.querySelector(name));
  all("details").forEach((fold) => { fold.open = true; });
  document.getElementById("answer").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    charts: all("figure svg").filter((svg) => box(svg).width > 300).length,
    small: all("figure text").filter((text) => box(text).height < 12).length,
    hinted: all(".scroll").filter((table) => table.scrollWidth > table.clientWidth
      && box(table.previousElementSibling).height > 10).length,
    colours: [style("body").backgroundColor, style("body").color, style("figure text").fill,
      style("figure path[style*=blue]").stroke],
  });
});
frame.srcdoc = document.getElementById("page").content.textContent;
"""


def text_of(page: str) -> str:
    """A page's words, without its tags and styles."""
    bare = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", bare)))


def report(tmp_path: Path, *folders: Path, grid: Path | None = None) -> str:
    write_report(folders, tmp_path / "report.html", grid=grid)
    return (tmp_path / "report.html").read_text()


def write_grid(path: Path) -> Path:
    """Two policies at two buffers, as replay writes them."""
    same = {"trace": "run", "rows_none": 1000, "belady_rows": 400, "capacity_over_batch": 0.5}
    fixed = {"prefetch": "fixed", "decider": "always", "rows_moved": 640, "hits_pct": 50.0}
    other = {"prefetch": "lookahead", "rows_moved": 420, "replacement_rows": 10}
    rows = [same | row | {"buffer": size} for size in (0.1, 0.25) for row in (fixed, other)]
    path.write_text(json.dumps({"config": {}, "grid": rows}))
    return path


def test_figures_are_the_run_s(tmp_path: Path) -> None:
    page = report(tmp_path, RunFolder().write(tmp_path / "run"))
    figures = dict(re.findall(r'<dt>([^<]*)</dt><dd class="figure">([^<]*)</dd>', page))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows, moved = summary["rows"], summary["rows"]["misses"] + summary["rows"]["replacements"]
    wanted = {"Test accuracy": "93.8%", "Epoch time": "700 ms", "Rows moved": short(moved)}
    wanted["%-Hits"] = f"{100 * rows['hits'] / rows['remote']:.1f}%"
    wanted |= {"Pass@1": f"{summary['decisions']['pass_at_1']:.1f}%", "Interval r": "3.0"}
    assert figures.items() >= wanted.items()
    assert f"{100 - 100 * moved / rows['remote']:.1f}% fewer" in text_of(page)
    assert "95% interval 20.0 to 50.0%" in text_of(page)
    assert "validation 95.0%, after epoch 4" in text_of(page)
    # The matrix counts every decision, and its diagonal is Pass@1.
    cells = [int(count) for count in re.findall(r'<td class="[^>]*>(\d+)<small>', page)[:9]]
    made = read_run(tmp_path / "run").decisions
    pairs = Counter((each.expect_hits, each.hits) for each in made)
    assert cells == [pairs[expected, seen] for expected in TRENDS for seen in TRENDS]
    assert figures["Pass@1"] == f"{100 * sum(cells[::4]) / len(made):.1f}%"


def test_a_real_run_reads_the_same_with_and_without_its_summary(tmp_path: Path) -> None:
    out, trace = tmp_path / "run", tmp_path / "trace"
    words = "--dataset synthetic:tiny --transport local --method random --fanout 5,5 --hidden 16 "
    words += "--batch-size 20 --epochs 3 --eval-every 1 --prefetch rudder --decider random:0.4"
    flags = [*words.split(), "--out", str(out), "--trace", str(trace)]
    train_in_threads(from_args(RunConfig, flags), quiet=True)
    # Rank 0 may write the page before the others have said that they are done.
    other = out / "events-rank1.jsonl"
    rest, _, last = other.read_text().rstrip().rpartition("\n")
    assert '"finished"' in last
    other.write_text(rest)
    run = read_run(out)
    assert run.finished
    write_report([out], tmp_path / "page.html", trace=trace)
    page = (tmp_path / "page.html").read_text()
    assert "(this run)" in page
    assert 'class="notice"' not in page
    (out / "summary.json").unlink()
    cut = read_run(out)
    assert not cut.finished
    for name in ("epoch_time_s", "wait_s", "train_s", "test_accuracy", "best_epoch"):
        assert cut.figure(name) == pytest.approx(run.figure(name))
    assert cut.rows == run.rows
    for name in ("pass_at_1", "interval", "valid_pct"):
        assert cut.figure(name, "decisions") == pytest.approx(run.figure(name, "decisions"))
    assert "did not finish" in text_of(report(tmp_path, out))


def test_a_killed_run_is_shown_as_far_as_every_rank_came(tmp_path: Path) -> None:
    folder = RunFolder(finished=False).write(tmp_path / "run")
    log = folder / "events-rank1.jsonl"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    run = read_run(folder)
    steps = [line for line in log.read_text().splitlines()[:-1] if '"event": "step"' in line]
    assert len(run.minibatches.number) == len(steps)
    assert run.rows["remote"] == run.minibatches.rows["remote"].sum()
    assert "could not be read: 1." in text_of(report(tmp_path, folder))
    log.write_text("")
    assert "No minibatch was written down by every rank" in text_of(report(tmp_path, folder))


def test_of_a_folder_used_again_the_last_run_counts(tmp_path: Path) -> None:
    RunFolder(shape=(2, 6, 10)).write(tmp_path / "run")
    RunFolder(shape=(2, 2, 10), finished=False).write(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.finished, len(run.minibatches.number), run.config["epochs"]) == (False, 20, 2)
    RunFolder(config={"resume": "run"}).write(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.finished, len(run.minibatches.number)) == (True, 40)
    assert "This run was resumed" in report(tmp_path, tmp_path / "run")


def test_nothing_that_a_run_says_runs_in_the_page_or_asks_a_network(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>', "</style><img src=x onerror=alert(1)>", "half \ud83d"
    config = {"dataset": "<i>name</i>", "model": "\"'><svg onload=x>"}
    folder = RunFolder(reasons=evil, config=config).write(tmp_path / "<b>run</b>")
    grid = write_grid(tmp_path / "grid.json")
    page = report(tmp_path, folder, RunFolder().write(tmp_path / "b"), grid=grid)
    assert not re.findall(r"<script|<img|<svg onload|<i>name|<b>run|onerror=alert\(1\)>", page)
    assert evil[0] in text_of(page)
    assert "default-src 'none'" in page
    assert not re.findall(r"https?:|url\(|@import|\bsrc=|`", page.replace(html.escape(evil[1]), ""))


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (RunFolder(prefetch="none", decisions=False), "There was no buffer (--prefetch none)"),
        (RunFolder(prefetch="lookahead:4", decisions=False), "follow by themselves"),
        (RunFolder(), "No replay was given"),
        (RunFolder(reasons=("",)), "gives no reasons"),
        (RunFolder(stated=False), "stated no expectation and stand here with what they imply"),
        (RunFolder(shape=(1, 1, 1), decisions=False), "No decision was carried out"),
        (RunFolder(scores={"train": 0.9, "val": None, "test": None}), "from 2.000 to 0.050."),
        (RunFolder(scores={"train": 0.9, "val": 0.5, "test": None}), "no test score"),
    ],
)
def test_what_a_run_lacks_is_explained(tmp_path: Path, run: RunFolder, reason: str) -> None:
    page = text_of(report(tmp_path, run.write(tmp_path / "run")))
    assert reason in page
    assert not re.search(r"\bnan\b", page)


def test_runs_side_by_side_on_the_same_graph_only(tmp_path: Path) -> None:
    runs = [RunFolder(), RunFolder(prefetch="none", decisions=False), RunFolder(prefetch="fixed")]
    folders = [run.write(tmp_path / f"run{number}") for number, run in enumerate(runs)]
    page = report(tmp_path, *folders, grid=write_grid(tmp_path / "grid.json"))
    assert "same losses, bit for bit" in text_of(page)
    assert '<a href="#run-3">run2</a>' in page
    assert '<section id="run-3">' in page
    assert page.count('<details class="run" open>') == 1
    assert "1.60×" in page
    assert "lookahead moved the fewest rows, 1.05× Belady's bound" in text_of(page)
    for name, other in (("quick", {"epoch_time_s": 0.1}), ("slow", {"losses_sha256": "1"})):
        folders.append(RunFolder(summary={"dataset": "b", **other}).write(tmp_path / name))
    page = text_of(report(tmp_path, *folders))
    assert "Runs on synthetic:tiny All runs All runs have the same losses, bit for bit" in page
    assert "run0 has the shortest epochs, 700 ms" in page
    assert "Runs on b All runs The losses differ between runs: 2 different courses" in page
    assert "quick has the shortest epochs, 100 ms" in page


def test_thousands_of_minibatches_stay_a_small_page(tmp_path: Path) -> None:
    page = report(tmp_path, RunFolder(shape=(1, 200, 40)).write(tmp_path / "run"))
    assert len(page) < 400_000
    losses = 2.0 / np.arange(1, 8001).reshape(160, 50)
    line = draw(read_run(tmp_path / "run"))["loss"].legend[0]
    assert line.band is not None
    assert np.allclose(line.values, losses.mean(axis=1))
    assert np.allclose(line.band, (losses.min(axis=1), losses.max(axis=1)))
    # What is drawn has the colours of the light scheme, by name.
    assert all(f"--{name}: {colour};" in page for name, colour in COLOURS.items())
    assert "8,000 minibatches are drawn as 160 points" in page
    assert "200 epochs as 60 columns" in page
    assert "2,627 decisions in between not shown" in page


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["empty"], "empty: no run there"),
        (["broken"], "summary.json: cannot be read as a run's summary"),
        (["other"], "not the summary of a minidist.train run"),
        (["run", "--grid", "nowhere.json"], "--grid nowhere.json: cannot be read"),
        (["run", "--grid", "run/summary.json"], "--grid run/summary.json: no grid in it"),
        (["run", "--trace", "empty"], "empty: no trace there"),
        (["run", "--out", "empty"], "--out empty: a folder"),
        ([], "required: runs"),
    ],
)
def test_bad_input_leaves_the_old_page(tmp_path: Path, words: list[str], error: str) -> None:
    RunFolder(shape=(1, 1, 4)).write(tmp_path / "run")
    for name in ("empty", "broken", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "summary.json").write_text('{"rows": ')
    (tmp_path / "other" / "summary.json").write_text("[]")
    (tmp_path / "report.html").write_text("old")
    command = [sys.executable, "-m", "rudder.report", *words]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert re.fullmatch(f"error: .*{re.escape(error)}.*\n", ran.stderr)
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize(
    "summary",
    [
        {"world_size": "2"},
        {"num_edges": [3]},
        {"dataset": 7},
        {"rows": {"remote": "x"}},
        {"buffer": [1]},
        {"buffer": {"capacity": ["x"]}},
        {"decisions": "llm"},
        {"decisions": {"decider": "llm", "pass_at_1_ci": [1.0]}},
        {"config": {"epochs": "4", "prefetch": "none"}},
        {"steps_per_epoch": 10**30},
        {"policies": 3},
    ],
)
def test_a_summary_of_wrong_types_is_refused(tmp_path: Path, summary: dict[str, Any]) -> None:
    folder = RunFolder(shape=(1, 1, 4)).write(tmp_path / "run")
    told = json.loads((folder / "summary.json").read_text()) | summary
    (folder / "summary.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"summary\.json: .*expected [a-z0-9]+") as raised:
        read_run(folder)
    assert "\n" not in str(raised.value)


def test_events_of_wrong_types_are_counted(tmp_path: Path) -> None:
    folder = RunFolder(shape=(1, 1, 4)).write(tmp_path / "run")
    step: dict[str, Any] = {"event": "step", "epoch": 10**30, "step": 0, "loss": 1.0}
    lines = [[1], None, {"event": "started", "config": {"epochs": "x"}}, {**step, "rows": {}}]
    with (folder / "events-rank0.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.write("[" * 100_000 + "\n")
    assert "could not be read: 5." in text_of(report(tmp_path, folder))


def test_help_waits_for_no_library() -> None:
    program = "import sys, minidist.report.__main__, rudder.report; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not {"torch", "numba", "numpy", "matplotlib", "jinja2"} & {*ran.stdout.decode().split()}


def test_numerals() -> None:
    times = map(seconds, (1250.0, 1.234, 0.9999, 0.0123, 4.7e-4, 0.0, None))
    assert " ".join(times) == "1,250 s 1.23 s 1 s 12.3 ms 470 µs 0 s –"
    counts = map(short, (999, 999_600, 831_013, 1.25e6, float("nan")))
    assert " ".join(counts) == "999 1M 831k 1.25M –"


def probe(page: str, folder: Path, dark: bool = False) -> dict[str, Any]:
    """Lay the page out as wide as a phone: what ``PROBE`` found, and the ``console``."""
    assert BROWSER is not None
    asking = folder / "probe.html"
    asking.write_text(
        f'<!doctype html><meta charset="utf-8"><pre id="answer"></pre>'
        f'<iframe id="frame" style="width:390px;height:800px;border:0"></iframe>'
        f'<template id="page">{html.escape(page)}</template><script>{PROBE}</script>'
    )
    flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --enable-logging=stderr"
    flags += f" --dump-dom --virtual-time-budget=4000 --user-data-dir={folder / 'profile'}"
    flags += f" --window-size=1400,900 --blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [BROWSER, *flags.split(), asking.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    answer = re.search(r'<pre id="answer">(.+?)</pre>', ran.stdout, re.DOTALL)
    assert answer is not None, f"the page did not load: {ran.stdout[-500:]} {ran.stderr[-2000:]}"
    console = [line for line in ran.stderr.splitlines() if ":CONSOLE" in line]
    return {**json.loads(html.unescape(answer[1])), "console": console}


@pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium-headless-shell")
def test_a_browser_draws_it_on_a_phone_and_in_the_dark(tmp_path: Path) -> None:
    long = "a-name-that-nobody-can-break-" * 4
    runs = RunFolder(reasons=(long, "short"), config={"trace": f"/{long}"}), RunFolder(stated=False)
    folders = [run.write(tmp_path / f"{long}{number}") for number, run in enumerate(runs)]
    page = report(tmp_path, *folders, grid=write_grid(tmp_path / "grid.json"))
    light, dark = probe(page, tmp_path), probe(page, tmp_path, dark=True)
    colours = zip(light.pop("colours"), dark.pop("colours"), strict=True)
    assert all(in_light != in_dark for in_light, in_dark in colours)
    # The tables reach beyond the screen; they scroll in their boxes, and say so.
    assert light == dark == {"console": [], "width": 390, "charts": 12, "small": 0, "hinted": 3}
    planted = '<div style="width:700px">wide</div><img src="https://example.org/a.png"><footer>'
    broken = probe(page.replace("<footer>", planted), tmp_path)
    assert broken["width"] > 390
    assert any("Content Security Policy" in line for line in broken["console"])
