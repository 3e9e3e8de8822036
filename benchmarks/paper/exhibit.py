"""Exhibit: one figure or table of the paper: what is measured, what it shows, whether that holds.

NAME.json   settings, rows, claims with verdicts, the table
NAME.svg    the figure, for light and dark
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.paper.cells import Row
from benchmarks.paper.chart import Panel, figure
from benchmarks.paper.settings import PaperConfig
from benchmarks.traces import available
from rudder.cli.flags import fail, parse
from rudder.cli.table import render
from rudder.cli.whole_file import write_json, write_text

HOLDS, PARTLY, FAILS, UNKNOWN = "holds", "holds in part", "does not hold", "not measured"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper reports, what was measured here, and whether the trend is the same.

    holds: None where it could not be measured.
    """

    paper: str
    here: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        return UNKNOWN if self.holds is None else HOLDS if self.holds else FAILS


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table: a row's figure under a heading."""

    header: str
    key: str
    digits: int = 1

    def show(self, row: Row) -> str:
        value = row.get(self.key)
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:,.{self.digits}f}"
        if isinstance(value, list):
            return " to ".join(f"{each:.{self.digits}f}" for each in value)
        return f"{value:,}" if isinstance(value, int) else str(value)


_COLUMNS = {
    column.key: column
    for column in (
        Column(header="graph", key="graph"),
        Column(header="ranks", key="ranks"),
        Column(header="buffer", key="buffer", digits=2),
        Column(header="steered by", key="variant"),
        Column(header="mode", key="mode"),
        Column(header="rows % of none", key="moved_pct"),
        Column(header="%-Hits", key="hits_pct"),
        Column(header="epoch s", key="epoch_s", digits=3),
        Column(header="train s", key="train_s", digits=3),
        Column(header="wait s", key="wait_s", digits=3),
        Column(header="Pass@1", key="pass_at_1"),
        Column(header="95% interval", key="pass_at_1_ci"),
        Column(header="decisions", key="count"),
        Column(header="r", key="interval", digits=2),
        Column(header="valid %", key="valid_pct"),
        Column(header="replace %", key="replace_pct"),
        Column(header="decision ms", key="latency_ms_p50", digits=2),
        Column(header="link", key="link"),
    )
}


def columns(*keys: str) -> tuple[Column, ...]:
    """Columns of the figures that cells have, by their keys."""
    return tuple(_COLUMNS[key] for key in keys)


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure or table.

    name: its module.   source: where the paper has it.   note: how to read it here.
    graphs, ranks, buffers: what is measured unless the command line says otherwise; graphs "" means
    all that are here.   judge, draw: functions of the rows alone.
    """

    name: str
    title: str
    source: str
    note: str
    graphs: str
    ranks: str
    buffers: str
    columns: Sequence[Column]
    measure: Callable[[PaperConfig], list[Row]]
    judge: Callable[[Sequence[Row]], list[Claim]]
    draw: Callable[[Sequence[Row]], list[Panel]]

    def settle(self, config: PaperConfig) -> PaperConfig:
        """The config, with this exhibit's own values where it leaves them open."""
        return replace(
            config,
            graphs=config.graphs or self.graphs or ",".join(available()),
            ranks=config.ranks or self.ranks,
            buffer=config.buffer or self.buffers,
        )

    def table(self, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
        """Header and lines; a row that could not be measured ends with why."""
        lines = []
        for row in rows:
            cells = [column.show(row) for column in self.columns]
            lines.append([*cells, row.get("missing") or ""])
        header = [column.header for column in self.columns]
        if any(line[-1] for line in lines):
            return [*header, ""], lines
        return header, [line[:-1] for line in lines]

    def report(self, rows: Sequence[Row], settings: dict[str, Any]) -> dict[str, Any]:
        """What NAME.json holds."""
        claims = self.judge(rows)
        header, lines = self.table(rows)
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "note": self.note,
            "verdict": overall(claims),
            "claims": [{**asdict(claim), "verdict": claim.verdict} for claim in claims],
            "table": {"header": header, "lines": lines},
            "settings": settings,
            "rows": list(rows),
        }

    def run(self, config: PaperConfig) -> dict[str, Any]:
        """Measure, and write both files. Raises ValueError on what cannot be measured."""
        config = self.settle(config)
        rows = self.measure(config)
        report = self.report(rows, asdict(config))
        out = Path(config.out)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / f"{self.name}.svg", figure(self.title, self.draw(rows)))
        write_json(out / f"{self.name}.json", report)
        return report

    def main(self, doc: str | None) -> None:
        """The command line."""
        config = parse(PaperConfig, doc or "")
        try:
            report = self.run(config)
        except (ValueError, OSError) as error:
            fail(error)
        print(shown(report))
        print(f"\nwrote {Path(config.out) / self.name}.json and .svg")


def overall(claims: Sequence[Claim]) -> str:
    """One verdict for all claims that could be measured."""
    known = [claim.holds for claim in claims if claim.holds is not None]
    if not known:
        return UNKNOWN
    return HOLDS if all(known) else PARTLY if any(known) else FAILS


def shown(report: dict[str, Any]) -> str:
    """A report for people: the table, then each claim with its verdict."""
    table = report["table"]
    words = [f"{report['title']} (paper: {report['source']})", ""]
    words += [render(table["lines"], table["header"]), "", report["note"]]
    for claim in report["claims"]:
        words += ["", f"paper: {claim['paper']}", f"here:  {claim['here']}"]
        words += [f"       -> {claim['verdict']}"]
    return "\n".join(words)
