"""Page: all exhibits that were measured, on one HTML page that asks nothing of a network."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from benchmarks.paper.chart import Palette, Panel, draw, style
from benchmarks.paper.exhibit import FAILS, HOLDS, PARTLY
from rudder.pages.card import card, table
from rudder.pages.markup import Markup, tag

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 18px 24px; }
.panels svg { width: 100%; max-width: 430px; height: auto; }
.claims { list-style: none; margin: 0; padding: 0; display: grid; gap: 12px; }
.claims p { margin: 0; overflow-wrap: anywhere; }
.claims li > p:first-child { font-weight: 600; }
.verdict { display: inline-block; padding: 0 8px; border-radius: 99px; border: 1px solid currentColor; font-size: 12.5px; white-space: nowrap; color: var(--muted); }
.verdict.yes { color: var(--green); } .verdict.no { color: var(--orange); }
section > h2 .verdict { vertical-align: middle; margin-left: 8px; font-weight: 500; }
details { margin-top: 12px; }
main > .card { margin-top: 20px; }
"""  # noqa: E501
_TONES = {HOLDS: "yes", PARTLY: "no", FAILS: "no"}


def index(
    reports: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Sequence[Panel]],
    failed: Mapping[str, str],
) -> str:
    """The document. figures: panels by the exhibit's name.   failed: why others did not run."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", "The paper's evaluation, here"),
        tag("link", rel="icon", href="data:,"),
        tag("style", _page_css(), Markup(style()), Markup(_STYLE)),
    )
    body = tag(
        "body",
        tag(
            "header",
            tag("p", "minidist + rudder", class_="brand"),
            tag("h1", "The paper's evaluation, here"),
            tag(
                "p", "Each figure and table, what it reports, and whether it holds.", class_="label"
            ),
        ),
        tag(
            "main",
            _contents(reports, failed),
            *(_section(report, figures[report["name"]]) for report in reports),
        ),
        tag("footer", "Made by python -m benchmarks.paper. This file needs no network."),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _page_css() -> Markup:
    return Markup((files("rudder.pages") / "page.css").read_text(encoding="utf-8"))


def _badge(verdict: str) -> Markup:
    return tag("span", verdict, class_=f"verdict {_TONES.get(verdict, '')}".strip())


def _contents(reports: Sequence[Mapping[str, Any]], failed: Mapping[str, str]) -> Markup:
    rows = []
    for report in reports:
        claims = [claim["holds"] for claim in report["claims"] if claim["holds"] is not None]
        link = tag("a", report["title"], href=f"#{report['name']}")
        held = f"{sum(claims)} of {len(claims)}"
        rows.append(_line(link, report["source"], held, _badge(report["verdict"])))
    rows += [_line(name, "", "", f"did not run: {why}") for name, why in failed.items()]
    header = ["exhibit", "in the paper", "trends that hold", "verdict"]
    return card("", "", table("Verdicts", header, rows, "compare"), wide=True)


def _line(*cells: str) -> Markup:
    return tag("tr", *(tag("td", cell) for cell in cells))


def _section(report: Mapping[str, Any], panels: Sequence[Panel]) -> Markup:
    palette = Palette.of(panels)
    legend = [
        tag("li", tag("i", class_=f"block {colour}"), name)
        for name, colour in palette.colours.items()
    ]
    drawn = tag("div", *(draw(panel, palette) for panel in panels), class_="panels")
    claims = tag("ul", *map(_claim, report["claims"]), class_="claims")
    lines = [_line(*line) for line in report["table"]["lines"]]
    header = report["table"]["header"]
    figures = tag(
        "details",
        tag("summary", "The figures"),
        table(report["title"], header, lines, "compare"),
    )
    settings = " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in report["settings"].items()
        if value is not None and name not in ("folder", "out")
    )
    command = tag("p", f"python -m benchmarks.paper.{report['name']} {settings}", class_="note")
    key = tag("ul", *legend, class_="legend exhibit")
    return tag(
        "section",
        tag("h2", report["title"], _badge(report["verdict"])),
        tag("p", f"In the paper: {report['source']}.", class_="facts"),
        tag(
            "div",
            card("", "", claims, wide=True),
            card(
                "",
                "",
                key,
                drawn,
                tag("p", report["note"], class_="note"),
                figures,
                command,
                wide=True,
            ),
            class_="cards",
        ),
        id=report["name"],
    )


def _claim(claim: Mapping[str, Any]) -> Markup:
    return tag(
        "li",
        tag("p", f"Paper: {claim['paper']}. ", _badge(claim["verdict"])),
        tag("p", f"Here: {claim['here']}"),
    )
