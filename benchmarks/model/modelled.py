"""Modelled: what the model said beside what was measured, and what it says of many trainers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.paper.chart import Bar, BarPanel, Line, LinePanel, Panel
from rudder.cli.table import render

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Of predictions, relative to what was measured, percent, sign left out.

    by_ranks: the median of each number of ranks.
    """

    median_pct: float
    worst_pct: float
    worst_at: str
    by_ranks: dict[int, float]
    count: int

    @property
    def carried_pct(self) -> float:
        """What more ranks are to be trusted with: no less than the error of the most measured."""
        return max(self.median_pct, self.by_ranks[max(self.by_ranks)])

    def text(self) -> str:
        """For people."""
        each = ", ".join(f"{ranks} ranks {error:.0f}%" for ranks, error in self.by_ranks.items())
        return (
            f"error of {self.count} predictions: median {self.median_pct:.1f}%, "
            f"worst {self.worst_pct:.1f}% ({self.worst_at}); median of {each}"
        )


def error_of(checks: Sequence[Row]) -> Errors:
    """At least one check."""
    errors = [abs(row["error_pct"]) for row in checks]
    worst = checks[int(np.argmax(errors))]
    ranks = sorted({row["ranks"] for row in checks})
    return Errors(
        median_pct=float(np.median(errors)),
        worst_pct=max(errors),
        worst_at=f"{worst['variant']} at {worst['place']}",
        by_ranks={
            each: float(np.median([abs(r["error_pct"]) for r in checks if r["ranks"] == each]))
            for each in ranks
        },
        count=len(checks),
    )


def check_table(checks: Sequence[Row]) -> str:
    """Predicted and measured."""
    header = ("place", "variant", "predicted s", "measured s", "error %")
    lines = [
        (
            *(row["place"], row["variant"], f"{row['predicted_s']:.3f}"),
            *(f"{row['measured_s']:.3f}", f"{row['error_pct']:+.1f}"),
        )
        for row in checks
    ]
    return render(lines, header)


def scale_table(scales: Sequence[Row]) -> str:
    """Epochs of many trainers, beside no buffer's."""
    header = ("trainers", "link", "setting", "epoch s", "+- %", "of none", "training %", "r")
    none = {
        (row["trainers"], row["rate"]): row["epoch_s"] for row in scales if row["setting"] == "none"
    }
    lines = [
        (
            *(row["trainers"], row["rate"], row["setting"], f"{row['epoch_s']:.3f}"),
            f"{row['error_pct']:.0f}",
            f"{row['epoch_s'] / none[row['trainers'], row['rate']]:.2f}",
            *(f"{row['training_pct']:.0f}", row["interval"]),
        )
        for row in scales
    ]
    return render(lines, header)


def panels(checks: Sequence[Row], scales: Sequence[Row]) -> list[Panel]:
    """Errors by place, then the epochs of many trainers, a panel for each rate."""
    groups = {
        place: [
            Bar(name=row["variant"], value=row["error_pct"])
            for row in checks
            if row["place"] == place
        ]
        for place in dict.fromkeys(row["place"] for row in checks)
    }
    title = "predicted against measured"
    found: list[Panel] = [BarPanel(title=title, unit="% over measured", groups=groups)]
    for rate in dict.fromkeys(row["rate"] for row in scales):
        title = f"extrapolated, links of {rate}"
        lines = _lines([row for row in scales if row["rate"] == rate])
        found.append(LinePanel(title=title, x="trainers", y="% of none's epoch", lines=lines))
    return found


def _lines(rows: Sequence[Row]) -> list[Line]:
    """One for each setting; those that are nowhere 4 points apart are one, named as the first."""
    none = {row["trainers"]: row["epoch_s"] for row in rows if row["setting"] == "none"}
    found: list[Line] = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        mine = [row for row in rows if row["setting"] == setting]
        xs = [row["trainers"] for row in mine]
        ys = [100.0 * row["epoch_s"] / none[row["trainers"]] for row in mine]
        if not any(np.allclose(ys, np.array(line.ys, float), rtol=0, atol=4) for line in found):
            found.append(Line(name=setting, xs=xs, ys=ys))
    return found
