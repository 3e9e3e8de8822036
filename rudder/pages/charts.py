"""Charts over minibatches or epochs, as SVG that fits any width.

Places on the x axis are shares of the width, in percent, and curves are stretched with it; texts
and strokes are not, so that a chart is as readable on a phone as it is on a wall.

P places, from left to right.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rudder.pages.buckets import Buckets, Floats, Ints
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import plural, ticks

# Units of the width of a stretched curve.
_WIDTH = 1000
_AXIS = 26
# Lines of so few points show each of them.
_DOTTED = 24


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """values: [P].   low, high: [P], the range behind them.   dashed: told apart without colour."""

    name: str
    colour: str
    values: Floats
    low: Floats | None = None
    high: Floats | None = None
    dashed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """values: [P], one segment of each stacked column."""

    name: str
    colour: str
    values: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Lane:
    """counts: [P], how often something happened at each place."""

    name: str
    colour: str
    counts: Ints


@dataclass(frozen=True, kw_only=True)
class Level:
    """A value to measure the others by, drawn across."""

    name: str
    value: float


def legend(entries: Sequence[Line | Part | Lane | Level]) -> Markup:
    """What the colours mean."""

    def item(entry: Line | Part | Lane | Level) -> Markup:
        if isinstance(entry, Level):
            return tag("li", tag("i", class_="level"), entry.name)
        dashed = isinstance(entry, Line) and entry.dashed
        kind = "dashed" if dashed else "line" if isinstance(entry, Line) else "block"
        return tag("li", tag("i", class_=f"{kind} {entry.colour}"), entry.name)

    return tag("ul", *map(item, entries), class_="legend")


def line_chart(
    lines: Sequence[Line],
    edges: Sequence[float],
    x: Axis,
    y: Axis,
    *,
    tips: Sequence[str],
    label: str,
    at: Sequence[float] | None = None,
    levels: Sequence[Level] = (),
    height: int = 200,
) -> Markup:
    """Lines over the same places. edges: [P + 1], in units of x.   tips: [P], shown on touch.

    at: [P], where the values are; halfway between the edges if not given.
    """
    if at is None:
        at = [(left + right) / 2 for left, right in itertools.pairwise(edges)]
    along = np.array([_WIDTH * x.share(value) for value in at])
    curves: list[Markup] = []
    dots: list[Markup] = []
    for line in lines:
        if line.low is not None and line.high is not None:
            band = _band(along, _down(line.low, y, height), _down(line.high, y, height))
            curves.append(tag("path", d=band, class_=f"band {line.colour}"))
        path = _path(along, _down(line.values, y, height))
        dashed = " dashed" if line.dashed else ""
        curves.append(tag("path", d=path, class_=f"curve {line.colour}{dashed}"))
        if len(at) <= _DOTTED:
            dots += _dots(line, [x.percent(value) for value in at], y, height)
    stretched = tag(
        "svg",
        *curves,
        viewBox=f"0 0 {_WIDTH} {height}",
        preserveAspectRatio="none",
        width="100%",
        height=height,
    )
    across = [_line("level", height * (1 - y.share(level.value))) for level in levels]
    shapes = [*across, stretched, *dots, *_touch(edges, x, tips, height)]
    return _frame(shapes, x, y, height, label)


def column_chart(
    parts: Sequence[Part],
    edges: Sequence[float],
    x: Axis,
    y: Axis,
    *,
    tips: Sequence[str],
    label: str,
    height: int = 200,
) -> Markup:
    """Stacked columns, first part at the bottom. One that is higher than y says so on its top."""
    shapes = []
    for place, (left, right) in enumerate(itertools.pairwise(edges)):
        gap = 0.12 * (right - left)
        where = {
            "x": x.percent(left + gap),
            "width": f"{100 * (x.share(right - gap) - x.share(left + gap)):.3f}%",
        }
        below = 0.0
        for part in parts:
            value = float(part.values[place])
            top, bottom = min(below + value, y.high), min(below, y.high)
            below += value
            if top > bottom:
                rise = height * (y.share(top) - y.share(bottom))
                down = height * (1 - y.share(top))
                shapes.append(
                    tag("rect", class_=part.colour, y=f"{down:.2f}", height=f"{rise:.2f}", **where)
                )
        if below > y.high * 1.001:
            # Beside its top: what is cut leaves room there.
            text = f"↑ {y.show(below)}"
            shapes.append(tag("text", text, class_="cut", x=x.percent(right), y=11, dx=2))
    return _frame([*shapes, *_touch(edges, x, tips, height)], x, y, height, label)


def strip(lanes: Sequence[Lane], edges: Sequence[float], x: Axis, *, label: str) -> Markup:
    """Lanes of marks under a chart with the same x axis: higher where more happened."""
    tall, gap = 22, 6
    shapes = []
    for number, lane in enumerate(lanes):
        bottom = (number + 1) * tall + number * gap
        most = max(int(lane.counts.max(initial=0)), 1)
        shapes += [_tick(lane.name, "-8px", bottom - tall / 2 + 4, "end"), _line("grid", bottom)]
        for left, right, count in zip(edges, edges[1:], lane.counts, strict=False):
            if not count:
                continue
            high = 5 + (tall - 5) * int(count) / most
            wide = max(100 * (x.share(right) - x.share(left)) * 0.8, 0.15)
            tip = f"{plural(int(count), lane.name + ' decision')}, {_places(left, right)}"
            where = {"x": x.percent(left), "width": f"{wide:.3f}%", "y": f"{bottom - high:.1f}"}
            shapes.append(
                tag("rect", class_=lane.colour, height=f"{high:.1f}", data_tip=tip, **where)
            )
    height = len(lanes) * (tall + gap)
    return tag("svg", *shapes, class_="plot strip", height=height, role="img", aria_label=label)


def bucket_edges(buckets: Buckets, numbers: Ints) -> list[float]:
    """The edges of buckets of minibatches, as their numbers: [B + 1]."""
    ends = [*numbers.tolist(), int(numbers[-1]) + 1]
    return [float(ends[edge]) for edge in buckets.edges]


def room(values: Sequence[Floats], headroom: float = 1.08) -> float:
    """The end of an axis from 0 that has room for all finite values."""
    finite = np.concatenate([np.asarray(each, float)[np.isfinite(each)] for each in values])
    highest = float(finite.max(initial=0.0))
    return highest * headroom if highest > 0 else 1.0


def _places(left: float, right: float) -> str:
    first, last = int(left), int(right) - 1
    return f"minibatch {first:,}" if first >= last else f"minibatches {first:,} to {last:,}"


def _down(values: Floats, y: Axis, height: int) -> Floats:
    """Pixels from the top; what is beyond the axis stays on its edge."""
    shares = np.clip([y.share(value) for value in values], 0.0, 1.0)
    return np.asarray(height * (1.0 - shares), np.float64)


def _path(along: Floats, down: Floats) -> str:
    """A line with a gap wherever a value is missing; a lone value is a dot."""
    words, open_ = [], False
    for left, top in zip(along, down, strict=True):
        if not np.isfinite(top):
            open_ = False
            continue
        words.append(f"{'L' if open_ else 'M'}{left:.1f} {top:.1f}" + ("" if open_ else "h0"))
        open_ = True
    return "".join(words)


def _dots(line: Line, lefts: Sequence[str], y: Axis, height: int) -> list[Markup]:
    return [
        tag("circle", class_=line.colour, cx=left, cy=f"{top:.1f}", r=3)
        for left, top in zip(lefts, _down(line.values, y, height), strict=True)
        if np.isfinite(top)
    ]


def _band(along: Floats, low: Floats, high: Floats) -> str:
    """The area between two lines, one piece for each stretch of places that have values."""
    words = []
    finite = np.isfinite(low) & np.isfinite(high)
    for piece in np.split(np.arange(len(along)), np.flatnonzero(np.diff(finite)) + 1):
        if not (len(piece) and finite[piece[0]]):
            continue
        outline = [*zip(along[piece], high[piece], strict=True)]
        outline += [*zip(along[piece[::-1]], low[piece[::-1]], strict=True)]
        words.append("M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in outline) + "Z")
    return "".join(words)


def _touch(edges: Sequence[float], x: Axis, tips: Sequence[str], height: int) -> list[Markup]:
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


def _frame(shapes: Sequence[Markup], x: Axis, y: Axis, height: int, label: str) -> Markup:
    """Axes, ticks and what is between them."""
    shares = [(value, y.share(value)) for value in ticks(y.low, y.high)]
    grid = [
        _tick(y.show(value), "-8px", height * (1 - share) + 4, "end") for value, share in shares
    ]
    grid += [_line("grid", height * (1 - share)) for _, share in shares]
    for value in ticks(x.low, x.high, whole=x.whole):
        anchor = "end" if x.share(value) > 0.97 else "middle"
        grid.append(_tick(x.show(value), x.percent(value), height + 18, anchor))
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


def _tick(text: str, left: str, down: float, anchor: str) -> Markup:
    return tag("text", text, class_="tick", x=left, y=f"{down:.1f}", text_anchor=anchor)


def _line(kind: str, down: float) -> Markup:
    return tag("line", class_=kind, x1=0, x2="100%", y1=f"{down:.1f}", y2=f"{down:.1f}")
