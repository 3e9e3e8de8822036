"""Bars: rows of figures to compare. Labels are text above each bar, so that they fit any width."""

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.pages.markup import Markup, tag

_HEIGHT, _MARGIN = 14, 3


@dataclass(frozen=True, kw_only=True)
class Bar:
    """parts: (colour, value) one after the other.   shown: the figure as text.

    bound: a value to mark on the row.   interval: of confidence, in the same units.
    """

    label: str
    parts: Sequence[tuple[str, float]]
    shown: str
    tip: str
    bound: float | None = None
    interval: tuple[float, float] | None = None


def bar_chart(bars: Sequence[Bar], most: float, *, label: str) -> Markup:
    """Horizontal bars from 0 to ``most``."""
    rows = [_row(bar, 100.0 / (most or 1.0)) for bar in bars]
    return tag("div", *rows, class_="bars", role="group", aria_label=label)


def _row(bar: Bar, scale: float) -> Markup:
    size = {"y": _MARGIN, "height": _HEIGHT}
    shapes = [tag("rect", class_="track", width="100%", rx=2, **size)]
    left = 0.0
    for colour, value in bar.parts:
        wide = max(value, 0.0) * scale
        shapes.append(tag("rect", class_=colour, x=f"{left:.3f}%", width=f"{wide:.3f}%", **size))
        left += wide
    if bar.interval is not None:
        low, high = bar.interval
        shapes += _whisker(low * scale, high * scale)
    if bar.bound is not None:
        where = f"{bar.bound * scale:.3f}%"
        shapes.append(
            tag("line", class_="bound", x1=where, x2=where, y1=0, y2=_HEIGHT + 2 * _MARGIN)
        )
    drawn = tag("svg", *shapes, width="100%", height=_HEIGHT + 2 * _MARGIN, aria_hidden="true")
    texts = tag("span", bar.label), tag("b", bar.shown)
    return tag("div", tag("p", *texts), drawn, data_tip=bar.tip)


def _whisker(low: float, high: float) -> list[Markup]:
    middle = _MARGIN + _HEIGHT // 2
    spans = ((low, high, 0), (low, low, 4), (high, high, 4))
    return [
        tag(
            "line",
            class_="whisker",
            x1=f"{start:.3f}%",
            x2=f"{end:.3f}%",
            y1=middle - reach,
            y2=middle + reach,
        )
        for start, end, reach in spans
    ]
