"""Traffic: what the buffer held of each minibatch, what was moved for it, and when it changed."""

from collections.abc import Sequence

import numpy as np

from rudder.pages.buckets import Buckets, Floats
from rudder.pages.card import card, empty
from rudder.pages.charts import Level, Line, bucket_edges, line_chart, room
from rudder.pages.frame import Axis
from rudder.pages.legend import legend
from rudder.pages.markup import Markup
from rudder.pages.numerals import fixed, percent, plain, plural, short
from rudder.pages.runs import Run
from rudder.pages.strip import Lane, strip

HITS, ROWS = "%-Hits of each minibatch", "Remote rows of each minibatch"


def places(edges: Sequence[float], place: int) -> str:
    """Which minibatches a point of a chart stands for."""
    first, last = int(edges[place]), int(edges[place + 1]) - 1
    return f"minibatch {first:,}" if first >= last else f"minibatches {first:,} to {last:,}"


def sampling(num: int) -> str:
    """How many minibatches a point stands for, where it is more than one."""
    buckets = Buckets.of(num)
    if buckets.size <= 1:
        return ""
    return (
        f"{num:,} minibatches are drawn as {len(buckets)} points: each is the mean of up to "
        f"{buckets.size}, the band behind it reaches from the smallest to the largest."
    )


def hits(run: Run) -> Markup:
    """%-Hits over the minibatches, with the decisions under it."""
    steps = run.minibatches
    if run.kind == "unknown" and not steps.hits.any():
        return empty(HITS, "The run left no settings, and no minibatch hit a buffer.", wide=True)
    if not run.has_buffer:
        why = (
            f"There was no buffer (--prefetch {run.prefetch}): every remote row was moved for "
            "each minibatch that needed it."
        )
        return empty(HITS, why, wide=True)
    if not len(steps):
        return empty(HITS, _no_steps(run), wide=True)
    if not steps.remote.any():
        return empty(HITS, "No minibatch needed a remote row.", wide=True)
    buckets = Buckets.of(len(steps))
    edges, share = bucket_edges(buckets, steps.number), steps.hits_pct
    means = buckets.means(share)
    line = Line(
        name="%-Hits",
        colour="blue",
        values=means,
        low=buckets.lows(share),
        high=buckets.highs(share),
    )
    levels = _ceiling(run)
    x = Axis(label="minibatch", low=edges[0], high=edges[-1], show=short, whole=True)
    top = max(
        room([line.high if line.high is not None else means]), *(lv.value for lv in levels), 1
    )
    y = Axis(
        label="Remote rows that were in the buffer (%)",
        low=0.0,
        high=min(100.0, top),
        show=plain,
    )
    tips = [_hits_tip(edges, place, line) for place in range(len(means))]
    label = f"%-Hits by minibatch: {percent(run.hits_pct)} over the run"
    chart = line_chart([line], edges, x, y, tips=tips, label=label, levels=levels)
    lanes = _lanes(run, edges)
    marks = [strip(lanes, edges, x, label=_marked(lanes))] if lanes else []
    note = " ".join(part for part in (sampling(len(steps)), _lane_note(run, lanes)) if part)
    body = [legend([line, *levels, *lanes]), chart, *marks]
    return card(HITS, _hits_takeaway(run, share), *body, note=note, wide=True)


def rows(run: Run) -> Markup:
    """Rows needed and rows moved over the minibatches."""
    steps = run.minibatches
    if not len(steps):
        return empty(ROWS, _no_steps(run), wide=True)
    buckets = Buckets.of(len(steps))
    edges = bucket_edges(buckets, steps.number)
    needed, moved = steps.remote.astype(float), steps.moved.astype(float)
    lines = [
        Line(name="needed", colour="grey", values=buckets.means(needed), dashed=True),
        Line(
            name="moved: misses and replacements",
            colour="orange",
            values=buckets.means(moved),
            low=buckets.lows(moved),
            high=buckets.highs(moved),
        ),
    ]
    x = Axis(label="minibatch", low=edges[0], high=edges[-1], show=short, whole=True)
    high = room([lines[0].values, buckets.highs(moved)])
    y = Axis(label="Rows of a minibatch, all ranks", low=0.0, high=high, show=short)
    kinds = {"misses": steps.misses, "replacements": steps.replacements}
    parts = {name: buckets.means(counts.astype(float)) for name, counts in kinds.items()}
    tips = [
        f"{places(edges, place)}\nneeded {fixed(float(lines[0].values[place]), 0)}\n"
        + "\n".join(f"{name} {fixed(float(means[place]), 0)}" for name, means in parts.items())
        for place in range(len(buckets))
    ]
    label = f"Rows by minibatch: {short(run.moved)} moved of {short(run.rows['remote'])} needed"
    chart = line_chart(lines, edges, x, y, tips=tips, label=label, height=160)
    return card(
        ROWS, _rows_takeaway(run), legend(lines), chart, note=sampling(len(steps)), wide=True
    )


def _no_steps(run: Run) -> str:
    if run.config.get("trace_only"):
        return "This run recorded a trace and trained nothing (--trace-only)."
    return "No minibatch was written down by every rank."


def _ceiling(run: Run) -> list[Level]:
    """C/b, where it is under 100%."""
    capacity = sum((run.summary.get("buffer") or {}).get("capacity") or [])
    mean = float(run.minibatches.remote.mean())
    if not capacity or capacity >= mean:
        return []
    share = 100 * capacity / mean
    return [Level(name=f"C/b: this buffer holds {percent(share, 0)} of a minibatch", value=share)]


def _hits_tip(edges: Sequence[float], place: int, line: Line) -> str:
    assert line.low is not None
    assert line.high is not None
    low, mean, high = (float(each[place]) for each in (line.low, line.values, line.high))
    spread = "" if low == high else f" (from {fixed(low)} to {fixed(high)})"
    return f"{places(edges, place)}\n%-Hits {fixed(mean)}{spread}"


def _hits_takeaway(run: Run, share: Floats) -> str:
    quarter = share[-max(len(share) // 4, 1) :]
    late = float(np.nanmean(quarter)) if np.isfinite(quarter).any() else None
    return (
        f"{percent(run.hits_pct)} of the remote rows were in the buffer; a minibatch of the last "
        f"quarter of the run found {percent(late)}."
    )


def _rows_takeaway(run: Run) -> str:
    counts, moved = run.rows, run.moved
    extra = f"{short(counts['misses'])} misses and {short(counts['replacements'])} replacements"
    change = 100 - (run.moved_pct or 0)
    if not run.has_buffer:
        return f"All {short(moved)} remote rows that minibatches needed were moved."
    word = "fewer" if change >= 0 else "more"
    return f"{short(moved)} rows were moved ({extra}): {abs(change):.1f}% {word} than no buffer."


def _lanes(run: Run, edges: Sequence[float]) -> list[Lane]:
    if not run.decisions:
        return []
    lanes = []
    for name, colour, replaced in (("replace", "purple", True), ("keep", "grey", False)):
        applied = [made.applied for made in run.decisions if made.replace == replaced]
        counts = np.histogram(applied, edges)[0].astype(np.int64)
        lanes.append(Lane(name=name, colour=colour, counts=counts))
    return lanes


def _marked(lanes: Sequence[Lane]) -> str:
    words = [f"{lane.name} {int(lane.counts.sum()):,} times" for lane in lanes]
    return f"Decisions by minibatch: {', '.join(words)}"


def _lane_note(run: Run, lanes: Sequence[Lane]) -> str:
    if lanes:
        return (
            f"Under the chart: {plural(len(run.decisions), 'decision')} of all ranks, at the "
            "minibatches that carried them out."
        )
    return f"No decisions to mark: {run.prefetch} steers itself." if run.steers_itself else ""
