"""Unique remote nodes over minibatches (the paper's figure 1).

    python -m benchmarks.paper.remote_nodes
    python -m benchmarks.paper.remote_nodes --graphs amazon_photo,tolokers --ranks 4

"Unique" can be read in two ways, and both are measured: remote nodes that no minibatch of the rank
sampled before, and the distinct remote nodes of each minibatch. Means over ranks.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.paper.cells import Curve, Floats, Row, curve, progress
from benchmarks.paper.chart import Line, LinePanel, Panel
from benchmarks.paper.exhibit import Claim, Column, Exhibit, columns
from benchmarks.paper.replayed import record
from benchmarks.paper.rows import median, pick, share, spread
from benchmarks.paper.settings import PaperConfig
from rudder.replay.trace import Trace

# A quarter that has this share of the first one's, or less, has fallen.
_FALLEN = 0.9


def unseen(trace: Trace) -> Floats:
    """Of each minibatch, the remote nodes that none before it asked for: [T]."""
    seen = np.zeros(trace.num_ids, bool)
    counts = []
    for number in range(trace.num_minibatches):
        ids = trace.minibatch(number)
        counts.append(np.count_nonzero(~seen[ids]))
        seen[ids] = True
    return np.asarray(counts, np.float64)


def quarters(values: Floats) -> tuple[float, float]:
    """Means over the first quarter and the last."""
    pieces = np.array_split(values, 4)
    return float(pieces[0].mean()), float(pieces[-1].mean())


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph and number of ranks."""
    cells = [(graph, ranks) for graph in config.graph_names for ranks in config.rank_counts]
    rows = []
    for graph, ranks in progress(cells, "remote_nodes"):
        recorded = record(config, graph, ranks)
        new = np.mean([unseen(trace) for trace in recorded], axis=0)
        all_ = np.mean([np.diff(trace.offsets) for trace in recorded], axis=0)
        row: Row = {"graph": graph, "ranks": ranks, "minibatches": len(new)}
        for name, values in (("new", new), ("distinct", all_)):
            row[f"{name}_first"], row[f"{name}_last"] = quarters(values)
            row[name] = asdict(curve(values))
        rows.append(row)
    return rows


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Whether the last quarter of the minibatches has fewer than the first."""
    claims = []
    for name, what in (("new", "not sampled before"), ("distinct", "of each minibatch")):
        ratios = [row[f"{name}_last"] / max(row[f"{name}_first"], 1e-9) for row in pick(rows)]
        fallen = [100 * (ratio - 1) for ratio in ratios]
        middle = median(ratios)
        claims.append(
            Claim(
                paper=f"fewer unique remote nodes are sampled as minibatches progress ({what})",
                here=f"last quarter against the first: {spread(fallen, '%')}; fell by a tenth or "
                f"more in {share(ratios, lambda ratio: ratio <= _FALLEN)}",
                holds=None if middle is None else middle <= _FALLEN,
            )
        )
    return claims


def draw(rows: Sequence[Row]) -> list[Panel]:
    """A panel for each graph."""
    panels: list[Panel] = []
    for row in pick(rows):
        curves = {name: Curve(**row[name]) for name in ("distinct", "new")}
        lines = [
            Line(name=label, xs=curves[name].places, ys=curves[name].values)
            for name, label in (("distinct", "of each minibatch"), ("new", "not sampled before"))
        ]
        title = f"{row['graph']}, {row['ranks']} ranks"
        panels.append(LinePanel(title=title, x="minibatch", y="remote nodes", lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="remote_nodes",
    title="Unique remote nodes over minibatches",
    source="figure 1, section 1",
    note="Remote nodes of a minibatch, a rank, means over ranks; each point is a mean over a "
    "fiftieth of the run. Counted from recorded traces.",
    graphs="",
    ranks="4",
    buffers="0.25",
    columns=(
        *columns("graph", "ranks"),
        Column(header="minibatches", key="minibatches"),
        Column(header="new, first quarter", key="new_first"),
        Column(header="last", key="new_last"),
        Column(header="distinct, first quarter", key="distinct_first"),
        Column(header="last", key="distinct_last"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
