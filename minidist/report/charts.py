"""Charts: a run over its minibatches and epochs, as inline SVG in the colours of the page.

A chart is about as wide as a card of the page, on a phone and on a desk, so that its text keeps its
size. The page writes its legend and unit. P places, from left to right.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minidist.report.numerals import percent, seconds, short
from minidist.report.run_folder import Floats, Ints, Run

# Most places of a chart over minibatches, and over epochs: more are drawn as means of several.
MOST_POINTS, MOST_COLUMNS = 160, 60
# Units of the drawing: its width, the room around its axes, its height, and that of a lane.
WIDTH, LEFT, RIGHT, TOP, _HEIGHT, _BOTTOM, _LANE = 340, 54, 8, 8, 190, 42, 24
_DOTTED = 24  # Lines of so few points show each of them.
# A first epoch (which compiles and warms up) so much longer than the rest is cut, and says so.
_LONG = 2.0
# As in the style of the page, which has them for the dark scheme too.
COLOURS = {"blue": "#1769b5", "orange": "#b85c00", "green": "#0b7d59", "purple": "#8546ab"}
COLOURS |= {"grey": "#79818b", "ink": "#191c20", "muted": "#59616c", "line": "#dfe3e8"}
# What of matplotlib's SVG the page has no use for: names, clipping, fonts, a third digit.
_CHAFF = re.compile(
    r"<!--.*?-->|<defs>\s*<clipPath.*?</defs>|font-family:[^;]*; |(?<=\.\d\d)\d+"
    r'| (?:id="[\w.]+_\d+"|clip-path="[^"]*"|transform="rotate\(-0 [^"]*")',
    re.DOTALL,
)
_STEPS = [1, 2, 5, 10]
Show = Callable[[float], str]
_SHARE: Show = "{:.3g}%".format


@dataclass(frozen=True, eq=False)
class Series:
    """values: [P].   mark: block (of stacked columns), line, dashed, or level (one value, across).

    band: lows and highs, [P] each, the range behind a line.
    """

    name: str
    colour: str
    values: Floats
    mark: str = "line"
    band: tuple[Floats, Floats] | None = None

    def told(self, place: int, show: Show) -> str:
        """What it is at one place, for people."""
        text = f"{self.name} {show(self.values[place])}"
        low, high = [show(each[place]) for each in self.band or (self.values, self.values)]
        return text if low == high else f"{text} (from {low} to {high})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """svg: what is in the element.   unit: what its height measures.

    fields: (left, width, text) of each place, to show under the pointer.
    """

    svg: Markup
    height: int
    unit: str
    legend: Sequence[Series]
    fields: Sequence[tuple[float, float, str]]


class Places:
    """N minibatches or epochs as P places of consecutive ones, at most as many as given.

    edges: [P + 1], where places meet on the x axis.   middles: [P], where their values are.
    """

    def __init__(self, numbers: Ints, most: int, noun: str) -> None:
        self.noun = noun
        self._starts = np.linspace(0, len(numbers), min(len(numbers), most) + 1).round().astype(int)
        firsts = np.append(numbers, numbers[-1] + 1)[self._starts]
        self.edges: Floats = firsts - 0.5
        self.middles: Floats = (self.edges[1:] + self.edges[:-1]) / 2
        spans = zip(firsts[:-1].tolist(), (firsts[1:] - 1).tolist(), strict=True)
        self.names = [f"{noun} {a:,}" if a == b else f"{noun} {a:,}–{b:,}" for a, b in spans]

    def reduce(self, values: Floats | Ints, by: Callable[[Any], Any] = np.mean) -> Floats:
        """[N] to [P]: of each place's finite values; NaN where there are none."""
        pieces = [piece[np.isfinite(piece)] for piece in np.split(values, self._starts[1:-1])]
        return np.array([by(piece) if len(piece) else np.nan for piece in pieces], np.float64)

    def means(self, name: str, colour: str, values: Floats | Ints) -> Series:
        """A line of means, with the range that they hide."""
        band = self.reduce(values, np.min), self.reduce(values, np.max)
        return Series(name, colour, self.reduce(values), band=band)


def draw(run: Run) -> dict[str, Chart]:
    """The charts that the run has figures for, by name."""
    charts, steps = {}, run.minibatches
    if len(steps.number):
        places = Places(steps.number, MOST_POINTS, "minibatch")
        if np.isfinite(steps.loss).any():
            loss = [places.means("training loss", "blue", steps.loss)]
            charts["loss"] = _chart(places, loss, "mean over the global batch", short)
        asked = run.kind != "unknown" or steps.rows["hits"].any()
        if run.has_buffer and asked and steps.rows["remote"].any():
            charts["hits"] = _hits(run, places)
        charts["rows"] = _rows(run, places)
    if any(np.isfinite([score.train, score.val, score.test]).any() for score in run.scores):
        charts["scores"] = _scores(run)
    if run.times:
        whole, train, wait, sample, fetch = (
            np.array([getattr(times, f"{name}_s") for times in run.times.values()])
            for name in ("epoch_time", "train", "wait", "sample", "fetch")
        )
        rest = np.maximum(whole - train - wait, 0.0)
        parts = [("train", "blue", train), ("wait for data", "orange", wait)]
        parts.append(("the rest (logging)", "grey", rest))
        charts["loop"] = _columns(run, parts)
        parts = [("sample", "purple", sample), ("fetch", "green", fetch)]
        charts["stages"] = _columns(run, parts)
    return charts


def _hits(run: Run, places: Places) -> Chart:
    series = [places.means("%-Hits", "blue", run.minibatches.hits_pct)]
    capacity = sum((run.summary.get("buffer") or {}).get("capacity") or [])
    ceiling = 100 * capacity / float(run.minibatches.rows["remote"].mean())
    # Rows that come for another rank of the host are hits beyond what a shared buffer holds.
    shared = (run.summary.get("buffer") or {}).get("scope") == "host"
    if 0 < ceiling < 100 and not shared:
        name = f"C/b: the buffer holds {percent(ceiling, 0)} of a minibatch"
        series.append(Series(name, "ink", np.full(len(places.names), ceiling), "level"))
    lanes = []
    for name, colour, replace in (("replace", "purple", True), ("keep", "grey", False)):
        applied = [made.applied for made in run.decisions if made.replace == replace]
        counts = np.histogram(applied, places.edges)[0].astype(np.float64)
        lanes.append(Series(name, colour, counts, "block"))
    unit = "share of remote rows in the buffer"
    return _chart(places, series, unit, _SHARE, lanes=lanes if run.decisions else ())


def _rows(run: Run, places: Places) -> Chart:
    rows = run.minibatches.rows
    needed, extra = places.reduce(rows["remote"]), places.reduce(rows["replacements"])
    moved = places.means("moved", "orange", rows["misses"] + rows["replacements"])
    series = [Series("needed", "grey", needed, "dashed"), moved]
    if extra.any():
        series.append(Series("of them replacements", "purple", extra))
    return _chart(places, series, "of a minibatch, all ranks", short)


def _scores(run: Run) -> Chart:
    epochs = np.array([score.epoch + 1 for score in run.scores])
    train, val, test = (
        100 * np.array([getattr(score, split) for score in run.scores])
        for split in ("train", "val", "test")
    )
    lines = [
        Series("training", "grey", train, "dashed"),
        Series("validation", "green", val),
        Series("test", "purple", test),
    ]
    lines = [line for line in lines if np.isfinite(line.values).any()]
    values = np.concatenate([line.values for line in lines])
    limits = max(0.0, float(np.nanmin(values)) - 3), min(100.0, float(np.nanmax(values)) + 3)
    places = Places(epochs, len(epochs), "epoch")
    # An evaluation stands between those before and after it.
    places.middles, places.edges[1:-1] = epochs, (epochs[1:] + epochs[:-1]) / 2
    places.names = [f"epoch {epoch}" for epoch in epochs]
    unit = f"{run.scores[0].metric.replace('_', '-')} over all nodes"
    return _chart(places, lines, unit, _SHARE, limits=limits)


def _columns(run: Run, parts: Sequence[tuple[str, str, Floats]]) -> Chart:
    places = Places(np.array([*run.times]) + 1, MOST_COLUMNS, "epoch")
    series = [Series(name, colour, places.reduce(each), "block") for name, colour, each in parts]
    sums = np.sum([part.values for part in series], axis=0)
    rest = float(np.nanmax(sums[1:], initial=0.0))
    cut = 0 < _LONG * rest < sums[0]
    high = 1.25 * rest if cut else 1.05 * float(np.nanmax(sums, initial=0.0)) or 1.0
    return _chart(places, series, "seconds of an epoch", seconds, limits=(0.0, high))


def _chart(
    places: Places,
    series: Sequence[Series],
    unit: str,
    show: Show,
    *,
    limits: tuple[float, float] | None = None,
    lanes: Sequence[Series] = (),
) -> Chart:
    """show: how a value is written.   limits: of the y axis.   lanes: counts, in rows under it."""
    edges, height = places.edges, _HEIGHT + _LANE * len(lanes)
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    axes = _axes(figure, TOP, _HEIGHT - _BOTTOM, edges, show)
    tops = [np.nanmax(each.band[1] if each.band else each.values, initial=0.0) for each in series]
    axes.set_ylim(limits or (0.0, 1.08 * max(tops) or 1.0))
    axes.set_xlabel(places.noun, loc="right", labelpad=1, color=COLOURS["muted"], fontsize=12)
    for each in series:
        _plot(axes, each, places.middles)
    _stack(axes, [each for each in series if each.mark == "block"], edges, show)
    for number, lane in enumerate(lanes):
        _mark(_axes(figure, _HEIGHT + _LANE * number, _LANE - 6, edges, short), lane, edges)
    lefts = (LEFT + (WIDTH - LEFT - RIGHT) * (edges - edges[0]) / np.ptp(edges)).round(1).tolist()
    fields = []
    for place, name in enumerate(places.names):
        known = [each for each in series if np.isfinite(each.values[place])]
        lines = [each.told(place, show) for each in known]
        lines += [lane.told(place, "{:,.0f} times".format) for lane in lanes]
        wide = round(lefts[place + 1] - lefts[place], 1)
        fields.append((lefts[place], wide, "\n".join([name, *lines])))
    return Chart(svg=_svg(figure), height=height, unit=unit, legend=series, fields=fields)


def _axes(figure: Figure, top: int, height: int, edges: Floats, show: Show) -> Axes:
    """Axes without a frame, this many units from the top of the figure."""
    whole = 72 * figure.get_figheight()
    box = LEFT / WIDTH, 1 - (top + height) / whole, 1 - (LEFT + RIGHT) / WIDTH, height / whole
    axes = figure.add_axes(box, frameon=False, axisbelow=True, xlim=edges[[0, -1]])
    axes.grid(axis="y", color=COLOURS["line"], linewidth=1)
    axes.tick_params(length=0, pad=5, labelsize=12, labelcolor=COLOURS["muted"])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1, steps=_STEPS))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.yaxis.set_major_formatter(lambda value, _: show(value))
    return axes


def _plot(axes: Axes, series: Series, at: Floats) -> None:
    """A line with the range behind it, or a level."""
    colour = COLOURS[series.colour]
    if series.mark == "level":
        axes.axhline(series.values[0], color=colour, linestyle=":", linewidth=1.5)
    elif series.mark != "block":
        line = axes.plot(at, series.values, color=colour, linewidth=1.8, markersize=5)[0]
        line.set_marker("o" if len(at) <= _DOTTED else "")
        line.set_linestyle((0, (3, 2)) if series.mark == "dashed" else "-")
        if series.band:
            axes.fill_between(at, *series.band, color=colour, alpha=0.2, linewidth=0)


def _stack(axes: Axes, parts: Sequence[Series], edges: Floats, show: Show) -> None:
    """Stacked columns, first part at the bottom. One that is higher than the axis says so."""
    below, high, wide = np.zeros(len(edges) - 1), axes.get_ylim()[1], np.diff(edges)
    for part in parts:
        above = below + np.nan_to_num(part.values)
        low, top = np.minimum(below, high), np.minimum(above, high)
        axes.bar(edges[:-1] + wide / 2, top - low, 0.76 * wide, low, color=COLOURS[part.colour])
        below = above
    for place in np.flatnonzero(below > 1.001 * high):
        # Beside its top: what is cut leaves room there.
        axes.text(edges[place + 1], 0.94 * high, f"↑ {show(below[place])}", fontsize=12)


def _mark(axes: Axes, lane: Series, edges: Floats) -> None:
    """A lane of marks, higher where something happened more often."""
    heights = np.where(
        lane.values > 0, 0.25 + 0.75 * lane.values / max(lane.values.max(), 1.0), 0.0
    )
    axes.stairs(heights, edges, fill=True, color=COLOURS[lane.colour])
    axes.set(ylim=(0, 1), xticks=[], yticks=[0.35], yticklabels=[lane.name])
    axes.grid(False)


def _svg(figure: Figure) -> Markup:
    """The drawing in the colours of the page. No text of a run is in it, so all of it is safe."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(out, format="svg", transparent=True)
    # The prolog holds a style for every element, which would be for those of the page too.
    text = out.getvalue()
    text = _CHAFF.sub("", text[text.index("<g ") : text.rindex("</svg>")])
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(re.sub(r"\s*\n\s*", " ", text))
