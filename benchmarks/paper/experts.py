"""Mixture-of-experts models as agents (the paper's table 5 and figure 21).

    python -m benchmarks.paper.experts --agent-model embedded,granite3.1-3b=/models/granite.gguf
    python -m benchmarks.paper.experts --agent-model granite3.1-3b,mixtral-8x7b

A row runs when its GGUF is given, by file or as a name that Hugging Face has; the others say so.
Live runs, beside static prefetching (fixed).
"""

from collections.abc import Sequence

from benchmarks.paper.cells import Row, absent, progress
from benchmarks.paper.chart import Bar, BarPanel, Line, LinePanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.live import live
from benchmarks.paper.rows import LEAST, above, agents, distinct, gains, levels, pairs, pick, spread
from benchmarks.paper.settings import EXPERTS, FIXED, PaperConfig, ready

# Up to here the paper calls a buffer small.
_SMALL = 0.15


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks, buffer and model."""
    variants = [FIXED, *config.agents(EXPERTS)]
    cells = [
        (graph, ranks, variant, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
        for variant in ready(variants)
    ]
    return [live(config, *cell) for cell in progress(cells, "experts")] + absent(variants)


def judge(rows: Sequence[Row]) -> list[Claim]:
    """Experts against the other models and against fixed; nothing where no expert was given."""
    names = agents(rows)
    experts = [name for name in names if name in EXPERTS]
    right, others = (
        [row["pass_at_1"] for name in some for row in pick(rows, variant=name)]
        for some in (experts, [name for name in names if name not in EXPERTS])
    )
    couples = [pair for name in experts for pair in pairs(rows, name, FIXED.name)]
    small = gains([pair for pair in couples if pair[0]["buffer"] <= _SMALL], "epoch_s")
    large = gains([pair for pair in couples if pair[0]["buffer"] > _SMALL], "epoch_s")
    measured = bool(right) and bool(others)
    return [
        Claim(
            paper="mixtures of experts do not outperform the best small model (Pass@1 below 60%)",
            here=f"experts {levels(right, '%')}; other models {levels(others, '%')}",
            holds=max(right) < max(others) if measured else None,
        ),
        Claim(
            paper="they gain up to 20% on static prefetching with buffers of 5 to 15%, and little "
            "beyond 20%",
            here=f"time saved against fixed: small buffers {spread(small, '%')}; larger "
            f"{spread(large, '%')}",
            holds=above(small, LEAST) and not above(large, 5) if small and large else None,
        ),
    ]


def draw(rows: Sequence[Row]) -> list[Panel]:
    """Pass@1 of each model, and time saved against fixed over the buffer's size."""
    names = [str(name) for name in distinct(rows, "variant") if name != FIXED.name]
    panels: list[Panel] = []
    for graph in distinct(pick(rows), "graph"):
        groups = {}
        lines = []
        for name in names:
            own = pick(rows, variant=name, graph=graph)
            largest = own[-1] if own else {}
            interval = largest.get("pass_at_1_ci")
            groups[name] = [Bar(name=name, value=largest.get("pass_at_1"), interval=interval)]
            couples = pairs(pick(rows, graph=graph), name, FIXED.name)
            if couples:
                xs = [100 * row["buffer"] for row, _ in couples]
                lines.append(Line(name=name, xs=xs, ys=list(gains(couples, "epoch_s"))))
        panels.append(BarPanel(title=f"{graph}: Pass@1", unit="%", groups=groups))
        unit = "epoch time saved against fixed, %"
        panels.append(LinePanel(title=str(graph), x="buffer, %", y=unit, lines=lines))
    return panels


EXHIBIT = Exhibit(
    name="experts",
    title="Mixture-of-experts models as agents",
    source="table 5 and figure 21, section 5.6",
    note="Real training runs with links of --rate. Beside the models of the paper stand those that "
    "--agent-model names.",
    graphs="amazon_photo",
    ranks="2",
    buffers="0.05,0.15,0.25",
    columns=columns(
        *("graph", "ranks", "buffer", "variant", "pass_at_1", "pass_at_1_ci", "interval"),
        *("valid_pct", "replace_pct", "epoch_s", "hits_pct"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
