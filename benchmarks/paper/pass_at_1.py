"""Pass@1 of every decider on every graph, with its 95% interval (the paper's table 4).

    python -m benchmarks.paper.pass_at_1
    python -m benchmarks.paper.pass_at_1 --graphs amazon_photo,tolokers --agent-model MODEL.gguf

Agents are run live and asynchronously, with links of --rate; classifiers, which answer within a
minibatch, are replayed on recorded ones.
"""

from collections.abc import Sequence

from benchmarks.paper.cells import Row, absent, progress
from benchmarks.paper.chart import Bar, BarPanel, Panel
from benchmarks.paper.exhibit import Claim, Exhibit, columns
from benchmarks.paper.live import live
from benchmarks.paper.replayed import record, replayed
from benchmarks.paper.rows import agents, distinct, levels, pick, share, spread
from benchmarks.paper.settings import PaperConfig, ready


def measure(config: PaperConfig) -> list[Row]:
    """One row for each graph, number of ranks, buffer and decider."""
    llm, others = config.agents(), config.classifiers()
    cells = [
        (graph, ranks, buffer)
        for graph in config.graph_names
        for ranks in config.rank_counts
        for buffer in config.buffers
    ]
    rows = []
    for graph, ranks, buffer in progress(cells, "pass_at_1"):
        rows += [live(config, graph, ranks, agent, buffer) for agent in ready(llm)]
        recorded = record(config, graph, ranks)
        rows += [replayed(config, recorded, graph, one, buffer) for one in ready(others)]
    return rows + absent([*llm, *others])


def judge(rows: Sequence[Row]) -> list[Claim]:
    """The best agent against the best classifier on each graph, and the width of intervals."""
    ahead, widths = [], []
    for graph in distinct(pick(rows), "graph"):
        best = [
            max((_known(row) for row in pick(rows, graph=graph, kind=kind)), default=None)
            for kind in ("agent", "classifier")
        ]
        if best[0] is not None and best[1] is not None:
            ahead.append(best[0] - best[1])
    for name in agents(rows):
        ends = [row["pass_at_1_ci"] for row in pick(rows, variant=name) if row["pass_at_1_ci"]]
        widths += [high - low for low, high in ends]
    return [
        Claim(
            paper="the best agent (Gemma3-4B: 74 to 82%) is right most often on every graph but "
            "friendster",
            here=f"best agent over best classifier: {spread(ahead, ' points')}; ahead on "
            f"{share(ahead, lambda lead: lead > 0)} graphs",
            holds=all(lead > 0 for lead in ahead) if ahead else None,
        ),
        Claim(
            paper="its 95% intervals are narrow (15 to 27 points wide): it is stable",
            here=f"width of the agents' intervals: {levels(widths, ' points')}",
            holds=max(widths) <= 27 if widths else None,
        ),
    ]


def _known(row: Row) -> float:
    return row["pass_at_1"] if row["pass_at_1"] is not None else 0.0


def draw(rows: Sequence[Row]) -> list[Panel]:
    """A panel for each graph."""
    names = distinct(rows, "variant")
    panels: list[Panel] = []
    for graph in distinct(pick(rows), "graph"):
        found = {row["variant"]: row for row in pick(rows, graph=graph)}
        groups = {}
        for name in names:
            row = found.get(name, {})
            value, ends = row.get("pass_at_1"), row.get("pass_at_1_ci")
            groups[str(name)] = [Bar(name=str(name), value=value, interval=ends)]
        panels.append(BarPanel(title=str(graph), unit="Pass@1, %", groups=groups))
    return panels


EXHIBIT = Exhibit(
    name="pass_at_1",
    title="Pass@1 by graph",
    source="table 4, section 5.3",
    note="Share of decisions after which %-Hits went where the decider expected, with Wilson's 95% "
    "interval. The paper gives classifiers' accuracy on labelled traces instead.",
    graphs="",
    ranks="2",
    buffers="0.25",
    columns=columns(
        *("graph", "ranks", "buffer", "variant", "pass_at_1", "pass_at_1_ci", "count"),
        *("interval", "replace_pct", "valid_pct"),
    ),
    measure=measure,
    judge=judge,
    draw=draw,
)


if __name__ == "__main__":
    EXHIBIT.main(__doc__)
