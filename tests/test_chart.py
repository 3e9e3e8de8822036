"""The charts of benchmarks, as files that stand alone."""

from xml.etree import ElementTree

import pytest

from benchmarks.paper.chart import Bar, BarPanel, Line, LinePanel, figure


def test_charts_leave_gaps_and_say_what_did_not_run() -> None:
    line = Line(name="a", xs=[0, 1, 2], ys=[1.0, None, float("nan")], marks=[1])
    bars = [Bar(name="a", value=None), Bar(name="b", value=-3.0, interval=(-4.0, 1.0))]
    drawn = figure(
        "t <&>",
        [
            LinePanel(title="l", x="x", y="y", lines=[line]),
            LinePanel(title="empty", x="x", y="y", lines=[]),
            BarPanel(title="b", unit="%", groups={"g": bars}),
            BarPanel(title="none", unit="%", groups={"g": bars[:1]}),
        ],
    )
    ElementTree.fromstring(drawn)
    assert "not run" in drawn
    assert drawn.count("nothing was measured") == 2
    assert "nan" not in drawn


def test_a_long_title_takes_several_lines() -> None:
    title = "Epoch time: 2 hosts, links of 200mbit, synthetic:medium, and more of that kind"
    panel = BarPanel(title="b", unit="s", groups={"g": [Bar(name="none", value=1.0)]})
    drawn = ElementTree.fromstring(figure(title, [panel]))
    space = "{http://www.w3.org/2000/svg}"
    lines = [text for text in drawn.findall(f"{space}text") if text.get("class") == "title"]
    assert " ".join(str(line.text) for line in lines) == title
    assert all(8 * len(str(line.text)) < float(drawn.get("width", "0")) for line in lines)
    assert len(lines) == 2
    plain = ElementTree.fromstring(figure("short", [panel]))
    assert float(drawn.get("height", "0")) > float(plain.get("height", "0"))


def test_settings_that_span_orders_of_magnitude_are_apart() -> None:
    xs = [16, 32, 64, 256]
    line = Line(name="a", xs=xs, ys=[1.0, 2.0, 3.0, 4.0])
    drawn = ElementTree.fromstring(
        figure("t", [LinePanel(title="l", x="trainers", y="s", lines=[line])])
    )
    labels = {
        str(text.text): float(text.get("x", "nan"))
        for text in drawn.iter("{http://www.w3.org/2000/svg}text")
    }
    first, second, third, last = (labels[str(x)] for x in xs)
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert last - third == pytest.approx(2 * (third - second), abs=0.2)
