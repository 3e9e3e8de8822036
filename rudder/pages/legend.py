"""Legend: what the colours and strokes of a chart mean."""

from collections.abc import Sequence

from rudder.pages.charts import Level, Line, Part
from rudder.pages.markup import Markup, tag
from rudder.pages.strip import Lane


def legend(entries: Sequence[Line | Part | Lane | Level]) -> Markup:
    """What the colours mean."""

    def item(entry: Line | Part | Lane | Level) -> Markup:
        if isinstance(entry, Level):
            return tag("li", tag("i", class_="level"), entry.name)
        dashed = isinstance(entry, Line) and entry.dashed
        kind = "dashed" if dashed else "line" if isinstance(entry, Line) else "block"
        return tag("li", tag("i", class_=f"{kind} {entry.colour}"), entry.name)

    return tag("ul", *map(item, entries), class_="legend")
