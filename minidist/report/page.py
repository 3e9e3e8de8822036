"""Page: reads runs, draws their charts, and fills the template with them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from minidist.report import numerals
from minidist.report.policies import Row, read_grid, try_policies
from minidist.report.run_folder import Run, read_run
from rudder.cli.whole_file import write_text
from rudder.presets import PLAIN
from rudder.replay.trace import read_traces


def write_report(
    folders: Sequence[Path], out: Path, grid: Path | None = None, trace: Path | None = None
) -> None:
    """Write the page of one or several runs, whole or not at all.

    Raises ValueError where there is no run, or the grid or the trace cannot be read; OSError where
    the page cannot be written.
    """
    if not folders:
        raise ValueError("no run was named")
    if out.is_dir():
        raise ValueError(f"--out {out}: a folder; name the file to write")
    runs = [read_run(folder) for folder in folders]
    rows = [] if grid is None else read_grid(grid)
    if grid is None and trace is None and len(runs) == 1:
        rows += runs[0].summary.get("policies") or []
    if trace is not None:
        rows += try_policies(read_traces(trace))
    text = _render(runs, rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)


def _render(runs: Sequence[Run], grid: Sequence[Row]) -> str:
    """The whole document; jinja2 escapes whatever a run says. matplotlib is imported for it."""
    from minidist.report import charts

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.loader, environment.lstrip_blocks = FileSystemLoader(Path(__file__).parent), True
    shown = (numerals.fixed, numerals.percent, numerals.short, numerals.seconds, numerals.plural)
    environment.filters |= {each.__name__: each for each in shown}
    environment.globals |= {"charts": charts, "directions": directions, "reasons": reasons}
    return environment.get_template("page.html.j2").render(runs=runs, grid=grid, plain=PLAIN)


def directions(run: Run, what: str) -> tuple[Counter[tuple[str, str]], Counter[str], Counter[str]]:
    """How often each direction of what (hits, moved) was expected and came: together, and each."""
    pairs = [
        (made.expected, made.hits) if what == "hits" else (str(made.expect_moved), made.moved)
        for made in run.decisions
        if what == "hits" or made.expect_moved is not None
    ]
    expected, came = zip(*pairs, strict=True)
    return Counter(pairs), Counter(expected), Counter(came)


def reasons(run: Run) -> list[tuple[str, int, int]]:
    """Each reason given, how often, and how often it came true; the most frequent first."""
    given = Counter(made.reason.strip() for made in run.decisions)
    passed = Counter(made.reason.strip() for made in run.decisions if made.passed)
    return [(text, count, passed[text]) for text, count in given.most_common() if text]
