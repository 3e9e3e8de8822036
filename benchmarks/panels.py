"""Panels: ways to draw the rows that a benchmark measured.

Titles and names are templates of a row, such as ``{graph}, buffer {buffer:.0%}``: rows for which
they are the same share a panel, a line or a bar. Figures are keys of rows, with spaces between.
"""

import math
from statistics import median

from benchmarks.charts import Bar, Line, Panel
from benchmarks.command import Row
from benchmarks.paper.claims import HEADINGS, Rows, compare, pick, values

_BY = "{variant}"


def _grouped(rows: Rows, template: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(template.format(**row), []).append(row)
    return found


def lines(rows: Rows, title: str, x: str, keys: str, name: str = _BY) -> list[Panel]:
    """Figures over a setting, with the error of each that has a KEY_error."""
    found = []
    for heading, here in _grouped(pick(rows), title).items():
        for key in keys.split():
            drawn = []
            for label, own in _grouped(here, name).items():
                known = sorted(
                    (row[x], row[key], row.get(f"{key}_error") or 0.0)
                    for row in own
                    if row.get(key) is not None
                )
                xs, ys, errors = zip(*known, strict=True) if known else ((), (), ())
                drawn.append(Line(name=label, xs=xs, ys=ys, errors=errors if any(errors) else ()))
            found.append(Panel(title=heading, x=x, y=HEADINGS.get(key, key), lines=drawn))
    return found


def curves(rows: Rows, title: str, y: str) -> list[Panel]:
    """The curves of rows over minibatches; ticks at the bottom are decisions to replace."""
    found = []
    for heading, here in _grouped(pick(rows), title).items():
        drawn = [
            Line(name=name, xs=one["places"], ys=one["values"], marks=row.get("decisions", ()))
            for row in here
            for name, one in row["curves"].items()
        ]
        found.append(Panel(title=heading, x="minibatch", y=y, lines=drawn))
    return found


def bars(rows: Rows, title: str, keys: str, group: str = _BY, name: str = _BY) -> list[Panel]:
    """Medians of figures; what was not run says so. Pass@1 has its interval."""

    def bar(label: str, key: str, own: Rows) -> Bar:
        ends = own[0].get(f"{key}_ci") if len(own) == 1 else None
        return Bar(name=label, value=median(values(own, key) or [math.nan]), interval=ends)

    found, absent = [], [row for row in rows if row.get("missing")]
    for heading, here in _grouped(pick(rows), title).items():
        for key in keys.split():
            known = [row for row in here if row.get(key) is not None]
            groups = {
                label: [bar(each, key, own) for each, own in _grouped(some, name).items()]
                for label, some in _grouped([*known, *absent], group).items()
            }
            if known:
                found.append(Panel(title=heading, x=HEADINGS.get(key, key), groups=groups))
    return found


def beside(rows: Rows) -> list[Row]:
    """Rows with the percent of epoch time ``saved`` and %-Hits ``gained`` on fixed's; not fixed."""
    found = []
    for row in (row for row in rows if row["variant"] != "fixed"):
        fixed = pick(rows, "fixed")
        time, hits = (compare([row], fixed, key, "variant") for key in ("epoch_s", "hits_pct"))
        found.append(
            row | {"saved": -time[0] if time else None, "gained": hits[0] if hits else None}
        )
    return found
