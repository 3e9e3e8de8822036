"""Curves: a figure of panels with lines over numbers of trainers, as one SVG file.

It stands alone (no style sheet), and is as readable on a dark page as on a white one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import plain, ticks

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _GAP = 300, 200, 46, 34, 40, 34
# Told apart by people who see few colours; beyond them lines are dashed.
_COLOURS = ("#1769b5", "#b85c00", "#0b7d59", "#8546ab", "#79818b", "#c2255c")
_STYLE = (
    "svg{font:12px system-ui,sans-serif;background:#fff}text{fill:#59616c}"
    ".title{font-weight:600;fill:#191c20;font-size:13px}.grid{stroke:#dfe3e8}"
    ".curve{fill:none;stroke-width:2}"
)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """values: one for each place; None leaves a gap.   low, high: the range behind them."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """places: what stands under the axis, evenly spaced. The y axis begins at 0."""

    title: str
    y: str
    places: Sequence[str]
    curves: Sequence[Curve]


def draw(panels: Sequence[Panel], file: Path, columns: int = 2) -> None:
    """Write the figure. Curves of one name have one colour in all panels."""
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    rows = -(-len(panels) // columns)
    wide = min(columns, len(panels)) * (_LEFT + _WIDTH + _GAP)
    high = rows * (_TOP + _HEIGHT + _BOTTOM) + 18 * -(-len(names) // 4) + 12
    shapes = [tag("style", Markup(_STYLE))]
    for number, panel in enumerate(panels):
        down, along = divmod(number, columns)
        where = f"translate({along * (_LEFT + _WIDTH + _GAP) + _LEFT} "
        where += f"{down * (_TOP + _HEIGHT + _BOTTOM) + _TOP})"
        shapes.append(tag("g", *_panel(panel, names), transform=where))
    for number, name in enumerate(names):
        x = _LEFT + wide // 4 * (number % 4)
        y = rows * (_TOP + _HEIGHT + _BOTTOM) + 18 * (number // 4) + 10
        shapes.append(tag("line", x1=x, x2=x + 20, y1=y - 4, y2=y - 4, **_stroke(number)))
        shapes.append(tag("text", name, x=x + 26, y=y))
    whole = tag(
        "svg",
        *shapes,
        xmlns="http://www.w3.org/2000/svg",
        width=wide,
        height=high,
        viewBox=f"0 0 {wide} {high}",
    )
    file.write_text(whole + "\n")


def _panel(panel: Panel, names: Sequence[str]) -> list[Markup]:
    ends = [v for curve in panel.curves for v in [*curve.values, *(curve.high or [])]]
    top = 1.05 * max([v for v in ends if v is not None], default=0.0) or 1.0
    step = _WIDTH / max(len(panel.places) - 1, 1)

    def y(value: float) -> float:
        return _HEIGHT * (1 - min(value, top) / top)

    shapes = [tag("text", panel.title, class_="title", y=-18), tag("text", panel.y, y=-4)]
    for value in ticks(0.0, top):
        down = f"{y(value):.1f}"
        shapes.append(tag("line", class_="grid", x1=0, x2=_WIDTH, y1=down, y2=down))
        label = tag("text", plain(value), x=-6, y=f"{y(value) + 4:.1f}", text_anchor="end")
        shapes.append(label)
    for number, place in enumerate(panel.places):
        left = f"{number * step:.1f}"
        shapes.append(tag("text", place, text_anchor="middle", x=left, y=_HEIGHT + 18))
    for curve in panel.curves:
        number = names.index(curve.name)
        points = [(i * step, v) for i, v in enumerate(curve.values) if v is not None]
        if curve.low is not None and curve.high is not None:
            outline = [(i * step, v) for i, v in enumerate(curve.high)]
            outline += reversed([(i * step, v) for i, v in enumerate(curve.low)])
            where = " ".join(f"{x:.1f},{y(v):.1f}" for x, v in outline)
            shapes.append(tag("polygon", points=where, fill=_colour(number), opacity="0.15"))
        where = " ".join(f"{x:.1f},{y(v):.1f}" for x, v in points)
        shapes.append(tag("polyline", points=where, class_="curve", **_stroke(number)))
        shapes += [
            tag("circle", cx=f"{x:.1f}", cy=f"{y(v):.1f}", r="2.5", fill=_colour(number))
            for x, v in points
        ]
    return shapes


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _stroke(number: int) -> dict[str, str]:
    dashes = ("", "5 4", "1 4")[number // len(_COLOURS) % 3]
    dashed = {"stroke_dasharray": dashes} if dashes else {}
    return {"stroke": _colour(number), "stroke_width": "2", **dashed}
