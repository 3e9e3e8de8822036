"""Page: one HTML file that asks nothing of a network, from the parts of one or several runs."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from rudder.pages.card import card
from rudder.pages.comparison import anchor, comparison
from rudder.pages.expectations import expectations
from rudder.pages.learning import learning
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import plural
from rudder.pages.overview import overview, settings
from rudder.pages.reasons import decisions, no_decisions, reasons
from rudder.pages.runs import Run
from rudder.pages.standings import standings
from rudder.pages.times import times
from rudder.pages.traffic import hits, rows

# The browser itself refuses whatever is not in the file.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(runs: Sequence[Run], grid: Sequence[dict[str, Any]]) -> str:
    """The whole document. grid: rows of ``rudder.replay``, none where nothing was replayed."""
    title = runs[0].name if len(runs) == 1 else f"{plural(len(runs), 'run')} compared"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"{title}: rudder report"),
        tag("link", rel="icon", href="data:,"),
        tag("style", _asset("page.css")),
    )
    body = tag(
        "body",
        tag("header", *_heading(runs, title)),
        tag("main", *_sections(runs, grid)),
        tag("footer", "Made by python -m rudder.report. This file needs no network."),
        tag("div", id="tip", hidden=True, role="status"),
        tag("script", _asset("page.js")),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _asset(name: str) -> Markup:
    """A file beside this one, put in as it is."""
    return Markup((files("rudder.pages") / name).read_text(encoding="utf-8"))


def _heading(runs: Sequence[Run], title: str) -> list[Markup]:
    parts = [tag("p", "rudder report", class_="brand"), tag("h1", title)]
    if len(runs) == 1:
        asked = f", decided by {runs[0].decider}" if runs[0].decider else ""
        parts.append(tag("p", f"prefetch {runs[0].prefetch}{asked}", class_="label"))
        return parts
    links = [tag("a", run.name, href=f"#{anchor(runs, run)}") for run in runs]
    return [*parts, tag("nav", *links, aria_label="Runs")]


def _sections(runs: Sequence[Run], grid: Sequence[dict[str, Any]]) -> list[Markup]:
    policies = _section("Policies", *standings(grid), name="policies")
    if len(runs) == 1:
        return [_run(runs[0], "run-1"), policies]
    compared = _section("Side by side", *comparison(runs), name="compared")
    return [compared, policies, *(_folded(runs, run) for run in runs)]


def _section(title: str, *cards: Markup, name: str) -> Markup:
    return tag("section", tag("h2", title), tag("div", *cards, class_="cards"), id=name)


def _folded(runs: Sequence[Run], run: Run) -> Markup:
    """One of several runs; the first is open."""
    title = tag("summary", tag("h2", run.name), tag("span", run.label))
    first = run is runs[0]
    return tag("details", title, _run(run, None), id=anchor(runs, run), class_="run", open=first)


def _run(run: Run, name: str | None) -> Markup:
    cards = (
        times(run),
        learning(run),
        hits(run),
        rows(run),
        *_decided(run),
        card("Settings", "", settings(run), wide=True),
    )
    return tag("section", overview(run), tag("div", *cards, class_="cards"), id=name)


def _decided(run: Run) -> list[Markup]:
    if not run.decisions:
        return [no_decisions(run)]
    matrices = expectations(run)
    # Beside the matrix where there is but one.
    return [*matrices, reasons(run, wide=len(matrices) > 1), decisions(run)]
