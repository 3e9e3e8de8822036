"""Card: one part of a page, with what it shows in a sentence; or why there is nothing to show."""

from rudder.pages.markup import Markup, tag


def card(title: str, takeaway: str, *body: str, note: str = "", wide: bool = False) -> Markup:
    """takeaway: what to see here.   note: how to read it.   wide: across the page."""
    parts = [tag("h3", title)]
    if takeaway:
        parts.append(tag("p", takeaway, class_="takeaway"))
    parts += [part if isinstance(part, Markup) else tag("p", part) for part in body]
    if note:
        parts.append(tag("p", note, class_="note"))
    return tag("article", *parts, class_="card wide" if wide else "card")


def empty(title: str, why: str, wide: bool = False) -> Markup:
    """A part that this run has nothing for."""
    return tag(
        "article",
        tag("h3", title),
        tag("p", why, class_="empty"),
        class_="card wide" if wide else "card",
    )


def table(caption: str, header: list[str], rows: list[Markup], kind: str) -> Markup:
    """A table that scrolls by itself where it is too wide for the page."""
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in header))),
            tag("tbody", *rows),
            class_=kind,
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )
