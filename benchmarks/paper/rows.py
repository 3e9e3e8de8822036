"""Rows: the figures that exhibits measured, chosen and compared."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.paper.cells import Row

# What makes two rows the same cell but for the variant.
CELL = ("graph", "ranks", "buffer")
# A percent, or a point: a smaller change cannot be told from none.
LEAST = 1.0


def pick(rows: Iterable[Row], **where: object) -> list[Row]:
    """The rows with these values that could be measured."""
    return [
        row
        for row in rows
        if not row.get("missing") and all(row.get(key) == value for key, value in where.items())
    ]


def pairs(
    rows: Sequence[Row], first: str, second: str, keys: Sequence[str] = CELL
) -> list[tuple[Row, Row]]:
    """The rows of two variants, cell by cell; cells where only one was measured are left out."""
    others = {tuple(row.get(key) for key in keys): row for row in pick(rows, variant=second)}
    found = []
    for row in pick(rows, variant=first):
        other = others.get(tuple(row.get(key) for key in keys))
        if other is not None:
            found.append((row, other))
    return found


def gains(couples: Iterable[tuple[Row, Row]], key: str) -> list[float]:
    """By how many percent the first of each pair is below the second, in one figure."""
    return [100.0 * (1.0 - one[key] / other[key]) for one, other in couples if other[key]]


def points(couples: Iterable[tuple[Row, Row]], key: str) -> list[float]:
    """By how many points the first of each pair is above the second."""
    return [one[key] - other[key] for one, other in couples]


def median(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return statistics.median(values) if values else None


def above(values: Sequence[float], least: float) -> bool | None:
    """Whether the median is above this; None of nothing."""
    middle = median(values)
    return None if middle is None else middle > least


def agents(rows: Iterable[Row]) -> list[str]:
    """The agents that were measured, the first one given first."""
    return [str(name) for name in distinct(pick(rows, kind="agent"), "variant")]


def distinct(rows: Iterable[Row], key: str) -> list[object]:
    """The values of a figure, each once, in the order in which they come."""
    return list(dict.fromkeys(row[key] for row in rows))


def spread(values: Sequence[float], unit: str) -> str:
    """Of changes: ``median +4.2% (-1.0 to +9.3) over 8 cells``."""
    # No negative nought.
    return _spread([round(value, 1) + 0.0 for value in values], "{:+.1f}", unit)


def levels(values: Sequence[float], unit: str) -> str:
    """Of figures that are no changes: ``median 4.2% (1.0 to 9.3) over 8 cells``."""
    return _spread(values, "{:.1f}", unit)


def _spread(values: Sequence[float], shape: str, unit: str) -> str:
    if not values:
        return "not measured"
    cells = f"{len(values)} cell" + ("" if len(values) == 1 else "s")
    middle, low, high = map(shape.format, (statistics.median(values), min(values), max(values)))
    if len(values) == 1:
        return f"{middle}{unit} in {cells}"
    return f"median {middle}{unit} ({low} to {high}) over {cells}"


def share(values: Sequence[float], passes: Callable[[float], bool]) -> str:
    """``3 of 4``"""
    return f"{sum(map(passes, values))} of {len(values)}"
