"""Runner: measures exhibits one after the other, and gathers them on a page.

OUT/NAME.json   settings, rows, claims with verdicts, the table      OUT/NAME.svg   the figure
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from benchmarks.charts import figure
from benchmarks.command import Row
from benchmarks.paper.claims import HEADINGS, WORDS, Rows, judge, verdict
from benchmarks.paper.exhibits import EXHIBITS
from benchmarks.paper.settings import QUICK, PaperConfig
from rudder.cli.table import render
from rudder.cli.whole_file import write_json, write_text


def measure(name: str, config: PaperConfig) -> Row:
    """An exhibit's report, also written. Raises ValueError on what cannot be measured."""
    config = replace(EXHIBITS[name].settle(config), exhibits=name)
    cells = EXHIBITS[name].cells(config)
    able = [cell for cell in cells if not cell.variant.missing]
    rows = [cell.measure(config) for cell in tqdm(able, name, unit="cell", disable=None)]
    for one in {cell.variant.name: cell.variant for cell in cells if cell.variant.missing}.values():
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
        "name": name,
        "verdict": verdict(claim["holds"] for claim in claims),
        "claims": claims,
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
    words = {"reports": ordered, "failed": failed, "quick": QUICK}
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
