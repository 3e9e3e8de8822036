"""Exhibits: what is measured for each figure and table of the paper, how it is drawn, and running.

Beside it ``exhibits.toml`` has the words (titles, what the paper says, and how that is checked) and
the cells' graphs, ranks and buffers.

OUT/NAME.json   settings, rows, claims with verdicts, the table      OUT/NAME.svg   the figure
OUT/index.html  all of them
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from benchmarks.charts import Panel, bars, curves, figure, lines
from benchmarks.command import Row
from benchmarks.paper import cells, settings
from benchmarks.paper.cells import Cell, grid, live, replayed
from benchmarks.paper.claims import HEADINGS, WORDS, Rows, compare, judge, pick, verdict
from benchmarks.paper.settings import EXPERTS, FIXED, NONE, SELDOM, SINGLE, PaperConfig, Variant
from benchmarks.traces import RECIPES, available
from rudder.cli.table import render
from rudder.cli.whole_file import write_json, write_text

_CELL = "{graph}, {ranks} ranks, buffer {buffer:.0%}"


@dataclass(frozen=True)
class Exhibit:
    """One figure or table.

    cells: what is measured.   draw: its panels.   columns: of the table, beside the cell's.
    graphs, ranks, buffers: of the cells unless the command line says otherwise; no graphs: all.
    """

    cells: Callable[[PaperConfig], list[Cell]]
    draw: Callable[[Rows], list[Panel]]
    columns: str
    graphs: Sequence[str] = ()
    ranks: Sequence[int] = (2,)
    buffers: Sequence[float] = (0.25,)

    def settle(self, config: PaperConfig) -> PaperConfig:
        """The config, with this exhibit's own values where it leaves them open."""
        graphs, ranks, buffers = self.graphs or available(), self.ranks, self.buffers
        rate, epochs = settings.RATE, config.epochs
        if config.quick:
            graphs, ranks, buffers = graphs[:1], ranks[:2], sorted({min(buffers), max(buffers)})
            rate, epochs = settings.QUICK_RATE, epochs or settings.QUICK_EPOCHS
        return replace(
            config,
            ranks=config.ranks or tuple(ranks),
            buffer=config.buffer or tuple(buffers),
            graphs=config.graphs or ",".join(graphs),
            rate=config.rate or rate,
            epochs=epochs,
        )


def beside(rows: Rows) -> list[Row]:
    """Rows with the percent of epoch time ``saved`` and %-Hits ``gained`` on fixed's; not fixed."""
    found = []
    for row in (row for row in rows if row["variant"] != "fixed"):
        fixed = pick(rows, "fixed")
        time, hits = (compare([row], fixed, key, "variant") for key in ("epoch_s", "hits_pct"))
        found.append(
            row | {"saved": -time[0] if time else None, "gained": hits[0] if hits else None}
        )
    return found


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
        if graph == "amazon_photo":
            two = replace(one, ranks=(2,), buffer=config.buffer[-1:])
            deciders = [NONE, config.agents()[0], mlp, tuned[1]]
            found += grid(two, deciders, live, batch_size=batch // 2)
    return found


def _experts(config: PaperConfig) -> list[Cell]:
    kinds = {True: "expert", False: "agent"}
    agents = [replace(one, kind=kinds[one.name in EXPERTS]) for one in config.agents(EXPERTS)]
    return grid(config, [FIXED, *agents], live)


_WAYS: dict[str, tuple[Callable[[PaperConfig], list[Cell]], Callable[[Rows], list[Panel]]]] = {
    "remote_nodes": (
        lambda config: grid(config, [NONE], cells.remote_nodes),
        lambda rows: curves(rows, "{graph}, {ranks} ranks", "remote nodes"),
    ),
    "strategies": (
        lambda config: grid(config, [SINGLE, SELDOM, FIXED, config.agents()[0]], cells.hits_curve),
        lambda rows: curves(rows, _CELL, "%-Hits"),
    ),
    "scaling": (
        lambda config: grid(config, [NONE, FIXED, config.agents()[0]], live),
        lambda rows: lines(rows, "{graph}, buffer {buffer:.0%}", "ranks", "epoch_s"),
    ),
    "llm_and_classifiers": (
        lambda config: grid(config, [FIXED, *config.agents(), *config.classifiers()], live),
        lambda rows: bars(beside(rows), _CELL, "saved gained"),
    ),
    "communication": (
        lambda config: grid(config, config.agents()[:1], replayed),
        lambda rows: lines(rows, "{graph}", "ranks", "moved_pct", "buffer {buffer}"),
    ),
    "massivegnn": (
        _massivegnn,
        lambda rows: bars(rows, "buffer {buffer:.0%}", "moved_pct hits_pct epoch_s", "{graph}"),
    ),
    "buffer_sizes": (
        lambda config: grid(config, [FIXED, *config.agents(), *config.classifiers("mlp")], live),
        lambda rows: lines(rows, "{graph}", "buffer", "epoch_s moved_pct hits_pct"),
    ),
    "modes": (
        _modes,
        lambda rows: bars(
            rows,
            "all cells",
            "pass_at_1 interval replace_pct valid_pct hits_pct epoch_s",
            name="{mode}",
        ),
    ),
    "pass_at_1": (
        lambda config: (
            grid(config, config.agents(), live) + grid(config, config.classifiers(), replayed)
        ),
        lambda rows: bars(rows, "{graph}", "pass_at_1"),
    ),
    "unseen": (
        _unseen,
        lambda rows: bars(rows, _CELL, "hits_pct epoch_s", "batch {batch}"),
    ),
    "trajectories": (
        lambda config: grid(
            config, [config.agents()[0], *config.classifiers("mlp")], cells.trajectory
        ),
        lambda rows: curves(rows, _CELL, "%-Hits"),
    ),
    "experts": (
        _experts,
        lambda rows: [
            *bars(beside(rows), _CELL, "pass_at_1"),
            *lines(beside(rows), "{graph}", "buffer", "saved"),
        ],
    ),
}
EXHIBITS = {name: Exhibit(*ways, **WORDS[name]["cells"]) for name, ways in _WAYS.items()}


def measure(name: str, config: PaperConfig) -> Row:
    """An exhibit's report, also written. Raises ValueError on what cannot be measured."""
    config = replace(EXHIBITS[name].settle(config), exhibits=name)
    wanted = EXHIBITS[name].cells(config)
    able = [cell for cell in wanted if not cell.variant.missing]
    rows = [cell.measure(config) for cell in tqdm(able, name, unit="cell", disable=None)]
    for one in {
        cell.variant.name: cell.variant for cell in wanted if cell.variant.missing
    }.values():
        rows.append({**vars(one), "variant": one.name, "graph": "-", "batch": "-", "mode": "async"})
    found = report(name, rows, asdict(config))
    write_json(Path(config.out) / f"{name}.json", found)
    return found


def report(name: str, rows: Rows, told: Row) -> Row:
    """What NAME.json holds. The line of a row that could not be measured ends with why."""
    claims = []
    for paper, check in WORDS[name]["claims"].items():
        here, holds = judge(check, rows)
        claims.append({"paper": paper, "here": here, "holds": holds, "verdict": verdict([holds])})
    keys = f"graph ranks buffer variant {EXHIBITS[name].columns}".split()
    keys += ["missing"] if any("missing" in row for row in rows) else []
    return {
        **{key: WORDS[name][key] for key in ("title", "source", "note")},
        "claims": claims,
        "name": name,
        "verdict": verdict(claim["holds"] for claim in claims),
        "header": [HEADINGS.get(key, key) for key in keys],
        "lines": [["-" if row.get(key) is None else row[key] for key in keys] for row in rows],
        "settings": told,
        "rows": rows,
    }


def text(found: Row) -> str:
    """A report for people: the table, then each claim with its verdict."""
    words = [f"{found['title']} (paper: {found['source']})", ""]
    words += [render(found["lines"], found["header"]), "", found["note"]]
    for claim in found["claims"]:
        here = f"here:  {claim['here']} -> {claim['verdict']}"
        words += ["", f"paper: {claim['paper']}", here]
    return "\n".join(words)


def draw(found: Row, out: Path) -> Row:
    """The report with its figure, also written, and the command that measures it again."""
    svg = figure(found["title"], EXHIBITS[found["name"]].draw(found["rows"]))
    write_text(out / f"{found['name']}.svg", svg)
    words = ["python -m benchmarks.paper"]
    for name, value in found["settings"].items():
        if value and name not in ("folder", "out"):
            shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
            words.append(f"--{name.replace('_', '-')}" + f" {shown}" * (value is not True))
    return found | {"svg": svg, "command": " ".join(words)}


def earlier(out: Path) -> dict[str, Row]:
    """What a folder holds. Verdicts and figures are made anew from its rows. Raises ValueError."""
    found = {}
    for file in (out / f"{name}.json" for name in EXHIBITS):
        if file.is_file():
            kept = json.loads(file.read_text())
            try:
                found[file.stem] = draw(report(file.stem, kept["rows"], kept["settings"]), out)
            except KeyError as error:
                why = f"{file} has no {error}, so it is of another version"
                raise ValueError(f"{why}: remove it or give another --out") from None
    return found


def write_page(out: Path, reports: Mapping[str, Row], failed: Mapping[str, str]) -> Path:
    """One HTML file that asks nothing of a network.   failed: why others did not run."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    ordered = [reports[name] for name in EXHIBITS if name in reports]
    words = {"reports": ordered, "failed": failed, "quick": settings.QUICK}
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "index.html", pages.get_template("page.html.j2").render(words))
    return out / "index.html"


def run(config: PaperConfig) -> int:
    """Measure the exhibits that were chosen, the page after each. Returns the exit code.

    Raises ValueError on reports of another version, OSError where nothing can be written.
    """
    out, failed = Path(config.out), dict[str, str]()
    reports = earlier(out)
    page = write_page(out, reports, failed)
    for name in config.chosen():
        try:
            found = reports[name] = draw(measure(name, config), out)
            short = f"{found['verdict']:14}  {found['title']} ({found['source']})"
            tqdm.write(text(found) if config.exhibits else short)
        except ValueError as error:
            failed[name] = str(error)
            tqdm.write(f"{'did not run':14}  {name}: {error}")
        page = write_page(out, reports, failed)
    print(f"wrote {page}")
    return 1 if failed else 0
