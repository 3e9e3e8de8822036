"""Markup: HTML and SVG as strings in which every text was escaped.

``tag`` is the only way from text to markup, so what a model answered cannot become a script.
"""

import html
from collections.abc import Iterable

_VOID = {"meta", "link", "br"}


class Markup(str):
    """Text that is HTML already; any other string is escaped when it is put into a ``tag``."""

    __slots__ = ()


Attribute = str | int | bool | None


def tag(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """One element. Attributes lose a last underscore, others become dashes; None leaves one out.

    ``tag("rect", class_="hit", data_tip="a < b")`` is
    ``<rect class="hit" data-tip="a &lt; b"></rect>``.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """Children one after the other, escaped where they are no markup yet."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(child, quote=False)
            for child in children
        )
    )
