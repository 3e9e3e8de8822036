"""Baseline performance and scaling: epoch time over ranks (the paper's figure 12).

    python -m benchmarks.paper.scaling                                  as root: links of --rate
    python -m benchmarks.paper.scaling --ranks 2,4,8 --rate 200mbit
    python -m benchmarks.paper.scaling --rate none                      all ranks on this host

Live runs: without prefetching (DistDGL), with static prefetching (fixed) and with the agent.
"""

import itertools
from collections.abc import Sequence

from benchmarks.paper.cells import Row, progress
from benchmarks.paper.chart import Line, LinePanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.live import live
from benchmarks.paper.rows import (
    CELL,
    LEAST,
    above,
    agents,
    distinct,
    gains,
    pairs,
    pick,
    points,
    share,
    spread,
)
from benchmarks.paper.settings import FIXED, NONE, PaperConfig


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks, buffer and variant; without a buffer, once."""
    cells = [
        (graph, ranks, variant, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for variant in (NONE, FIXED, config.agent)
        for buffer in (config.buffers if variant is not NONE else config.buffers[:1])
    ]
    rows = []
    for graph, ranks, variant, buffer in progress(cells, "scaling"):
        row = live(config, graph, ranks, variant, buffer)
        if variant is NONE:
            # The same run stands beside every buffer.
            rows += [row | {"buffer": each} for each in config.buffers]
        else:
            rows.append(row)
    return rows


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Times against each other cell by cell, and against fewer ranks."""
    names = agents(rows)
    fixed = gains(pairs(rows, FIXED.name, NONE.name), "epoch_s")
    ours = [gain for one in names for gain in gains(pairs(rows, one, NONE.name), "epoch_s")]
    ahead = [gain for one in names for gain in gains(pairs(rows, one, FIXED.name), "epoch_s")]
    kept = [each for one in names for each in points(pairs(rows, one, FIXED.name), "hits_pct")]
    steps = _more_ranks(rows)
    return [
        Claim(
            paper="without prefetching epochs take longest, 10 to 50% longer than with the others",
            here=f"time saved by fixed: {spread(fixed, '%')}; by the agent: {spread(ours, '%')}; "
            f"longest without in {share(fixed + ours, lambda gain: gain > 0)} comparisons",
            holds=above(fixed + ours, LEAST),
        ),
        Claim(
            paper="static prefetching saves 10 to 30% of DistDGL's time in most cases, and is "
            "slower on some graphs (reddit: 35%)",
            here=f"saved {spread(fixed, '%')}; 10% or more in "
            f"{share(fixed, lambda gain: gain >= 10)}, slower in "
            f"{share(fixed, lambda gain: gain < 0)}",
            holds=sum(gain >= 10 for gain in fixed) > len(fixed) / 2 if fixed else None,
        ),
        Claim(
            paper="Rudder is faster than static prefetching (reddit, 64 trainers: 10%; over all "
            "runs up to 82%)",
            here=f"saved of fixed's time: {spread(ahead, '%')}",
            holds=above(ahead, LEAST),
        ),
        Claim(
            paper="Rudder's %-Hits are 20 to 50% above static prefetching's",
            here=f"points above fixed's: {spread(kept, ' points')}",
            holds=above(kept, LEAST),
        ),
        Claim(
            paper="epochs become shorter with more trainers",
            here=f"time saved by the next larger number of ranks: {spread(steps, '%')}",
            holds=above(steps, LEAST),
        ),
    ]


def _more_ranks(rows: Sequence[Row]) -> list[float]:
    """Percent of the epoch's time that each next number of ranks saves."""
    counts = sorted({row["ranks"] for row in pick(rows)})
    keys = [key for key in CELL if key != "ranks"]
    saved = []
    for name in distinct(pick(rows), "variant"):
        for few, many in itertools.pairwise(counts):
            before = [{**row, "variant": "before"} for row in pick(rows, variant=name, ranks=few)]
            after = [{**row, "variant": "after"} for row in pick(rows, variant=name, ranks=many)]
            saved += gains(pairs([*before, *after], "after", "before", keys), "epoch_s")
    return saved


def draw(rows: Sequence[Row]) -> list[Panel]:
    """Epoch times over ranks, a panel for each graph and buffer."""
    panels: list[Panel] = []
    for graph, buffer in dict.fromkeys((row["graph"], row["buffer"]) for row in pick(rows)):
        here = pick(rows, graph=graph, buffer=buffer)
        lines = []
        for name in distinct(here, "variant"):
            own = sorted(pick(here, variant=name), key=lambda row: int(row["ranks"]))
            xs, ys = [row["ranks"] for row in own], [row["epoch_s"] for row in own]
            lines.append(Line(name=str(name), xs=xs, ys=ys))
        title = f"{graph}, buffer {buffer:.0%}"
        panels.append(LinePanel(title=title, x="ranks", y="seconds an epoch", lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="scaling",
    title="Baseline performance: epoch time over ranks",
    source="figure 12, section 5.1",
    note="Real training runs; each rank is a host of its own with a link of --rate, and all share "
    "the cores of one machine, so that more ranks add links but no compute. Times are medians "
    "over epochs after the first.",
    graphs="amazon_photo,synthetic:small",
    ranks="2,4",
    buffers="0.05,0.25",
    columns=columns(
        *("graph", "ranks", "buffer", "variant", "epoch_s", "train_s", "wait_s", "moved_pct"),
        *("hits_pct", "link"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
