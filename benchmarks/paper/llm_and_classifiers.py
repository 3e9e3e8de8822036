"""LLM agents against classifiers (the paper's figure 13).

    python -m benchmarks.paper.llm_and_classifiers                     as root: links of --rate
    python -m benchmarks.paper.llm_and_classifiers --classifier-dir fitted --buffer 0.05,0.25

Live runs of every decider; each is compared with static prefetching (fixed) on the same graph,
ranks and buffer: epoch time saved, and %-Hits gained.
"""

from collections.abc import Sequence

from benchmarks.paper.cells import Row, absent, progress
from benchmarks.paper.chart import Bar, BarPanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.live import live
from benchmarks.paper.rows import above, agents, distinct, gains, median, pairs, pick, spread
from benchmarks.paper.settings import FIXED, PaperConfig, ready


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks, buffer and decider."""
    variants = [FIXED, *config.agents(), *config.classifiers()]
    cells = [
        (graph, ranks, variant, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
        for variant in ready(variants)
    ]
    rows = [live(config, *cell) for cell in progress(cells, "llm_and_classifiers")]
    return rows + absent(variants)


def _against(rows: Sequence[Row], names: Sequence[str], key: str) -> list[float]:
    """Percent gained on fixed: time saved, or %-Hits added."""
    sign = -1.0 if key == "hits_pct" else 1.0
    return [sign * one for name in names for one in gains(pairs(rows, name, FIXED.name), key)]


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Agents and classifiers against fixed, and agents against classifiers."""
    llm = agents(rows)
    others = [str(name) for name in distinct(pick(rows, kind="classifier"), "variant")]
    time, hits = _against(rows, llm + others, "epoch_s"), _against(rows, llm + others, "hits_pct")
    ours, theirs = _against(rows, llm, "epoch_s"), _against(rows, others, "epoch_s")
    middle, other = median(ours), median(theirs)
    spans = [max(values) - min(values) if values else None for values in (ours, theirs)]
    return [
        Claim(
            paper="training takes about 10% less time than with static prefetching (median)",
            here=f"saved: {spread(time, '%')}",
            holds=above(time, 5),
        ),
        Claim(
            paper="%-Hits are about 50% higher than static prefetching's (median)",
            here=f"higher by {spread(hits, '%')}",
            holds=above(hits, 10),
        ),
        Claim(
            paper="LLM agents have an edge on classifiers",
            here=f"time saved against fixed: agents {spread(ours, '%')}; classifiers "
            f"{spread(theirs, '%')}",
            holds=None if middle is None or other is None else middle > other,
        ),
        Claim(
            paper="LLM agents vary less than classifiers",
            here=f"range of the time saved, in points: agents {_shown(spans[0])}, classifiers "
            f"{_shown(spans[1])}",
            holds=None if spans[0] is None or spans[1] is None else spans[0] < spans[1],
        ),
    ]


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f}"


def draw(rows: Sequence[Row]) -> list[Panel]:
    """What each decider gained on fixed, for each cell: time and %-Hits."""
    names = [str(name) for name in distinct(rows, "variant") if name != FIXED.name]
    figures = (("epoch_s", "epoch time saved, %"), ("hits_pct", "%-Hits gained, % of fixed's"))
    panels: list[Panel] = []
    for graph, buffer in dict.fromkeys((row["graph"], row["buffer"]) for row in pick(rows)):
        here = pick(rows, graph=graph, buffer=buffer)
        for key, unit in figures:
            groups = {
                name: [Bar(name=name, value=median(_against(here, [name], key)))] for name in names
            }
            title = f"{graph}, buffer {buffer:g}"
            panels.append(BarPanel(title=title, unit=unit, groups=groups))
    return panels


EXHIBIT = Exhibit(
    name="llm_and_classifiers",
    title="LLM agents against classifiers",
    source="figure 13, section 5.1",
    note="Real training runs with links of --rate; each is compared with fixed in the same cell.",
    graphs="amazon_photo,synthetic:small",
    ranks="2",
    buffers="0.25",
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
