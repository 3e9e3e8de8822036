"""Charts over minibatches or epochs: lines and stacked columns.

P places, from left to right.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rudder.pages.buckets import Buckets, Floats, Ints
from rudder.pages.frame import Axis, frame, rule, touch
from rudder.pages.markup import Markup, tag

# Units of the width of a curve, which is stretched with the chart.
_WIDTH = 1000
# Lines of so few points show each of them.
_DOTTED = 24


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


@dataclass(frozen=True, kw_only=True)
class Level:
    """A value to measure the others by, drawn across."""

    name: str
    value: float


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
    across = [rule("level", height * (1 - y.share(level.value))) for level in levels]
    shapes = [*across, stretched, *dots, *touch(edges, x, tips, height)]
    return frame(shapes, x, y, height, label)


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
    return frame([*shapes, *touch(edges, x, tips, height)], x, y, height, label)


def bucket_edges(buckets: Buckets, numbers: Ints) -> list[float]:
    """The edges of buckets of minibatches, as their numbers: [B + 1]."""
    ends = [*numbers.tolist(), int(numbers[-1]) + 1]
    return [float(ends[edge]) for edge in buckets.edges]


def room(values: Sequence[Floats], headroom: float = 1.08) -> float:
    """The end of an axis from 0 that has room for all finite values."""
    finite = np.concatenate([np.asarray(each, float)[np.isfinite(each)] for each in values])
    highest = float(finite.max(initial=0.0))
    return highest * headroom if highest > 0 else 1.0


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
