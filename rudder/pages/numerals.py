"""Numerals: figures as people read them, and the round numbers that an axis carries."""

import math
from collections.abc import Sequence

MISSING = "–"
_STEPS = (1.0, 2.0, 5.0, 10.0)


def is_number(value: object) -> bool:
    """Whether it is a finite number; NaN is what an empty mean leaves."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fixed(value: float | None, digits: int = 1) -> str:
    """1,234.5"""
    return f"{value:,.{digits}f}" if value is not None and math.isfinite(value) else MISSING


def percent(value: float | None, digits: int = 1) -> str:
    """36.5%"""
    shown = fixed(value, digits)
    return shown if shown == MISSING else f"{shown}%"


def short(value: float | None) -> str:
    """Three digits and a letter: 831k, 1.25M."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What would round to 1,000 of a letter is 1 of the next.
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def seconds(value: float | None) -> str:
    """123 s, 1.23 s, 200 ms or 8.00 µs."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        # What would round to 1,000 of a unit is 1 of the next.
        if abs(value) >= 0.9995 * size or unit == "µs":
            break
    if value == 0:
        return "0 s"
    scaled = value / size
    digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
    return f"{scaled:,.{digits}f} {unit}"


def brief_seconds(value: float) -> str:
    """Seconds for an axis: 20 ms and not 20.0 ms."""
    number, _, unit = seconds(value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def mebibytes(count: float) -> str:
    """129.0 MiB or 1.3 GiB, of bytes."""
    size = count / 2**20
    return f"{size / 1024:,.1f} GiB" if size >= 1024 else f"{size:,.1f} MiB"


def plural(count: int, noun: str) -> str:
    """1 rank, 2,000 ranks."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def plain(value: float) -> str:
    """20 or 0.5, for an axis."""
    return f"{value:.6g}"


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> Sequence[float]:
    """Round numbers from low to high, at most ``most``; whole: no fractions."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return (low,)
    size = 10.0 ** math.floor(math.log10(span))
    for step in (size * factor / 10 for factor in (*_STEPS, *(10 * step for step in _STEPS))):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most and not (whole and step < 1):
            return tuple(number * step for number in range(first, last + 1))
    return (low, high)
