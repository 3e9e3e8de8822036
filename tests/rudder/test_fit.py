"""python -m rudder.fit: from recorded runs to a folder of classifiers, and its bad input."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder.cli.flags import from_args
from rudder.deciders.classifier import ClassifierDecider
from rudder.fit import FitConfig, main, read_runs, run
from rudder.learn.dataset import Dataset, dataset_of, split
from rudder.learn.examples import gather
from tests.rudder.contexts import FACTS
from tests.rudder.streams import make_test_trace


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of three runs."""
    base = tmp_path_factory.mktemp("traces")
    for seed in range(3):
        make_test_trace(seed=seed).write(base / f"run{seed}" / "rank0")
    return [str(base / f"run{seed}") for seed in range(3)]


def config_of(folders: list[str], folder: Path, **changes: Any) -> FitConfig:
    base = FitConfig(
        traces=tuple(folders), classifier="lr,xgb", out=str(folder), buffer=(0.05, 0.5)
    )
    return replace(base, **changes)


def test_from_traces_to_a_decider(traces: list[str], tmp_path: Path) -> None:
    out, file = tmp_path / "fitted", tmp_path / "scores.json"
    scores, note = run(config_of(traces, out, json=str(file)))
    assert list(scores) == ["lr", "xgb", "majority"]
    assert "held back 1 of 3 runs" in note
    assert json.loads(file.read_text())["scores"] == scores
    assert not list(tmp_path.glob(".fitted*"))
    for name in ("lr", "xgb"):
        ClassifierDecider(name, FACTS, out, 0)
    # Again, in place of the first: the same scores, and nothing of the other classifier.
    again, _ = run(config_of(traces, out, classifier="lr"))
    assert again["lr"] == scores["lr"]
    with pytest.raises(ValueError, match="holds lr, not xgb"):
        ClassifierDecider("xgb", FACTS, out, 0)


def test_the_papers_labels_are_others(traces: list[str]) -> None:
    examples = gather(read_runs(tuple(traces)), [0.05, 0.5])
    ours, papers = (dataset_of(examples, label) for label in ("counterfactual", "paper"))
    assert (ours.x == papers.x).all()
    assert 0 < (ours.replace != papers.replace).sum() < len(ours)
    endings = [one.replaced.outcome for one in examples]
    better = [end.hits_change > end.moved_change for end in endings]
    assert papers.replace.tolist() == better
    assert (ours.rows[:, 0] == [one.kept.rows for one in examples]).all()


def lessons(runs: list[str], position: list[float]) -> Dataset:
    n = len(runs)
    return Dataset(
        x=np.zeros((n, 1), np.float32),
        replace=np.zeros(n, bool),
        hits=np.zeros((n, 2), np.int8),
        rows=np.zeros((n, 2), np.int64),
        run=np.array(runs),
        position=np.array(position, np.float32),
    )


def test_runs_are_held_back_whole() -> None:
    runs = [f"run{number % 8}" for number in range(80)]
    learn, held, note = split(lessons(runs, [0.0] * 80), seed=3)
    assert len(held) == 20
    assert not set(learn.run) & set(held.run)
    assert "held back 2 of 8 runs" in note


def test_of_one_run_blocks_are_held_back() -> None:
    learn, held, note = split(lessons(["run"] * 80, [number / 80 for number in range(80)]), seed=0)
    assert (80 * held.position).round().tolist() == [*range(10, 20), *range(50, 60)]
    assert len(learn) == 60
    assert "one run only" in note
    with pytest.raises(ValueError, match="too few to hold some back"):
        split(lessons(["run"], [0.0]), seed=0)


def test_runs_in_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        make_test_trace().write(tmp_path / parent / "run" / "rank0")
    names = [trace.name for trace in read_runs((f"{tmp_path}/a/run", f"{tmp_path}/b/run/"))]
    assert names == ["run#1/rank0", "run#2/rank0"]


def test_bad_input_is_named(traces: list[str], tmp_path: Path) -> None:
    def message(**changes: Any) -> str:
        with pytest.raises(ValueError, match=r".") as raised:
            run(config_of(traces, tmp_path / "out", **changes))
        return str(raised.value)

    assert "--traces: name at least one folder" in message(traces=())
    assert "expected each folder once" in message(traces=(traces[0], traces[0] + "/"))
    assert "no trace there" in message(traces=(str(tmp_path),))
    assert "--classifier lr,knn: expected all, or some of mlp" in message(classifier="lr,knn")
    assert "--buffer (0.0,): expected more than 0" in message(buffer=(0.0,))
    assert "--out" in message(out=traces[0])
    constant = message(buffer=(1e-9,))
    assert "there is nothing to learn" in constant


def test_the_command_line(
    traces: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["fit", "--traces", *traces, "--classifier", "lr", "--buffer", "0.5,0.1"]
    config = from_args(FitConfig, words[1:])
    assert config.traces == tuple(traces)
    assert config.buffer == (0.5, 0.1)
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "fitted")])
    main()
    printed = capsys.readouterr().out
    assert "majority" in printed
    assert "excess rows" in printed
    monkeypatch.setattr(sys, "argv", [*words, "--label", "guess"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--label guess: expected one of counterfactual, paper" in capsys.readouterr().err
