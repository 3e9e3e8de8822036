"""Chart: panels of lines or bars as SVG that stands alone, in light and in dark.

Sizes are in pixels of a panel, which scales as a picture does.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import fixed, plain, ticks

WIDTH = 350
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 38, 40
_PLOT_HEIGHT = 170
# Up to so many values of an x axis have a label each.
_FEW = 6
_BAR, _BAR_GAP, _GROUP_GAP = 11, 3, 9
_PER_ROW, _GAP = 3, 22
# Letters of 11 pixels are about this wide.
_LETTER = 6.0
_TITLE_LETTER, _TITLE_LINE = 7.6, 18
# Light, dark.
_COLOURS = {
    "blue": ("#1769b5", "#62aef5"),
    "orange": ("#b85c00", "#f2a354"),
    "green": ("#0b7d59", "#47c79b"),
    "purple": ("#8546ab", "#c795e6"),
    "red": ("#b3261e", "#f28b82"),
    "teal": ("#007a87", "#4fd0dd"),
    "olive": ("#7a7200", "#d3c84a"),
    "brown": ("#7b5138", "#c9a28b"),
    "pink": ("#b8327e", "#f08cc4"),
    "grey": ("#79818b", "#8b949f"),
}
_INK = {"page": ("#ffffff", "#191c21"), "ink": ("#191c20", "#e8eaee")}
_INK |= {"muted": ("#59616c", "#a2aab5"), "line": ("#dfe3e8", "#30353d")}
# What is in several exhibits has one colour in all of them.
_KNOWN = {
    "none": "grey",
    "fixed": "orange",
    "embedded": "blue",
    "mlp": "green",
    "massivegnn": "purple",
    "tabnet": "teal",
    "lr": "pink",
    "rf": "brown",
    "svm": "olive",
    "xgb": "red",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """ys: one for each of xs; None leaves a gap.   marks: places of x to mark at the bottom."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    marks: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class LinePanel:
    """Lines over a common x axis.   whole: no fractions are on it.   zero: y begins at 0.

    The axis is logarithmic where there are 3 to 6 values that span a factor of 8 or more.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    whole: bool = True
    zero: bool = True


@dataclass(frozen=True, kw_only=True)
class Bar:
    """value None: it was not run.   interval: of confidence."""

    name: str
    value: float | None
    interval: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class BarPanel:
    """Groups of bars from left to right, one group under the other.   digits: of the figures."""

    title: str
    unit: str
    groups: Mapping[str, Sequence[Bar]]
    digits: int = 1


Panel = LinePanel | BarPanel
_Across = Callable[[float], float]


@dataclass(frozen=True)
class Palette:
    """The colour of each name in a figure."""

    colours: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, panels: Sequence[Panel]) -> "Palette":
        """Known names have their own colours; others take what is left, in turn."""
        names = list(dict.fromkeys(name for panel in panels for name in _names(panel)))
        known = {name: _KNOWN[name] for name in names if name in _KNOWN}
        left = [colour for colour in _COLOURS if colour not in known.values()] or list(_COLOURS)
        others = [name for name in names if name not in known]
        return cls(known | {name: left[i % len(left)] for i, name in enumerate(others)})


def _names(panel: Panel) -> list[str]:
    if isinstance(panel, LinePanel):
        return [line.name for line in panel.lines]
    return [bar.name for bars in panel.groups.values() for bar in bars]


def style() -> str:
    """The rules that panels need, for a page or a file."""
    colours = {**_INK, **_COLOURS}
    light = "".join(f"--{name}:{pair[0]};" for name, pair in colours.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in colours.items())
    classes = "".join(f".exhibit .{name}{{--c:var(--{name})}}" for name in _COLOURS)
    return (
        f".exhibit{{{light}}}@media(prefers-color-scheme:dark){{.exhibit{{{dark}}}}}{classes}"
        ".exhibit text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;"
        "fill:var(--muted)}.exhibit .title{font-size:13px;font-weight:600;fill:var(--ink)}"
        ".exhibit .value{fill:var(--ink)}.exhibit .grid{stroke:var(--line)}"
        ".exhibit .axis{stroke:var(--muted)}.exhibit .whisker{stroke:var(--ink);stroke-width:1.2}"
        ".exhibit .curve{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}"
        ".exhibit .curve.dashed{stroke-dasharray:5 5}"
        ".exhibit .mark{stroke:var(--c);stroke-width:1}.exhibit circle,.exhibit rect{fill:var(--c)}"
        ".exhibit rect.page{fill:var(--page)}"
    )


def figure(title: str, panels: Sequence[Panel]) -> str:
    """A file: the panels in rows of three under a legend."""
    palette = Palette.of(panels)
    columns = min(_PER_ROW, len(panels)) or 1
    width = columns * (WIDTH + _GAP) + _GAP
    entries, down = _legend(palette, width)
    lines = textwrap.wrap(title, int((width - 2 * _GAP) / _TITLE_LETTER))
    shapes = list(entries)
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        for place, panel in enumerate(row):
            shapes.append(draw(panel, palette, x=_GAP + place * (WIDTH + _GAP), y=down))
        down += max(map(height, row)) + _GAP
    page = tag("rect", class_="page", width="100%", height="100%")
    titles = [_text(line, _GAP, 24 + _TITLE_LINE * row, "title") for row, line in enumerate(lines)]
    more = _TITLE_LINE * (len(lines) - 1)
    down += more
    drawn = tag(
        "svg",
        tag("style", Markup(style())),
        page,
        *titles,
        tag("g", *shapes, transform=f"translate(0 {more})"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {down}",
        width=width,
        height=down,
        class_="exhibit",
        role="img",
        aria_label=title,
    )
    return f"{drawn}\n"


def draw(panel: Panel, palette: Palette, x: float | None = None, y: float | None = None) -> Markup:
    """One panel: an element of its own, or at a place inside another."""
    shapes = _lines(panel, palette) if isinstance(panel, LinePanel) else _bars(panel, palette)
    tall = height(panel)
    place: dict[str, str] = {}
    if x is not None:
        place = {"x": f"{x:g}", "y": f"{y:g}", "height": f"{tall}", "width": f"{WIDTH}"}
    return tag(
        "svg",
        _text(panel.title, 0, 14, "title"),
        *shapes,
        viewBox=f"0 0 {WIDTH} {tall}",
        class_="panel exhibit",
        role="img",
        aria_label=panel.title,
        **place,
    )


def height(panel: Panel) -> int:
    """How tall a panel is."""
    if isinstance(panel, LinePanel):
        return _TOP + _PLOT_HEIGHT + _BOTTOM
    rows = sum(len(bars) * (_BAR + _BAR_GAP) + _GROUP_GAP for bars in panel.groups.values())
    return _TOP + rows + _BOTTOM


def _legend(palette: Palette, width: float) -> tuple[list[Markup], int]:
    """Its shapes, and where what follows begins."""
    shapes: list[Markup] = []
    left, down = float(_GAP), 46
    for name, colour in palette.colours.items():
        wide = 18 + _LETTER * len(name) + 16
        if left + wide > width:
            left, down = float(_GAP), down + 18
        shapes.append(tag("rect", class_=colour, x=f"{left:g}", y=down - 9, width=12, height=9))
        shapes.append(_text(name, left + 17, down))
        left += wide
    return shapes, down + 20


def _text(text: str, left: float, down: float, kind: str = "", anchor: str = "start") -> Markup:
    return tag(
        "text", text, x=f"{left:.1f}", y=f"{down:.1f}", class_=kind or None, text_anchor=anchor
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", class_=kind, **{name: f"{value:.1f}" for name, value in ends.items()})


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _lines(panel: LinePanel, palette: Palette) -> list[Markup]:
    xs = [x for line in panel.lines for x in line.xs]
    ys = _finite([y for line in panel.lines for y in line.ys])
    if not xs or not ys:
        return [_text("nothing was measured", _LEFT, _TOP + 20)]
    low = min(0.0, min(ys)) if panel.zero else min(ys)
    high = max(ys) + 0.06 * (max(ys) - low or 1.0)
    few = sorted(set(xs))
    start, end = few[0], few[-1]
    # A few settings over orders of magnitude, each with its label, would lie on each other.
    by_ratio = 3 <= len(few) <= _FEW and 0 < 8 * start <= end
    wide, bottom = WIDTH - _LEFT - _RIGHT, _TOP + _PLOT_HEIGHT

    def across(x: float) -> float:
        if by_ratio:
            return _LEFT + wide * math.log(x / start) / math.log(end / start)
        return _LEFT + wide * (x - start) / ((end - start) or 1.0)

    def down(y: float) -> float:
        return bottom - _PLOT_HEIGHT * (y - low) / ((high - low) or 1.0)

    shapes = []
    for value in ticks(low, high):
        shapes.append(_line("grid", _LEFT, down(value), WIDTH - _RIGHT, down(value)))
        shapes.append(_text(plain(value), _LEFT - 6, down(value) + 4, anchor="end"))
    for value in few if len(few) <= _FEW else ticks(start, end, whole=panel.whole):
        shapes.append(_text(plain(value), across(value), bottom + 15, anchor="middle"))
    shapes.append(_text(panel.x, WIDTH - _RIGHT, bottom + 32, anchor="end"))
    shapes.append(_text(panel.y, 0, _TOP - 9))
    for number, line in enumerate(panel.lines):
        colour = palette.colours[line.name]
        top = bottom - 8 * (number + 1)
        shapes += [_line(f"mark {colour}", across(x), top, across(x), top + 6) for x in line.marks]
        known = [
            (across(x), down(y))
            for x, y in zip(line.xs, line.ys, strict=True)
            if y is not None and math.isfinite(y)
        ]
        # What lies on a line that was drawn already lets it be seen.
        hides = any(_same(line, other, 0.01 * (high - low)) for other in panel.lines[:number])
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in known)
        shapes.append(tag("path", class_=f"curve {colour}{' dashed' * hides}", d=path))
        if len(known) <= 12:
            shapes += [
                tag("circle", class_=colour, cx=f"{x:.1f}", cy=f"{y:.1f}", r=3) for x, y in known
            ]
    return shapes


def _same(one: Line, other: Line, close: float) -> bool:
    """Whether two lines cannot be told apart."""
    return list(one.xs) == list(other.xs) and all(
        a == b or (a is not None and b is not None and abs(a - b) < close)
        for a, b in zip(one.ys, other.ys, strict=True)
    )


def _bars(panel: BarPanel, palette: Palette) -> list[Markup]:
    bars = [bar for group in panel.groups.values() for bar in group]
    ends = [end for bar in bars for end in (bar.interval or ())]
    values = _finite([*(bar.value for bar in bars), *ends])
    if not values:
        return [_text("nothing was measured", 0, _TOP + 14)]
    low, high = min(0.0, *values), max(0.0, *values)
    labels = min(max(_LETTER * max(map(len, panel.groups)) + 18, 30), 160)
    # The figure of the longest bar stands behind it.
    wide = WIDTH - labels - _RIGHT - 40

    def across(value: float) -> float:
        return labels + wide * (value - low) / ((high - low) or 1.0)

    shapes = []
    bottom = height(panel) - _BOTTOM + 4
    for value in ticks(low, high, most=4):
        kind = "axis" if value == 0 else "grid"
        shapes.append(_line(kind, across(value), _TOP - 4, across(value), bottom))
        shapes.append(_text(plain(value), across(value), bottom + 13, anchor="middle"))
    shapes.append(_text(panel.unit, WIDTH - _RIGHT, bottom + 29, anchor="end"))
    down = float(_TOP)
    for label, group in panel.groups.items():
        middle = down + (len(group) * (_BAR + _BAR_GAP) - _BAR_GAP) / 2 + 4
        shapes.append(_text(label, labels - 6, middle, anchor="end"))
        for bar in group:
            shapes += _bar(bar, palette.colours[bar.name], across, down, panel.digits)
            down += _BAR + _BAR_GAP
        down += _GROUP_GAP
    return shapes


def _bar(bar: Bar, colour: str, across: _Across, down: float, digits: int) -> list[Markup]:
    if bar.value is None or not math.isfinite(bar.value):
        return [_text("not run", across(0.0) + 4, down + 9)]
    left, right = sorted((across(0.0), across(bar.value)))
    shapes = [
        tag(
            "rect",
            class_=colour,
            x=f"{left:.1f}",
            y=f"{down:.1f}",
            width=f"{max(right - left, 0.8):.1f}",
            height=_BAR,
        )
    ]
    if bar.interval is not None:
        middle, (low, high) = down + _BAR / 2, map(across, bar.interval)
        shapes.append(_line("whisker", low, middle, high, middle))
        shapes += [_line("whisker", end, middle - 3, end, middle + 3) for end in (low, high)]
        right = max(right, high)
    shapes.append(_text(fixed(bar.value, digits), right + 4, down + 9, "value"))
    return shapes
