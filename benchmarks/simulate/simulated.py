"""Simulated: what ``benchmarks.simulate`` found, as a table and as panels of a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.paper.chart import Line, LinePanel
from rudder.cli.table import render


def table(scales: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    header = (
        *("trainers", "setting", "buffer", "none: rows an epoch", "moved", "% of none", "+-"),
        *("Belady %", "%-Hits", "halo", "C/b"),
    )
    lines = []
    for line in (line for scale in scales for line in scale["rows"]):
        error = line["moved_pct_error"]
        lines.append(
            (
                *(line["trainers"], line["setting"], line["buffer"]),
                *(round(line["none_rows_per_epoch"]), round(line["moved_rows_per_epoch"])),
                *(f"{line['moved_pct']:.1f}", "-" if error is None else f"{error:.1f}"),
                f"{line['belady_pct']:.1f}",
                *(_shown(line["hits_pct"]), _shown(line["halo_hits_pct"])),
                f"{line['capacity_over_batch']:.2f}",
            )
        )
    return render(lines, header)


def panels(scales: Sequence[dict[str, Any]]) -> list[LinePanel]:
    """%-Hits and rows moved over the numbers of trainers, a panel each and buffer.

    Settings that are nowhere a point apart are one line.
    """
    counts, first = [scale["trainers"] for scale in scales], scales[0]["rows"]

    def values(setting: str, buffer: float, name: str) -> list[float | None]:
        return [
            line[name]
            for scale in scales
            for line in scale["rows"]
            if (line["setting"], line["buffer"]) == (setting, buffer)
        ]

    buffers = list(dict.fromkeys(line["buffer"] for line in first))
    groups: dict[str, list[str]] = {}
    for setting in dict.fromkeys(line["setting"] for line in first):
        mine = [values(setting, buffer, "moved_pct") for buffer in buffers]
        for leader in groups:
            theirs = [values(leader, buffer, "moved_pct") for buffer in buffers]
            if np.allclose(np.array(mine, float), np.array(theirs, float), rtol=0, atol=1.0):
                groups[leader].append(setting)
                break
        else:
            groups[setting] = [setting]
    found = []
    for buffer in buffers:
        for name, title, unit in (
            ("hits_pct", "%-Hits", "% of all remote rows"),
            ("moved_pct", "rows moved", "% of the rows that no buffer moves"),
        ):
            lines = [
                Line(name=" = ".join(group), xs=counts, ys=values(leader, buffer, name))
                for leader, group in groups.items()
            ]
            if name == "moved_pct":
                least = values(first[0]["setting"], buffer, "belady_pct")
                lines.append(Line(name="Belady's bound", xs=counts, ys=least))
            title = f"{title}, buffer {100 * buffer:g}% of the halo"
            found.append(LinePanel(title=title, x="trainers", y=unit, lines=lines))
    return found


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
