"""Times: where each epoch's time went, and what ran behind it."""

from collections.abc import Sequence

import numpy as np

from rudder.pages.buckets import Buckets, Floats
from rudder.pages.card import card, empty
from rudder.pages.charts import Part, column_chart, room
from rudder.pages.frame import Axis
from rudder.pages.legend import legend
from rudder.pages.markup import Markup
from rudder.pages.numerals import brief_seconds, percent, plain, seconds
from rudder.pages.runs import Run

TITLE = "Time of an epoch"
_COLUMNS = 60
# A first epoch (which compiles and warms up) so much longer than the rest is cut, and says so.
_LONG = 2.0


def times(run: Run) -> Markup:
    """Stacked columns: the loop's time by epoch; under it that of sampling and fetching."""
    if not run.times:
        return empty(TITLE, _why(run))
    buckets = Buckets.of(len(run.times), _COLUMNS)
    epochs = np.array([*run.times, max(run.times) + 1]) + 0.5
    edges = [float(epochs[edge]) for edge in buckets.edges]
    loop, stages = _loop(run, buckets), _stages(run, buckets)
    names = [_name(edges, bucket) for bucket in range(len(buckets))]
    x = Axis(label="epoch", low=edges[0], high=edges[-1], show=plain, whole=True)
    charts = []
    for parts, height, what in (
        (loop, 190, "Seconds of each epoch in the training loop"),
        (stages, 90, "Seconds of each epoch in sampling and fetching"),
    ):
        y = _axis(parts, what)
        tips = [_tip(parts, place, name) for place, name in enumerate(names)]
        label = f"{what}: " + ", ".join(f"{p.name} {seconds(float(p.values[-1]))}" for p in parts)
        charts += [
            legend(parts),
            column_chart(
                parts, edges, x, y, tips=tips, label=f"{label} in the last", height=height
            ),
        ]
    note = "The rank whose epoch took longest; evaluation is left out."
    if buckets.size > 1:
        note += f" {len(run.times):,} epochs as {len(buckets)} columns: means of {buckets.size}."
    return card(TITLE, _takeaway(run), *charts, note=note)


def _why(run: Run) -> str:
    if run.config.get("trace_only"):
        return "This run recorded a trace and trained nothing (--trace-only)."
    return "No rank wrote down a whole epoch."


def _loop(run: Run, buckets: Buckets) -> list[Part]:
    epochs = run.times.values()
    train, wait, whole = (
        np.array([getattr(times, name) for times in epochs])
        for name in ("train_s", "wait_s", "epoch_time_s")
    )
    rest = np.maximum(whole - train - wait, 0.0)
    return [
        Part(name="train", colour="blue", values=buckets.means(train)),
        Part(name="wait for data", colour="orange", values=buckets.means(wait)),
        Part(name="the rest (logging)", colour="grey", values=buckets.means(rest)),
    ]


def _stages(run: Run, buckets: Buckets) -> list[Part]:
    def means(name: str) -> Floats:
        return buckets.means(np.array([getattr(times, name) for times in run.times.values()]))

    hidden = "" if run.kind == "none" else ", beside training"
    return [
        Part(name=f"sample{hidden}", colour="purple", values=means("sample_s")),
        Part(name=f"fetch{hidden}", colour="green", values=means("fetch_s")),
    ]


def _axis(parts: Sequence[Part], what: str) -> Axis:
    sums = np.array([part.values for part in parts]).sum(axis=0)
    rest = sums[1:] if len(sums) > 1 else sums
    cut = sums[0] > _LONG * rest.max()
    high = room([rest if cut else sums], 1.25 if cut else 1.05)
    return Axis(label=what, low=0.0, high=high, show=brief_seconds)


def _name(edges: Sequence[float], bucket: int) -> str:
    first, last = int(edges[bucket] + 0.5), int(edges[bucket + 1] - 0.5)
    return f"epoch {first:,}" if first == last else f"epochs {first:,} to {last:,} (mean)"


def _tip(parts: Sequence[Part], place: int, name: str) -> str:
    lines = [f"{part.name}: {seconds(float(part.values[place]))}" for part in parts]
    return "\n".join([name, *lines])


def _takeaway(run: Run) -> str:
    whole, train, wait = (run.figure(name) for name in ("epoch_time_s", "train_s", "wait_s"))
    if not whole or train is None or wait is None:
        return ""
    return (
        f"An epoch took {seconds(whole)}: {percent(100 * train / whole, 0)} training, "
        f"{percent(100 * wait / whole, 0)} waiting for data."
    )
