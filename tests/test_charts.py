"""The charts of benchmarks: SVG that stands alone, with text as text."""

import re
from xml.etree import ElementTree

from benchmarks.charts import Bar, Line, Panel, figure


def texts(svg: str) -> dict[str, float]:
    """The text of a well-formed figure, and where it is from left to right."""
    found = {}
    for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        place = re.search(r"translate\(([\d.]+)", each.get("transform", ""))
        found[str(each.text)] = float(each.get("x") or (place[1] if place else "nan"))
    return found


def test_gaps_are_left_and_what_did_not_run_says_so() -> None:
    line = Line(name="a", xs=[0, 1, 2], ys=[1.0, None, float("nan")], marks=[1])
    bars = [Bar(name="b", value=None), Bar(name="mlp", value=-3.0, interval=(-4.0, 1.0))]
    panels = [
        *(Panel(title="l", x="minibatch", y="%-Hits", lines=[line]), Panel(title="empty", x="x")),
        Panel(title="bars", x="%", groups={"group <1>": bars}),
    ]
    svg = figure("t <&>", panels)
    wanted = {"t <&>", "minibatch", "%-Hits", "not run", "-3", "group <1>", "a", "mlp"}
    assert wanted | {"empty: nothing was measured"} <= texts(svg).keys()
    assert "nan" not in svg
    assert texts(figure("none", [])).keys() == {"none"}


def test_ink_is_that_of_the_page_and_known_names_keep_their_colour() -> None:
    names = {"none": "#868e98", "fixed": "#c97423"}
    bars = {name: [Bar(name=name, value=1.0)] for name in ("other", *names)}
    svg = figure("t", [Panel(title="p", x="s", groups=bars)])
    assert all(colour in svg for colour in names.values())
    assert "fill: currentColor" in svg
    assert "#010203" not in svg


def test_long_titles_take_several_lines_and_few_settings_are_apart_by_ratio() -> None:
    line = Line(name="a", xs=[16, 32, 64, 256], ys=[1, 2, 3, 4])
    title = "Epoch time: 2 hosts, links of 200mbit, synthetic:medium"
    found = texts(figure(title, [Panel(title="l", x="trainers", lines=[line])]))
    assert " ".join(text for text in found if len(text) > 9) == title
    steps = [found[b] - found[a] for a, b in (("16", "32"), ("32", "64"), ("64", "256"))]
    assert abs(steps[0] - steps[1]) < 4 > abs(steps[2] / 2 - steps[0])
