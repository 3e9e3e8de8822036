"""%-Hits under replacement strategies (the paper's figure 3).

    python -m benchmarks.paper.strategies
    python -m benchmarks.paper.strategies --graphs amazon_photo --buffer 0.05,0.25

The score policy decides what to replace; when is a single time, seldom (every 32 minibatches), at
every minibatch ("fixed"), or when the agent says so. Replayed, so all see the same minibatches.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.paper.cells import Curve, Row, curve, progress
from benchmarks.paper.chart import Line, LinePanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.replayed import record, replayed, watched
from benchmarks.paper.rows import agents, gains, median, pairs, pick, points, spread
from benchmarks.paper.settings import FIXED, PaperConfig, Variant, scheduled
from rudder.replay.trace import Trace

SINGLE, SELDOM = scheduled("single", "once"), scheduled("infrequent", "every:32")


def hits_curve(recorded: Sequence[Trace], variant: Variant, buffer: float) -> Curve:
    """%-Hits of each minibatch, over all ranks."""
    seen = [watched(trace, variant, buffer).snapshots for trace in recorded]
    hits = np.sum([[one.hits for one in rank] for rank in seen], axis=0)
    remote = np.sum([[one.remote for one in rank] for rank in seen], axis=0)
    return curve(100.0 * hits / np.maximum(remote, 1))


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, buffer and strategy."""
    cells = [
        (graph, ranks, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
    ]
    rows = []
    for graph, ranks, buffer in progress(cells, "strategies"):
        recorded = record(config, graph, ranks)
        for variant in (SINGLE, SELDOM, FIXED, config.agent):
            row = replayed(config, recorded, graph, variant, buffer)
            rows.append(row | {"curve": asdict(hits_curve(recorded, variant, buffer))})
    return rows


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Every minibatch against seldom, and the agent against every minibatch."""
    claims = []
    for name in (SINGLE.name, SELDOM.name):
        couples = pairs(rows, name, FIXED.name)
        more = [-gain for gain in gains(couples, "moved_pct")]
        behind = points(couples, "hits_pct")
        middles = median(more), median(behind)
        claims.append(
            Claim(
                paper=f"{name} replacement moves more rows than checking at every minibatch, and "
                "its %-Hits suffer from stale rows",
                here=f"rows {spread(more, '%')}; %-Hits {spread(behind, ' points')}",
                holds=None
                if middles[0] is None or middles[1] is None
                else middles[0] > 0 and middles[1] < 0,
            )
        )
    for agent in agents(rows):
        ahead = points(pairs(rows, agent, FIXED.name), "hits_pct")
        middle = median(ahead)
        claims.append(
            Claim(
                paper="adaptive replacement keeps the data better (%-Hits) than all of these",
                here=f"{agent} against every minibatch: {spread(ahead, ' points')}",
                holds=None if middle is None else middle > 0,
            )
        )
    return claims


def draw(rows: Sequence[Row]) -> list[Panel]:
    """A panel for each graph and buffer."""
    panels: list[Panel] = []
    for graph, ranks, buffer in dict.fromkeys(
        (row["graph"], row["ranks"], row["buffer"]) for row in pick(rows)
    ):
        here = pick(rows, graph=graph, ranks=ranks, buffer=buffer)
        curves = [(row["variant"], Curve(**row["curve"])) for row in here]
        lines = [Line(name=name, xs=one.places, ys=one.values) for name, one in curves]
        title = f"{graph}, buffer {buffer:.0%}"
        panels.append(LinePanel(title=title, x="minibatch", y="%-Hits", lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="strategies",
    title="%-Hits by replacement strategy",
    source="figure 3, section 2.1",
    note="%-Hits over all ranks; each point is a mean over a fiftieth of the run. All strategies "
    "use the score policy and start from an empty buffer.",
    graphs="",
    ranks="4",
    buffers="0.25",
    columns=columns(
        *("graph", "ranks", "buffer", "variant", "hits_pct", "moved_pct", "replace_pct")
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
