"""Exhibits: what is measured for each figure and table of the paper, and how it is drawn.

Beside it ``exhibits.toml`` has the words: titles, what the paper says, and how that is checked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.charts import Panel
from benchmarks.panels import bars, beside, curves, lines
from benchmarks.paper import cells, settings
from benchmarks.paper.cells import Cell, grid, live, replayed
from benchmarks.paper.claims import HEADINGS, WORDS, Rows, judge, verdict
from benchmarks.paper.settings import EXPERTS, FIXED, NONE, SELDOM, SINGLE, PaperConfig, Variant
from benchmarks.traces import RECIPES, available

_CELL = "{graph}, {ranks} ranks, buffer {buffer:.0%}"
_PHOTO, _BOTH = ("amazon_photo",), ("amazon_photo", "synthetic:small")


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure or table.

    cells: what is measured.   draw: its panels.   columns: of the table, beside the cell's.
    graphs, ranks, buffers: of the cells unless the command line says otherwise; no graphs: all.
    """

    cells: Callable[[PaperConfig], list[Cell]]
    draw: Callable[[Rows], list[Panel]]
    columns: str
    graphs: Sequence[str] = ()
    ranks: tuple[int, ...] = (2,)
    buffers: tuple[float, ...] = (0.25,)

    def settle(self, config: PaperConfig) -> PaperConfig:
        """The config, with this exhibit's own values where it leaves them open."""
        graphs, ranks, buffers = self.graphs or available(), self.ranks, self.buffers
        rate, epochs = settings.RATE, config.epochs
        if config.quick:
            graphs, ranks, buffers = graphs[:1], ranks[:2], (*sorted({min(buffers), max(buffers)}),)
            rate, epochs = settings.QUICK_RATE, epochs or settings.QUICK_EPOCHS
        config = replace(config, ranks=config.ranks or ranks, buffer=config.buffer or buffers)
        names = config.graphs or ",".join(graphs)
        return replace(config, graphs=names, rate=config.rate or rate, epochs=epochs)


def report(name: str, rows: Rows, told: Mapping[str, Any]) -> dict[str, Any]:
    """What NAME.json holds. The line of a row that could not be measured ends with why."""
    claims = []
    for paper, check in WORDS[name]["claims"].items():
        here, holds = judge(check, rows)
        claims.append({"paper": paper, "here": here, "holds": holds, "verdict": verdict([holds])})
    keys = f"graph ranks buffer variant {EXHIBITS[name].columns}".split()
    keys += ["missing"] if any("missing" in row for row in rows) else []
    return {
        **WORDS[name],
        "name": name,
        "verdict": verdict(claim["holds"] for claim in claims),
        "claims": claims,
        "header": [HEADINGS.get(key, key) for key in keys],
        "lines": [["-" if row.get(key) is None else row[key] for key in keys] for row in rows],
        "settings": told,
        "rows": rows,
    }


def _massivegnn(config: PaperConfig) -> list[Cell]:
    best = Variant("massivegnn", "heuristic", {"prefetch": "massivegnn"})
    found = grid(config, [best], cells.best_massivegnn)
    found += grid(config, config.agents()[:1], cells.also_timed)
    return found + [cell for cell in grid(config, [NONE], live) if cell.graph in cells.TIMED]


def _modes(config: PaperConfig) -> list[Cell]:
    deciders = [*config.agents(), *config.classifiers()]
    # Asynchronous is what training does unasked.
    return grid(config, deciders, live) + grid(config, deciders, live, decider_mode="sync")


def _unseen(config: PaperConfig) -> list[Cell]:
    """Replays of half of each recipe's batch, of it and of twice; live runs of half, on 2 ranks."""
    mlp, *others = config.classifiers("mlp", "tabnet", "xgb")
    tuned = [
        replace(mlp, name=f"mlp/F{n}", kind="tuned", steer={**mlp.steer, "finetune_every": n})
        for n in (5, 25, 50)
    ]
    found = []
    for graph in str(config.graphs).split(","):
        one, batch = replace(config, graphs=graph), RECIPES[graph].batch_size
        for size in (batch // 2, batch, 2 * batch):
            deciders = [*config.agents(), mlp, *others, *tuned]
            found += grid(one, deciders, replayed, batch_size=size)
        if graph in _PHOTO:
            two = replace(one, ranks=(2,), buffer=config.buffer[-1:])
            deciders = [NONE, config.agents()[0], mlp, tuned[1]]
            found += grid(two, deciders, live, batch_size=batch // 2)
    return found


def _experts(config: PaperConfig) -> list[Cell]:
    kinds = {True: "expert", False: "agent"}
    agents = [replace(one, kind=kinds[one.name in EXPERTS]) for one in config.agents(EXPERTS)]
    return grid(config, [FIXED, *agents], live)


EXHIBITS = {
    "remote_nodes": Exhibit(
        ranks=(4,),
        cells=lambda config: grid(config, [NONE], cells.remote_nodes),
        draw=lambda rows: curves(rows, "{graph}, {ranks} ranks", "remote nodes"),
        columns="minibatches new_first new_last distinct_first distinct_last",
    ),
    "strategies": Exhibit(
        ranks=(4,),
        cells=lambda config: grid(
            config, [SINGLE, SELDOM, FIXED, config.agents()[0]], cells.hits_curve
        ),
        draw=lambda rows: curves(rows, _CELL, "%-Hits"),
        columns="hits_pct moved_pct replace_pct",
    ),
    "scaling": Exhibit(
        graphs=_BOTH,
        ranks=(2, 4),
        buffers=(0.05, 0.25),
        cells=lambda config: grid(config, [NONE, FIXED, config.agents()[0]], live),
        draw=lambda rows: lines(rows, "{graph}, buffer {buffer:.0%}", "ranks", "epoch_s"),
        columns="epoch_s train_s wait_s moved_pct hits_pct link",
    ),
    "llm_and_classifiers": Exhibit(
        graphs=_BOTH,
        cells=lambda config: grid(config, [FIXED, *config.agents(), *config.classifiers()], live),
        draw=lambda rows: bars(beside(rows), _CELL, "saved gained"),
        columns="epoch_s wait_s moved_pct hits_pct replace_pct link",
    ),
    "communication": Exhibit(
        ranks=(2, 4, 8),
        buffers=(0.05, 0.25),
        cells=lambda config: grid(config, config.agents()[:1], replayed),
        draw=lambda rows: lines(rows, "{graph}", "ranks", "moved_pct", "buffer {buffer}"),
        columns="moved_pct hits_pct replace_pct",
    ),
    "massivegnn": Exhibit(
        ranks=(4,),
        buffers=(0.05, 0.25),
        cells=_massivegnn,
        draw=lambda rows: bars(
            rows, "buffer {buffer:.0%}", "moved_pct hits_pct epoch_s", "{graph}"
        ),
        columns="best moved_pct hits_pct epoch_s wait_s link",
    ),
    "buffer_sizes": Exhibit(
        graphs=_PHOTO,
        buffers=(0.05, 0.1, 0.15, 0.2, 0.25),
        cells=lambda config: grid(
            config, [FIXED, *config.agents(), *config.classifiers("mlp")], live
        ),
        draw=lambda rows: lines(rows, "{graph}", "buffer", "epoch_s moved_pct hits_pct"),
        columns="epoch_s wait_s moved_pct hits_pct replace_pct link",
    ),
    "modes": Exhibit(
        graphs=_PHOTO,
        cells=_modes,
        draw=lambda rows: bars(
            rows,
            "all cells",
            "pass_at_1 interval replace_pct valid_pct hits_pct epoch_s",
            name="{mode}",
        ),
        columns="mode pass_at_1 pass_at_1_ci interval valid_pct replace_pct latency_ms_p50 "
        "hits_pct epoch_s link",
    ),
    "pass_at_1": Exhibit(
        cells=lambda config: (
            grid(config, config.agents(), live) + grid(config, config.classifiers(), replayed)
        ),
        draw=lambda rows: bars(rows, "{graph}", "pass_at_1"),
        columns="pass_at_1 pass_at_1_ci count interval replace_pct valid_pct",
    ),
    "unseen": Exhibit(
        graphs=("amazon_photo", "tolokers"),
        ranks=(4,),
        buffers=(0.05, 0.25),
        cells=_unseen,
        draw=lambda rows: bars(rows, _CELL, "hits_pct epoch_s", "batch {batch}"),
        columns="batch hits_pct moved_pct pass_at_1 pass_at_1_ci replace_pct latency_ms_p50 "
        "epoch_s",
    ),
    "trajectories": Exhibit(
        graphs=("amazon_photo", "tolokers", "synthetic:small"),
        ranks=(4,),
        cells=lambda config: grid(
            config, [config.agents()[0], *config.classifiers("mlp")], cells.trajectory
        ),
        draw=lambda rows: curves(rows, _CELL, "%-Hits"),
        columns="replace_pct early_pct late_pct start_hits steady_hits moved replacement_rows",
    ),
    "experts": Exhibit(
        graphs=_PHOTO,
        buffers=(0.05, 0.15, 0.25),
        cells=_experts,
        draw=lambda rows: [
            *bars(beside(rows), _CELL, "pass_at_1"),
            *lines(beside(rows), "{graph}", "buffer", "saved"),
        ],
        columns="pass_at_1 pass_at_1_ci interval valid_pct replace_pct epoch_s hits_pct",
    ),
}
