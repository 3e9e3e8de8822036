"""Frame: axes, ticks and what the pointer finds, around a chart that fits any width.

Places on the x axis are shares of the width, in percent; texts and strokes are not stretched with
it, so that a chart is as readable on a phone as it is on a wall.

P places, from left to right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import ticks

_AXIS = 26


@dataclass(frozen=True, kw_only=True)
class Axis:
    """low to high; show: how a number on it is written.   whole: no fractions are on it."""

    label: str
    low: float
    high: float
    show: Callable[[float], str]
    whole: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at low and 1 at high."""
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def percent(self, value: float) -> str:
        return f"{100 * self.share(value):.3f}%"


def frame(shapes: Sequence[Markup], x: Axis, y: Axis, height: int, label: str) -> Markup:
    """Axes, ticks and what is between them."""
    shares = [(value, y.share(value)) for value in ticks(y.low, y.high)]
    grid = [tick(y.show(value), "-8px", height * (1 - share) + 4, "end") for value, share in shares]
    grid += [rule("grid", height * (1 - share)) for _, share in shares]
    for value in ticks(x.low, x.high, whole=x.whole):
        anchor = "end" if x.share(value) > 0.97 else "middle"
        grid.append(tick(x.show(value), x.percent(value), height + 18, anchor))
    drawn = tag(
        "svg",
        *grid,
        *shapes,
        class_="plot",
        height=height + _AXIS,
        role="img",
        aria_label=label,
    )
    above, under = tag("div", y.label, class_="axis y"), tag("div", x.label, class_="axis x")
    return tag("div", above, drawn, under, class_="chart")


def tick(text: str, left: str, down: float, anchor: str) -> Markup:
    """A small text beside or under a chart."""
    return tag("text", text, class_="tick", x=left, y=f"{down:.1f}", text_anchor=anchor)


def rule(kind: str, down: float) -> Markup:
    """A line across, this many pixels from the top."""
    return tag("line", class_=kind, x1=0, x2="100%", y1=f"{down:.1f}", y2=f"{down:.1f}")


def touch(edges: Sequence[float], x: Axis, tips: Sequence[str], height: int) -> list[Markup]:
    """A field for each place, between its edges [P + 1], that says its tip when touched."""
    return [
        tag(
            "rect",
            class_="touch",
            x=x.percent(left),
            width=f"{100 * (x.share(right) - x.share(left)):.3f}%",
            height=height,
            data_tip=tip,
        )
        for left, right, tip in zip(edges, edges[1:], tips, strict=False)
    ]
