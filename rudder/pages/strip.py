"""Strip: lanes of marks under a chart, where something happened now and then."""

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.pages.buckets import Ints
from rudder.pages.frame import Axis, rule, tick
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import plural


@dataclass(frozen=True, kw_only=True, eq=False)
class Lane:
    """counts: [P], how often something happened at each place."""

    name: str
    colour: str
    counts: Ints


def strip(lanes: Sequence[Lane], edges: Sequence[float], x: Axis, *, label: str) -> Markup:
    """Lanes of marks under a chart with the same x axis: higher where more happened."""
    tall, gap = 22, 6
    shapes = []
    for number, lane in enumerate(lanes):
        bottom = (number + 1) * tall + number * gap
        most = max(int(lane.counts.max(initial=0)), 1)
        shapes += [tick(lane.name, "-8px", bottom - tall / 2 + 4, "end"), rule("grid", bottom)]
        for left, right, count in zip(edges, edges[1:], lane.counts, strict=False):
            if not count:
                continue
            high = 5 + (tall - 5) * int(count) / most
            wide = max(100 * (x.share(right) - x.share(left)) * 0.8, 0.15)
            tip = f"{plural(int(count), lane.name + ' decision')}, {_places(left, right)}"
            where = {"x": x.percent(left), "width": f"{wide:.3f}%", "y": f"{bottom - high:.1f}"}
            shapes.append(
                tag("rect", class_=lane.colour, height=f"{high:.1f}", data_tip=tip, **where)
            )
    height = len(lanes) * (tall + gap)
    return tag("svg", *shapes, class_="plot strip", height=height, role="img", aria_label=label)


def _places(left: float, right: float) -> str:
    first, last = int(left), int(right) - 1
    return f"minibatch {first:,}" if first >= last else f"minibatches {first:,} to {last:,}"
