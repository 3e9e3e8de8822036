"""Numerals: figures as people read them. None and NaN, which an empty mean leaves, are a dash."""

import math
from collections.abc import Sequence

MISSING = "–"
_LETTERS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SECONDS = ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"))


def fixed(value: float | None, digits: int = 1) -> str:
    """1,234.5"""
    return f"{value:,.{digits}f}" if value is not None and math.isfinite(value) else MISSING


def percent(value: float | None, digits: int = 1) -> str:
    """36.5%"""
    return fixed(value, digits) + ("" if value is None or not math.isfinite(value) else "%")


def short(value: float | None) -> str:
    """Three digits and a letter: 831k, 1.25M."""
    return _scaled(value, _LETTERS)


def seconds(value: float | None) -> str:
    """250 s, 1.23 s, 12.3 ms or 8 µs."""
    return "0 s" if value == 0 else _scaled(value, _SECONDS)


def _scaled(value: float | None, units: Sequence[tuple[float, str]]) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    # What would round to 1,000 of a unit is 1 of the next.
    size, unit = next((each for each in units if abs(value) >= 0.9995 * each[0]), units[-1])
    scaled = value / size
    return f"{scaled:,.0f}{unit}" if abs(scaled) >= 999.5 else f"{scaled:.3g}{unit}"


def plural(count: int, noun: str) -> str:
    """1 rank, 2,000 ranks, 3 minibatches."""
    several = "es" if noun.endswith("batch") else "s"
    return f"{count:,} {noun}{'' if count == 1 else several}"
