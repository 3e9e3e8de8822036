"""Communication by buffer and ranks (the paper's figure 14).

    python -m benchmarks.paper.communication
    python -m benchmarks.paper.communication --graphs tolokers --ranks 2,4,8 --buffer 0.05,0.25

Rows that crossed for a minibatch, in percent of its remote rows, with the agent deciding.
"""

from collections.abc import Sequence

from benchmarks.paper.cells import Row, progress
from benchmarks.paper.chart import Line, LinePanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.replayed import record, replayed
from benchmarks.paper.rows import distinct, gains, levels, median, pairs, pick, spread
from benchmarks.paper.settings import PaperConfig


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks and buffer."""
    cells = [(graph, ranks) for graph in config.graph_names for ranks in config.rank_counts]
    rows = []
    for graph, ranks in progress(cells, "communication"):
        recorded = record(config, graph, ranks)
        rows += [
            replayed(config, recorded, graph, config.agent, buffer) for buffer in config.buffers
        ]
    return rows


def ends(rows: Sequence[Row], key: str) -> list[tuple[Row, Row]]:
    """(largest, smallest) of each cell, by the number of ranks or the size of the buffer."""
    sizes = sorted({row[key] for row in pick(rows)})
    if len(sizes) < 2:
        return []
    large = [{**row, "variant": "large"} for row in pick(rows, **{key: sizes[-1]})]
    small = [{**row, "variant": "small"} for row in pick(rows, **{key: sizes[0]})]
    keys = [name for name in ("graph", "ranks", "buffer") if name != key]
    return pairs([*large, *small], "large", "small", keys)


def judge(rows: Sequence[Row]) -> list[Claim]:
    """The smallest buffer against the largest, and most ranks against fewest."""
    less = gains(ends(rows, "buffer"), "moved_pct")
    fall = gains(ends(rows, "ranks"), "moved_pct")
    smallest = min((row["buffer"] for row in pick(rows)), default=None)
    shares = [row["moved_pct"] for row in pick(rows, buffer=smallest)]
    middles = median(less), median(fall)
    return [
        Claim(
            paper="smaller buffers communicate more: with 5%, up to 50% of the sampled remote "
            "nodes",
            here=f"the largest buffer moves fewer rows than the smallest by {spread(less, '%')}; "
            f"the smallest moves {levels(shares, '%')} of all",
            holds=None if middles[0] is None else middles[0] > 0,
        ),
        Claim(
            paper="the share that is communicated falls by 30 to 40% with more trainers",
            here=f"most ranks against fewest: lower by {spread(fall, '%')}",
            holds=None if middles[1] is None else middles[1] > 0,
        ),
    ]


def draw(rows: Sequence[Row]) -> list[Panel]:
    """Shares over ranks, a panel for each graph and a line for each buffer."""
    panels: list[Panel] = []
    for graph in distinct(pick(rows), "graph"):
        lines = []
        for buffer in distinct(pick(rows, graph=graph), "buffer"):
            own = pick(rows, graph=graph, buffer=buffer)
            xs, ys = [row["ranks"] for row in own], [row["moved_pct"] for row in own]
            lines.append(Line(name=f"buffer {buffer}", xs=xs, ys=ys))
        panels.append(LinePanel(title=str(graph), x="ranks", y="rows moved, %", lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="communication",
    title="Communication by buffer and ranks",
    source="figure 14, section 5.1",
    note="Rows moved (misses and replacements) in percent of the remote rows of all minibatches, "
    "from the empty buffer at the start on. Replayed; the batch is the same for all ranks, so that "
    "more ranks have fewer minibatches each.",
    graphs="",
    ranks="2,4,8",
    buffers="0.05,0.25",
    columns=columns("graph", "ranks", "buffer", "variant", "moved_pct", "hits_pct", "replace_pct"),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
