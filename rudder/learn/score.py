"""Score: decisions on held-out moments where the effect of either decision is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.cli.table import render
from rudder.learn.dataset import Dataset


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


COLUMNS = {
    "agreement_pct": "agrees %",
    "balanced_pct": "balanced %",
    "rows_lost_pct": "rows lost %",
    "excess_pct": "excess rows %",
    "pass_at_1": "Pass@1 %",
    "valid_pct": "valid %",
}


def scores_table(scores: Mapping[str, dict[str, Any]]) -> str:
    """Scores by decider, for people."""
    rows = [
        (name, *("-" if found[key] is None else f"{found[key]:.1f}" for key in COLUMNS))
        for name, found in scores.items()
    ]
    return render(rows, ("decider", *COLUMNS.values()))
