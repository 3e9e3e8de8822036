"""Cells: one way to steer on one graph, with so many ranks and such a buffer; what all rows have.

``replayed`` counts exactly what a run counts, in seconds, with every decision taken at once; a
``live`` run has real times and real asynchrony.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.paper.settings import Variant

Row = dict[str, Any]
Floats = NDArray[np.float64]
CellT = TypeVar("CellT")
# Of a decider's figures, those that rows carry.
_DECIDED = (
    *("pass_at_1", "pass_at_1_ci", "valid_pct", "replace_pct", "interval"),
    *("latency_ms_p50", "count"),
)


def progress(cells: Sequence[CellT], name: str) -> Iterable[CellT]:
    """The cells one by one, beside a progress bar."""
    bar: Iterable[CellT] = tqdm(cells, desc=name, unit="cell", disable=None, leave=False)
    return bar


def base_of(graph: str, ranks: int, buffer: float, variant: Variant) -> Row:
    return {
        "graph": graph,
        "ranks": ranks,
        "buffer": buffer,
        "variant": variant.name,
        "kind": variant.kind,
    }


def absent(variants: Sequence[Variant]) -> list[Row]:
    """One row for each variant that cannot run here, which says why in ``missing``."""
    return [
        {"graph": "-", "variant": one.name, "kind": one.kind, "missing": one.missing}
        for one in variants
        if one.missing
    ]


def figures_of(moved: int, without: int, found: Mapping[str, Any]) -> Row:
    """What the exhibits show of a run: rows in percent of those without a buffer."""
    decided = found.get("decisions") or {}
    return {
        "moved_pct": 100.0 * moved / without if without else None,
        # Without a buffer, none.
        "hits_pct": found.get("hits_pct", 0.0),
        **{name: decided.get(name) for name in _DECIDED},
    }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A figure over minibatches, in pieces: where each piece ends on average, and its mean."""

    places: list[float]
    values: list[float]


def curve(values: Sequence[float] | Floats, most: int = 50) -> Curve:
    """Means over at most ``most`` pieces of equal length."""
    pieces = np.array_split(np.arange(len(values)), min(most, len(values)))
    array = np.asarray(values, np.float64)
    return Curve(
        places=[float(piece.mean()) for piece in pieces],
        values=[float(array[piece].mean()) for piece in pieces],
    )
