"""The page of runs: what it says is what the runs say, of any folder, and nothing runs in it."""

import json
import re
import subprocess
import sys
from collections import Counter
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from rudder.pages.buckets import Buckets
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import brief_seconds, seconds, short, ticks
from rudder.pages.runs import read_run
from rudder.report import write_report
from tests.rudder.run_folders import RunFolder


def text_of(page: str) -> str:
    """A page's words, without its tags, styles and scripts."""
    bare = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", " ", bare))


def report(tmp_path: Path, *folders: Path, grid: Path | None = None) -> str:
    write_report(folders, tmp_path / "report.html", grid=grid)
    return (tmp_path / "report.html").read_text()


def write_grid(path: Path) -> Path:
    """Two policies at two buffers, as replay writes them."""
    rows = [
        {
            "trace": "run",
            "prefetch": name,
            "decider": decider,
            "buffer": buffer,
            "rows_moved": moved,
            "rows_none": 1000,
            "belady_rows": 400,
            "hits_pct": 50.0,
            "replacement_rows": 10,
            "capacity_over_batch": 0.5,
            "decisions": None,
        }
        for buffer in (0.1, 0.25)
        for name, decider, moved in (("fixed", "always", 640), ("lookahead", None, 420))
    ]
    path.write_text(json.dumps({"config": {}, "grid": rows}))
    return path


def test_big_figures_are_the_summary_s(tmp_path: Path) -> None:
    page = report(tmp_path, RunFolder().write(tmp_path / "run"))
    figures = dict(
        re.findall(r'<dt>([^<]*)</dt><dd class="figure">([^<]*)</dd>', page.split("<main>")[1])
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows, decided = summary["rows"], summary["decisions"]
    moved = rows["misses"] + rows["replacements"]
    assert figures["Test accuracy"] == "93.8%"
    assert figures["Epoch time"] == "700 ms"
    assert figures["%-Hits"] == f"{100 * rows['hits'] / rows['remote']:.1f}%"
    assert figures["Rows moved"] == short(moved)
    assert f"{100 - 100 * moved / rows['remote']:.1f}% fewer" in text_of(page)
    assert figures["Pass@1"] == f"{decided['pass_at_1']:.1f}%"
    assert "20.0 to 50.0%" in text_of(page)
    assert figures["Interval r"] == "3.0"


def test_matrix_counts_every_decision_and_its_diagonal_is_pass_at_1(tmp_path: Path) -> None:
    run = read_run(RunFolder().write(tmp_path / "run"))
    page = report(tmp_path, tmp_path / "run")
    matrix = re.findall(r'<table class="matrix">(.*?)</table>', page)[0]
    cells = [int(count) for count in re.findall(r"<td class=[^>]*>(\d+)<small>", matrix)]
    pairs = Counter((made.expect_hits, made.hits) for made in run.decisions)
    order = ("increase", "stagnant", "decrease")
    assert cells == [pairs[expected, seen] for expected in order for seen in order]
    right = sum(int(count) for count in re.findall(r'class="right"[^>]*>(\d+)<', matrix))
    assert 100 * right / len(run.decisions) == pytest.approx(run.decided("pass_at_1"))


def test_unstated_expectations_are_what_decisions_imply(tmp_path: Path) -> None:
    page = text_of(report(tmp_path, RunFolder(stated=False).write(tmp_path / "run")))
    assert "stated no expectation" in page
    assert "(implied)" in page
    assert "Expected and seen: rows moved" not in page


def test_a_real_run_reads_the_same_with_and_without_its_summary(tmp_path: Path) -> None:
    config = RunConfig(
        dataset="synthetic:tiny",
        prefetch="rudder",
        decider="random:0.4",
        transport="local",
        method="random",
        fanout=(5, 5),
        hidden=16,
        batch_size=20,
        epochs=3,
        eval_every=1,
        out=str(tmp_path / "run"),
        trace=str(tmp_path / "trace"),
    )
    train_in_threads(config)
    # Rank 0 may write the page before the others have said that they are done.
    other = tmp_path / "run" / "events-rank1.jsonl"
    lines = other.read_text().splitlines(keepends=True)
    assert '"finished"' in lines[-1]
    other.write_text("".join(lines[:-1]))
    run = read_run(tmp_path / "run")
    assert run.finished
    assert not run.notes
    write_report([tmp_path / "run"], tmp_path / "page.html", trace=tmp_path / "trace")
    assert "(this run)" in (tmp_path / "page.html").read_text()
    (tmp_path / "run" / "summary.json").unlink()
    cut = read_run(tmp_path / "run")
    assert not cut.finished
    for name in ("epoch_time_s", "wait_s", "train_s", "test_accuracy", "best_epoch"):
        assert cut.figure(name) == pytest.approx(run.figure(name))
    assert cut.rows == run.rows
    assert cut.summary["losses"] == pytest.approx(run.summary["losses"])
    for name in ("pass_at_1", "interval", "valid_pct"):
        assert cut.decided(name) == pytest.approx(run.decided(name))
    assert "did not finish" in text_of(report(tmp_path, tmp_path / "run"))


def test_a_killed_run_is_shown_as_far_as_every_rank_came(tmp_path: Path) -> None:
    folder = RunFolder(finished=False).write(tmp_path / "run")
    log = folder / "events-rank1.jsonl"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    run = read_run(folder)
    steps = [line for line in log.read_text().splitlines()[:-1] if '"step"' in line]
    assert len(run.minibatches) == len(steps)
    assert run.rows["remote"] == run.minibatches.remote.sum()
    assert any("could not be read: 1." in note for note in run.notes)
    report(tmp_path, folder)
    (folder / "events-rank1.jsonl").write_text("")
    assert "No minibatch was written down by every rank" in text_of(report(tmp_path, folder))


def test_of_a_folder_used_again_the_last_run_counts(tmp_path: Path) -> None:
    RunFolder(epochs=6, seed=3).write(tmp_path / "run")
    RunFolder(epochs=2, finished=False).write(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert not run.finished
    assert len(run.minibatches) == 20
    assert run.config["epochs"] == 2
    resumed = RunFolder(epochs=4, config={"resume": "run"})
    resumed.write(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.finished
    assert len(run.minibatches) == 40
    assert any("resumed" in note for note in run.notes)


def test_nothing_that_a_run_says_runs_in_the_page(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>', "</style><img src=x onerror=alert(1)>", "half \ud83d"
    config = {"dataset": "<i>name</i>", "model": "\"'><svg onload=x>"}
    folder = RunFolder(reasons=evil, config=config).write(tmp_path / "<b>run</b>")
    page = report(tmp_path, folder, RunFolder().write(tmp_path / "b"))
    for bad in ("<script>alert", "<img", "<svg onload", "<i>name", "<b>run", "onerror=alert(1)>"):
        assert bad not in page
    assert len(re.findall("<script>", page)) == 1
    assert evil[0] in text_of(page)


def test_the_page_asks_nothing_of_a_network(tmp_path: Path) -> None:
    page = report(
        tmp_path, RunFolder().write(tmp_path / "run"), grid=write_grid(tmp_path / "grid.json")
    )
    assert "default-src 'none'" in unescape(page)
    assert not re.findall(r"https?:|url\(|@import|\bsrc=|//cdn", page)


def test_a_tag_escapes_all_but_markup() -> None:
    assert tag("p", "a < b", tag("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"
    assert tag("rect", data_tip='"', class_="c", x=None, hidden=True) == (
        '<rect data-tip="&quot;" class="c" hidden></rect>'
    )
    assert isinstance(tag("p"), Markup)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (RunFolder(prefetch="none", decisions=False), "There was no buffer (--prefetch none)"),
        (RunFolder(prefetch="none", decisions=False), "has no buffer to decide on"),
        (RunFolder(prefetch="lookahead:4", decisions=False), "follow by themselves"),
        (RunFolder(), "No replay was given"),
        (RunFolder(reasons=("",)), "gives no reasons"),
        (RunFolder(epochs=1, steps=1, decisions=False), "No decision was carried out"),
    ],
)
def test_empty_parts_say_why(tmp_path: Path, run: RunFolder, reason: str) -> None:
    assert reason in text_of(report(tmp_path, run.write(tmp_path / "run")))


def test_runs_side_by_side(tmp_path: Path) -> None:
    runs = [RunFolder(), RunFolder(prefetch="none", decisions=False), RunFolder(prefetch="fixed")]
    folders = [run.write(tmp_path / f"run{number}") for number, run in enumerate(runs)]
    page = report(tmp_path, *folders, grid=write_grid(tmp_path / "grid.json"))
    assert "same losses, bit for bit" in text_of(page)
    for number in range(len(runs)):
        assert f'<a href="#run-{number + 1}">run{number}</a>' in page
        assert f'id="run-{number + 1}"' in page
    assert len(re.findall('<details id="run-[0-9]" class="run" open>', page)) == 1
    assert "1.60×" in page
    assert "lookahead moved the fewest rows, 1.05× Belady's bound" in text_of(page)
    folders.append(RunFolder(seed=1).write(tmp_path / "other"))
    assert "The losses differ" in text_of(report(tmp_path, *folders))


def test_thousands_of_minibatches_stay_a_small_page(tmp_path: Path) -> None:
    folder = RunFolder(epochs=200, steps=40, ranks=1).write(tmp_path / "run")
    page = report(tmp_path, folder)
    assert len(page) < 400_000
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
def test_bad_input_is_one_line_and_leaves_the_old_page(
    tmp_path: Path, words: list[str], error: str
) -> None:
    RunFolder(epochs=1).write(tmp_path / "run")
    for name in ("empty", "broken", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "summary.json").write_text('{"rows": ')
    (tmp_path / "other" / "summary.json").write_text("[]")
    (tmp_path / "report.html").write_text("old")
    ran = subprocess.run(
        [sys.executable, "-m", "rudder.report", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert error in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob(".*.partial"))


def test_buckets_are_what_plain_python_says() -> None:
    draw = np.random.default_rng(0)
    for num, most in ((1, 5), (7, 7), (100, 7), (161, 160), (5000, 160)):
        values = draw.normal(size=num)
        values[draw.random(num) < 0.2] = np.nan
        buckets = Buckets.of(num, most)
        pieces = [values[a:b] for a, b in zip(buckets.edges, buckets.edges[1:], strict=False)]
        assert sum(map(len, pieces)) == num
        assert min(map(len, pieces)) >= 1
        for place, piece in enumerate(pieces):
            finite = [value for value in piece.tolist() if value == value]
            got = [each(values)[place] for each in (buckets.means, buckets.lows, buckets.highs)]
            if finite:
                wanted = sum(finite) / len(finite), min(finite), max(finite)
                assert got == pytest.approx(wanted)
            else:
                assert np.isnan(got).all()


def test_ticks_are_round_few_and_inside() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        low, span = float(draw.normal()) * 10, 10.0 ** float(draw.uniform(-6, 9))
        found = ticks(low, low + span)
        assert 1 <= len(found) <= 5
        slack = 1e-6 * span
        assert all(low - slack <= tick <= low + span + slack for tick in found)
        assert list(found) == sorted(set(found))
    assert list(ticks(0.5, 3.5, whole=True)) == [1, 2, 3]
    assert list(ticks(3, 3)) == [3]


def test_numerals() -> None:
    assert [seconds(value) for value in (250.0, 1.234, 0.9999, 0.0123, 4.7e-4, 0.0, None)] == [
        *("250 s", "1.23 s", "1.00 s", "12.3 ms", "470 µs", "0 s", "–")
    ]
    assert [short(value) for value in (999, 999_600, 831_013, 1.25e6, float("nan"))] == [
        *("999", "1M", "831k", "1.25M", "–")
    ]
    assert [brief_seconds(value) for value in (0.02, 100.0, 0.0, 1.5)] == [
        *("20 ms", "100 s", "0 s", "1.5 s")
    ]


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_what_they_lie_on(tmp_path: Path) -> None:
    page = report(tmp_path, RunFolder(epochs=1).write(tmp_path / "run"))
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    )
    for scheme in (light, dark):
        for ground in ("card", "page"):
            for name in ("ink", "muted", "blue"):
                assert contrast(scheme[name], scheme[ground]) >= 4.5
            for name in ("orange", "green", "purple", "grey"):
                assert contrast(scheme[name], scheme[ground]) >= 3
        assert contrast(scheme["warn-ink"], scheme["warn"]) >= 4.5
