"""Classifiers: all six learn a rule, and choose at run time what their libraries chose."""

import json
import random
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rudder.config import SteerConfig
from rudder.deciders.classifier import (
    IF_KEPT,
    IF_REPLACED,
    REPLACE,
    TARGETS,
    TRENDS,
    ClassifierDecider,
    refit,
    was_replacing_right,
)
from rudder.deciders.inputs import NAMES, inputs
from rudder.deciders.predictors import Floats, Layers
from rudder.fit import Fit, answers_of, fit, labels_of, majority
from rudder.learn.dataset import Dataset, score, split
from rudder.observations import Action, Context, Decision, Outcome, Trend
from rudder.presets import CLASSIFIERS
from rudder.replay.runs import replay
from tests.rudder.contexts import FACTS, random_context, random_snapshot
from tests.rudder.streams import make_test_trace

CONTEXTS = [random_context(seed) for seed in range(360)]


def rule_dataset(contexts: Sequence[Context]) -> Dataset:
    """Replace below 50 %-Hits; they then rise, and otherwise go where looking ahead says."""
    x = np.stack([inputs(context) for context in contexts])
    low = x[:, NAMES.index("hits [%]")] < 50
    ahead = x[:, NAMES.index("ahead_change [points]")]
    kept = np.where(ahead > 0, TRENDS.index(Trend.INCREASE), TRENDS.index(Trend.DECREASE))
    replaced = np.where(low, TRENDS.index(Trend.INCREASE), TRENDS.index(Trend.STAGNANT))
    return Dataset(
        x=x,
        replace=low,
        hits=np.stack([kept, replaced], 1).astype(np.int8),
        rows=np.stack([100 + 50 * low, np.full(len(x), 120)], 1),
        run=np.array([f"run{number % 4}" for number in range(len(x))]),
        position=np.zeros(len(x), np.float32),
    )


@pytest.fixture(scope="module")
def lessons() -> tuple[Dataset, Dataset]:
    return split(rule_dataset(CONTEXTS), seed=0)[:2]


@pytest.fixture(scope="module")
def fitted(lessons: tuple[Dataset, Dataset]) -> Fit:
    return fit(CLASSIFIERS, lessons[0], seed=0)


@pytest.fixture(scope="module")
def folder(fitted: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "fitted"
    fitted.write(path, {})
    return path


def decide(decider: ClassifierDecider, context: Context) -> Decision:
    return decider.decide(context, lambda word: None)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_rule_is_learnt(name: str, fitted: Fit, lessons: tuple[Dataset, Dataset]) -> None:
    learn, held = lessons
    base = score(answers_of(majority(learn, held)), held)
    got = score(answers_of(fitted.predict(name, held.x)), held)
    assert got["agreement_pct"] > base["agreement_pct"] + 10
    assert got["balanced_pct"] > 70
    assert got["pass_at_1"] > base["pass_at_1"] + 10
    assert got["excess_pct"] < base["excess_pct"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_run_decides_as_the_library_predicts(name: str, fitted: Fit, folder: Path) -> None:
    """Through the file, one row at a time, and from a context as the trainers' table was."""
    contexts = CONTEXTS[:120]
    expected = fitted.predict(name, np.stack([inputs(context) for context in contexts]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decider, again = (ClassifierDecider(name, FACTS, folder, 0) for _ in range(2))
        decisions = [decide(decider, context) for context in contexts]
    assert [one.replace for one in decisions] == expected[REPLACE].astype(bool).tolist()
    for row, one in enumerate(decisions):
        target = IF_REPLACED if one.replace else IF_KEPT
        assert one.expect_hits == TRENDS[expected[target][row]]
        assert one.minibatch == contexts[row].latest.minibatch
    assert [decide(again, context) for context in contexts] == decisions


@pytest.mark.parametrize("name", ["mlp", "rf", "svm", "xgb"])
def test_fitting_repeats(name: str, lessons: tuple[Dataset, Dataset], fitted: Fit) -> None:
    learn, held = lessons
    again = fit((name,), learn, seed=0).predict(name, held.x)
    assert all(
        (again[target] == said).all() for target, said in fitted.predict(name, held.x).items()
    )


def test_inputs_are_finite_and_named() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for context in CONTEXTS:
        row = inputs(context)
        assert row.dtype == np.float32
        assert row.shape == (len(NAMES),)
        assert np.isfinite(row).all()
    first = inputs(Context(recent=CONTEXTS[0].recent[-1:]))
    assert first[NAMES.index("last_known [flag]")] == 0


def test_inputs_do_not_depend_on_size() -> None:
    """Ten times the rows of everything: the same inputs."""
    rows = (
        *("remote", "hits", "halo_remote", "halo_hits", "replaced", "replacement_rows"),
        *("stale", "candidates", "filled", "capacity", "ahead_remote", "ahead_hits"),
        "proven",
    )
    for context in CONTEXTS[:20]:
        recent = [
            replace(one, **{name: 10 * getattr(one, name) for name in rows})
            for one in context.recent
        ]
        small, large = inputs(Context(recent=context.recent)), inputs(Context(recent=recent))
        if context.latest.ahead_remote >= 0 and all(one.moved for one in context.recent):
            np.testing.assert_allclose(small, large, rtol=1e-5)


def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    def message(name: str, path: Path, finetune_every: int = 0) -> str:
        with pytest.raises(ValueError, match=r".") as raised:
            ClassifierDecider(name, FACTS, path, finetune_every)
        return str(raised.value)

    assert "`python -m rudder.fit` writes them" in message("lr", tmp_path / "nothing")
    for name in ("rf", "svm", "xgb", "tabnet"):
        assert f"--finetune-every 3: {name} has no head to refit" in message(name, folder, 3)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    for name, suffix in (("lr", "npz"), ("xgb", "ubj"), ("tabnet", "zip"), ("rf", "npz")):
        file = broken / f"{name}-{REPLACE}.{suffix}"
        file.write_bytes(file.read_bytes()[:50])
        assert f"{file} cannot be read" in message(name, broken)
        file.unlink()
        assert f"{file} is missing: fit anew" in message(name, broken)
    meta = json.loads((folder / "meta.json").read_text())
    del meta["classes"]["mlp"]
    (broken / "meta.json").write_text(json.dumps(meta))
    assert "not mlp: `python -m rudder.fit --classifier mlp`" in message("mlp", broken)
    meta["inputs"][0] = "something else"
    (broken / "meta.json").write_text(json.dumps(meta))
    assert "fitted on other inputs: fit anew" in message("lr", broken)
    (broken / "meta.json").write_text("[]")
    assert "no classifiers to read there" in message("lr", broken)


def test_an_absent_library_names_the_extra(
    folder: Path, lessons: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("xgboost", "pytorch_tabnet.tab_model", "sklearn.svm"):
        monkeypatch.setitem(sys.modules, library, None)
    for name in ("xgb", "tabnet"):
        with pytest.raises(ValueError, match=r"pip install 'minidist\[classifiers\]'"):
            ClassifierDecider(name, FACTS, folder, 0)
    for name in ("xgb", "tabnet", "svm"):
        with pytest.raises(ValueError, match=r"pip install 'minidist\[classifiers\]'"):
            fit((name,), lessons[0], seed=0)
    # Those that are kept as arrays decide without the library that fitted them.
    ClassifierDecider("svm", FACTS, folder, 0)


@pytest.mark.parametrize("name", ["mlp", "lr"])
def test_fine_tuning_changes_the_head_alone(name: str, folder: Path) -> None:
    trace = make_test_trace()
    config = SteerConfig(prefetch="rudder", decider="never", buffer=0.3)
    plain = ClassifierDecider(name, FACTS, folder, 0)
    tuned, again = (ClassifierDecider(name, FACTS, folder, 5) for _ in range(2))
    replayed = [replay(trace, config, decider) for decider in (plain, tuned, again)]
    assert not any(one.failures for one in replayed)
    assert replayed[1].counts == replayed[2].counts
    before, after, other = (
        {target: layers(decider, target) for target in TARGETS} for decider in (plain, tuned, again)
    )
    assert np.array_equal(after[REPLACE][-1], other[REPLACE][-1])
    assert not np.array_equal(after[REPLACE][-1], before[REPLACE][-1])
    assert all(map(np.array_equal, after[REPLACE][:-1], before[REPLACE][:-1]))
    for target in (IF_REPLACED, IF_KEPT):
        assert all(map(np.array_equal, after[target], before[target]))


def layers(decider: ClassifierDecider, target: str) -> list[Floats]:
    predictor = decider._predictors[target]
    assert isinstance(predictor, Layers)
    return [weight for weight, _ in predictor.layers]


def test_a_refitted_head_follows_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3))
    right = features[:, 0] > 0.5
    weight, bias = refit(np.array([[-1.0], [0], [0]]), np.zeros(1), list(features), right.tolist())
    assert (((features @ weight + bias)[:, 0] > 0) == right).mean() > 0.95
    # A single outcome moves it little.
    little, _ = refit(weight, bias, [features[0]], [not right[0]])
    assert np.abs(little - weight).max() < 1


def test_the_papers_label() -> None:
    base = random_snapshot(3, random.Random(0))
    before = replace(base, remote=100, hits=50, replacement_rows=0)
    better = replace(before, hits=60)
    for replaced in (True, False):
        decision = Decision(action=Action(replaced), minibatch=3)
        for after, right in ((better, replaced), (before, False)):
            outcome = Outcome(decision=decision, before=before, applied=4, after=after)
            assert was_replacing_right(outcome) == right
        worse = Outcome(decision=decision, before=better, applied=4, after=before)
        assert was_replacing_right(worse) != replaced


def test_labels_are_in_the_order_of_targets() -> None:
    labels = labels_of(rule_dataset(CONTEXTS[:40]))
    low = labels[REPLACE].astype(bool)
    assert set(labels[IF_REPLACED][low]) == {TRENDS.index(Trend.INCREASE)}
    assert set(labels[IF_REPLACED][~low]) == {TRENDS.index(Trend.STAGNANT)}
