"""Charts of all benchmarks: panels of lines or bars, drawn by matplotlib as one SVG.

Text stays text. Ink has the colour of the page around it; a file alone brings its own.

``lines``, ``curves`` and ``bars`` make panels of measured rows. Titles and names are templates of a
row, such as ``{graph}, buffer {buffer:.0%}``: rows for which they are the same share a panel, a
line or a bar. Figures are keys of rows, with spaces between.
"""

import html
import io
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from benchmarks.command import Row
from benchmarks.paper.claims import HEADINGS, Rows, pick, values

_BY = "{variant}"
# Of middle lightness, for light and dark. These names have one colour in all figures.
_COLOURS = {"none": "#868e98", "fixed": "#c97423", "embedded": "#3d8bd4", "mlp": "#2a9d6f"}
_COLOURS |= {"massivegnn": "#a06cc9", "tabnet": "#1f9aa8", "lr": "#d1589f", "rf": "#a3765a"}
_COLOURS |= {"svm": "#9a9020", "xgb": "#d9534f"}
_INK = "#010203"  # stands for currentColor, which matplotlib cannot name
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = dict.fromkeys(_INKED, _INK) | {"svg.fonttype": "none", "font.size": 9}
_STYLE |= {"axes.titlelocation": "left", "grid.alpha": 0.3, "axes.xmargin": 0.1}
_STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
_SILENT = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_CSS = """<style>svg:root { color: #191c20; background: #fff }
@media (prefers-color-scheme: dark) { svg:root { color: #e8eaee; background: #191c21 } }</style>"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """ys: one for each of xs; None leaves a gap.   errors: of them, drawn as error bars.

    marks: places of x to mark at the bottom.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    errors: Sequence[float] = ()
    marks: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """value None: it was not run.   interval: (low, high), drawn as an error bar."""

    name: str
    value: float | None
    interval: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines over x, or groups of bars along x, one under the other.   x, y: the axes' labels."""

    title: str
    x: str
    y: str = ""
    lines: Sequence[Line] = ()
    groups: Mapping[str, Sequence[Bar]] = field(default_factory=dict)

    @property
    def bars(self) -> list[Bar]:
        return [bar for group in self.groups.values() for bar in group]


def _grouped(rows: Rows, template: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(template.format(**row), []).append(row)
    return found


def lines(rows: Rows, title: str, x: str, keys: str, name: str = _BY) -> list[Panel]:
    """Figures over a setting, with the error of each that has a KEY_error."""
    found = []
    for heading, here in _grouped(pick(rows), title).items():
        for key in keys.split():
            drawn = []
            for label, own in _grouped(here, name).items():
                known = sorted(
                    (row[x], row[key], row.get(f"{key}_error") or 0.0)
                    for row in own
                    if row.get(key) is not None
                )
                xs, ys, errors = zip(*known, strict=True) if known else ((), (), ())
                drawn.append(Line(name=label, xs=xs, ys=ys, errors=errors if any(errors) else ()))
            found.append(Panel(title=heading, x=x, y=HEADINGS.get(key, key), lines=drawn))
    return found


def curves(rows: Rows, title: str, y: str) -> list[Panel]:
    """The curves of rows over minibatches; ticks at the bottom are decisions to replace."""
    found = []
    for heading, here in _grouped(pick(rows), title).items():
        drawn = [
            Line(name=name, xs=one["places"], ys=one["values"], marks=row.get("decisions", ()))
            for row in here
            for name, one in row["curves"].items()
        ]
        found.append(Panel(title=heading, x="minibatch", y=y, lines=drawn))
    return found


def bars(rows: Rows, title: str, keys: str, group: str = _BY, name: str = _BY) -> list[Panel]:
    """Medians of figures; what was not run says so. Pass@1 has its interval."""

    def bar(label: str, key: str, own: Rows) -> Bar:
        ends = own[0].get(f"{key}_ci") if len(own) == 1 else None
        return Bar(name=label, value=median(values(own, key) or [math.nan]), interval=ends)

    found, absent = [], [row for row in rows if row.get("missing")]
    for heading, here in _grouped(pick(rows), title).items():
        for key in keys.split():
            known = [row for row in here if row.get(key) is not None]
            groups = {
                label: [bar(each, key, own) for each, own in _grouped(some, name).items()]
                for label, some in _grouped([*known, *absent], group).items()
            }
            if known:
                found.append(Panel(title=heading, x=HEADINGS.get(key, key), groups=groups))
    return found


def figure(title: str, panels: Sequence[Panel]) -> str:
    """An ``<svg>``: rows of three panels, a legend below. Raises ValueError without matplotlib."""
    try:
        from matplotlib import figure, patches, rc_context
    except ImportError:
        raise ValueError("charts need matplotlib: pip install matplotlib") from None
    names = dict.fromkeys(line.name for each in panels for line in each.lines)
    names |= dict.fromkeys(bar.name for each in panels for bar in each.bars)
    spare = itertools.cycle([_COLOURS[name] for name in _COLOURS if name not in names] or [_INK])
    colours = {name: _COLOURS.get(name) or next(spare) for name in names}
    columns, file = min(3, len(panels)) or 1, io.StringIO()
    inches = [0.9 + 0.17 * (len(each.bars) + len(each.groups) or 9) for each in panels] or [1.0]
    rows = [max(inches[i : i + columns]) for i in range(0, len(inches), columns)]
    with rc_context({**_STYLE, "svg.hashsalt": f"of {title}"}):
        drawn = figure.Figure((4.2 * columns, sum(rows) + 0.8), layout="constrained")
        drawn.suptitle("\n".join(textwrap.wrap(title, 42 * columns)), weight="bold")
        axes = drawn.subplots(len(rows), columns, squeeze=False, height_ratios=rows).flat
        for ax, panel in zip(axes, panels, strict=False):
            nothing = "" if panel.lines or panel.groups else ": nothing was measured"
            ax.set(title=panel.title + nothing, xlabel=panel.x, ylabel=panel.y)
            (_draw_bars if panel.groups else _draw_lines)(ax, panel, colours)
        for ax in axes[len(panels) :]:
            ax.remove()
        shown = [patches.Patch(color=colour, label=name) for name, colour in colours.items()]
        drawn.legend(handles=shown, loc="outside lower left", ncols=2 * columns, frameon=False)
        drawn.savefig(file, format="svg", transparent=True, metadata=_SILENT)
    svg = file.getvalue().partition("<svg")[2].replace(_INK, "currentColor")
    head, _, rest = svg.partition(">")
    return f'<svg{head} role="img" aria-label="{html.escape(title)}">{_CSS}{rest}'


def _draw_lines(ax: Any, panel: Panel, colours: Mapping[str, str]) -> None:
    few = sorted({x for line in panel.lines for x in line.xs})
    for number, line in enumerate(panel.lines):
        # What lies under another line is wider.
        style = {"c": colours[line.name], "lw": 3.5 - 2 * number / len(panel.lines)}
        ax.plot(line.xs, np.array(line.ys, float), marker="." if len(few) <= 12 else "", **style)
        if line.errors:
            ax.errorbar(line.xs, np.array(line.ys, float), line.errors, fmt="none", **style)
        low = [0.02 + 0.04 * number] * len(line.marks)
        ax.plot(line.marks, low, "|", transform=ax.get_xaxis_transform(), **style)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    if few and len(few) <= 6:
        ax.set_xscale("log" if len(few) >= 3 and 0 < 8 * few[0] <= few[-1] else "linear")
        ax.set_xticks(few, [f"{x:g}" for x in few])
        ax.minorticks_off()


def _draw_bars(ax: Any, panel: Panel, colours: Mapping[str, str]) -> None:
    groups = np.repeat(np.arange(len(panel.groups)), [*map(len, panel.groups.values())])
    places = -np.arange(len(groups)) - 0.6 * groups
    found = np.array([bar.value for bar in panel.bars], float)
    values = np.nan_to_num(found)
    ends = [bar.interval or [value] * 2 for bar, value in zip(panel.bars, values, strict=True)]
    style = {"color": [colours[bar.name] for bar in panel.bars], "ecolor": _INK, "zorder": 2}
    bars = ax.barh(places, values, xerr=abs(np.transpose(ends) - values), **style)
    texts = np.where(np.isfinite(found), [f"{value:.4g}" for value in values], "not run")
    ax.bar_label(bars, texts, padding=3)
    ax.set_yticks([places[groups == i].mean() for i in range(len(panel.groups))], [*panel.groups])
