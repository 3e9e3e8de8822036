"""Synchronous against asynchronous decisions (the paper's table 2 and figure 17).

    python -m benchmarks.paper.modes --agent-model embedded,gemma3-4b=/models/gemma.gguf
    python -m benchmarks.paper.modes --graphs synthetic:small --buffer 0.05,0.25

Live runs of every decider in both modes. All deciders say where they expect %-Hits to go, so
Pass@1 is that of classifiers too, where the paper gives their accuracy on labelled traces.
"""

from collections.abc import Sequence

from benchmarks.paper.cells import Row, absent, progress
from benchmarks.paper.chart import Bar, BarPanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.live import live
from benchmarks.paper.rows import (
    LEAST,
    above,
    agents,
    distinct,
    gains,
    levels,
    median,
    pairs,
    pick,
    points,
    spread,
)
from benchmarks.paper.settings import PaperConfig, ready

MODES = ("async", "sync")


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks, buffer, mode and decider."""
    variants = [*config.agents(), *config.classifiers()]
    cells = [
        (mode, (graph, ranks, variant, buffer))
        for mode in MODES
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
        for variant in ready(variants)
    ]
    rows = []
    for mode, cell in progress(cells, "modes"):
        # Asynchronous is what training does unasked.
        flags = {} if mode == MODES[0] else {"decider_mode": mode}
        rows.append(live(config, *cell, flags) | {"mode": mode})
    return rows + absent(variants)


def both(rows: Sequence[Row], names: Sequence[str]) -> list[tuple[Row, Row]]:
    """(synchronous, asynchronous) of the same decider."""
    marked = [
        {**row, "variant": row["mode"], "decider": row["variant"]}
        for row in pick(rows)
        if row["variant"] in names
    ]
    return pairs(marked, "sync", "async", ("graph", "ranks", "buffer", "decider"))


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Both modes of each agent, and agents against classifiers."""
    llm = agents(rows)
    couples = both(rows, llm)
    every = both(rows, [str(name) for name in distinct(pick(rows), "variant")])
    longer = [-saved for saved in gains(couples, "epoch_s")]
    more = points(every, "hits_pct")
    apart = [asked["interval"] for _, asked in couples]
    waits = [asked["interval"] for asked, _ in couples]
    ours = [row for name in llm for row in pick(rows, variant=name, mode="async")]
    theirs = pick(rows, kind="classifier", mode="async")
    right, others = (_values(each, "pass_at_1") for each in (ours, theirs))
    best, rival = max(right, default=None), max(others, default=None)
    replaced, eager = (_values(each, "replace_pct") for each in (ours, theirs))
    valid = _values(ours, "valid_pct")
    return [
        Claim(
            paper="synchronous agents decide at every minibatch (r = 1), asynchronous ones every "
            "4 to 26",
            here=f"r of agents: synchronous {levels(waits, '')}, asynchronous {levels(apart, '')}",
            holds=_less(median(waits), median(apart)),
        ),
        Claim(
            paper="synchronous decisions stall trainers: epochs are longer",
            here=f"longer than asynchronous, agents: {spread(longer, '%')}",
            holds=above(longer, LEAST),
        ),
        Claim(
            paper="what synchronous decisions gain in %-Hits is modest (less than 5%)",
            here=f"against asynchronous, all deciders: {spread(more, ' points')}",
            holds=max(map(abs, more)) < 5 if more else None,
        ),
        Claim(
            paper="the best agent has the highest Pass@1 (about 80%, classifiers about 50%)",
            here=f"agents {levels(right, '%')}; classifiers {levels(others, '%')}",
            holds=_less(rival, best),
        ),
        Claim(
            paper="models that keep to the format answer validly nearly always (100/0)",
            here=f"valid answers of agents: {levels(valid, '%')}",
            holds=min(valid) >= 99 if valid else None,
        ),
        Claim(
            paper="the good agents are conservative: 19 to 35% of decisions replace",
            here=f"agents replace in {levels(replaced, '%')} (classifiers {levels(eager, '%')})",
            holds=not above(replaced, 50) if replaced else None,
        ),
    ]


def _values(rows: Sequence[Row], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def _less(one: float | None, other: float | None) -> bool | None:
    return None if one is None or other is None else one < other


def draw(rows: Sequence[Row]) -> list[Panel]:
    """Each figure of every decider, in both modes; means over cells."""
    figures = (
        ("pass_at_1", "Pass@1, %", 1),
        ("interval", "r, minibatches", 2),
        ("replace_pct", "decisions to replace, %", 1),
        ("valid_pct", "valid answers, %", 1),
        ("hits_pct", "%-Hits", 1),
        ("epoch_s", "seconds an epoch", 3),
    )
    return [_panel(rows, *each) for each in figures]


def _panel(rows: Sequence[Row], key: str, unit: str, digits: int) -> BarPanel:
    groups = {}
    for name in distinct(rows, "variant"):
        means = [median(_values(pick(rows, variant=name, mode=mode), key)) for mode in MODES]
        groups[str(name)] = [
            Bar(name=mode, value=value) for mode, value in zip(MODES, means, strict=True)
        ]
    return BarPanel(title=unit, unit="", groups=groups, digits=digits)


EXHIBIT = Exhibit(
    name="modes",
    title="Synchronous against asynchronous decisions",
    source="table 2 and figure 17, section 5.3",
    note="Real training runs with links of --rate. r: minibatches between decisions. Classifiers "
    "other than tabnet and xgb are asked inline in both modes, as they answer within a fraction "
    "of a millisecond.",
    graphs="amazon_photo",
    ranks="2",
    buffers="0.25",
    columns=columns(
        *("graph", "mode", "variant", "pass_at_1", "pass_at_1_ci", "interval", "valid_pct"),
        *("replace_pct", "latency_ms_p50", "hits_pct", "epoch_s", "link"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
