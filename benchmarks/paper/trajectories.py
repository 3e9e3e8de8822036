"""Decision trajectories of the agent and the MLP on one trainer (the paper's figure 20).

    python -m benchmarks.paper.trajectories --classifier-dir fitted
    python -m benchmarks.paper.trajectories --graphs tolokers --buffer 0.05

%-Hits of each minibatch, with the decisions to replace marked, of the first rank of a recorded run.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.paper.cells import Curve, Row, absent, curve, progress
from benchmarks.paper.chart import Line, LinePanel, Panel
from benchmarks.paper.exhibit import Claim, Column, Exhibit, columns
from benchmarks.paper.replayed import record, watched
from benchmarks.paper.rows import (
    LEAST,
    above,
    agents,
    levels,
    median,
    pairs,
    pick,
    points,
    share,
    spread,
)
from benchmarks.paper.settings import PaperConfig, Variant, ready
from rudder.replay.trace import Trace


def trajectory(trace: Trace, variant: Variant, buffer: float) -> Row:
    """What a decider saw and said on one rank, minibatch by minibatch."""
    seen = watched(trace, variant, buffer)
    replaced = np.asarray(seen.replaced, bool)
    hits = np.array([one.hits_pct for one in seen.snapshots])
    first, *_, last = np.array_split(replaced, 4)
    start, *_, end = np.array_split(hits, 10)
    before_end = np.array_split(hits, 10)[-3]
    return {
        "variant": variant.name,
        "kind": variant.kind,
        "replace_pct": 100.0 * float(replaced.mean()),
        "early_pct": 100.0 * float(first.mean()),
        "late_pct": 100.0 * float(last.mean()),
        "start_hits": float(start.mean()),
        "steady_hits": float(end.mean()),
        "drift": float(end.mean() - before_end.mean()),
        "moved": sum(one.moved for one in seen.snapshots),
        "replacement_rows": sum(one.replacement_rows for one in seen.snapshots),
        "curve": asdict(curve(hits, most=100)),
        "decisions": [
            one.minibatch for one, word in zip(seen.snapshots, replaced, strict=True) if word
        ],
    }


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, buffer and decider."""
    variants = [config.agent, *config.classifiers(("mlp",))]
    cells = [
        (graph, ranks, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
    ]
    rows = []
    for graph, ranks, buffer in progress(cells, "trajectories"):
        trace = record(config, graph, ranks)[0]
        cell = {"graph": graph, "ranks": ranks, "buffer": buffer}
        rows += [cell | trajectory(trace, variant, buffer) for variant in ready(variants)]
    return rows + absent(variants)


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Both curves, and how often and how expensively each decider replaced."""
    rise = [row["steady_hits"] - row["start_hits"] for row in pick(rows)]
    drift = [row["drift"] for row in pick(rows)]
    couples = [pair for name in agents(rows) for pair in pairs(rows, name, "mlp")]
    ours = [row["replace_pct"] for row, _ in couples]
    fewer = [-each for each in points(couples, "replace_pct")]
    later = [
        row["late_pct"] - row["early_pct"]
        for name in agents(rows)
        for row in pick(rows, variant=name)
    ]
    more = [mlp["replacement_rows"] / max(own["replacement_rows"], 1) for own, mlp in couples]
    middle, late = median(more), median(later)
    return [
        Claim(
            paper="%-Hits rise quickly at first and converge to a steady state",
            here=f"last tenth against the first: {spread(rise, ' points')}; against the eighth "
            f"tenth: {spread(drift, ' points')}",
            holds=above(rise, 5) and max(map(abs, drift)) < 5 if rise else None,
        ),
        Claim(
            paper="the MLP replaces more often than the agent",
            here=f"share of minibatches: agent {levels(ours, '%')}; the MLP more by "
            f"{spread(fewer, ' points')}",
            holds=above(fewer, LEAST),
        ),
        Claim(
            paper="the agent intervenes less in later minibatches",
            here=f"its share of replacements, last quarter against the first: "
            f"{spread(later, ' points')}",
            holds=None if late is None else late < 0,
        ),
        Claim(
            paper="frequent replacement can cost the MLP orders of magnitude more communication",
            here=f"rows replaced on purpose, MLP over agent: {levels(more, 'x')}; ten times or "
            f"more in {share(more, lambda ratio: ratio >= 10)}",
            holds=None if middle is None else any(ratio >= 10 for ratio in more),
        ),
    ]


def draw(rows: Sequence[Row]) -> list[Panel]:
    """A panel for each cell; ticks at the bottom are decisions to replace."""
    panels: list[Panel] = []
    for graph, buffer in dict.fromkeys((row["graph"], row["buffer"]) for row in pick(rows)):
        lines = []
        for row in pick(rows, graph=graph, buffer=buffer):
            one = Curve(**row["curve"])
            lines.append(
                Line(name=row["variant"], xs=one.places, ys=one.values, marks=row["decisions"])
            )
        title = f"{graph}, buffer {buffer:g}"
        panels.append(LinePanel(title=title, x="minibatch", y="%-Hits", lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="trajectories",
    title="Decision trajectories of the agent and the MLP",
    source="figure 20, section 5.5",
    note="One rank. Ticks at the bottom of a chart are decisions to replace. The policy moves rows "
    "that are missed anyway for free, so that frequent decisions need not cost rows here.",
    graphs="amazon_photo,tolokers,synthetic:small",
    ranks="4",
    buffers="0.25",
    columns=(
        *columns("graph", "buffer", "variant", "replace_pct"),
        Column(header="first quarter", key="early_pct"),
        Column(header="last", key="late_pct"),
        Column(header="%-Hits, first tenth", key="start_hits"),
        Column(header="last", key="steady_hits"),
        Column(header="rows moved", key="moved"),
        Column(header="replaced on purpose", key="replacement_rows"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
