"""The buffer's trade-off: time and communication against its size (the paper's figure 16).

    python -m benchmarks.paper.buffer_sizes                      as root: links of --rate
    python -m benchmarks.paper.buffer_sizes --graphs synthetic:small --buffer 0.05,0.15,0.25

Live runs of static prefetching (fixed), the agent and the MLP.
"""

from collections.abc import Sequence

from benchmarks.paper.cells import Row, absent, progress
from benchmarks.paper.chart import Line, LinePanel, Panel
from benchmarks.paper.communication import ends
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.live import live
from benchmarks.paper.rows import (
    LEAST,
    above,
    distinct,
    gains,
    levels,
    pairs,
    pick,
    points,
    share,
    spread,
)
from benchmarks.paper.settings import FIXED, PaperConfig, ready


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks, buffer and variant."""
    variants = [FIXED, *config.agents(), *config.classifiers(("mlp",))]
    cells = [
        (graph, ranks, variant, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
        for variant in ready(variants)
    ]
    rows = [live(config, *cell) for cell in progress(cells, "buffer_sizes")]
    return rows + absent(variants)


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Against fixed at each size, and the smallest size against the largest."""
    adaptive = [str(name) for name in distinct(pick(rows), "variant") if name != FIXED.name]
    couples = [pair for name in adaptive for pair in pairs(rows, name, FIXED.name)]
    time, rows_saved = gains(couples, "epoch_s"), gains(couples, "moved_pct")
    smallest = min((row["buffer"] for row in pick(rows)), default=None)
    least = gains([pair for pair in couples if pair[0]["buffer"] == smallest], "epoch_s")
    sizes = [pair for name in adaptive for pair in ends(pick(rows, variant=name), "buffer")]
    # Of each (largest, smallest).
    slower = [large["epoch_s"] / small["epoch_s"] for large, small in sizes]
    kept = points(sizes, "hits_pct")
    return [
        Claim(
            paper="static prefetching is slower than Rudder",
            here=f"time saved against fixed: {spread(time, '%')}",
            holds=above(time, LEAST),
        ),
        Claim(
            paper="static prefetching communicates most",
            here=f"rows saved against fixed: {spread(rows_saved, '%')}; fewer in "
            f"{share(rows_saved, lambda saved: saved > 0)}",
            holds=above(rows_saved, LEAST),
        ),
        Claim(
            paper="with the smallest buffer (5%) epochs are 15 to 19% shorter",
            here=f"against fixed with the smallest buffer: {spread(least, '%')}",
            holds=above(least, 10),
        ),
        Claim(
            paper="a small buffer (5 to 15%) can be 2 to 4x faster than 25%",
            here="epoch with the largest over that with the smallest buffer: "
            f"{levels(slower, 'x')}",
            holds=above(slower, 1.5),
        ),
        Claim(
            paper="smaller buffers persist less: %-Hits fall",
            here=f"largest against smallest buffer: {spread(kept, ' points')}",
            holds=above(kept, LEAST),
        ),
    ]


def draw(rows: Sequence[Row]) -> list[Panel]:
    """Time, rows and %-Hits over the buffer's size, for each graph."""
    panels: list[Panel] = []
    figures = (("epoch_s", "seconds an epoch"), ("moved_pct", "rows moved, % of none"))
    for graph in distinct(pick(rows), "graph"):
        for key, unit in (*figures, ("hits_pct", "%-Hits")):
            lines = []
            for name in distinct(pick(rows, graph=graph), "variant"):
                own = pick(rows, graph=graph, variant=name)
                xs, ys = [100 * row["buffer"] for row in own], [row[key] for row in own]
                lines.append(Line(name=str(name), xs=xs, ys=ys))
            panels.append(LinePanel(title=f"{graph}: {unit}", x="buffer, %", y="", lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="buffer_sizes",
    title="The buffer's trade-off",
    source="figure 16, section 5.2",
    note="Real training runs with links of --rate. Times are medians over epochs after the first.",
    graphs="amazon_photo",
    ranks="2",
    buffers="0.05,0.1,0.15,0.2,0.25",
    columns=columns(
        *("graph", "ranks", "buffer", "variant", "epoch_s", "wait_s", "moved_pct", "hits_pct"),
        *("replace_pct", "link"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
