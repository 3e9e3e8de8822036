"""Standings: every policy of a replayed grid against the best a buffer of its size could do."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rudder.pages.bars import Bar, bar_chart
from rudder.pages.card import card, empty
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import fixed, percent, plural, short
from rudder.presets import PLAIN

Row = dict[str, Any]
TITLE = "Policies and the bound"
_NEEDED = ("trace", "prefetch", "buffer", "rows_moved", "rows_none", "belady_rows")


def read_grid(path: Path) -> list[Row]:
    """The rows of ``rudder.replay --json``. Raises ValueError where the file holds none."""
    hint = f"expected what `python -m rudder.replay TRACE --json {path}` writes"
    try:
        grid = json.loads(path.read_text(encoding="utf-8"))["grid"]
    except (OSError, ValueError) as error:
        raise ValueError(f"--grid {path}: cannot be read: {error}; {hint}") from None
    except (KeyError, TypeError):
        raise ValueError(f"--grid {path}: no grid in it; {hint}") from None
    if not isinstance(grid, list) or not all(
        isinstance(row, dict) and all(name in row for name in _NEEDED) for row in grid
    ):
        raise ValueError(f"--grid {path}: not the rows of a grid; {hint}")
    return grid


def standings(grid: Sequence[Row]) -> list[Markup]:
    """One card for each trace and buffer; one that says what to do where there is no grid."""
    if not grid:
        why = (
            "No replay was given. `python -m minidist.train --trace DIR` records one; "
            "`python -m rudder.report RUN --trace DIR` or `--grid FILE` (of rudder.replay --json) "
            "then shows here what every policy would have moved."
        )
        return [empty(TITLE, why, wide=True)]
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in grid:
        if row["prefetch"] not in PLAIN:
            groups.setdefault((row["trace"], row["buffer"]), []).append(row)
    if not groups:
        return [empty(TITLE, "The grid has no policy with a buffer.", wide=True)]
    traces = {trace for trace, _ in groups}
    return [
        _group(rows, trace if len(traces) > 1 else None, buffer, wide=len(groups) == 1)
        for (trace, buffer), rows in sorted(groups.items(), key=lambda item: item[0])
    ]


def _group(rows: list[Row], trace: str | None, buffer: float, wide: bool) -> Markup:
    rows = sorted(rows, key=lambda row: row["rows_moved"])
    none, bound = rows[0]["rows_none"], rows[0]["belady_rows"]
    size = f"buffer of {percent(100 * buffer, 0)} of the halo"
    title = f"{TITLE}: " + (f"{trace}, {size}" if trace else size)
    if not none:
        return empty(title, "The trace needs no remote row.", wide=wide)
    bars = [_bar(row) for row in rows]
    bars.append(
        Bar(
            label="no buffer",
            parts=[("grey", 100.0)],
            shown="100%",
            tip=f"no buffer\n{none:,} rows moved",
            bound=100 * bound / none,
        )
    )
    most = max(100.0, *(100 * row["rows_moved"] / none for row in rows))
    best = rows[0]
    takeaway = (
        f"{_name(best)} moved the fewest rows, {_times(best)} Belady's bound. No buffer of this "
        f"size that is filled by misses can move less than {percent(100 * bound / none)} of what "
        "no buffer moves."
    )
    holds = rows[0].get("capacity_over_batch")
    note = "Rows moved as shares of those that no buffer would move; × is against Belady's bound."
    if holds is not None:
        note += f" The buffer holds {fixed(holds, 2)} times the remote rows of a minibatch (C/b)."
    key = tag(
        "ul",
        tag("li", tag("i", class_="block orange"), "misses"),
        tag("li", tag("i", class_="block purple"), "replacements"),
        tag("li", tag("i", class_="mark"), "Belady's bound"),
        class_="legend",
    )
    label = f"Rows moved by policy, {plural(len(rows), 'setting')}, {size}"
    chart = bar_chart(bars, most, label=label)
    return card(title, takeaway, key, chart, note=note, wide=wide)


def _bar(row: Row) -> Bar:
    none, moved = row["rows_none"], row["rows_moved"]
    extra = min(row.get("replacement_rows") or 0, moved)
    share = 100 * moved / none
    judged = (row.get("decisions") or {}).get("pass_at_1")
    lines = [
        _name(row),
        f"{moved:,} rows moved, {short(extra)} of them replacements",
        f"{_times(row)} Belady's bound",
        f"%-Hits {percent(row.get('hits_pct'))}",
    ]
    if judged is not None:
        lines.append(f"Pass@1 {percent(judged)}")
    return Bar(
        label=_name(row),
        parts=[("orange", 100 * (moved - extra) / none), ("purple", 100 * extra / none)],
        shown=f"{percent(share)} · {_times(row)}",
        tip="\n".join(lines),
        bound=100 * row["belady_rows"] / none,
    )


def _name(row: Row) -> str:
    name = f"{row['prefetch']} · {row['decider']}" if row.get("decider") else str(row["prefetch"])
    return f"{name} (this run)" if row.get("own") else name


def _times(row: Row) -> str:
    bound = row["belady_rows"]
    return f"{fixed(row['rows_moved'] / bound, 2)}×" if bound else "no"
