"""Dataset: examples as arrays to learn from, which of them to hold back, and scores on those.

n moments; F inputs. Neighbouring moments of a run resemble each other and share the minibatches
that their labels were counted over, so whole runs are held back, never rows at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.cli.table import render
from rudder.deciders.classifier import TRENDS, was_replacing_right
from rudder.deciders.inputs import inputs
from rudder.learn.examples import Example

LABELS = ("counterfactual", "paper")
# Of the runs, or of the blocks of a single run, one in so many is held back.
_HELD_BACK = 4
_BLOCKS = 8
_COLUMNS = {
    "agreement_pct": "agrees %",
    "balanced_pct": "balanced %",
    "rows_lost_pct": "rows lost %",
    "excess_pct": "excess rows %",
    "pass_at_1": "Pass@1 %",
    "valid_pct": "valid %",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Moments and what either decision led to there.

    x: float32 [n, F]. replace: bool [n], whether replacing was right. hits: int8 [n, 2], where
    %-Hits went if the buffer was kept, and if rows were replaced, as places in ``TRENDS``.
    rows: int64 [n, 2], moved over the horizon if kept, and if replaced. run: str [n].
    position: float32 [n], share of its run that was over.
    """

    x: NDArray[np.float32]
    replace: NDArray[np.bool_]
    hits: NDArray[np.int8]
    rows: NDArray[np.int64]
    run: NDArray[np.str_]
    position: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[Any]) -> "Dataset":
        """Some of the moments, by mask or number."""
        return Dataset(**{name: array[rows] for name, array in vars(self).items()})


def dataset_of(examples: Sequence[Example], label: str = "counterfactual") -> Dataset:
    """Examples as arrays.

    label: ``counterfactual``, the example's own, or ``paper``: see ``was_replacing_right``.
    """
    if label == "paper":
        right = [was_replacing_right(one.replaced.outcome) for one in examples]
    else:
        right = [one.replace for one in examples]
    latest = [one.context.latest for one in examples]
    both = [(one.kept, one.replaced) for one in examples]
    return Dataset(
        x=np.stack([inputs(one.context) for one in examples]),
        replace=np.array(right, bool),
        hits=np.array([[TRENDS.index(ending.hits) for ending in two] for two in both], np.int8),
        rows=np.array([[ending.rows for ending in two] for two in both], np.int64),
        run=np.array([one.run for one in examples]),
        position=np.array([now.minibatch / now.num_minibatches for now in latest], np.float32),
    )


def split(data: Dataset, seed: int) -> tuple[Dataset, Dataset, str]:
    """(to learn from, held back, what was held back in words)."""
    runs = np.unique(data.run)
    if len(runs) > 1:
        count = max(len(runs) // _HELD_BACK, 1)
        some = np.sort(np.random.default_rng(seed).permutation(runs)[:count])
        held = np.isin(data.run, some)
        note = f"held back {count} of {len(runs)} runs: {', '.join(some)}"
    else:
        block = np.minimum((_BLOCKS * data.position).astype(int), _BLOCKS - 1)
        held = block % _HELD_BACK == 1
        note = (
            f"one run only: held back {_BLOCKS // _HELD_BACK} of {_BLOCKS} blocks of its "
            "minibatches, which resemble the others; for other runs and graphs expect less"
        )
    if held.all() or not held.any():
        raise ValueError(f"{len(data)} examples are too few to hold some back: add --traces")
    return data.take(~held), data.take(held), note


@dataclass(frozen=True, eq=False)
class Answers:
    """replace: bool [n]; hits: int [n], places in ``TRENDS``, -1 where the answer was not valid."""

    replace: NDArray[np.bool_]
    hits: NDArray[np.int64]

    def agreement(self, other: "Answers") -> float:
        """Share of answers that are the same in both, over those that the shorter has."""
        num = min(len(self.replace), len(other.replace))
        same = self.replace[:num] == other.replace[:num]
        return float(np.mean(same & (self.hits[:num] == other.hits[:num])))


def score(answers: Answers, held: Dataset) -> dict[str, Any]:
    """What answers to held-back moments are worth, in percent.

    agreement_pct, balanced_pct: with the labels, and the mean of both labels' shares.
    rows_lost_pct: rows moved over the horizon beyond those of the better decision, of what hung on
    the decisions in all; excess_pct: the same of the rows of the better decisions.
    pass_at_1: the stated direction of %-Hits is what the decision led to; None where none was
    stated.
    """
    same, moments, word = answers.replace == held.replace, np.arange(len(held)), answers.replace * 1
    best = held.rows.min(1)
    lost = float((held.rows[moments, word] - best).sum())
    at_stake = float((held.rows.max(1) - best).sum())
    labels = [held.replace == label for label in np.unique(held.replace)]
    stated = answers.hits >= 0
    passed = (answers.hits == held.hits[moments, word])[stated]
    return {
        "agreement_pct": 100.0 * float(same.mean()),
        "balanced_pct": 100.0 * float(np.mean([same[label].mean() for label in labels])),
        "rows_lost_pct": 100.0 * lost / max(at_stake, 1.0),
        "excess_pct": 100.0 * lost / max(float(best.sum()), 1.0),
        "pass_at_1": 100.0 * float(passed.mean()) if len(passed) else None,
        "valid_pct": 100.0 * float(stated.mean()),
        "replace_pct": 100.0 * float(answers.replace.mean()),
    }


def scores_table(scores: Mapping[str, dict[str, Any]]) -> str:
    """Scores by decider, for people."""
    rows = [
        (name, *("-" if found[key] is None else f"{found[key]:.1f}" for key in _COLUMNS))
        for name, found in scores.items()
    ]
    return render(rows, ("decider", *_COLUMNS.values()))
